"""`LanguageModel`: loss, state and layers, beside float64 NumPy and AllenNLP's modules."""

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pretrain.language_models import (
    CASES,
    VOCABULARY_SIZE,
    allennlp_bilm,
    allennlp_layers,
    model_of,
    options_of,
    random_batch,
    random_state,
    random_weights,
    reference_step,
    softmax_arrays,
)

from bridge.pretrain.batches import Batch
from bridge.pretrain.language_model import LanguageModel, Softmax
from bridge.pretrain.weights import initial_weights

each_softmax = pytest.mark.parametrize("softmax", ["full", "adaptive"])


def allennlp_losses(
    model: LanguageModel, bilm: Any, batch: Batch, state: Any, dropout: float = 0.0
) -> tuple[torch.Tensor, Any]:
    """What AllenNLP's modules and plain PyTorch make of the batch, with the weights of the model's full softmax."""
    layers, after = allennlp_layers(bilm, batch, state, dropout)
    outputs = torch.nn.functional.dropout(layers[-1], dropout)
    scores = torch.nn.functional.linear(outputs, *model.softmax.parameters())
    losses = [
        torch.nn.functional.cross_entropy(rows.flatten(0, 1), torch.from_numpy(targets).flatten(), ignore_index=-1)
        for rows, targets in zip(scores, batch.targets, strict=True)
    ]
    return torch.stack(losses), after


def gradients(*modules: torch.nn.Module) -> list[torch.Tensor]:
    """Of all parameters, which are then without one."""
    found = []
    for module in modules:
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None, name
            found.append(parameter.grad)
            parameter.grad = None
    return found


def assert_close(received: Any, expected: Any, *, rtol: float = 0, atol: float = 1e-9) -> None:
    for ours, theirs in zip(received, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=rtol, atol=atol, check_dtype=False)


@each_softmax
@pytest.mark.parametrize("name", CASES)
def test_equals_the_reference(name: str, softmax: Softmax) -> None:
    model, options, weights = model_of(name, softmax=softmax)
    batch, state = random_batch(missing=0.2), random_state(options, 3)
    losses, after = model(batch, state)
    expected = reference_step(options, weights, softmax_arrays(model), batch, state)
    np.testing.assert_allclose(losses.detach(), expected.losses, rtol=0, atol=1e-12)
    layers, same_state = model.activations(batch, state)
    np.testing.assert_allclose(torch.stack(layers).detach(), expected.layers, rtol=0, atol=1e-12)
    for received, again, values in zip(after, same_state, expected.state, strict=True):
        assert not received.requires_grad
        np.testing.assert_allclose(received, values, rtol=0, atol=1e-12)
        np.testing.assert_array_equal(received, again)


@given(
    name=st.sampled_from(list(CASES)),
    softmax=st.sampled_from(["full", "adaptive"]),
    unroll_steps=st.integers(1, 4),
    batch_size=st.integers(1, 4),
    missing=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 2**32),
)
def test_equals_the_reference_at_any_shape(
    name: str, softmax: Softmax, unroll_steps: int, batch_size: int, missing: float, seed: int
) -> None:
    model, options, weights = model_of(name, softmax=softmax)
    batch = random_batch(seed, unroll_steps=unroll_steps, batch_size=batch_size, missing=missing)
    state = random_state(options, batch_size, seed)
    losses, after = model(batch, state)
    expected = reference_step(options, weights, softmax_arrays(model), batch, state)
    np.testing.assert_allclose(losses.detach(), expected.losses, rtol=0, atol=1e-12)
    assert_close(after, map(torch.from_numpy, expected.state))
    losses.sum().backward()  # also where nothing is to be predicted
    assert missing < 1 or not any(gradient.any() for gradient in gradients(model.bilm))


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradients_are_those_of_allennlps_modules(name: str, dropout: float, tmp_path: Path) -> None:
    model, options, weights = model_of(name, dropout=dropout)
    bilm = allennlp_bilm(options, weights, tmp_path)
    batch, state = random_batch(1, missing=0.1), random_state(options, 3)
    model.train()
    torch.manual_seed(0)
    losses, after = model(batch, state)
    torch.manual_seed(0)  # both drop the same
    expected, expected_after = allennlp_losses(model, bilm, batch, state, dropout)
    assert_close([losses, *after], [expected, *expected_after])
    losses.sum().backward()
    received = gradients(model.bilm, model.softmax)
    expected.sum().backward()
    assert_close(received, gradients(bilm, model.softmax))
    assert [name for name, _ in model.bilm.named_parameters()] == [name for name, _ in bilm.named_parameters()]


