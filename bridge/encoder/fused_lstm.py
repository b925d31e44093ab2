"""One direction of the biLM's LSTMs, for inference: `FusedLstm`."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from bridge.encoder.lstm_cell import LayerState, LstmCell
from bridge.encoder.steps import Batch, Steps

# Tokens whose inputs are multiplied in one go, which bounds the memory of any length. More of them on the token
# layer, where a token that comes several times is multiplied once.
TOKENS_PER_CHUNK = 128
TOKENS_PER_FIRST_CHUNK = 1024


class Read(NamedTuple):
    """What a direction made of a sentence boundary.

    Attributes:
        outputs: `(rows, projection_dim)` of each LSTM layer.
        states: of each layer after it.
    """

    outputs: list[torch.Tensor]
    states: list[LayerState]


class FusedLstm:
    """The LSTM layers of one direction. Layers after the first add their input to their output.

    Sentence boundaries stand at the ends of every row, so they are no steps: `begin` reads the first one once for all
    rows that start from the same state, and the last one is read by all rows at once, where anybody asks for it.

    Args:
        cells: of each layer.
        boundaries: vectors `(1, projection_dim)` of the sentence boundaries at which the direction begins and ends.
        backward: whether it reads from the end of a sentence.
    """

    def __init__(
        self, cells: Sequence[LstmCell], boundaries: tuple[torch.Tensor, torch.Tensor], backward: bool
    ) -> None:
        self._cells = list(cells)
        self._first, self._last = boundaries
        self._backward = backward

    def begin(self, states: Sequence[LayerState]) -> Read:
        """Reads the first boundary, from the states of each layer."""
        return self._read(self._first, states)

    def run(
        self,
        batch: Batch,
        begun: Read,
        activations: torch.Tensor,
        keep_boundaries: bool,
        carry: bool,
        stop: threading.Event,
    ) -> list[LayerState]:
        """Reads a batch.

        Args:
            batch: the tokens.
            begun: where all rows begin, or each row of the batch.
            activations: `(any, timesteps, num_layers, projection_dim)`, where this direction's half of them goes.
            keep_boundaries: whether those of the boundaries go there, too. Tokens then begin at timestep 1.
            carry: whether the states are asked for.
            stop: gives up when it is set.

        Returns:
            With `carry` the states of each layer after the last boundary, else nothing.
        """
        n_rows = len(batch.lengths)
        states = [LayerState(*(part.expand(n_rows, -1).clone() for part in state)) for state in begun.states]
        steps = Steps.of(batch, self._backward)
        of_tokens = activations[:, 1:] if keep_boundaries else activations
        for layer in range(len(self._cells)):
            self._run_layer(layer, steps, batch.vectors, begun.states[layer].hidden, states[layer], of_tokens, stop)
        if not (keep_boundaries or carry):
            return []
        ended = self._read(self._last, states)
        if keep_boundaries:
            starts, ends = np.zeros_like(batch.lengths), batch.lengths + 1
            first, last = (ends, starts) if self._backward else (starts, ends)
            self._write(begun, self._first, activations, batch.places, first)
            self._write(ended, self._last, activations, batch.places, last)
        return ended.states

    def _write(
        self, read: Read, vector: torch.Tensor, activations: torch.Tensor, places: np.ndarray, times: np.ndarray
    ) -> None:
        """Writes every layer of a boundary."""
        rows, timesteps = (torch.from_numpy(part).to(activations.device) for part in (places, times))
        for layer, values in enumerate([vector, *read.outputs]):
            activations[rows, timesteps, layer] = values

    def _read(self, vector: torch.Tensor, states: Sequence[LayerState]) -> Read:
        outputs: list[torch.Tensor] = []
        after = []
        for cell, state in zip(self._cells, states, strict=True):
            x = outputs[-1] if outputs else vector.expand(len(state.hidden), -1)
            memory, hidden = state.memory.clone(), torch.empty_like(state.hidden)
            cell.step(cell.inputs(x), state.hidden, memory, torch.empty_like(memory), out=hidden)
            outputs.append(hidden + x if outputs else hidden)
            after.append(LayerState(hidden, memory))
        return Read(outputs, after)

    def _run_layer(
        self,
        layer: int,
        steps: Steps,
        vectors: torch.Tensor,
        hidden: torch.Tensor,
        state: LayerState,
        activations: torch.Tensor,
        stop: threading.Event,
    ) -> None:
        """Runs an LSTM layer on the activations of the layer below, and changes its state in place.

        `hidden` is where it begins, one row where that is the same for all: then its product is, too.
        """
        cell = self._cells[layer]
        scratch = torch.empty_like(state.memory)
        for chunk, counts in steps.chunks(TOKENS_PER_CHUNK if layer else TOKENS_PER_FIRST_CHUNK):
            rows, times, tokens = steps.rows[chunk], steps.times[chunk], steps.tokens[chunk]
            if layer == 0:
                activations[rows, times, 0] = vectors[tokens]
                distinct, tokens = tokens.unique(return_inverse=True)
                inputs = cell.inputs(vectors[distinct])
            else:
                below = activations[rows, times, layer]
                inputs = cell.inputs(below)
            outputs = vectors.new_empty(len(rows), vectors.shape[1])
            begin = 0
            for count in counts:
                if stop.is_set():
                    return
                end = begin + count
                # Rows that have ended keep their state.
                state.hidden[count : len(hidden)] = hidden[count:]
                hidden = cell.step(
                    inputs[begin:end] if layer else inputs[tokens[begin:end]],
                    hidden[:count],
                    state.memory[:count],
                    scratch[:count],
                    out=outputs[begin:end],
                )
                begin = end
            activations[rows, times, layer + 1] = outputs + below if layer else outputs
        state.hidden[: len(hidden)] = hidden
