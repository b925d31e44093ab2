"""Batches hold every token where a naive reading of the text puts it; memory does not grow with the text."""

import re
import tracemalloc
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pretrain.naive_batches import (
    Place,
    Text,
    check_form,
    corpus_of,
    expected,
    naive_steps,
    places_of,
    sample_text,
    sizes,
    texts,
    vocabulary_of,
)

from bridge.corpus.sources import Corpus
from bridge.errors import InputTypeError, InputValueError
from bridge.pretrain.batches import Batch, TrainingBatches, held_out_batches
from bridge.pretrain.shuffled_sentences import ShuffledSentences
from bridge.pretrain.vocabulary import Vocabulary


def test_two_sentences_by_hand(tmp_path: Path) -> None:
    """'the cat sat' and 'no', in one row of 3 positions a step."""
    vocabulary = Vocabulary(["<S>", "</S>", "<UNK>", "the", "cat", "sat"])
    corpus = corpus_of(tmp_path, [["the", "cat", "sat"], [], ["no"]])
    first, second = held_out_batches(corpus, vocabulary, batch_size=1, unroll_steps=3)
    assert places_of(first, vocabulary) == [
        [Place("<S>", "the", "</S>", "sat"), Place("the", "cat", "sat", "cat"), Place("cat", "sat", "cat", "the")]
    ]
    assert places_of(second, vocabulary) == [
        [Place("sat", "</S>", "the", "<S>"), Place("<S>", "<UNK>", "</S>", "<UNK>"), Place("no", "</S>", "no", "<S>")]
    ]
    assert first.targets.tolist() == [[[3], [4], [5]], [[5], [4], [3]]]
    assert second.targets.tolist() == [[[1], [2], [1]], [[0], [2], [0]]]


def test_backward_batches_are_forward_batches_of_the_mirrored_text(tmp_path: Path) -> None:
    """With the names of the boundaries exchanged."""
    text = sample_text(40)
    mirrored = [sentence[::-1] for sentence in text]
    vocabulary = vocabulary_of(text)
    (tmp_path / "mirrored").mkdir()
    arguments = {"batch_size": 3, "unroll_steps": 4}
    ours = held_out_batches(corpus_of(tmp_path, text), vocabulary, **arguments)
    theirs = held_out_batches(corpus_of(tmp_path / "mirrored", mirrored), vocabulary, **arguments)
    exchanged = np.arange(-1, len(vocabulary))
    exchanged[[1, 2]] = 1, 0
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one.targets[1], exchanged[other.targets[0] + 1])
        np.testing.assert_array_equal(one.targets[0], exchanged[other.targets[1] + 1])


@given(text=texts, batch_size=sizes, unroll_steps=sizes, max_vocab=st.integers(4, 9))
def test_held_out_text_is_read_once_in_its_order(
    tmp_path_factory: pytest.TempPathFactory, text: Text, batch_size: int, unroll_steps: int, max_vocab: int
) -> None:
    corpus, vocabulary = corpus_of(tmp_path_factory.mktemp("text"), text, files=2), vocabulary_of(text, max_vocab)
    ours = list(held_out_batches(corpus, vocabulary, batch_size=batch_size, unroll_steps=unroll_steps))
    naive = list(naive_steps(filter(None, text), batch_size, unroll_steps))
    assert [places_of(batch, vocabulary) for batch in ours] == [expected(step, vocabulary) for step in naive]
    for batch in ours:
        check_form(batch, batch_size, unroll_steps)
        np.testing.assert_array_equal(batch.targets[0] == -1, batch.targets[1] == -1)
    predicted = sum(int((batch.targets[0] >= 0).sum()) for batch in ours)
    assert predicted == sum(len(sentence) + 1 for sentence in text if sentence)


