"""Texts, what a naive reading makes of them, and what batches say."""

import gzip
import random
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

from bridge.corpus.sources import Corpus
from bridge.pretrain.batches import Batch
from bridge.pretrain.vocabulary import Vocabulary

Text = list[list[str]]
words = st.one_of(
    st.sampled_from(["the", "cat", "sat", ".", "é", "猫", "ein" * 20]),  # the last is longer than ELMo reads
    st.text(min_size=1, max_size=3).filter(
        lambda word: (
            word.split() == [word]
            and word not in ("<S>", "</S>", "<UNK>")
            and not any(letter == "\ufeff" or "\ud800" <= letter <= "\udfff" for letter in word)
        )
    ),
)
texts = st.lists(st.lists(words, max_size=9), min_size=1, max_size=20).filter(any)
sizes = st.integers(1, 5)


class Place(NamedTuple):
    """One position of one row: what the forward and the backward model read and predict. None: nothing."""

    forward: str | None = None
    after: str | None = None
    backward: str | None = None
    before: str | None = None


def naive_steps(sentences: Iterable[list[str]], batch_size: int, unroll_steps: int) -> Iterator[list[list[Place]]]:
    """Rows of places, step after step: written from the description alone, one token at a time."""
    sentences = iter(sentences)
    waiting: list[list[Place]] = [[] for _ in range(batch_size)]
    while True:
        step = []
        for row in waiting:
            while len(row) < unroll_steps:
                words = next(sentences, None)
                if words is None:
                    row.append(Place())
                    continue
                from_left = ["<S>", *words, "</S>"]
                from_right = list(reversed(from_left))
                for number in range(len(words) + 1):
                    row.append(
                        Place(from_left[number], from_left[number + 1], from_right[number], from_right[number + 1])
                    )
            step.append([row.pop(0) for _ in range(unroll_steps)])
        if all(place == Place() for row in step for place in row):
            return
        yield step


def as_read(token: str | None) -> str | None:
    """What ELMo's characters keep of a token."""
    return token if token is None else token.encode()[:48].decode(errors="replace")


def spelled(characters: np.ndarray) -> str:
    """A token of its character ids."""
    assert characters[0] == 259
    end = characters.tolist().index(260)
    assert set(characters[end + 1 :]) <= {261}
    inside = characters[1:end].tolist()
    if inside in ([257], [258]):
        return "<S>" if inside == [257] else "</S>"
    return bytes(character - 1 for character in inside).decode(errors="replace")


def places_of(batch: Batch, vocabulary: Vocabulary) -> list[list[Place]]:
    """What a batch says, read back."""
    tokens = [spelled(characters) for characters in batch.char_ids]
    return [
        [
            Place(
                *(
                    value
                    for direction in (0, 1)
                    for value in (
                        (None, None)
                        if batch.targets[direction, step, row] == -1
                        else (
                            tokens[batch.inputs[direction, step, row]],
                            vocabulary.tokens[batch.targets[direction, step, row]],
                        )
                    )
                )
            )
            for step in range(batch.inputs.shape[1])
        ]
        for row in range(batch.inputs.shape[2])
    ]


def expected(step: list[list[Place]], vocabulary: Vocabulary) -> list[list[Place]]:
    """The naive step, with unknown targets and cut inputs."""

    def known(token: str | None) -> str | None:
        return token if token is None or token in vocabulary.tokens else "<UNK>"

    return [
        [Place(as_read(p.forward), known(p.after), as_read(p.backward), known(p.before)) for p in row] for row in step
    ]


def check_form(batch: Batch, batch_size: int, unroll_steps: int) -> None:
    assert {part.dtype for part in batch} == {np.dtype("int64")}
    assert batch.inputs.shape == batch.targets.shape == (2, unroll_steps, batch_size)
    assert batch.char_ids.shape[1:] == (50,)
    # Each token that is read is there once, and no other.
    assert np.unique(batch.inputs).tolist() == list(range(len(batch.char_ids)))
    assert all(part.flags.c_contiguous for part in batch)


def write_text(path: Path, text: Text) -> Path:
    content = "".join(" ".join(sentence) + "\n" for sentence in text).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def corpus_of(folder: Path, text: Text, files: int = 1, suffix: str = ".txt") -> Corpus:
    """The text in several files."""
    cuts = [len(text) * number // files for number in range(files + 1)]
    return Corpus(
        [
            write_text(folder / f"part{number}{suffix}", text[begin:end])
            for number, (begin, end) in enumerate(pairwise(cuts))
        ]
    )


def vocabulary_of(text: Text, max_vocab: int | None = None) -> Vocabulary:
    return Vocabulary.count(text, max_vocab=max_vocab)[0]


def sample_text(sentences: int, seed: int = 0) -> Text:
    rng = random.Random(seed)
    return [[f"word{int(rng.paretovariate(0.7)) % 200}" for _ in range(rng.randrange(0, 12))] for _ in range(sentences)]


def assert_same(one: Batch, other: Batch) -> None:
    for ours, theirs in zip(one, other, strict=True):
        np.testing.assert_array_equal(ours, theirs)
