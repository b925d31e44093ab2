"""`pooling="mean"`: one vector a sentence, and zeros where there is none."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from layers.harness import assert_close, keras_mask

from bridge import ElmoConfig, ElmoEmbedding

# Two passages of three sentences; some have no token, and the longest is not in the first passage.
PASSAGES = tf.constant(
    [
        [["The", "cat", "", ""], ["", "", "", ""], ["Hello", "", "", ""]],
        [["a", "b", "a", "b"], ["", "", "", ""], ["", "", "", ""]],
    ]
)
HAS_TOKENS = np.array([[True, False, True], [True, False, False]])
EMPTY = PASSAGES[:, 1]

MODES: dict[str, dict[str, Any]] = {
    "elmo": {},
    "elmo, boundaries": {"keep_sentence_boundaries": True},
    "elmo, layer norm": {"do_layer_norm": True},
    "elmo, layer norm, boundaries": {"do_layer_norm": True, "keep_sentence_boundaries": True},
    "top": {"output_mode": "top"},
    "average, boundaries": {"output_mode": "average", "keep_sentence_boundaries": True},
    "all": {"output_mode": "all"},
    "all, boundaries": {"output_mode": "all", "keep_sentence_boundaries": True},
    "elmo, cut": {"max_sequence_length": 2},
    "elmo, bfloat16": {"dtype": "mixed_bfloat16"},
    "elmo, fine-tuned": {"requires_grad": True},
}


def means(vectors: tf.Tensor, keep: int) -> np.ndarray:
    """The mean over the unmasked timesteps, 0 where those are `keep` boundaries or none, counted one by one."""
    mask = keras_mask(vectors).numpy()
    values = tf.cast(vectors, tf.float32).numpy()
    result = np.zeros(mask.shape[:-1] + values.shape[mask.ndim :])
    for index in np.ndindex(mask.shape[:-1]):
        if mask[index].sum() > keep:
            result[index] = values[index][mask[index]].mean(axis=0)
    return result


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_mean_pooling(mode: str, small: ElmoConfig) -> None:
    arguments = {"dropout": 0.0, **MODES[mode]}
    tolerance = 0.02 if "bfloat16" in mode else 1e-6
    keep = 2 if "boundaries" in mode else 0
    plain, pooling = ElmoEmbedding(small, **arguments), ElmoEmbedding(small, pooling="mean", **arguments)
    for inputs in (PASSAGES, PASSAGES[0], EMPTY):
        output = pooling(inputs)
        assert_close(tf.cast(output, tf.float32), means(plain(inputs), keep), tolerance)
        assert not tf.cast(output, tf.float32).numpy()[~np.any(inputs.numpy() != b"", axis=-1)].any()
    np.testing.assert_array_equal(keras_mask(pooling(PASSAGES)), HAS_TOKENS)
    assert keras_mask(pooling(PASSAGES[0])) is None
    assert output.dtype == plain(EMPTY).dtype


@pytest.mark.parametrize("do_layer_norm", [False, True])
@pytest.mark.parametrize("boundaries", [False, True])
def test_gradients_stay_finite_beside_empty_rows(do_layer_norm: bool, boundaries: bool, small: ElmoConfig) -> None:
    layer = ElmoEmbedding(
        small,
        pooling="mean",
        requires_grad=True,
        do_layer_norm=do_layer_norm,
        keep_sentence_boundaries=boundaries,
        dropout=0.0,
    )
    for inputs in (PASSAGES, EMPTY):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(inputs, training=True) ** 2)
        gradients = tape.gradient(loss, [variable.value for variable in layer.trainable_variables])
        assert all(np.isfinite(gradient).all() for gradient in gradients)
        some = any(np.abs(gradient).max() > 1e-6 for gradient in gradients)
        assert some == (inputs is PASSAGES)


def test_no_passages(small: ElmoConfig) -> None:
    layer = ElmoEmbedding(small, pooling="mean")
    assert layer(tf.zeros((2, 0, 3), tf.string)).shape == (2, 0, 12)
    assert layer(np.zeros((0, 2, 3, 50), "int32")).shape == (0, 2, 12)
    np.testing.assert_array_equal(layer(np.zeros((2, 2, 0, 50), "int32")), np.zeros((2, 2, 12)))
