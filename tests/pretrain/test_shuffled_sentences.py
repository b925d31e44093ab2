"""Every epoch holds every sentence, in an order of its own that can be made again."""

from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pretrain.naive_batches import Text, corpus_of, texts

from bridge.corpus.sources import Corpus
from bridge.pretrain import shuffled_sentences
from bridge.pretrain.shuffled_sentences import ShuffledSentences


@given(text=texts, window=st.integers(1, 30), seed=st.integers(0, 9))
def test_every_window_holds_its_own_sentences(
    tmp_path_factory: pytest.TempPathFactory, text: Text, window: int, seed: int
) -> None:
    corpus = corpus_of(tmp_path_factory.mktemp("text"), text, files=2)
    sentences = [sentence for sentence in text if sentence]
    shuffled = ShuffledSentences(corpus, seed, window)
    for epoch in range(3):
        for begin in range(0, len(sentences), window):
            there = sentences[begin : begin + window]
            ours = []
            for _ in there:
                ours.append(next(shuffled))
                assert shuffled.epoch == epoch
            assert sorted(ours) == sorted(there)


def orders(corpus: Corpus, seed: int, window: int, count: int) -> list[str]:
    return [" ".join(sentence) for sentence in islice(ShuffledSentences(corpus, seed, window), count)]


def test_the_order_depends_on_seed_epoch_and_window(tmp_path: Path) -> None:
    text = [[str(number % 50)] for number in range(100)]  # two windows of the same text
    corpus = corpus_of(tmp_path, text)
    order = orders(corpus, 0, 50, 400)
    assert order == orders(corpus, 0, 50, 400)
    assert order != orders(corpus, 1, 50, 400)
    windows = [tuple(order[begin : begin + 50]) for begin in range(0, 400, 50)]
    assert len(set(windows)) == 8
    assert tuple(map(str, range(50))) not in windows


def test_a_window_of_long_sentences_ends_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shuffled_sentences, "WINDOW_TOKENS", 10)
    text = [[str(number)] * 4 for number in range(7)]
    order = [sentence[0] for sentence in islice(ShuffledSentences(corpus_of(tmp_path, text), 0, 100), 7)]
    assert [set(order[:3]), set(order[3:6]), set(order[6:])] == [{*"012"}, {*"345"}, {"6"}]
