"""From a stream of sentences to what is computed and stored together: windows, and batches inside a window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from bridge.corpus.sources import Sentence
from bridge.encoder.passes import passes
from bridge.text.characters import MAX_BYTES_PER_TOKEN

# A window is stored as one segment: what a crash can cost, and what memory holds beside the model. 16,384 tokens are
# half a minute of the original model on two cores, and 200 MB with all its layers.
WINDOW_TOKENS = 16_384
WINDOW_SENTENCES = 65_536
# Where no batch size is given: as many as `ElmoEncoder` runs together.
MOST_ROWS = 256
# AllenNLP's, where the batch decides which sentence goes on from which.
CARRY_ROWS = 64


def take_window(
    sentences: Iterator[Sentence],
    *,
    max_tokens: int = WINDOW_TOKENS,
    max_sentences: int = WINDOW_SENTENCES,
    batch_size: int = 1,
) -> list[Sentence]:
    """The next sentences of a stream; none at its end.

    Args:
        sentences: the stream.
        max_tokens: a window ends with the sentence that makes it so many tokens.
        max_sentences: the most sentences of a window of more than one batch.
        batch_size: a window ends with a whole number of batches, except where the stream ends.
    """
    window: list[Sentence] = []
    tokens = 0
    max_sentences = max(batch_size, max_sentences - max_sentences % batch_size)
    while tokens < max_tokens and len(window) < max_sentences:
        batch = list(islice(sentences, batch_size))
        if not batch:
            break
        window += batch
        tokens += sum(len(sentence.tokens) for sentence in batch)
    return window


def batches(lengths: Sequence[int] | np.ndarray, max_tokens: int, batch_size: int) -> Iterator[np.ndarray]:
    """Indices of the sentences of each batch: the longest first, so that those of a batch are of similar length.

    Args:
        lengths: number of tokens of each sentence.
        max_tokens: the most tokens of a batch, padding and sentence boundaries included. A longer sentence is a batch
            of its own.
        batch_size: the most sentences of a batch.
    """
    with_tokens = np.flatnonzero(np.asarray(lengths, dtype=np.intp))
    steps = np.asarray(lengths, dtype=np.intp)[with_tokens] + 2
    for rows in passes(steps, max_tokens, batch_size):
        yield with_tokens[rows]


def count_long_tokens(sentences: Sequence[Sentence]) -> int:
    """Number of tokens of more than 48 bytes, whose rest ELMo does not read."""
    return sum(
        # A character takes four bytes at most.
        len(token) * 4 > MAX_BYTES_PER_TOKEN and len(token.encode("utf-8", "ignore")) > MAX_BYTES_PER_TOKEN
        for sentence in sentences
        for token in sentence.tokens
    )
