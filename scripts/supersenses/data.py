"""Definitions and the lexicographer files that they are from, divided for ever into parts and shares."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import get_args

import numpy as np
import wordnet

from bridge.errors import InputValueError

PADDING, UNKNOWN = 0, 1
DEV_SENTENCES = 4_000  # enough to choose by, and looked at again and again


class Part:
    """Labelled sentences, in the order of a hash: any number of the first ones are a sample of all.

    Attributes:
        tokens: of every sentence.
        labels: numbers of their lexicographer files, int64 `(sentences,)`.
        lengths: numbers of their tokens, int64 `(sentences,)`.
    """

    def __init__(self, tokens: Sequence[list[str]], labels: Sequence[int]) -> None:
        self.tokens = list(tokens)
        self.labels = np.array(labels, dtype=np.int64)
        self.lengths = np.array([len(sentence) for sentence in tokens], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.tokens)

    def share(self, percent: int) -> Part:
        """So many of 100 sentences; a larger share has those of a smaller one and more."""
        count = len(self) * percent // 100
        if not count:
            raise InputValueError(
                f"`shares` must leave a sentence to train on. Received: {percent}% of {len(self)} sentences. Take a "
                "larger share, or leave `--limit` out."
            )
        return Part(self.tokens[:count], self.labels[:count].tolist())

    @property
    def lines(self) -> str:
        """A sentence a line."""
        return "".join(" ".join(sentence) + "\n" for sentence in self.tokens)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the sentences and their labels."""
        return hashlib.sha256(json.dumps([self.tokens, self.labels.tolist()]).encode()).hexdigest()


def parts_of(synsets: Iterable[wordnet.Synset], limit: int | None = None) -> dict[wordnet.Split, Part]:
    """The definitions of each split; of `limit` synsets alone, where that is given."""
    synsets = sorted(synsets, key=lambda synset: (wordnet.fixed_hash(f"order {synset.definition}"), synset.key))[:limit]
    parts: dict[wordnet.Split, Part] = {}
    for split in get_args(wordnet.Split):
        chosen = [synset for synset in synsets if synset.split == split][: DEV_SENTENCES if split == "dev" else None]
        if not chosen:
            raise InputValueError(f"`limit` must leave sentences for {split}. Received: {limit}. Take a larger one.")
        tokens = [wordnet.tokenize(synset.definition) for synset in chosen]
        parts[split] = Part(tokens, [synset.lexicographer_file for synset in chosen])
    return parts


class Vocabulary:
    """The words of sentences as numbers, for an `Embedding`. 0 is padding and 1 an unknown word.

    Args:
        sentences: what may be known.
        min_count: words that occur less often are unknown, so that there is something to learn of unknown words.
    """

    def __init__(self, sentences: Iterable[Sequence[str]], min_count: int) -> None:
        counts = Counter(word for sentence in sentences for word in sentence)
        words = sorted(word for word, count in counts.items() if count >= min_count)
        self.numbers = {word: number for number, word in enumerate(words, start=UNKNOWN + 1)}

    def __len__(self) -> int:
        return len(self.numbers) + UNKNOWN + 1

    def ids(self, sentences: Sequence[Sequence[str]]) -> np.ndarray:
        """int32 `(sentences, longest)`, padded."""
        ids = np.full((len(sentences), max(map(len, sentences))), PADDING, dtype=np.int32)
        for row, sentence in zip(ids, sentences, strict=True):
            row[: len(sentence)] = [self.numbers.get(word, UNKNOWN) for word in sentence]
        return ids
