"""Processors and PyTorch builds that this machine is not, for `Linear`: what they can multiply with."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from bridge.encoder import linear
from bridge.encoder.linear import packed_operations_work


class RoundingOperations:
    """What a processor with native half precision has: sums in float32, results rounded to the inputs' dtype."""

    def _reorder_linear_weight(self, weight: torch.Tensor, rows: int) -> torch.Tensor:
        return weight.clone()

    @property
    def _linear_pointwise(self) -> Any:
        def multiply(inputs: Any, weight: Any, bias: Any, *_: Any, add: Any = None) -> torch.Tensor:
            parts = [part.float() for part in (bias, add) if part is not None]
            assert {part.dtype for part in (inputs, weight, bias, add) if part is not None} == {inputs.dtype}
            return sum(parts, inputs.float() @ weight.float().t()).to(inputs.dtype)

        def binary(inputs: Any, add: Any, weight: Any, bias: Any, kind: str) -> torch.Tensor:
            assert kind == "add"
            return multiply(inputs, weight, bias, add=add)

        multiply.binary = binary  # type: ignore[attr-defined]
        return multiply


def use_native(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(torch.ops, "mkldnn", RoundingOperations())
    patch.setattr(linear, "packed_operations_work", lambda dtype: True)


PROCESSORS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "this one": lambda patch: None,
    "plain products only": lambda patch: patch.setattr(linear, "packed_operations_work", lambda dtype: False),
    "packed float32 only": lambda patch: patch.setattr(
        linear, "packed_operations_work", lambda dtype: dtype == torch.float32 and packed_operations_work(dtype)
    ),
    "native half precision": use_native,
}
