"""What the tests of `requires_grad=True` share."""

import gc
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from layers.harness import SENTENCES, assert_close, ids
from models import random_model

from bridge import ElmoConfig, ElmoEmbedding

IDS = tf.constant(ids(SENTENCES))


def tiny_model(folder: Path) -> ElmoConfig:
    """One LSTM layer, in 15 parameters: fast to trace."""
    return random_model(Path(folder), n_layers=1, filters=((1, 3), (2, 4)), clip=None, activation="tanh")


def tunable(config: ElmoConfig, **options: Any) -> ElmoEmbedding:
    layer = ElmoEmbedding(config, **{"requires_grad": True, "dropout": 0.0, **options})
    layer.build((None, None, 50))
    return layer


def regressor(layer: ElmoEmbedding) -> keras.Model:
    """Character ids to a number for the first token of each row."""
    inputs = keras.Input((None, 50), dtype="int32")
    return keras.Model(inputs, keras.layers.Dense(1, kernel_initializer="ones")(layer(inputs)[:, 0]))


def values(layer: ElmoEmbedding) -> list[Any]:
    return [weight.value for weight in layer.trainable_weights]


def loss(layer: ElmoEmbedding, inputs: Any = IDS, training: bool = True) -> tf.Tensor:
    """Another weight for every element, so that none can stand in for another."""
    vectors = layer(inputs, training=training)
    factors = tf.cos(tf.cast(tf.range(tf.size(vectors)), tf.float64))
    return tf.reduce_sum(tf.reshape(vectors, [-1]) * tf.cast(factors, vectors.dtype))


def gradients(layer: ElmoEmbedding, inputs: Any = IDS, training: bool = True) -> list[tf.Tensor]:
    with tf.GradientTape() as tape:
        total = loss(layer, inputs, training)
    return tape.gradient(total, values(layer))


def assert_all_close(actual: Any, wanted: Any, tolerance: float = 1e-10) -> None:
    for one, other in zip(actual, wanted, strict=True):
        assert_close(one, other, tolerance)


def live_graphs(layer: ElmoEmbedding) -> int:
    """How many of PyTorch's graphs the layer keeps."""
    assert layer.bilm._trained is not None
    backward: Any = layer.bilm._trained._backward
    graphs = backward.__self__._graphs
    if graphs:
        gc.collect()  # a persistent tape is a cycle
    return len(graphs)