@each_softmax
@pytest.mark.parametrize("name", ["clipped", "not clipped"])
def test_two_steps_are_one_twice_as_long(name: str, softmax: Softmax) -> None:
    model, _, _ = model_of(name, softmax=softmax)
    batch, state = random_batch(unroll_steps=10), model.initial_state(3)
    losses, after = model(batch, state)
    halves = [
        batch._replace(inputs=batch.inputs[:, part], targets=batch.targets[:, part])
        for part in (slice(5), slice(5, 10))
    ]
    first, between = model(halves[0], state)
    second, last = model(halves[1], between)
    assert_close([losses, *after], [(first + second) / 2, *last], rtol=0, atol=1e-12)


@each_softmax
@pytest.mark.parametrize("name", CASES)
def test_float32(name: str, softmax: Softmax) -> None:
    exact, options, weights = model_of(name, softmax=softmax)
    model = LanguageModel(options, weights, VOCABULARY_SIZE, softmax=softmax).eval()
    model.softmax.load_state_dict(exact.softmax.state_dict())
    batch, state = random_batch(), random_state(options, 3)
    expected, expected_after = exact(batch, state)
    losses, after = model(batch, tuple(values.float() for values in state))
    assert {values.dtype for values in (losses, *after)} == {torch.float32}
    assert_close([losses, *after], [expected, *expected_after], rtol=1e-5, atol=1e-5)
    for sum_of_losses in (losses.sum(), expected.sum()):
        sum_of_losses.backward()
    for received, values in zip(gradients(model), gradients(exact), strict=True):
        assert received.dtype == torch.float32
        assert (received - values).norm() <= 1e-4 * values.norm() + 1e-6


@each_softmax
def test_bfloat16(softmax: Softmax) -> None:
    """Products alone are rounded, to 8 bits; what is kept is float32."""
    results = []
    options = options_of(dim=32, projection_dim=16, cell_clip=None, proj_clip=None)
    for precision in ("float32", "bfloat16"):
        model = LanguageModel(options, random_weights(options), VOCABULARY_SIZE, softmax=softmax, precision=precision)
        batch, state = random_batch(), model.initial_state(3)
        losses, after = model.eval()(batch, state)
        losses.sum().backward()
        results.append([losses.detach(), *after, *gradients(model)])
        assert {values.dtype for values in (*results[-1], *model.parameters())} == {torch.float32}
    errors = [(rounded - exact).norm() / exact.norm() for exact, rounded in zip(*results, strict=True)]
    assert 1e-5 < max(errors) < 0.1


def test_dropout_is_for_training_alone() -> None:
    model, options, _ = model_of("ordinary", dropout=0.5)
    batch, state = random_batch(), random_state(options, 3)
    evaluated = [model(batch, state)[0] for _ in range(2)]
    trained = [model.train()(batch, state)[0] for _ in range(2)]
    assert torch.equal(*evaluated)
    assert not torch.equal(*trained)
    model.dropout = 0.0
    assert torch.equal(model(batch, state)[0], evaluated[0])


@each_softmax
def test_parameters_are_there_once_and_drawn_from_the_seed(softmax: Softmax) -> None:
    options = options_of()
    torch.manual_seed(0)
    before = torch.get_rng_state()
    models = [
        LanguageModel(options, initial_weights(options, 0), VOCABULARY_SIZE, softmax=softmax, seed=seed)
        for seed in (5, 5, 6)
    ]
    assert torch.equal(torch.get_rng_state(), before)
    of_bilm = sum(values.size for values in initial_weights(options, 0).values()) + 5  # the row of "no token"
    of_softmax = sum(parameter.numel() for parameter in models[0].softmax.parameters())
    assert sum(parameter.numel() for parameter in models[0].parameters()) == of_bilm + of_softmax
    first, again, other = (torch.cat([values.flatten() for values in model.softmax.parameters()]) for model in models)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@each_softmax
def test_what_is_not_differentiated_is_forgotten(softmax: Softmax) -> None:
    model, options, _ = model_of("clipped", softmax=softmax)
    batch, state = random_batch(), random_state(options, 3)

    def tensors() -> int:
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        before = tensors()
        for _ in range(3):
            model(batch, state)
        assert tensors() == before
    finally:
        gc.enable()
