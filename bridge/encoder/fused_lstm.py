"""One direction of the biLM's LSTMs, for inference: `FusedLstm`, which reads the `Steps` of a `Batch`."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from bridge.encoder.linear import Linear, Precision

# Tokens whose inputs are multiplied in one go, which bounds the memory of any length. More of them on the token
# layer, where a token that comes several times is multiplied once.
TOKENS_PER_CHUNK = 128
TOKENS_PER_FIRST_CHUNK = 1024


class LayerState(NamedTuple):
    """Where an LSTM layer is: `hidden` `(rows, projection_dim)` and `memory` `(rows, dim)`, float32.

    `memory` is twice the LSTM's memory: see `LstmCell`.
    """

    hidden: torch.Tensor
    memory: torch.Tensor


@dataclass(frozen=True)
class Batch:
    """Sentences, the longest first.

    Attributes:
        lengths: number of tokens `(rows,)`, descending.
        tokens: `(rows, timesteps)`: which of the distinct tokens each one is; anything behind the end of a row.
        vectors: float32 `(distinct, projection_dim)`, of the distinct tokens.
        places: `(rows,)`: the row of the activations to which each row belongs.
    """

    lengths: np.ndarray
    tokens: np.ndarray
    vectors: torch.Tensor
    places: np.ndarray


@dataclass(frozen=True)
class Steps:
    """Tokens in the order in which a direction reads them: the first of every row, the second of every row, ...

    The longest rows come first, so step `s` reads one token of each of the first `counts[s]` rows. No step reads
    padding.

    Attributes:
        counts: number of tokens of each step.
        tokens: integers `(tokens,)`: which of the distinct tokens each one is.
        rows, times: integers `(tokens,)`: where its activations go.
    """

    counts: list[int]
    tokens: torch.Tensor
    rows: torch.Tensor
    times: torch.Tensor

    @classmethod
    def of(cls, batch: Batch, backward: bool) -> Steps:
        """The steps of a batch: backward, a row's last token is its first."""
        n_steps = int(batch.lengths.max(initial=0))
        # Lengths descend: as many rows have more than `step` tokens.
        counts = np.searchsorted(-batch.lengths, -np.arange(n_steps), side="left")
        step = np.repeat(np.arange(n_steps), counts)
        row = np.arange(len(step)) - np.repeat(np.cumsum(counts) - counts, counts)
        time = batch.lengths[row] - 1 - step if backward else step
        parts = batch.tokens[row, time], batch.places[row], time
        return cls(counts.tolist(), *(torch.from_numpy(part).to(batch.vectors.device) for part in parts))

    def chunks(self, size: int) -> Iterator[tuple[slice, list[int]]]:
        """Slices of at least `size` tokens, always whole steps, and the counts of their steps."""
        start = stop = first = 0
        for step, count in enumerate(self.counts):
            stop += count
            if stop - start >= size or step == len(self.counts) - 1:
                yield slice(start, stop), self.counts[first : step + 1]
                start, first = stop, step + 1


class LstmCell:
    """An LSTM with projection and clipping, as AllenNLP's `LstmCellWithProjection` computes it.

    A tanh costs more than three times a sigmoid here, so `tanh(x)` is `2 * sigmoid(2 * x) - 1`, and all four gates
    are one sigmoid. The factors are powers of two and signs, which round nothing: the candidate's weights and the
    memory are doubled, and the projection is negated.

    Args:
        input_weight, recurrent_weight: float32 `(4 * dim, projection_dim)`, gates in the order input, forget,
            output, candidate.
        bias: `(4 * dim,)`.
        projection: `(projection_dim, dim)`.
        cell_clip, proj_clip: limits of memory and output; None or 0 is no limit.
        precision, device: see `Linear`.
    """

    def __init__(
        self,
        input_weight: torch.Tensor,
        recurrent_weight: torch.Tensor,
        bias: torch.Tensor,
        projection: torch.Tensor,
        cell_clip: float | None,
        proj_clip: float | None,
        precision: Precision,
        device: torch.device,
    ) -> None:
        self.projection_dim, self.dim = projection.shape
        factors = torch.ones(4 * self.dim)
        factors[3 * self.dim :] = 2
        self.inputs = Linear(input_weight * factors[:, None], bias * factors, precision, device)
        self._recurrent = Linear(recurrent_weight * factors[:, None], None, precision, device)
        self._projection = Linear(-projection, None, precision, device)
        self._cell_clip = 2 * cell_clip if cell_clip else torch.inf
        self._proj_clip = proj_clip or torch.inf

    def step(
        self,
        inputs: torch.Tensor,
        hidden: torch.Tensor,
        memory: torch.Tensor,
        scratch: torch.Tensor,
        out: torch.Tensor,
    ) -> torch.Tensor:
        """One token of each row.

        Args:
            inputs: `(rows, 4 * dim)`, what `self.inputs` gave.
            hidden: `(rows, projection_dim)`.
            memory: `(rows, dim)`, twice the memory; is changed in place.
            scratch: `(rows, dim)`; is overwritten.
            out: `(rows, projection_dim)`: where the new hidden values go.

        Returns:
            `out`.
        """
        gates = self._recurrent(hidden, add=inputs).float().sigmoid_()
        input_gate, forget_gate, output_gate, candidate = gates.split(self.dim, dim=1)
        memory.mul_(forget_gate).addcmul_(input_gate, candidate, value=4).sub_(input_gate, alpha=2)
        memory.clamp_(-self._cell_clip, self._cell_clip)
        # Minus the output gate times the memory's tanh.
        activated = torch.sigmoid(memory, out=scratch).mul_(output_gate)
        torch.sub(output_gate, activated, alpha=2, out=activated)
        return torch.clamp(self._projection(activated).float(), -self._proj_clip, self._proj_clip, out=out)


