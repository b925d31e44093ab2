"""Sentences laid out in the rows of a batch: `Rows`.

A sentence w1 .. wn is the sequence `<S> w1 .. wn </S>`. The forward language model reads it from the left and
predicts the token after each, the backward one reads it from the right. Both have n + 1 positions, so that a sentence
takes the same positions of the same row in both directions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from bridge.checks import check_integer
from bridge.text.characters import BEGIN_SENTENCE_TOKEN, END_SENTENCE_TOKEN


class Positions(NamedTuple):
    """The next positions of every row, as tokens, forward and backward."""

    shape: tuple[int, int]
    """Number of rows, and positions of each."""
    inputs: tuple[list[str], list[str]]
    """What is read, row after row."""
    targets: tuple[list[str], list[str]]
    """What is to be predicted."""
    ended: list[slice]
    """The parts of these lists where a row has no more text, and any token stands."""

    @property
    def known(self) -> int:
        """Number of positions that have text."""
        return len(self.inputs[0]) - sum(part.stop - part.start for part in self.ended)


class Rows:
    """Endless concatenations of sentences. Rows are filled one after the other.

    Args:
        batch_size: number of rows.
        unroll_steps: positions of each that are taken together.

    Raises:
        InputTypeError, InputValueError: these are no positive integers.
    """

    def __init__(self, batch_size: int, unroll_steps: int) -> None:
        check_integer("batch_size", batch_size, minimum=1)
        check_integer("unroll_steps", unroll_steps, minimum=1)
        self._unroll_steps = unroll_steps
        # What a row has begun to read, and how much of that was taken; its last token is never read.
        self._sequences: list[list[str]] = [[END_SENTENCE_TOKEN] for _ in range(batch_size)]
        self._offsets = [0] * batch_size

    def state(self) -> list[list[Any]]:
        """What every row has begun to read, and how much of that it has read, as JSON."""
        # No copies: a sequence is replaced, never changed.
        return [[sequence, offset] for sequence, offset in zip(self._sequences, self._offsets, strict=True)]

    def restore(self, state: list[list[Any]]) -> None:
        """Goes on from `state()`."""
        self._sequences = [sequence for sequence, _ in state]
        self._offsets = [offset for _, offset in state]

    def take(self, sentences: Iterator[list[str]]) -> Positions:
        """The next positions. A row whose sentence ends takes the next one of `sentences`."""
        positions = Positions((len(self._offsets), self._unroll_steps), ([], []), ([], []), [])
        for row in range(len(self._offsets)):
            self._take_of_row(row, sentences, positions)
        return positions

    def _take_of_row(self, row: int, sentences: Iterator[list[str]], positions: Positions) -> None:
        (forward, backward), (after, before) = positions.inputs, positions.targets
        sequence, begin = self._sequences[row], self._offsets[row]
        missing = self._unroll_steps
        while missing:
            last = len(sequence) - 1
            if begin == last:
                sentence = next(sentences, None)
                if sentence is None:
                    positions.ended.append(slice(len(forward), len(forward) + missing))
                    for tokens in (forward, backward, after, before):
                        tokens.extend([BEGIN_SENTENCE_TOKEN] * missing)
                    break
                sequence, begin = [BEGIN_SENTENCE_TOKEN, *sentence, END_SENTENCE_TOKEN], 0
                continue
            end = min(begin + missing, last)
            forward.extend(sequence[begin:end])
            after.extend(sequence[begin + 1 : end + 1])
            from_right = sequence[last - end : last - begin + 1][::-1]
            backward.extend(from_right[:-1])
            before.extend(from_right[1:])
            missing -= end - begin
            begin = end
        self._sequences[row], self._offsets[row] = sequence, begin
