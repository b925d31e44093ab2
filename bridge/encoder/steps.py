"""Which tokens the LSTMs read at which step: `Batch` and `Steps`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch


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
