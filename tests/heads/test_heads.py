"""The classifier and the tagger: shapes, what they learn, and that padding changes no number."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from heads.examples import LABELS, TAGS, labelled, plain_vectors, tagged

from bridge import ElmoConfig
from bridge.errors import InputTypeError, InputValueError
from bridge.heads import LabelledData, classifier, tagger
from bridge.heads.data import pad


@pytest.fixture(scope="module")
def small_tagger(small: ElmoConfig) -> keras.Model:
    keras.utils.set_random_seed(0)
    return tagger(small, labels=TAGS, units=5, dropout=0.0, optimizer=keras.optimizers.SGD(0.5))


def tagging_batch(padding: int, seed: int = 2) -> tuple[tf.Tensor, np.ndarray, np.ndarray]:
    """Tokens, tags and mask of one batch with so many extra timesteps; the tags at padding are wrong on purpose."""
    examples = tagged(7, seed)
    tokens = tf.pad(pad([item.tokens for item in examples]), [[0, 0], [0, padding]], constant_values="")
    mask = tokens.numpy() != b""
    tags = np.full(mask.shape, 1)
    for row, item in enumerate(examples):
        tags[row, : len(item.tokens)] = [TAGS.index(tag) for tag in item.target or ()]
    return tokens, tags, mask


def test_the_loss_and_accuracy_are_those_of_the_tokens(small_tagger: keras.Model) -> None:
    tokens, tags, mask = tagging_batch(3)
    probabilities = small_tagger(tokens, training=False).numpy()
    assert probabilities.shape == (*mask.shape, len(TAGS))
    right = np.take_along_axis(probabilities, tags[..., None], axis=-1)[..., 0][mask]
    small_tagger.reset_metrics()
    scores = small_tagger.test_on_batch(tokens, tags, return_dict=True)
    small_tagger.reset_metrics()
    assert scores["loss"] == pytest.approx(-np.log(right.astype("float64")).mean(), rel=1e-5)
    assert scores["accuracy"] == pytest.approx((probabilities.argmax(-1) == tags)[mask].mean(), rel=1e-5)


@pytest.mark.slow
def test_padding_changes_no_number_of_the_tagger(small_tagger: keras.Model) -> None:
    results = []
    start = small_tagger.get_weights()
    for padding in (0, 1, 6):
        tokens, tags, mask = tagging_batch(padding)
        small_tagger.set_weights(start)
        scores = small_tagger.test_on_batch(tokens, tags, return_dict=True)
        probabilities = small_tagger(tokens, training=False).numpy()[mask]
        small_tagger.train_on_batch(tokens, tags)
        results.append((scores, probabilities, small_tagger.get_weights()))
        small_tagger.reset_metrics()
    small_tagger.set_weights(start)
    assert set(results[0][0]) == {"loss", "accuracy", "precision", "recall", "f1"}
    assert any(not np.allclose(trained, old) for trained, old in zip(results[0][2], start, strict=True))
    for scores, probabilities, weights in results[1:]:
        assert scores == pytest.approx(results[0][0], rel=1e-5)
        np.testing.assert_allclose(probabilities, results[0][1], atol=1e-6)
        for ours, wanted in zip(weights, results[0][2], strict=True):
            np.testing.assert_allclose(ours, wanted, atol=1e-5)


@pytest.mark.slow
def test_padding_changes_no_number_over_several_batches(small_tagger: keras.Model) -> None:
    """Keras's own accuracy does not pass this: its batches weigh by how full they are."""
    results = []
    for paddings in ((0, 0), (0, 9), (9, 0)):
        batches = [tagging_batch(padding, seed) for seed, padding in enumerate(paddings)]
        signature = (tf.TensorSpec([None, None], tf.string), tf.TensorSpec([None, None], tf.int64))
        data = tf.data.Dataset.from_generator(
            lambda rows=batches: (row[:2] for row in rows), output_signature=signature
        )
        data = data.apply(tf.data.experimental.assert_cardinality(2))
        scores = small_tagger.evaluate(data, verbose=0, return_dict=True)
        right = [
            (small_tagger(tokens, training=False).numpy().argmax(-1) == tags)[mask] for tokens, tags, mask in batches
        ]
        assert scores["accuracy"] == pytest.approx(np.concatenate(right).mean())
        results.append(scores)
    assert results[1] == pytest.approx(results[0], rel=1e-5)
    assert results[2] == pytest.approx(results[0], rel=1e-5)


