"""`lstm`: value, state and gradient of AllenNLP's `LstmCellWithProjection`."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pretrain.language_models import CASES, allennlp_bilm, options_of, random_weights

from bridge.pretrain.lstm import LstmWeights, lstm

NAMES = ("input_linearity.weight", "state_linearity.weight", "state_linearity.bias", "state_projection.weight")
CELLS = {name: case for name, case in CASES.items() if "clip" in name}


def cells(tmp_path_factory: pytest.TempPathFactory, **sizes: Any) -> list[Any]:
    """AllenNLP's forward and backward cell, in float64."""
    scale = sizes.pop("scale", 1.0)
    options = options_of(**sizes)
    bilm = allennlp_bilm(options, random_weights(options, scale=scale), tmp_path_factory.mktemp("model"))
    return [bilm._elmo_lstm.forward_layer_0, bilm._elmo_lstm.backward_layer_0]


def stacked(pair: list[Any], dtype: torch.dtype = torch.float64) -> LstmWeights:
    """The weights of both, as `lstm` takes them."""
    return LstmWeights(
        *(
            torch.stack([dict(cell.named_parameters())[name].detach() for cell in pair]).to(dtype).requires_grad_()
            for name in NAMES
        )
    )


def clips(pair: list[Any]) -> tuple[float | None, float | None]:
    """Of the cell and of the projection."""
    return pair[0].memory_cell_clip_value, pair[0].state_projection_clip_value


def random_arguments(pair: list[Any], timesteps: int, batch: int, seed: int) -> tuple[torch.Tensor, Any, torch.Tensor]:
    """Inputs, state and the gradient of the outputs."""
    generator = torch.Generator().manual_seed(seed)
    width, dim = pair[0].hidden_size, pair[0].cell_size
    inputs, gradient = (
        torch.randn(2, timesteps, batch, width, generator=generator, dtype=torch.float64) for _ in range(2)
    )
    state = tuple(torch.rand(2, batch, size, generator=generator, dtype=torch.float64) - 0.5 for size in (width, dim))
    return inputs, state, gradient


def allennlp(pair: list[Any], inputs: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
    """The same from AllenNLP's cells, the backward one's sequence turned around for it."""
    timesteps, batch = inputs.shape[1:3]
    results = []
    for direction, cell in enumerate(pair):
        order = (1,) if direction else ()
        before = (state[0][direction][None], state[1][direction][None])
        output, after = cell(inputs[direction].transpose(0, 1).flip(order), [timesteps] * batch, before)
        results.append((output.flip(order).transpose(0, 1), after[0][0], after[1][0]))
    outputs, hidden, memory = (torch.stack(parts) for parts in zip(*results, strict=True))
    return outputs, (hidden, memory)


@pytest.fixture(scope="module", params=CELLS, ids=str)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return cells(tmp_path_factory, **CELLS[request.param])


@given(timesteps=st.integers(1, 7), batch=st.integers(1, 4), seed=st.integers(0, 2**32))
def test_equals_allennlp(pair: list[Any], timesteps: int, batch: int, seed: int) -> None:
    inputs, state, gradient = random_arguments(pair, timesteps, batch, seed)
    for cell in pair:
        cell.zero_grad()
    theirs_inputs, ours_inputs = (inputs.clone().requires_grad_() for _ in range(2))
    weights = stacked(pair)
    theirs, theirs_state = allennlp(pair, theirs_inputs, state)
    ours, ours_state = lstm(ours_inputs, state, weights, *clips(pair))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    for received, expected in zip(ours_state, theirs_state, strict=True):
        assert not received.requires_grad
        torch.testing.assert_close(received, expected.detach(), rtol=0, atol=1e-12)
    theirs.backward(gradient)
    ours.backward(gradient)
    torch.testing.assert_close(ours_inputs.grad, theirs_inputs.grad, rtol=1e-10, atol=1e-11)
    for name, values in zip(NAMES, weights, strict=True):
        expected = torch.stack([dict(cell.named_parameters())[name].grad for cell in pair])
        torch.testing.assert_close(values.grad, expected, rtol=1e-10, atol=1e-11)


def test_limits_cut(pair: list[Any]) -> None:
    """Otherwise the cases would try nothing."""
    inputs, state, _ = random_arguments(pair, 7, 4, 0)
    cell_clip, proj_clip = clips(pair)
    for limits in ((cell_clip, None), (None, proj_clip)):
        if any(limits):
            cut, _ = lstm(inputs, state, stacked(pair), *limits)
            uncut, _ = lstm(inputs, state, stacked(pair), None, None)
            assert (cut - uncut).abs().max() > 0.01


def test_arguments_stay_as_they_are(pair: list[Any]) -> None:
    inputs, state, gradient = random_arguments(pair, 3, 2, 0)
    weights = stacked(pair)
    arguments = [inputs.requires_grad_(), *state, *weights]
    before = [values.detach().clone() for values in arguments]
    outputs, after = lstm(inputs, state, weights, *clips(pair))
    kept = [values.detach().clone() for values in (outputs, *after)]
    outputs.backward(gradient)
    for values, copy in zip([*arguments, outputs, *after], [*before, *kept], strict=True):
        assert torch.equal(values.detach(), copy)


def test_gradient_of_some_inputs_only(pair: list[Any]) -> None:
    inputs, state, gradient = random_arguments(pair, 3, 2, 0)
    frozen = LstmWeights(*(values.detach() for values in stacked(pair)))
    inputs.requires_grad_()
    lstm(inputs, state, frozen, *clips(pair))[0].backward(gradient)
    expected = inputs.grad
    inputs.grad = None
    lstm(inputs, state, stacked(pair), *clips(pair))[0].backward(gradient)
    torch.testing.assert_close(inputs.grad, expected, rtol=0, atol=0)


def test_second_gradient_is_an_error(pair: list[Any]) -> None:
    inputs, state, gradient = random_arguments(pair, 3, 2, 0)
    outputs, _ = lstm(inputs, state, stacked(pair), *clips(pair))
    outputs.backward(gradient, retain_graph=True)
    with pytest.raises((RuntimeError, TypeError)):
        outputs.backward(gradient)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_less_precise_products(pair: list[Any], dtype: torch.dtype) -> None:
    """Bounds of rounding: float32 throughout, or the products alone in bfloat16, whose numbers have 8 bits."""
    inputs, state, gradient = random_arguments(pair, 6, 3, 0)
    results = []
    for precise in (True, False):
        kind = torch.float64 if precise else torch.float32
        weights = stacked(pair, kind)
        given_inputs = inputs.to(kind).detach().requires_grad_()
        before = tuple(values.to(kind) for values in state)
        outputs, after = lstm(given_inputs, before, weights, *clips(pair), dtype=None if precise else dtype)
        outputs.backward(gradient.to(kind))
        gradients = [values.grad for values in (given_inputs, *weights)]
        assert all(values is not None and values.dtype == kind for values in (outputs, *after, *gradients))
        results.append([outputs.detach(), *after, *gradients])
    for place, (expected, received) in enumerate(zip(*results, strict=True)):
        error = (received - expected).norm() / expected.norm()
        # Rounded values may pass the limit where exact ones are cut: their gradient is another one.
        assert error <= (2e-5 if dtype == torch.float32 else 0.1 if place < 3 or not any(clips(pair)) else 0.4)
        assert dtype == torch.float32 or error > 1e-5
