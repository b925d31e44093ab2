"""`Linear` multiplies rounded operands and sums in float32, whichever operations this PyTorch and processor have."""

from typing import Any, get_args

import numpy as np
import pytest
import torch
from encoder.processors import PROCESSORS, RoundingOperations
from hypothesis import given
from hypothesis import strategies as st

from bridge.encoder.linear import Linear, Precision, packed_operations_work

CPU = torch.device("cpu")
PRECISIONS = get_args(Precision)


sizes = st.integers(1, 4) | st.integers(1, 70)


@pytest.mark.parametrize("processor", PROCESSORS)
@pytest.mark.parametrize("precision", PRECISIONS)
@given(rows=sizes, n_in=sizes, n_out=sizes, has_bias=st.booleans(), has_add=st.booleans(), seed=st.integers(0, 99))
def test_products_are_those_of_rounded_operands(
    precision: Precision,
    processor: str,
    rows: int,
    n_in: int,
    n_out: int,
    has_bias: bool,
    has_add: bool,
    seed: int,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight, bias, inputs, add = (
        3 * torch.randn(shape, generator=generator) for shape in [(n_out, n_in), (n_out,), (rows, n_in), (rows, n_out)]
    )
    rounded = getattr(torch, precision)
    with pytest.MonkeyPatch.context() as patch:
        PROCESSORS[processor](patch)
        product = Linear(weight, bias if has_bias else None, precision, CPU)
        added = add.to(product.dtype)
        before = inputs.clone(), added.clone()
        received = product(inputs, added) if has_add else product(inputs)
        again = product(inputs, added) if has_add else product(inputs)

    native = processor == "native half precision"
    in_half = native or (processor == "this one" and packed_operations_work(rounded))
    assert product.dtype == (rounded if in_half else torch.float32)
    assert product.out_features == n_out
    assert received.shape == (rows, n_out)
    assert received.dtype == product.dtype
    assert product.packed == (native or (processor != "plain products only" and packed_operations_work(product.dtype)))

    x, w = inputs.to(rounded).double(), weight.to(rounded).double()
    b = bias.to(product.dtype).double() if has_bias else torch.zeros(n_out, dtype=torch.float64)
    a = added.double() if has_add else torch.zeros(rows, n_out, dtype=torch.float64)
    expected = x @ w.t() + b + a
    # Every float32 sum of n numbers is within n roundings of their absolute sum; a half result is rounded once more.
    tolerance = (n_in + 2) * 2.0**-24 * (x.abs() @ w.abs().t() + b.abs() + a.abs())
    if product.dtype != torch.float32:
        tolerance += expected.abs() * torch.finfo(product.dtype).eps / 2 * 1.01
    assert bool(((received.double() - expected).abs() <= tolerance).all())

    assert torch.equal(inputs, before[0])
    assert torch.equal(added, before[1])
    assert torch.equal(received, again)
    assert received.data_ptr() not in (again.data_ptr(), added.data_ptr(), inputs.data_ptr())


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_really_rounds_inputs_and_weights(precision: Precision) -> None:
    fine = 1 + torch.finfo(getattr(torch, precision)).eps / 4  # rounds to 1
    one = torch.ones(1, 1)
    assert Linear(one * fine, None, precision, CPU)(one).item() == 1
    assert Linear(one, None, precision, CPU)(one * fine).item() == 1
    assert Linear(one * fine, None, "float32", CPU)(one).item() == np.float32(fine) != 1


@pytest.mark.parametrize("packed", [False, True])
def test_inputs_may_be_views(packed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not packed:
        PROCESSORS["plain products only"](monkeypatch)
    weight, inputs = torch.randn(7, 5), torch.randn(6, 10)
    product = Linear(weight, None, "float32", CPU)
    for view in (inputs[::2, :5], inputs[:, ::2], inputs[:5, :5].t(), inputs[:1, :5].expand(4, -1)):
        torch.testing.assert_close(product(view), view.contiguous() @ weight.t())


def test_the_weights_are_a_copy() -> None:
    weight, bias = torch.randn(3, 4), torch.randn(3)
    product = Linear(weight, bias, "float32", CPU)
    before = product(torch.ones(2, 4))
    weight.zero_()
    assert torch.equal(product(torch.ones(2, 4)), before)


class Broken(RoundingOperations):
    """Operations that are wrong in one way."""

    def __init__(self, how: str) -> None:
        self.how = how

    def _reorder_linear_weight(self, weight: torch.Tensor, rows: int) -> torch.Tensor:
        if self.how == "other weights":
            return weight.flip(0)
        return super()._reorder_linear_weight(weight, rows)

    @property
    def _linear_pointwise(self) -> Any:
        right = super()._linear_pointwise

        def plain(inputs: Any, weight: Any, bias: Any, *rest: Any) -> torch.Tensor:
            if self.how == "raises":
                raise RuntimeError("not on this processor")
            if self.how == "no bias":
                bias = torch.zeros_like(bias)
            result = right(inputs, weight, bias, *rest)
            if self.how == "other dtype":
                return result.double()
            return result * torch.nan if self.how == "nan" else result

        def binary(inputs: Any, add: Any, weight: Any, bias: Any, kind: str) -> torch.Tensor:
            if self.how == "added twice":
                add = 2 * add
            if self.how == "nothing added":
                add = 0 * add
            return right.binary(inputs, add, weight, bias, kind)

        if self.how != "no binary":
            plain.binary = binary  # type: ignore[attr-defined]
        return plain


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "how", ["raises", "no binary", "no bias", "other weights", "other dtype", "nan", "added twice", "nothing added"]
)
def test_operations_that_are_wrong_do_not_work(monkeypatch: pytest.MonkeyPatch, how: str, dtype: torch.dtype) -> None:
    work = packed_operations_work.__wrapped__
    monkeypatch.setattr(torch.ops, "mkldnn", RoundingOperations())
    assert work(dtype)
    monkeypatch.setattr(torch.ops, "mkldnn", Broken(how))
    assert not work(dtype)
    monkeypatch.setattr(torch.ops, "mkldnn", object())  # a PyTorch without them
    assert not work(dtype)


def test_the_test_of_operations_does_not_touch_the_seed_or_depend_on_defaults() -> None:
    work = packed_operations_work.__wrapped__
    expected, state = work(torch.float32), torch.get_rng_state()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"), torch.inference_mode():
            assert work(torch.float32) == expected
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(torch.get_rng_state(), state)