def test_padding_changes_no_number_of_the_classifier(small: ElmoConfig) -> None:
    model = classifier(small, labels=LABELS, units=5, dropout=0.0)
    examples = labelled(6, seed=3)
    tokens = pad([item.tokens for item in examples])
    padded = tf.pad(tokens, [[0, 0], [0, 4]], constant_values="")
    probabilities = model(tokens, training=False)
    assert probabilities.shape == (6, 2)
    np.testing.assert_allclose(tf.reduce_sum(probabilities, axis=-1), 1, atol=1e-6)
    np.testing.assert_allclose(model(padded, training=False), probabilities, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("make", "head", "labels"), [(tagged, tagger, TAGS), (labelled, classifier, LABELS)])
def test_they_learn_and_load(
    small: ElmoConfig, tmp_path: Path, make: Callable, head: Callable, labels: list[str]
) -> None:
    keras.utils.set_random_seed(0)
    model = head(small, labels=labels, units=16, dropout=0.0, optimizer=keras.optimizers.Adam(0.03))
    data, held_out = LabelledData(make(200, 0), labels), LabelledData(make(60, 1), labels)
    model.fit(data.batches(16), epochs=12, shuffle=False, verbose=0)
    scores = model.evaluate(held_out.batches(16), verbose=0, return_dict=True)
    assert scores["accuracy"] > 0.8
    if head is tagger:
        assert scores["f1"] > 0.85
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.evaluate(held_out.batches(16), verbose=0, return_dict=True) == pytest.approx(scores, rel=1e-5)


def test_elmos_arguments_are_handed_on(small: ElmoConfig) -> None:
    elmo = classifier(small, labels=LABELS, scalar_mix_parameters=[1.0, 2.0, 3.0]).get_layer("elmo")
    assert elmo.get_config()["scalar_mix_parameters"] == [1.0, 2.0, 3.0]
    assert elmo.get_config()["dropout"] == 0.0
    assert classifier(small, labels=LABELS, dropout=0.3).get_layer("elmo").get_config()["dropout"] == 0.0


def test_other_tags_than_bio_have_no_entities() -> None:
    model = tagger(labels=["NN", "VB"], vectors=plain_vectors(), units=2)
    scores = model.test_on_batch(tf.constant([["the", "a"]]), np.array([[0, 1]]), return_dict=True)
    assert set(scores) == {"loss", "accuracy"}


@pytest.mark.parametrize("head", [classifier, tagger])
@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"labels": ["a"]}, InputValueError, "`labels` must be two or more different"),
        ({"labels": ["a", "a"]}, InputValueError, "`labels` must be two or more different"),
        ({"labels": "ab"}, InputTypeError, "`labels` must be a list of strings"),
        ({"output_mode": "all"}, InputValueError, "`output_mode` must be 'elmo' here"),
        ({"num_output_representations": 2}, InputValueError, "`num_output_representations` must be 1 here"),
        ({"pooling": "mean"}, InputValueError, "`pooling` must be None here"),
        ({"vectors": []}, InputTypeError, "`vectors` must be a list of Keras layers"),
    ],
)
def test_errors(head: Callable, arguments: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        head(**{"labels": LABELS, **arguments})


def test_a_tag_for_every_token(small: ElmoConfig) -> None:
    for arguments in ({"max_sequence_length": 3}, {"keep_sentence_boundaries": True}):
        with pytest.raises(InputValueError, match=r"must be .* here: .*tags"):
            tagger(small, labels=TAGS, **arguments)


def test_vectors_stand_alone(small: ElmoConfig) -> None:
    with pytest.raises(InputValueError, match="`vectors` must stand alone"):
        classifier(small, labels=LABELS, vectors=plain_vectors())
