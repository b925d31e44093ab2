"""`FullSoftmax` and `AdaptiveSoftmax`: loss and gradient of float64 NumPy and of plain PyTorch, in bounded memory."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pretrain.reference_lm import adaptive_losses, full_losses
from torch.nn.functional import cross_entropy, linear
from torch.utils.flop_counter import FlopCounterMode

import bridge.pretrain.softmax
from bridge.pretrain.softmax import AdaptiveSoftmax, FullSoftmax

DIM = 70  # three clusters of rare words, whose vectors have 17, 4 and 1 numbers
CUTOFFS = (4, 7, 12)
WORDS = 20


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows_of(number: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors, larger than those of a biLM, and targets."""
    hidden = 3 * torch.randn(number, DIM, generator=generator(seed), dtype=torch.float64)
    return hidden.requires_grad_(), torch.randint(WORDS, (number,), generator=generator(seed + 1))


def full(seed: int = 0) -> FullSoftmax:
    softmax = FullSoftmax(DIM, WORDS, generator(seed)).double()
    with torch.no_grad():
        softmax.bias.normal_(generator=generator(seed))  # it begins as zeros
    return softmax


def adaptive(monkeypatch: pytest.MonkeyPatch) -> AdaptiveSoftmax:
    """Of few words, and clusters nevertheless."""
    monkeypatch.setattr(bridge.pretrain.softmax, "ADAPTIVE_CUTOFFS", CUTOFFS)
    softmax = AdaptiveSoftmax(DIM, WORDS, generator()).double()
    with torch.no_grad():
        for parameter in softmax.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator(1)), alpha=0.3)
    return softmax


def numbers(softmax: torch.nn.Module) -> dict[str, np.ndarray]:
    """Its weights by the names of the reference."""
    names = {"layer.head.weight": "head", "layer.head.bias": "head_bias"}
    for cluster in range(len(CUTOFFS)):
        names[f"layer.tail.{cluster}.0.weight"] = f"tail_{cluster}_down"
        names[f"layer.tail.{cluster}.1.weight"] = f"tail_{cluster}"
    return {names.get(name, name): values.detach().numpy() for name, values in softmax.named_parameters()}


@given(number=st.integers(1, 9), seed=st.integers(0, 2**32), chunk=st.sampled_from([1, 2 * WORDS, 3 * WORDS, 10**6]))
def test_full_equals_cross_entropy(number: int, seed: int, chunk: int) -> None:
    hidden, targets = rows_of(number, seed)
    softmax = full(seed)
    expected = cross_entropy(linear(hidden, softmax.weight, softmax.bias), targets)
    (3 * expected).backward()
    gradients = [values.grad for values in (hidden, *softmax.parameters())]
    for values in (hidden, *softmax.parameters()):
        values.grad = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bridge.pretrain.softmax, "CHUNK_NUMBERS", chunk)
        loss = softmax(hidden, targets)
        with torch.no_grad():
            again = softmax(hidden, targets)
    (3 * loss).backward()
    assert torch.equal(loss, again)
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        loss.item(), full_losses(numbers(softmax), hidden.detach().numpy(), targets.numpy()).mean(), rtol=0, atol=1e-12
    )
    for values, gradient in zip((hidden, *softmax.parameters()), gradients, strict=True):
        torch.testing.assert_close(values.grad, gradient, rtol=0, atol=1e-12)


def test_evaluation_computes_no_gradients() -> None:
    softmax, (hidden, targets) = full(), rows_of(5)
    products = 2 * 5 * DIM * WORDS
    for enabled, expected in ((True, 3 * products), (False, products)):
        with torch.set_grad_enabled(enabled), FlopCounterMode(display=False) as counter:
            softmax(hidden, targets)
        assert counter.get_total_flops() == expected


