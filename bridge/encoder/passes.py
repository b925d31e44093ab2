"""Which sentences run together, so that memory keeps to a budget: `passes`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def passes(lengths: np.ndarray, max_tokens: int, max_rows: int, padded: bool) -> Iterator[np.ndarray]:
    """Rows of each pass: all of them in the given order if they fit, else the longest first.

    Args:
        lengths: number of tokens of each sentence `(batch,)`, with whatever the biLM adds to it.
        max_tokens: the most tokens of a pass. A longer sentence is a pass of its own.
        max_rows: the most sentences of a pass.
        padded: whether the biLM pads, so that every sentence costs as much as the longest of its pass.
    """

    def costs(rows: np.ndarray) -> np.ndarray:
        """Tokens of the first row, of the first two, ..."""
        if padded:
            return np.maximum.accumulate(lengths[rows]) * np.arange(1, len(rows) + 1)
        return np.cumsum(lengths[rows])

    rows = np.arange(len(lengths))
    if len(rows) > max_rows or (costs(rows) > max_tokens).any():
        rows = np.argsort(-lengths, kind="stable")
    while len(rows):
        number = max(1, int((costs(rows[: min(max_rows, max_tokens)]) <= max_tokens).sum()))
        yield rows[:number]
        rows = rows[number:]
