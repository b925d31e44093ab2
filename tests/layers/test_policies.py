"""Dtype policies, and every way in which Keras runs a step: the numbers stay those of a plain float64 step."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from layers.harness import assert_close
from layers.tuning import IDS, assert_all_close, gradients, live_graphs, regressor, tiny_model, tunable, values

from bridge import ElmoConfig, ElmoEmbedding

X, Y = np.repeat(IDS.numpy(), 2, axis=0), np.linspace(-1, 1, 4)[:, np.newaxis]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ElmoConfig:
    return tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def exact(tiny: ElmoConfig) -> ElmoEmbedding:
    return tunable(tiny, dtype="float64")


# The policy, the dtypes of the output, of the biLM's weights and of the mix's, and how far numbers may be off.
POLICIES = [
    ("float32", "float32", "float32", "float32", 1e-6),
    ("float64", "float64", "float64", "float64", 1e-12),
    ("mixed_bfloat16", "bfloat16", "float32", "float32", 1e-2),
    ("mixed_float16", "float16", "float32", "float32", 1e-3),
    ("bfloat16", "bfloat16", "float32", "bfloat16", 3e-2),
    ("float16", "float16", "float32", "float16", 3e-3),
]


@pytest.mark.slow
@pytest.mark.parametrize("in_graph", [False, True])
@pytest.mark.parametrize(("policy", "output", "of_bilm", "of_mix", "tolerance"), POLICIES)
def test_policy(
    policy: str, output: str, of_bilm: str, of_mix: str, tolerance: float, in_graph: bool, tiny: ElmoConfig, exact: Any
) -> None:
    layer = tunable(tiny, dtype=policy)
    assert {weight.dtype for weight in layer.bilm.weights} == {of_bilm}
    assert {weight.dtype for weight in layer.scalar_mix.weights} == {of_mix}
    vectors = (tf.function(layer) if in_graph else layer)(IDS)
    assert vectors.dtype.name == output == layer(keras.Input((None, 50), dtype="int32")).dtype
    assert_close(tf.cast(vectors, tf.float64), exact(IDS), tolerance)
    found = (tf.function(gradients) if in_graph else gradients)(layer)
    assert [gradient.dtype for gradient in found] == [value.dtype for value in values(layer)]
    assert_all_close([tf.cast(gradient, tf.float64) for gradient in found], gradients(exact), tolerance)


@pytest.mark.parametrize(("policy", "output"), [("float64", "float64"), ("bfloat16", "bfloat16")])
def test_policy_of_a_frozen_layer(policy: str, output: str, tiny: ElmoConfig, exact: ElmoEmbedding) -> None:
    layer = tunable(tiny, dtype=policy, requires_grad=False)
    vectors = layer(IDS)
    assert vectors.dtype.name == output
    assert {weight.dtype for weight in layer.weights} == {policy}
    assert_close(tf.cast(vectors, tf.float64), exact(IDS), 1e-6 if policy == "float64" else 3e-2)


def trained(
    config: ElmoConfig, optimizer: Any = None, *, epochs: int = 2, dtype: str = "float64", **compiling: Any
) -> Any:
    """A model after `fit` in batches of one row; its layer's weights are where the same steps always end."""
    layer = ElmoEmbedding(config, requires_grad=True, dropout=0.0, dtype=dtype)
    model = regressor(layer)
    loss = keras.losses.MeanSquaredError(dtype="float64")
    model.compile(optimizer or keras.optimizers.SGD(0.0625), loss, **compiling)
    model.fit(X, Y, batch_size=1, epochs=epochs, shuffle=False, verbose=0)
    assert live_graphs(layer) == 0
    return model


@pytest.fixture(scope="module")
def wanted(tiny: ElmoConfig) -> list[np.ndarray]:
    """The weights after 8 steps in eager mode, by hand."""
    layer = tunable(tiny, dtype="float64")
    model, optimizer = regressor(layer), keras.optimizers.SGD(0.0625)
    for row in list(range(4)) * 2:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((tf.cast(model(X[row : row + 1], training=True), tf.float64) - Y[row]) ** 2)
        weights = model.trainable_weights
        optimizer.apply(tape.gradient(loss, [weight.value for weight in weights]), weights)
    return [weight.numpy() for weight in model.weights]


WAYS: dict[str, dict[str, Any]] = {
    "run_eagerly": {"run_eagerly": True},
    "steps_per_execution": {"steps_per_execution": 4},
    "jit_compile": {"jit_compile": "auto"},
}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_ways_to_run(way: str, tiny: ElmoConfig, wanted: list[np.ndarray]) -> None:
    model = trained(tiny, **WAYS[way])
    assert not model.jit_compile
    # The Dense layer is in float32.
    assert_all_close([weight.numpy() for weight in model.weights], wanted, 1e-5)
    predicted = model(X)
    assert_close(model.predict(X, batch_size=3, verbose=0), predicted, 1e-5)
    assert_close(model.evaluate(X, Y, batch_size=4, verbose=0), np.mean((predicted - Y) ** 2), 1e-5)


def test_xla_is_declined_or_named(tiny: ElmoConfig) -> None:
    layer = tunable(tiny)
    with pytest.warns(UserWarning, match="Model doesn't support `jit_compile=True`"):
        regressor(layer).compile("sgd", "mse", jit_compile=True)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"unsupported operations.* EagerPyFunc"):
        tf.function(layer, jit_compile=True)(IDS)


def test_loss_scale(tiny: ElmoConfig, wanted: list[np.ndarray]) -> None:
    """A scale that would overflow float16 is lowered, a step that overflowed is not taken, the others are unscaled."""
    scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.0625), initial_scale=2.0**40)
    layer = ElmoEmbedding(tiny, requires_grad=True, dropout=0.0, dtype="mixed_float16")
    model = regressor(layer)
    model.compile(scaled, "mse", run_eagerly=True)
    before = [weight.numpy() for weight in model.weights]
    model.fit(X[:1], Y[:1], verbose=0)
    assert float(scaled.dynamic_scale) == 2.0**39
    assert_all_close([weight.numpy() for weight in model.weights], before, 0)
    scaled.dynamic_scale.assign(2.0**10)
    model.fit(X, Y, batch_size=1, epochs=2, shuffle=False, verbose=0)
    assert int(scaled.inner_optimizer.iterations) == 8
    assert_all_close([weight.numpy() for weight in model.weights], wanted, 2e-2)
    moved = max(np.abs(weight - old).max() for weight, old in zip(wanted, before, strict=True))
    assert moved > 0.1, "this test cannot see the steps"


@pytest.mark.slow
def test_moving_average(tiny: ElmoConfig, wanted: list[np.ndarray]) -> None:
    """With `use_ema` a model ends with the average of its weights, the biLM's too."""
    average: list[np.ndarray] = []

    class Averaged(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            now = [weight.numpy() for weight in model.weights]
            average[:] = [(old + new) / 2 for old, new in zip(average or now, now, strict=True)]

    model = regressor(ElmoEmbedding(tiny, requires_grad=True, dropout=0.0, dtype="float64"))
    optimizer = keras.optimizers.SGD(0.0625, use_ema=True, ema_momentum=0.5)
    model.compile(optimizer, keras.losses.MeanSquaredError(dtype="float64"), run_eagerly=True)
    model.fit(X, Y, batch_size=1, epochs=2, shuffle=False, verbose=0, callbacks=[Averaged()])
    assert_all_close([weight.numpy() for weight in model.weights], average, 1e-5)
    assert np.abs(average[0] - wanted[0]).max() > 1e-4
