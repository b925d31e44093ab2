"""A trained head in use: predictions, scores, streams."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from heads.examples import LABELS, OTHER, TAGS, labelled, plain_vectors, tagged
from seqeval.metrics import classification_report

from bridge.errors import InputTypeError, InputValueError, ResourceNotFoundError, UnsupportedError
from bridge.heads import Head, LabelledData, train
from bridge.heads.run_folder import RunFolder
from bridge.heads.streaming import batches_as_they_come, predicted_lines
from bridge.text.readers import Example
from bridge.text.writers import PredictionWriter


def untrained(task: Any, labels: list[str]) -> Head:
    keras.utils.set_random_seed(1)
    layers: list[Any] = [*plain_vectors(), keras.layers.Dense(len(labels), "softmax")]
    if task == "classify":
        layers.append(keras.layers.GlobalAveragePooling1D())
    return Head(keras.Sequential([keras.Input((None,), dtype="string"), *layers]), task, labels)


def test_predictions_are_the_models_in_order() -> None:
    head, examples = untrained("tag", TAGS), tagged(11, 0)
    predictions = list(head.predict((item.tokens for item in examples), batch_size=4))
    for item, prediction in zip(examples, predictions, strict=True):
        probabilities = head.model(tf.constant([item.tokens]))[0].numpy()
        np.testing.assert_allclose(prediction.probabilities, probabilities, atol=1e-6)
        assert prediction.target == [TAGS[index] for index in probabilities.argmax(-1)]
    head = untrained("classify", LABELS)
    (prediction,) = head.predict([["anna", "went"]])
    assert prediction.target == LABELS[int(prediction.probabilities.argmax())]
    assert head.predict_batch([]) == []


def test_one_graph_does_for_every_length() -> None:
    head = untrained("tag", TAGS)
    for length in (1, 2, 5, 9, 30):
        head.predict_batch([["the"] * length] * length)
    assert head._run.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("wrong", [[], ["a", ""]])
def test_a_sentence_must_have_tokens(wrong: list[str]) -> None:
    with pytest.raises(InputValueError, match="must have tokens, none of them empty"):
        untrained("tag", TAGS).predict_batch([["a"], wrong])


def test_a_sentence_is_not_taken_for_its_letters() -> None:
    with pytest.raises(InputTypeError, match=r"must be a list of tokens\. Received: 'not bad'"):
        list(untrained("tag", TAGS).predict(["not bad"]))


def test_a_batch_has_sentences() -> None:
    with pytest.raises(InputValueError, match="`batch_size` must be at least 1"):
        list(untrained("tag", TAGS).predict([["a"]], batch_size=0))


def test_scores_of_tags_are_seqevals() -> None:
    head, examples = untrained("tag", TAGS), tagged(50, 0)
    scores = head.evaluate(iter(examples), batch_size=7)
    gold = [item.target for item in examples]
    predicted = [prediction.target for prediction in head.predict(item.tokens for item in examples)]
    report = classification_report(gold, predicted, output_dict=True, zero_division=0)
    assert scores["f1"] == pytest.approx(report["micro avg"]["f1-score"])
    assert scores["entities"]["PER"]["recall"] == pytest.approx(report["PER"]["recall"])
    assert scores["entities"].keys() == {"PER", "LOC"}
    tokens = [
        (a, b) for wanted, given in zip(gold, predicted, strict=True) for a, b in zip(wanted or (), given, strict=True)
    ]
    assert scores["accuracy"] == pytest.approx(np.mean([a == b for a, b in tokens]))
    assert scores["examples"] == 50


def test_without_entities_the_scores_are_zero() -> None:
    head = untrained("tag", TAGS)
    head.model.layers[-1].bias.assign([99.0, 0.0, 0.0, 0.0])  # outside, always
    scores = head.evaluate([Example(["the", "a"], ["O", "O"])])
    assert scores == {"examples": 1, "accuracy": 1.0, "precision": 0.0, "recall": 0.0, "f1": 0.0, "entities": {}}


def test_scores_of_labels_count_unknown_ones_as_wrong() -> None:
    head = untrained("classify", LABELS)
    (prediction,) = head.predict([["anna"]])
    examples = [Example(["anna"], prediction.target), Example(["anna"], "never seen")]
    assert head.evaluate(examples) == {"examples": 2, "accuracy": 0.5}


def test_errors_of_evaluate() -> None:
    with pytest.raises(InputValueError, match="must be an example to evaluate"):
        untrained("tag", TAGS).evaluate([])
    with pytest.raises(InputValueError, match=r"must be BIO tags, as the head's are\. Received: NN"):
        untrained("tag", TAGS).evaluate([Example(["a"], ["NN"])])

    with pytest.raises(InputValueError, match="An example must have a list of tags"):
        untrained("tag", TAGS).evaluate([Example(["a", "b"], ["O"])])
    with pytest.raises(InputValueError, match=r"must have a label, as a string\. Received: None"):
        untrained("classify", LABELS).evaluate([Example(["a"])])


def test_loading(tmp_path: Path) -> None:
    with pytest.raises(ResourceNotFoundError, match=r"must hold a run\.json"):
        Head.load(tmp_path)
    run_folder = RunFolder(tmp_path / "run")
    run_folder.begin({"task": "classify", "labels": LABELS}, resume=False, overwrite=False)
    with pytest.raises(ResourceNotFoundError, match="must have trained for an epoch"):
        Head.load(tmp_path / "run")
    run_folder.settings_file.write_text('{"format": 2, "made_by": "elmo-bridge train"}')
    with pytest.raises(UnsupportedError, match=r"must be of format 1\. Received: 2"):
        Head.load(tmp_path / "run")

    model = untrained("classify", LABELS).model
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    data = LabelledData(labelled(20, 0), LABELS)
    train(model, tmp_path / "run", data, epochs=1, overwrite=True)
    head = Head.load(tmp_path / "run")
    assert (head.task, head.labels) == ("classify", LABELS)
    tokens = tf.constant([["the", "rome"]])
    np.testing.assert_allclose(head.model(tokens), model(tokens), atol=1e-6)


def test_lines_keep_the_place_of_empty_sentences() -> None:
    head = untrained("classify", LABELS)
    examples = [Example([]), Example(["anna"]), Example([]), Example([]), Example(["rome", "."])]
    lines = predicted_lines(head, PredictionWriter("text", "classify"), examples).split("\n")
    assert [line.split("\t")[-1] for line in lines] == ["", "anna", "", "", "rome .", ""]


def test_a_stream_is_batched_by_what_has_come() -> None:
    more = threading.Event()

    def items() -> Iterator[int]:
        yield from range(5)
        more.wait()
        yield 5

    batches = batches_as_they_come(items(), batch_size=2)
    # The sixth has not come, and the fifth is not kept waiting for it.
    assert [item for _ in range(3) for item in next(batches)] == [0, 1, 2, 3, 4]
    more.set()
    assert list(batches) == [[5]]


def test_a_stream_is_not_read_far_ahead() -> None:
    read = 0

    def items() -> Iterator[int]:
        nonlocal read
        while True:
            read += 1
            yield read

    batches = batches_as_they_come(items(), batch_size=3)
    assert next(batches) == [1, 2, 3]
    time.sleep(0.1)
    assert read < 30


def test_an_error_comes_behind_what_was_read_before_it() -> None:
    def items() -> Iterator[str]:
        yield from OTHER[:3]
        raise InputValueError("line 4: broken")

    batches = batches_as_they_come(items(), batch_size=2)
    assert [item for _ in range(2) for item in next(batches)] == list(OTHER[:3])
    with pytest.raises(InputValueError, match="line 4"):
        next(batches)
