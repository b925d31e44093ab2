"""`EntityScores` counts entities as conlleval does, batch by batch and without padding."""

import json
import sys
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import precision_recall_fscore_support

from bridge.errors import InputValueError, MissingDependencyError
from bridge.heads import EntityScores
from bridge.heads.metrics import has_entities

TAGS = ["O", "B-A", "I-A", "B-B", "I-B", "E-A", "S-B"]
tags = st.lists(st.sampled_from(TAGS[:5]), min_size=1, max_size=7)
sentence = tags.flatmap(
    lambda gold: st.tuples(st.just(gold), st.lists(st.sampled_from(TAGS[:5]), min_size=len(gold), max_size=len(gold)))
)


def conll_entities(sentence: list[str]) -> set[tuple[str, int, int]]:
    """The rule of CoNLL's script for B and I, written down again: (type, begin, end)."""
    entities, begin = set(), None
    for index, tag in enumerate([*sentence, "O"]):
        goes_on = tag.startswith("I-") and begin is not None and sentence[begin][2:] == tag[2:]
        if begin is not None and not goes_on:
            entities.add((sentence[begin][2:], begin, index))
            begin = None
        if tag != "O" and begin is None:
            begin = index
    return entities


def update(metric: EntityScores, batch: list[tuple[list[str], list[str]]], padding: int = 2) -> None:
    """A padded batch with a mask; the padding holds entities, gold and predicted."""
    width = max(len(gold) for gold, _ in batch) + padding
    indices = np.ones((2, len(batch), width), dtype=int)
    mask = np.zeros((len(batch), width), dtype=bool)
    for row, pair in enumerate(batch):
        for side, sentence in enumerate(pair):
            indices[side, row, : len(sentence)] = [TAGS.index(tag) for tag in sentence]
        mask[row, : len(pair[0])] = True
    probabilities = tf.one_hot(indices[1], len(TAGS))
    probabilities._keras_mask = tf.constant(mask)
    metric.update_state(indices[0], probabilities)


def results(metric: EntityScores) -> dict[str, float]:
    return {name: float(value) for name, value in metric.result().items()}


@given(st.lists(sentence, min_size=1, max_size=6), st.integers(1, 3))
@example([(["I-A", "B-A", "I-B", "O"], ["B-A", "B-A", "B-B", "O"])], 1)
def test_it_counts_as_conlleval_and_seqeval_do(sentences: list[tuple[list[str], list[str]]], batch_size: int) -> None:
    metric = EntityScores(TAGS)
    for begin in range(0, len(sentences), batch_size):
        update(metric, sentences[begin : begin + batch_size])
    gold, predicted = ([list(pair[side]) for pair in sentences] for side in (0, 1))
    right = sum(len(conll_entities(a) & conll_entities(b)) for a, b in sentences)
    counts = [sum(len(conll_entities(row)) for row in rows) for rows in (predicted, gold)]
    ours = results(metric)
    assert ours["precision"] == pytest.approx(right / counts[0] if counts[0] else 0)
    assert ours["recall"] == pytest.approx(right / counts[1] if counts[1] else 0)
    precision, recall, f1, _ = precision_recall_fscore_support(gold, predicted, average="micro", zero_division=0)
    assert ours == pytest.approx({"precision": precision, "recall": recall, "f1": f1})


def test_iobes_tags_are_entities() -> None:
    metric = EntityScores(TAGS)
    update(metric, [(["B-A", "E-A", "S-B", "O"], ["B-A", "E-A", "O", "S-B"])])
    assert results(metric) == pytest.approx({"precision": 0.5, "recall": 0.5, "f1": 0.5})


def test_in_a_graph_it_is_the_same() -> None:
    rng = np.random.default_rng(0)
    gold, probabilities = rng.integers(0, 5, (4, 9)), rng.random((4, 9, 5)).astype("float32")
    eager, graph = EntityScores(TAGS[:5]), EntityScores(TAGS[:5])
    eager.update_state(gold, probabilities)
    tf.function(graph.update_state)(gold, probabilities)
    assert results(eager) == results(graph)
    assert results(eager)["f1"] > 0


def test_sample_weights_of_zero_are_padding() -> None:
    gold, predicted = np.array([[1, 0, 1]]), tf.one_hot([[1, 0, 0]], 3)
    metric = EntityScores(TAGS[:3])
    metric.update_state(gold, predicted, sample_weight=np.array([[1.0, 1.0, 0.0]]))
    assert results(metric)["recall"] == 1.0
    metric.reset_state()
    metric.update_state(gold, predicted)
    assert results(metric)["recall"] == 0.5


def test_nothing_counted_is_zero() -> None:
    assert results(EntityScores(TAGS)) == {"precision": 0.0, "recall": 0.0, "f1": 0.0}


def test_config_round_trip() -> None:
    metric = EntityScores(TAGS, name="chunks")
    config = keras.saving.serialize_keras_object(metric)
    again: Any = keras.saving.deserialize_keras_object(json.loads(json.dumps(config)))
    assert (again.labels, again.name) == (TAGS, "chunks")


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [(["O", "B-A"], True), (["I-A", "O"], True), (["S-A", "O"], True), (["O"], False), (["NN", "VB"], False)],
)
def test_which_tags_are_entities(labels: list[str], wanted: bool) -> None:
    assert has_entities(labels) is wanted


def test_bilou_is_refused() -> None:
    with pytest.raises(InputValueError, match=r"BILOU tags L-A, U-A. Write E- for L- and S- for U-"):
        has_entities(["O", "B-A", "L-A", "U-A"])


def test_other_labels_are_refused() -> None:
    with pytest.raises(InputValueError, match="`labels` must be BIO tags"):
        EntityScores(["NN", "VB"])


def test_without_seqeval_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "seqeval"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(MissingDependencyError, match=r"'seqeval' is needed.*elmo-keras-bridge\[heads\]"):
        EntityScores(TAGS)
