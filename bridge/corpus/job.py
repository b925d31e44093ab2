"""What is computed of a corpus, and in which order: `Job`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np

from bridge.corpus.batching import CARRY_ROWS, MOST_ROWS, WINDOW_SENTENCES, batches, count_long_tokens, take_window
from bridge.corpus.progress import EmbedProgress
from bridge.corpus.runs import check_same_text, check_whole_text
from bridge.corpus.segments import Segment, Segments
from bridge.corpus.sources import Corpus, Sentence
from bridge.encoder.encoder import ElmoEncoder
from bridge.features.metadata import FeatureMetadata
from bridge.features.sentence_checks import as_stored


class Job:
    """Computes the segments of a corpus that are not there yet.

    Args:
        corpus: what to embed.
        encoder: with what.
        segments: where to.
        metadata: of the features.
        batch_size: the most sentences that run together, or None for the default.
        max_tokens: the most tokens that run together, padding included.

    Attributes:
        resumed_sentences: how many were there already.
    """

    def __init__(
        self,
        corpus: Corpus,
        encoder: ElmoEncoder,
        segments: Segments,
        metadata: FeatureMetadata,
        batch_size: int | None,
        max_tokens: int,
    ) -> None:
        self.corpus = corpus
        self.encoder = encoder
        self.segments = segments
        self.metadata = metadata
        self.carry = encoder.state == "carry"
        self.batch_size = batch_size or (CARRY_ROWS if self.carry else MOST_ROWS)
        self.max_tokens = max_tokens
        self.resumed_sentences = 0

    def run(self, progress: EmbedProgress) -> None:
        """Embeds what is not there yet, a segment at a time.

        Raises:
            InputValueError: the text of the segments that are there is another one.
        """
        sentences = self.corpus.sentences()
        first = 0
        while True:
            finished = self.segments.texts_at(first)
            if finished is not None:
                check_same_text(finished, list(islice(sentences, len(finished))), first)
                first += len(finished)
                self.resumed_sentences += len(finished)
                progress.skip()
                continue
            skipped = self.corpus.skipped_lines
            room = self.segments.room_at(first) or WINDOW_SENTENCES
            window = take_window(
                sentences, max_sentences=min(room, WINDOW_SENTENCES), batch_size=self.batch_size if self.carry else 1
            )
            if not window:
                break
            segment = self._embed(window, first, progress)
            segment.counts["skipped_lines"] = self.corpus.skipped_lines - skipped
            self.segments.write(first, segment)
            first += len(window)
        check_whole_text(first, self.segments.room_at(first - 1))

    def _embed(self, window: list[Sentence], first: int, progress: EmbedProgress) -> Segment:
        lengths = np.array([len(sentence.tokens) for sentence in window], dtype=np.int64)
        ends = np.cumsum(lengths)
        features = np.empty((ends[-1], *self.metadata.token_shape), dtype=self.metadata.dtype)
        progress.begin_window(int(np.count_nonzero(lengths == 0)), int(ends[-1]))
        for rows in self._batches(lengths):
            vectors = self.encoder.embed([window[row].tokens for row in rows], self.metadata.layers)
            for row, values in zip(rows, vectors, strict=True):
                features[ends[row] - lengths[row] : ends[row]] = as_stored(
                    values, self.metadata, first + int(row), window[row].text
                )
            info = self.encoder.token_cache_info()
            hit_rate = info.hits / max(1, info.hits + info.misses)
            progress.advance(int(np.count_nonzero(lengths[rows])), int(lengths[rows].sum()), hit_rate)
        counts = {"long_tokens": count_long_tokens(window)}
        return Segment([sentence.text for sentence in window], lengths, features, counts)

    def _batches(self, lengths: np.ndarray) -> Iterator[np.ndarray]:
        if not self.carry:
            return batches(lengths, self.max_tokens, self.batch_size)
        rows = np.arange(len(lengths))
        return (rows[begin : begin + self.batch_size] for begin in range(0, len(rows), self.batch_size))
