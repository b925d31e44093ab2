"""Which sentences run together, so that memory keeps to a budget: `passes`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def passes(lengths: np.ndarray, max_tokens: int, max_rows: int) -> Iterator[np.ndarray]:
    """Rows of each pass: all of them in the given order if they fit, else the longest first.

    Args:
        lengths: number of tokens of each sentence `(batch,)`, with whatever the biLM adds to it.
        max_tokens: the most tokens of a pass, padding included. A longer sentence is a pass of its own.
        max_rows: the most sentences of a pass.
    """
    rows = np.arange(len(lengths))
    if len(rows) > max_rows or len(rows) * lengths.max(initial=0) > max_tokens:
        rows = np.argsort(-lengths, kind="stable")
    while len(rows):
        longest = max(1, int(lengths[rows[:max_rows]].max()))
        number = max(1, min(max_rows, max_tokens // longest))
        yield rows[:number]
        rows = rows[number:]
