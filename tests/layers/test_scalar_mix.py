"""ScalarMix is AllenNLP's ScalarMix, in value and gradient."""

from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from layers.harness import assert_close, keras_mask

from bridge import ScalarMix
from bridge.encoder.elmo_import import import_elmo
from bridge.errors import InputValueError


class Mix(NamedTuple):
    """A mix, and the gradients of `sum(mixture * weights)`."""

    mixture: np.ndarray
    scalar_parameters: np.ndarray
    gamma: np.ndarray
    inputs: np.ndarray


class Case(NamedTuple):
    """Everything a mix is computed from, in float64."""

    inputs: np.ndarray
    mask: np.ndarray
    scalar_parameters: np.ndarray
    gamma: float
    weights: np.ndarray


def make_case(batch: int, timesteps: int, num_layers: int, dim: int, seed: int) -> Case:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, timesteps, size=batch, endpoint=True)
    lengths[0] = timesteps  # AllenNLP's layer norm divides by the number of tokens
    return Case(
        inputs=3 * rng.normal(size=(batch, timesteps, num_layers, dim)) + 1,
        mask=np.arange(timesteps) < lengths[:, None],
        scalar_parameters=2 * rng.normal(size=num_layers),
        gamma=float(rng.normal()),
        weights=rng.normal(size=(batch, timesteps, dim)),
    )


def allennlp_mix(case: Case, do_layer_norm: bool) -> Mix:
    num_layers = case.inputs.shape[2]
    mix = import_elmo().ScalarMix(num_layers, do_layer_norm).double()
    with torch.no_grad():
        for parameter, value in zip(mix.scalar_parameters, case.scalar_parameters, strict=True):
            parameter.fill_(value)
        mix.gamma.fill_(case.gamma)
    inputs = torch.tensor(case.inputs, requires_grad=True)
    mixture = mix(list(inputs.unbind(dim=2)), torch.tensor(case.mask))
    (mixture * torch.tensor(case.weights)).sum().backward()
    assert inputs.grad is not None
    return Mix(
        mixture.detach().numpy(),
        np.concatenate([parameter.grad.numpy() for parameter in mix.scalar_parameters]),
        mix.gamma.grad.numpy()[0],
        inputs.grad.numpy(),
    )


def keras_mix(case: Case, do_layer_norm: bool, dtype: str = "float64") -> Mix:
    layer = ScalarMix(do_layer_norm, dtype=dtype)
    inputs = tf.constant(case.inputs, layer.compute_dtype)
    layer.build(inputs.shape)
    layer.scalar_parameters.assign(case.scalar_parameters)
    layer.gamma.assign(case.gamma)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        mixture = layer(inputs, mask=tf.constant(case.mask))
        loss = tf.reduce_sum(mixture * tf.constant(case.weights, mixture.dtype))
    sources = [layer.scalar_parameters.value, layer.gamma.value, inputs]
    return Mix(mixture.numpy(), *(gradient.numpy() for gradient in tape.gradient(loss, sources)))


sizes = st.integers(1, 4)


@settings(max_examples=60)
@given(sizes, sizes, sizes, sizes, st.integers(0, 10**6), st.booleans())
@example(3, 4, 3, 4, 0, True)
def test_value_and_gradients_are_allennlps(
    batch: int, timesteps: int, num_layers: int, dim: int, seed: int, do_layer_norm: bool
) -> None:
    case = make_case(batch, timesteps, num_layers, dim, seed)
    for ours, allennlps in zip(keras_mix(case, do_layer_norm), allennlp_mix(case, do_layer_norm), strict=True):
        assert_close(ours, allennlps, 1e-9)


def test_float32_is_near_float64() -> None:
    case = make_case(3, 5, 3, 8, seed=1)
    for ours, allennlps in zip(keras_mix(case, True, "float32"), allennlp_mix(case, True), strict=True):
        assert_close(ours, allennlps, 1e-5)


@pytest.mark.parametrize("initial", [[0.5, -1.0, 2.0], (0, 1, 2), np.array([0.1, 0.2, 0.3]), [-9e10, 1, -9e10]])
def test_initial_scalar_parameters(initial: Any) -> None:
    inputs = make_case(2, 3, 3, 4, seed=2).inputs
    allennlps = import_elmo().ScalarMix(3, initial_scalar_parameters=list(initial))
    wanted = allennlps(list(torch.tensor(inputs, dtype=torch.float32).unbind(dim=2)))
    layer = ScalarMix(initial_scalar_parameters=initial)
    assert_close(layer(inputs), wanted.detach())
    np.testing.assert_array_equal(layer.scalar_parameters, np.asarray(initial, dtype="float32"))
    assert float(layer.gamma) == 1.0


def test_by_default_it_is_the_average() -> None:
    inputs = make_case(2, 3, 4, 5, seed=3).inputs
    assert_close(ScalarMix()(inputs), inputs.mean(axis=2), 1e-6)


