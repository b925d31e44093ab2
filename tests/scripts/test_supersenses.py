"""The parts of scripts/wordnet_supersenses.py that need no training."""

import numpy as np
import pytest

from bridge.errors import InputValueError
from scripts import small_wordnet


def test_intervals() -> None:
    from supersenses.accuracy import interval

    generator = np.random.default_rng(1)
    sentences, share = 4_000, 0.3
    correct = generator.random((1, sentences)) < share
    mean = correct.mean()
    width = 1.96 * np.sqrt(mean * (1 - mean) / sentences)  # the normal approximation
    assert interval(correct, seed=0) == pytest.approx((mean - width, mean + width), abs=0.15 * width)
    # Runs that differ more than chance: the interval knows of them.
    runs = np.stack([generator.random(sentences) < share for share in (0.2, 0.3, 0.4)])
    low, high = interval(runs, seed=0)
    assert low < 0.25
    assert high > 0.35
    assert interval(np.ones((2, 10), dtype=bool), seed=0) == (1.0, 1.0)


def test_too_little() -> None:
    from supersenses.data import parts_of
    from wordnet import Synset

    few = [
        Synset(f"{number}-n", label, gloss.split(";")[0], ())
        for number, (label, _, gloss) in enumerate(small_wordnet.synsets())
    ]
    with pytest.raises(InputValueError, match=r"`limit` must leave sentences for (dev|test)\. Received: 2"):
        parts_of(few, limit=2)
    parts = parts_of(few, limit=60)
    with pytest.raises(InputValueError, match=r"`shares` must leave a sentence to train on\. Received: 1% of"):
        parts["train"].share(1)
    small, large = parts["train"].share(10), parts["train"].share(100)
    assert large.tokens == parts["train"].tokens
    assert large.tokens[: len(small)] == small.tokens
    assert small.labels.tolist() == large.labels[: len(small)].tolist()


def test_words_are_those_of_the_training_sentences() -> None:
    from supersenses.data import Vocabulary

    vocabulary = Vocabulary([["a", "cat"], ["a", "dog"]], min_count=1)
    assert len(vocabulary) == 2 + 3
    assert vocabulary.ids([["dog", "a", "cow"], ["cat"]]).tolist() == [[4, 2, 1], [3, 0, 0]]
    assert Vocabulary([["a", "cat"], ["a", "dog"]], min_count=2).ids([["a", "cat"]]).tolist() == [[2, 1]]