class Begun(NamedTuple):
    """What a direction made of the sentence boundary at which it begins, of every layer.

    Attributes:
        outputs: `(rows, projection_dim)` of each LSTM layer.
        states: after it.
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

    def begin(self, states: Sequence[LayerState]) -> Begun:
        """Reads the first boundary, from the states of each layer."""
        return self._read(self._first, states)

    def run(
        self,
        batch: Batch,
        begun: Begun,
        activations: torch.Tensor,
        keep_boundaries: bool,
        stop: threading.Event,
    ) -> list[LayerState]:
        """Reads a batch.

        Args:
            batch: the tokens.
            begun: where all rows begin, or each row of the batch.
            activations: `(any, timesteps, num_layers, projection_dim)`, where this direction's half of them goes.
            keep_boundaries: whether those of the boundaries go there, too. Tokens then begin at timestep 1.
            stop: gives up when it is set.

        Returns:
            The states after the last token of each row.
        """
        n_rows = len(batch.lengths)
        states = [LayerState(*(part.expand(n_rows, -1).clone() for part in state)) for state in begun.states]
        steps = Steps.of(batch, self._backward)
        of_tokens = activations[:, 1:] if keep_boundaries else activations
        for layer in range(len(self._cells)):
            self._run_layer(layer, steps, batch.vectors, states[layer], of_tokens, stop)
        if keep_boundaries and not stop.is_set():
            ends = np.zeros_like(batch.lengths), batch.lengths + 1
            outputs = begun.outputs, self.end(states).outputs
            for boundary, times, layers in zip(
                (self._first, self._last), ends[::-1] if self._backward else ends, outputs, strict=True
            ):
                index = [torch.from_numpy(part).to(activations.device) for part in (batch.places, times)]
                for layer, values in enumerate([boundary, *layers]):
                    activations[index[0], index[1], layer] = values
        return states

    def end(self, states: Sequence[LayerState]) -> Begun:
        """Reads the last boundary, from the states of each layer."""
        return self._read(self._last, states)

    def _read(self, vector: torch.Tensor, states: Sequence[LayerState]) -> Begun:
        outputs: list[torch.Tensor] = []
        after = []
        for cell, state in zip(self._cells, states, strict=True):
            x = outputs[-1] if outputs else vector.expand(len(state.hidden), -1)
            memory, hidden = state.memory.clone(), torch.empty_like(state.hidden)
            cell.step(cell.inputs(x), state.hidden, memory, torch.empty_like(memory), out=hidden)
            outputs.append(hidden + x if outputs else hidden)
            after.append(LayerState(hidden, memory))
        return Begun(outputs, after)

    def _run_layer(
        self,
        layer: int,
        steps: Steps,
        vectors: torch.Tensor,
        state: LayerState,
        activations: torch.Tensor,
        stop: threading.Event,
    ) -> None:
        """Runs an LSTM layer on the activations of the layer below, and changes its state in place."""
        cell = self._cells[layer]
        scratch = torch.empty_like(state.memory)
        hidden = state.hidden
        for chunk, counts in steps.chunks(TOKENS_PER_CHUNK if layer else TOKENS_PER_FIRST_CHUNK):
            if stop.is_set():
                return
            rows, times, tokens = steps.rows[chunk], steps.times[chunk], steps.tokens[chunk]
            if layer == 0:
                activations[rows, times, 0] = vectors[tokens]
                distinct, tokens = tokens.unique(return_inverse=True)
                inputs = cell.inputs(vectors[distinct])
            else:
                below = activations[rows, times, layer]
                inputs = cell.inputs(below)
            outputs = torch.empty(len(rows), vectors.shape[1], device=vectors.device)
            begin = 0
            for count in counts:
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