def test_extreme_parameters_pick_one_layer_exactly() -> None:
    """AllenNLP's documented way to take a single layer: no overflow, and no gradient that is not a number."""
    case = make_case(2, 3, 3, 4, seed=4)._replace(scalar_parameters=np.array([-9e10, 1, -9e10]), gamma=1.0)
    mix = keras_mix(case, do_layer_norm=False, dtype="float32")
    np.testing.assert_array_equal(mix.mixture, case.inputs[:, :, 1].astype("float32"))
    np.testing.assert_array_equal(mix.scalar_parameters, 0)
    assert all(np.isfinite(part).all() for part in mix)


def test_layer_norm_takes_its_statistics_from_tokens_only() -> None:
    case = make_case(2, 3, 3, 4, seed=5)._replace(mask=np.array([[True, True, True], [True, False, False]]))
    other_padding = np.where(case.mask[:, :, None, None], case.inputs, 99.0)
    mask = tf.constant(case.mask)
    layer = ScalarMix(do_layer_norm=True)
    with_mask = layer(case.inputs, mask=mask)
    assert_close(layer(other_padding, mask=mask)[mask], with_mask[mask], 1e-6)
    assert not np.allclose(layer(case.inputs), with_mask)


def test_without_layer_norm_the_mask_changes_nothing() -> None:
    case = make_case(2, 3, 3, 4, seed=5)
    layer = ScalarMix()
    np.testing.assert_array_equal(layer(case.inputs, mask=tf.zeros((2, 3), tf.bool)), layer(case.inputs))


def test_layer_norm_of_nothing_but_padding_is_finite() -> None:
    output = ScalarMix(do_layer_norm=True)(tf.zeros((2, 3, 3, 4)), mask=tf.zeros((2, 3), tf.bool))
    np.testing.assert_array_equal(output, 0)


def test_the_incoming_mask_is_used_and_goes_on() -> None:
    case = make_case(2, 3, 3, 4, seed=6)
    inputs = tf.constant(case.inputs, tf.float32)
    inputs._keras_mask = tf.constant(case.mask)
    output = ScalarMix(do_layer_norm=True)(inputs)
    np.testing.assert_array_equal(keras_mask(output), case.mask)
    explicit = ScalarMix(do_layer_norm=True)(tf.constant(case.inputs, tf.float32), mask=tf.constant(case.mask))
    np.testing.assert_array_equal(output, explicit)


def test_trainable_false_fixes_the_mix() -> None:
    layer = ScalarMix(initial_scalar_parameters=[1.0, 2.0], trainable=False)
    model = keras.Sequential([keras.Input((None, 2, 3)), layer, keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.train_on_batch(np.ones((2, 4, 2, 3)), np.ones((2, 4, 1)))
    np.testing.assert_array_equal(layer.scalar_parameters, [1.0, 2.0])
    assert float(layer.gamma) == 1.0
    assert len(model.trainable_weights) == 2  # the Dense layer's
    layer.trainable = True
    assert len(model.trainable_weights) == 4


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("do_layer_norm", [False, True])
def test_mixed_policies_keep_float32_weights(policy: str, do_layer_norm: bool) -> None:
    """Coarse results of exact weights, and no overflow: float16 cannot count the elements of a small batch."""
    parameters = [100.3, 100.0, 99.0]  # bfloat16 has no 100.3, and would take 100.5
    inputs = np.random.default_rng(7).normal(size=(8, 64, 3, 160)).astype("float32")
    layer = ScalarMix(do_layer_norm, parameters, dtype=policy)
    output = layer(inputs)
    assert output.dtype == policy.removeprefix("mixed_")
    assert layer.scalar_parameters.dtype == layer.gamma.dtype == "float32"
    assert_close(output, ScalarMix(do_layer_norm, parameters)(inputs), 0.01)


def test_float64_policy_computes_in_float64() -> None:
    inputs = make_case(2, 3, 3, 4, seed=8).inputs
    layer = ScalarMix(dtype="float64")
    assert layer(inputs).dtype == tf.float64
    assert layer.gamma.dtype == "float64"


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 3, 4, 5, 6, 7), (2, 3, None, 5)])
def test_wrong_rank_or_unknown_number_of_layers(shape: tuple[int | None, ...]) -> None:
    with pytest.raises(InputValueError, match=r"(?s)`inputs` must have shape .*num_layers.*Received: shape \(2, 3"):
        ScalarMix()(keras.Input(batch_shape=shape))


@pytest.mark.parametrize("initial", [[], [1.0], [1.0, 2.0, 3.0, 4.0]])
def test_wrong_number_of_parameters(initial: list[float]) -> None:
    with pytest.raises(
        InputValueError, match=r"`initial_scalar_parameters` must have one number .* 3 layers. Received"
    ):
        ScalarMix(initial_scalar_parameters=initial)(tf.zeros((1, 2, 3, 4)))