@given(text=texts, batch_size=sizes, unroll_steps=sizes, window=st.integers(1, 30), seed=st.integers(0, 9))
def test_training_rows_are_the_naive_ones(
    tmp_path_factory: pytest.TempPathFactory, text: Text, batch_size: int, unroll_steps: int, window: int, seed: int
) -> None:
    corpus, vocabulary = corpus_of(tmp_path_factory.mktemp("text"), text), vocabulary_of(text, 6)
    arguments = {"batch_size": batch_size, "unroll_steps": unroll_steps, "seed": seed, "window_sentences": window}
    naive = naive_steps(ShuffledSentences(corpus, seed, window), batch_size, unroll_steps)
    for batch, step in islice(zip(TrainingBatches(corpus, vocabulary, **arguments), naive, strict=False), 12):
        check_form(batch, batch_size, unroll_steps)
        assert places_of(batch, vocabulary) == expected(step, vocabulary)


def peak_bytes(corpus: Corpus, vocabulary: Vocabulary) -> int:
    """Of an epoch of training and a pass of evaluation."""
    tracemalloc.start()
    try:
        batches = TrainingBatches(corpus, vocabulary, batch_size=8, unroll_steps=10, seed=0, window_sentences=300)
        while batches.epoch < 1:
            next(batches)
        batches.restore(batches.state())
        for _ in held_out_batches(corpus, vocabulary, batch_size=8, unroll_steps=10):
            pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_corpus(tmp_path: Path) -> None:
    peaks = []
    for sentences in (600, 4_000):
        folder = tmp_path / str(sentences)
        folder.mkdir()
        text = sample_text(sentences)
        peaks.append(peak_bytes(corpus_of(folder, text), vocabulary_of(text)))
    assert peaks[1] < 1.2 * peaks[0]


@pytest.fixture
def two_words() -> Vocabulary:
    return Vocabulary(["<S>", "</S>", "<UNK>", "the", "cat"])


def first_batch(corpus: Corpus, vocabulary: Vocabulary, held_out: bool) -> Batch:
    if held_out:
        return next(held_out_batches(corpus, vocabulary, batch_size=2, unroll_steps=3))
    return next(TrainingBatches(corpus, vocabulary, batch_size=2, unroll_steps=3, seed=0))


@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize("text", [[], [[]], [[], [], []]])
def test_a_text_without_tokens(tmp_path: Path, two_words: Vocabulary, text: Text, held_out: bool) -> None:
    argument = "`held_out` (--held-out)" if held_out else "`inputs`"
    with pytest.raises(
        InputValueError, match=rf"{re.escape(argument)} must have a token at least. Received: .*part0\.txt"
    ):
        first_batch(corpus_of(tmp_path, text), two_words, held_out)


@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize("token", ["<S>", "</S>", "<UNK>"])
def test_boundaries_in_the_text(tmp_path: Path, two_words: Vocabulary, token: str, held_out: bool) -> None:
    text = [["the"], [], ["cat", token]]
    with pytest.raises(InputValueError, match=f"must not hold .* Received: '{token}' in line 3 "):
        first_batch(corpus_of(tmp_path, text, files=2), two_words, held_out)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"batch_size": 0}, InputValueError, "`batch_size` must be at least 1"),
        ({"unroll_steps": 2.5}, InputTypeError, "`unroll_steps` must be an integer"),
        ({"seed": -1}, InputValueError, "`seed` must be at least 0"),
        ({"window_sentences": 0}, InputValueError, "`window_sentences` must be at least 1"),
    ],
)
def test_wrong_arguments(
    tmp_path: Path, two_words: Vocabulary, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    corpus = corpus_of(tmp_path, [["the"]])
    with pytest.raises(error, match=message):
        TrainingBatches(corpus, two_words, **{"batch_size": 2, "unroll_steps": 3, "seed": 0, **arguments})
    if not arguments.keys() & {"seed", "window_sentences"}:
        with pytest.raises(error, match=message):  # at once, not when the first batch is asked for
            held_out_batches(corpus, two_words, **{"batch_size": 2, "unroll_steps": 3, **arguments})
