"""The windows of a corpus that are to be embedded in any order: `WindowReader`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from bridge.corpus.batching import WINDOW_SENTENCES, count_long_tokens, take_window
from bridge.corpus.progress import EmbedProgress
from bridge.corpus.runs import check_same_text, check_whole_text
from bridge.corpus.shards import Shards
from bridge.corpus.sources import Corpus, Sentence


class Window(NamedTuple):
    """Consecutive sentences that are embedded and stored together.

    Attributes:
        first: number of the first one.
        sentences: all of them.
        size: bytes of the input.
    """

    first: int
    sentences: list[Sentence]
    size: float

    @property
    def tokens(self) -> int:
        """Number of tokens of all sentences."""
        return sum(len(sentence.tokens) for sentence in self.sentences)


class WindowReader:
    """Reads a corpus, window by window, and counts it.

    Args:
        corpus: what is read.
        shards: what is there already.

    Attributes:
        counts: of all windows, by their names in `FeatureMetadata`.
        firsts: number of the first sentence of each window.
        resumed_sentences: how many were there already.
        position, total_bytes: bytes of the input that are embedded, and of all; for `EmbedProgress`.
    """

    def __init__(self, corpus: Corpus, shards: Shards) -> None:
        self._corpus = corpus
        self._shards = shards
        self.counts: Counter[str] = Counter()
        self.firsts: list[int] = []
        self.resumed_sentences = 0
        self.position = 0.0
        self.total_bytes = corpus.total_bytes

    def windows(self, progress: EmbedProgress) -> Iterator[Window]:
        """The windows that are not there yet. A corpus without sentences is one empty window.

        Raises:
            InputValueError: what is there was made of another text.
        """
        sentences = self._corpus.sentences()
        while True:
            first, begin = self.counts["sentences"], self._corpus.position
            there = self._shards.texts_at(first)
            if there is None:
                room = self._shards.room_at(first) or WINDOW_SENTENCES
                window = take_window(sentences, max_sentences=min(room, WINDOW_SENTENCES))
            else:
                window = list(islice(sentences, len(there)))
                check_same_text(there, window, first)
            if first and not window:
                break
            self._count(first, window)
            size = self._corpus.position - begin
            if there is None:
                yield Window(first, window, size)
            else:
                self.resumed_sentences += len(window)
                self.position += size
                progress.skip()
            if not window:
                break
        check_whole_text(first, self._shards.room_at(first - 1))

    def done(self, window: Window, progress: EmbedProgress, hit_rate: float) -> None:
        """Shows that a window is embedded; windows before it may not be."""
        self.position += window.size
        progress.begin_window(0, window.tokens)
        progress.advance(len(window.sentences), window.tokens, hit_rate)

    def _count(self, first: int, window: list[Sentence]) -> None:
        lengths = [len(sentence.tokens) for sentence in window]
        self.firsts.append(first)
        self.counts.update(
            sentences=len(window),
            tokens=sum(lengths),
            empty_sentences=lengths.count(0),
            long_tokens=count_long_tokens(window),
        )
