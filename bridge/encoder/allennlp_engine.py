"""Runs AllenNLP's own biLM: `AllenNlpEngine`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from bridge.encoder.arguments import State
from bridge.encoder.warm_up import warm_up_batches


class AllenNlpEngine:
    """AllenNLP's `_ElmoBiLm` from a chosen state, and differentiable by other parameters than its own.

    Args:
        state: see `ElmoEncoder`.
        device: where the biLM is.
    """

    def __init__(self, state: State, device: torch.device) -> None:
        self._state = state
        self._device = device
        self._warm_states: tuple[torch.Tensor, ...] | None = None
        self._warm_states_of: list[tuple[int, int]] | None = None

    def encode(
        self,
        bilm: Any,
        char_ids: np.ndarray,
        lengths: np.ndarray,
        activations: torch.Tensor,
        rows: np.ndarray,
        keep_boundaries: bool,
        parameters: Mapping[str, torch.Tensor] | None,
    ) -> None:
        """Reads a batch, and writes every layer of it: see `FusedBiLm.encode`.

        Args:
            bilm: an `_ElmoBiLm`.
            char_ids: integers `(batch, timesteps, 50)`.
            lengths: number of tokens of each row `(batch,)`; what is behind them is not looked at.
            activations: `(any, timesteps or more, num_layers, 2 * projection_dim)`, on the CPU, zero.
            rows: rows of `activations` to write to `(batch,)`.
            keep_boundaries: whether `activations` get the sentence boundaries, too.
            parameters: by name, in place of the biLM's own.
        """
        # The biLM is live: its user may have changed its precision.
        dtype = next(iter(bilm.parameters() if parameters is None else parameters.values())).dtype
        self._set_start_state(bilm, len(rows), dtype)
        # A copy, which PyTorch may hold on to: the caller's memory may be read-only, or TensorFlow's.
        ids = char_ids.astype(np.int64)
        ids[np.arange(ids.shape[1]) >= lengths[:, None]] = 0
        inputs = torch.from_numpy(ids).to(self._device)
        if parameters is None:
            result = bilm(inputs)
        else:
            moved = {name: parameter.to(self._device) for name, parameter in parameters.items()}
            result = torch.func.functional_call(bilm, moved, (inputs,))
        layers = [layer.to("cpu", activations.dtype) for layer in result["activations"]]
        if not keep_boundaries:
            # Dropping both ends leaves the end-of-sentence vector of shorter rows behind: masked out here.
            is_token = torch.from_numpy(np.arange(ids.shape[1]) < lengths[:, None])
            layers = [layer[:, 1:-1] * is_token[:, :, None] for layer in layers]
        target = torch.from_numpy(rows)
        for index, layer in enumerate(layers):
            activations[target, : layer.shape[1], index] = layer

    @contextmanager
    def states_as_they_were(self, bilm: Any) -> Iterator[None]:
        """Puts the carried states back where the calls inside fail or are interrupted half-way."""
        lstm = bilm._elmo_lstm
        # Copies: AllenNLP writes into the states of rows that a smaller batch has, too.
        before = lstm._states and tuple(part.clone() for part in lstm._states)
        try:
            yield
        except BaseException:  # Ctrl-C, too
            lstm._states = before
            raise

    def _set_start_state(self, bilm: Any, rows: int, dtype: torch.dtype) -> None:
        """AllenNLP's LSTM starts from the state that it holds, a row of it for each row of the batch."""
        if self._state == "zero":
            bilm._elmo_lstm.reset_states()
        elif self._state == "warm":
            # The biLM is live. Released parameters are on "meta": there the state is that of the first ones.
            parameters = list(bilm.parameters())
            if self._warm_states is None or not (
                parameters[0].is_meta or self._warm_states_of == [(id(part), part._version) for part in parameters]
            ):
                self.make_warm_states(bilm)
            states = self._warm_states or ()
            bilm._elmo_lstm._states = tuple(part.to(dtype).repeat(1, rows, 1) for part in states)

    @torch.no_grad()
    def make_warm_states(self, bilm: Any) -> None:
        """Reads the warm-up text, and keeps the state `(n_layers, 1, dim)` and memory in which it ends."""
        bilm._elmo_lstm.reset_states()
        for char_ids in warm_up_batches():
            bilm(torch.from_numpy(char_ids).long().to(self._device))
        self._warm_states = tuple(part.clone() for part in bilm._elmo_lstm._states)
        self._warm_states_of = [(id(part), part._version) for part in bilm.parameters()]
