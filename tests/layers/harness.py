"""One harness for every layer of the bridge: what any Keras layer promises, whatever it computes."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from bridge import batch_to_ids

SENTENCES = [["The", "cat", "sat"], ["Hello"]]
MASK = np.array([[True, True, True], [True, False, False]])


def tokens(sentences: list[list[str]]) -> tf.Tensor:
    """A string tensor of ragged sentences, padded with `""`."""
    return tf.ragged.constant(sentences, ragged_rank=1, dtype=tf.string).to_tensor()


def ids(sentences: list[list[str]], dtype: str = "int32") -> np.ndarray:
    return batch_to_ids(sentences).astype(dtype)


def keras_mask(tensor: Any) -> Any:
    """The mask that Keras attached to a layer's output, None if there is none."""
    return getattr(tensor, "_keras_mask", None)


def assert_close(actual: Any, wanted: Any, tolerance: float = 1e-5) -> None:
    """Equal shapes, and values equal to `tolerance`, counted from 1 or from the largest value."""
    actual, wanted = (np.asarray(values, dtype=np.float64) for values in (actual, wanted))
    assert actual.shape == wanted.shape
    scale = max(1.0, np.abs(wanted).max(initial=0.0))
    np.testing.assert_allclose(actual, wanted, rtol=0, atol=tolerance * scale)


@dataclass(frozen=True)
class LayerCase:
    """A layer, an input for it, and what must come out.

    Attributes:
        make: makes the layer; takes Keras's own arguments, such as `name`.
        inputs: a batch for it.
        free_axes: axes of the input that a model may leave open (None).
        shape: of the output for `inputs`.
        dtype: of the output.
        mask: of the output; None where the layer makes none.
        trainable, non_trainable: how many weights there are.
    """

    make: Callable[..., keras.layers.Layer]
    inputs: Any
    free_axes: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: str = "float32"
    mask: np.ndarray | None = None
    trainable: int = 0
    non_trainable: int = 0

    @property
    def input_dtype(self) -> str:
        return keras.backend.standardize_dtype(self.inputs.dtype)

    @property
    def open_shape(self) -> tuple[int | None, ...]:
        """Input shape of a model that accepts any batch."""
        return tuple(None if axis in self.free_axes else size for axis, size in enumerate(self.inputs.shape))


@keras.saving.register_keras_serializable(package="tests")
class SumHead(keras.layers.Layer):
    """Anything `(batch, ...)` to one trained number a row, whatever the mask."""

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> None:
        return None

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.scale = self.add_weight(shape=(), initializer="ones")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        rows = tf.reshape(tf.cast(inputs, tf.float32), [tf.shape(inputs)[0], -1])
        return self.scale * tf.reduce_sum(rows, axis=1, keepdims=True) / 1000.0

    def compute_output_spec(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        return keras.KerasTensor((inputs.shape[0], 1))


def check_layer(case: LayerCase, folder: Path) -> None:
    """Raises unless the layer of `case` keeps every promise."""
    check_config(case)
    check_shapes(case)
    check_mask_and_weights(case)
    check_model(case, folder)


def check_config(case: LayerCase) -> None:
    layer = case.make(name="renamed", trainable=False)
    config = layer.get_config()
    again = type(layer).from_config(json.loads(json.dumps(config)))
    assert again.get_config() == config
    assert (again.name, again.trainable) == ("renamed", False)
    again(case.inputs)
    assert not any(weight.trainable for weight in again.weights)
    assert again.get_config() == config, "a call changed the config"


def check_shapes(case: LayerCase) -> None:
    """A symbolic call, `compute_output_shape`, a graph and an eager call agree on shape and dtype."""
    layer = case.make()
    open_output = tuple(layer(keras.Input(batch_shape=case.open_shape, dtype=case.input_dtype)).shape)
    assert open_output == tuple(layer.compute_output_shape(case.open_shape))
    assert len(open_output) == len(case.shape)
    assert all(size in (None, real) for size, real in zip(open_output, case.shape, strict=True))

    exact = layer(keras.Input(batch_shape=tuple(case.inputs.shape), dtype=case.input_dtype))
    assert (tuple(exact.shape), exact.dtype) == (case.shape, case.dtype)

    @tf.function(input_signature=[tf.TensorSpec(case.open_shape, case.input_dtype)])
    def graph(inputs: tf.Tensor) -> tf.Tensor:
        output = layer(inputs)
        # What the symbolic call knew, the graph knows too: layers after this one are built on it.
        assert tuple(output.shape) == open_output
        return output

    eager = layer(case.inputs)
    assert (tuple(eager.shape), keras.backend.standardize_dtype(eager.dtype)) == (case.shape, case.dtype)
    # Not to the bit: TensorFlow reorders a graph's arithmetic.
    assert_close(graph(tf.constant(case.inputs)), eager, 1e-6)


def check_mask_and_weights(case: LayerCase) -> None:
    layer = case.make()
    output = layer(case.inputs)
    if case.mask is None:
        assert keras_mask(output) is None
    else:
        np.testing.assert_array_equal(keras_mask(output), case.mask)
        np.testing.assert_array_equal(layer.compute_mask(case.inputs), case.mask)
    assert (len(layer.trainable_weights), len(layer.non_trainable_weights)) == (case.trainable, case.non_trainable)
    layer.trainable = False
    assert (len(layer.trainable_weights), len(layer.weights)) == (0, case.trainable + case.non_trainable)
    layer.trainable = True
    assert len(layer.trainable_weights) == case.trainable


def check_model(case: LayerCase, folder: Path) -> None:
    """`fit` takes a step that every trainable weight sees, and a saved model predicts the same."""
    inputs = keras.Input(batch_shape=case.open_shape, dtype=case.input_dtype)
    layer = case.make()
    model = keras.Model(inputs, SumHead()(layer(inputs)))
    model.compile(keras.optimizers.SGD(0.1), "mse")
    before = [weight.numpy() for weight in layer.weights]
    model.fit(tf.constant(case.inputs), np.ones((len(case.inputs), 1)), verbose=0)
    for weight, old in zip(layer.weights, before, strict=True):
        assert np.any(weight.numpy() != old) == weight.trainable, weight.path

    model.save(folder / "model.keras")
    loaded = keras.models.load_model(folder / "model.keras")
    assert [weight.shape for weight in loaded.weights] == [weight.shape for weight in model.weights]
    np.testing.assert_array_equal(loaded(case.inputs), model(case.inputs))
