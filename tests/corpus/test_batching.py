"""Windows and batches: nothing lost, nothing twice, and no more at once than was asked for."""

from itertools import chain

import hypothesis
import hypothesis.strategies as st
import numpy as np

from bridge.corpus.batching import batches, count_long_tokens, take_window
from bridge.corpus.sources import Sentence

LENGTHS = st.lists(st.integers(0, 40), max_size=60)


def of_lengths(lengths: list[int]) -> list[Sentence]:
    return [Sentence(str(number), ["x"] * length) for number, length in enumerate(lengths)]


@hypothesis.given(LENGTHS, st.integers(1, 100), st.integers(1, 20), st.integers(1, 7))
def test_windows_are_the_stream(lengths: list[int], max_tokens: int, max_sentences: int, batch_size: int) -> None:
    sentences = of_lengths(lengths)
    stream = iter(sentences)
    found = []
    while window := take_window(stream, max_tokens=max_tokens, max_sentences=max_sentences, batch_size=batch_size):
        found.append(window)
        assert len(window) <= max(max_sentences, batch_size)
        # Without its last batch it would not be full.
        assert sum(len(sentence.tokens) for sentence in window[:-batch_size]) < max_tokens
    assert list(chain.from_iterable(found)) == sentences
    assert all(len(window) % batch_size == 0 for window in found[:-1])


def test_a_line_of_50_000_tokens_ends_a_window() -> None:
    stream = iter(of_lengths([10, 50_000, 10]))
    assert [len(take_window(stream)) for _ in range(3)] == [2, 1, 0]


@hypothesis.given(LENGTHS, st.integers(1, 100), st.integers(1, 20))
def test_batches(lengths: list[int], max_tokens: int, batch_size: int) -> None:
    found = list(batches(lengths, max_tokens, batch_size))
    assert sorted(chain.from_iterable(map(np.ndarray.tolist, found))) == [
        row for row, length in enumerate(lengths) if length
    ]
    for rows in found:
        assert len(rows) <= batch_size
        assert len(rows) == 1 or len(rows) * (max(lengths[row] for row in rows) + 2) <= max_tokens
    if len(found) > 1:
        longest = [max(lengths[row] for row in rows) for rows in found]
        assert longest == sorted(longest, reverse=True)


def test_long_tokens_are_counted_in_bytes() -> None:
    tokens = ["a" * 48, "a" * 49, "é" * 24, "é" * 25, "\N{GRINNING FACE}" * 12, "\N{GRINNING FACE}" * 13]
    assert count_long_tokens([Sentence("", tokens), Sentence("", []), Sentence("", ["b" * 100])]) == 4