@pytest.mark.parametrize("targets", [range(WORDS), range(4), range(12, 20), [0], [19, 19, 5]], ids=str)
def test_adaptive_equals_the_reference(targets: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    softmax = adaptive(monkeypatch)
    assert {name: values.shape[0] for name, values in numbers(softmax).items() if not name.endswith("down")} == {
        "head": 4 + 3,
        "head_bias": 4 + 3,
        "tail_0": 3,
        "tail_1": 5,
        "tail_2": 8,
    }
    hidden, _ = rows_of(len(targets))
    wanted = torch.tensor(list(targets))
    loss = softmax(hidden, wanted)
    expected = adaptive_losses(numbers(softmax), hidden.detach().numpy(), wanted.numpy())
    np.testing.assert_allclose(loss.item(), expected.mean(), rtol=0, atol=1e-12)


@given(targets=st.lists(st.integers(0, WORDS - 1), min_size=1, max_size=9), chunk=st.sampled_from([1, 20, 10**6]))
def test_adaptive_equals_pytorchs(targets: list[int], chunk: int) -> None:
    """Also where a cluster has no target: what is not used has no gradient there either."""
    with pytest.MonkeyPatch.context() as patch:
        softmax = adaptive(patch)
        patch.setattr(bridge.pretrain.softmax, "CHUNK_NUMBERS", chunk)
        hidden, wanted = rows_of(len(targets))[0], torch.tensor(targets)
        values = (hidden, *softmax.parameters())
        results = []
        for loss in (softmax(hidden, wanted), softmax.layer(hidden, wanted).loss):
            (3 * loss).backward()
            results.append([loss.detach(), *(value.grad for value in values)])
            for value in values:
                value.grad = None
    for ours, theirs in zip(*results, strict=True):
        if theirs is None:
            assert ours is None
        else:
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_adaptive_gradients_are_finite_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    softmax, (hidden, targets) = adaptive(monkeypatch), rows_of(12)
    softmax(hidden, targets).backward()
    values = {**numbers(softmax), "hidden": hidden.detach().numpy()}
    gradients = dict(zip(values, [p.grad.numpy() for p in (*softmax.parameters(), hidden)], strict=True))  # type: ignore[union-attr]
    draw = np.random.default_rng(0)
    for name, array in values.items():
        direction = draw.standard_normal(array.shape)
        direction /= np.linalg.norm(direction)
        ahead, behind = (
            adaptive_losses(
                changed := {**values, name: array + step * direction}, changed["hidden"], targets.numpy()
            ).mean()
            for step in (1e-5, -1e-5)
        )
        received = float((gradients[name] * direction).sum())
        assert received == pytest.approx((ahead - behind) / 2e-5, rel=1e-6, abs=1e-9), name


@pytest.mark.parametrize("words", [3, 10, 5_000, 30_000, 150_000])
@pytest.mark.parametrize("dim", [1, 6, 64, 128])
def test_adaptive_probabilities_sum_to_one(dim: int, words: int) -> None:
    """At sizes of models and vocabularies: every word has its place."""
    softmax = AdaptiveSoftmax(dim, words, generator())
    hidden = torch.randn(1, dim, generator=generator())
    with torch.no_grad():
        likelihoods = -softmax(hidden, torch.tensor([words - 1]))
        every = softmax.layer.log_prob(hidden)
    assert torch.isclose(every.double().exp().sum(), torch.ones((), dtype=torch.float64), atol=1e-4)
    assert torch.isclose(every[0, -1], likelihoods, rtol=1e-5)


@pytest.mark.parametrize("kind", [FullSoftmax, AdaptiveSoftmax])
def test_bfloat16(kind: Any) -> None:
    """Products alone are rounded."""
    softmax = kind(DIM, 5_000, generator())
    results = []
    for dtype in (None, torch.bfloat16):
        hidden = torch.randn(40, DIM, generator=generator()).requires_grad_()
        targets = torch.randint(5_000, (40,), generator=generator())
        loss = softmax(hidden, targets, dtype)
        loss.backward()
        results.append([loss.detach(), hidden.grad, *(parameter.grad for parameter in softmax.parameters())])
        softmax.zero_grad()
    for exact, rounded in zip(*results, strict=True):
        assert rounded.dtype == torch.float32
        error = (rounded - exact).norm() / exact.norm()
        assert error < 0.02
    assert not torch.equal(results[0][1], results[1][1])
