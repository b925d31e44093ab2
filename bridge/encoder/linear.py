"""Products with fixed weights, at the rate of the processor: `Linear`."""

from __future__ import annotations

import functools
from typing import Literal

import numpy as np
import torch

Precision = Literal["float32", "bfloat16", "float16"]

# For this many rows oneDNN lays packed weights out; the layout serves any other number as well.
TYPICAL_ROWS = 32


class Linear:
    """`inputs @ weight.T + bias`, with the weights laid out once for the processor that multiplies by them.

    On a CPU that is oneDNN's packed layout, which PyTorch's own compiler emits too: the same arithmetic as a plain
    product, several times faster for a few rows. Where PyTorch has no such operation for this processor, and on a
    GPU, it is a plain product. Either way there is one copy of the weights.

    Weights that are shared with others are multiplied by as they lie: oneDNN can do that, too, at about the same rate.

    In half precision weights and inputs are rounded to it, and a CPU sums products in float32. A CPU that
    can't multiply in half precision multiplies the rounded numbers in float32: nothing is gained, and nothing differs
    but that results are not rounded.

    Args:
        weight: float32 `(out_features, in_features)`.
        bias: float32 `(out_features,)` or None.
        precision: of weights and inputs.
        device: where the product runs.
        share: `weight` is contiguous, and others hold it as well: in float32 on a CPU there is no copy of it here.

    Call arguments:
        inputs: float32 `(rows, in_features)`, at least one row.
        add: optional `(rows, out_features)` of `dtype`: is added to the result.

    Returns:
        A fresh tensor `(rows, out_features)` of `dtype`.

    Attributes:
        dtype: of results: that of `precision`, or float32 where half precision is not native.
        packed: whether oneDNN's packed operations run.
        out_features: width of results.
    """

    def __init__(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        precision: Precision,
        device: torch.device,
        share: bool = False,
    ) -> None:
        self.out_features = len(weight)
        self._rounded = getattr(torch, precision)
        on_cpu = device.type == "cpu"
        packable = on_cpu and packed_operations_work(self._rounded)
        self.dtype = self._rounded if packable or not on_cpu else torch.float32
        packable = packable or (on_cpu and packed_operations_work(self.dtype))
        as_it_lies = share and on_cpu and precision == "float32"
        self.packed = packable and not as_it_lies
        self._by_onednn = self.packed or (as_it_lies and unpacked_operations_work())
        self._bias = None if bias is None else bias.to(device, self.dtype)
        self._weight = weight.to(self._rounded).to(device, self.dtype).contiguous()
        if self.packed:
            self._weight = torch.ops.mkldnn._reorder_linear_weight(self._weight, TYPICAL_ROWS)
        elif not self._by_onednn:
            self._weight = self._weight.t()

    def __call__(self, inputs: torch.Tensor, add: torch.Tensor | None = None) -> torch.Tensor:
        inputs = inputs.to(self._rounded).to(self.dtype)
        if self._by_onednn:
            if add is None:
                return torch.ops.mkldnn._linear_pointwise(inputs, self._weight, self._bias, "none", [], "")
            return torch.ops.mkldnn._linear_pointwise.binary(inputs, add, self._weight, self._bias, "add")
        result = torch.mm(inputs, self._weight) if add is None else torch.addmm(add, inputs, self._weight)
        return result if self._bias is None else result.add_(self._bias)


@functools.cache
def packed_operations_work(dtype: torch.dtype) -> bool:
    """Whether this PyTorch has oneDNN's packed operations for this processor and dtype, and they multiply right.

    They are private to PyTorch, so nothing less than a try tells.
    """
    return _operations_work(dtype, packed=True)


@functools.cache
def unpacked_operations_work() -> bool:
    """Whether they multiply right by float32 weights that are not packed."""
    return _operations_work(torch.float32, packed=False)


def as_tensor(array: np.ndarray) -> torch.Tensor:
    """A tensor of an array's own memory, which is not to be written to.

    PyTorch knows no read-only memory, and warns of it; so NumPy is told that this may be written to.
    """
    return torch.from_numpy(array if array.flags.writeable else np.asarray(_Memory(array)))


class _Memory:
    """Memory of a read-only array, kept as long as a view of it is."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array
        self.__array_interface__ = {**array.__array_interface__, "data": (array.ctypes.data, False)}


def _operations_work(dtype: torch.dtype, packed: bool) -> bool:
    generator = torch.Generator("cpu").manual_seed(0)
    inputs, weight, bias, add = (
        torch.randn(*shape, generator=generator, dtype=torch.float32, device="cpu").to(dtype)
        for shape in [(5, 24), (40, 24), (40,), (5, 40)]
    )
    try:
        laid_out = torch.ops.mkldnn._reorder_linear_weight(weight, TYPICAL_ROWS) if packed else weight
        plain = torch.ops.mkldnn._linear_pointwise(inputs, laid_out, bias, "none", [], "")
        added = torch.ops.mkldnn._linear_pointwise.binary(inputs, add, laid_out, bias, "add")
    except (AttributeError, RuntimeError):  # no such operation; not on this processor
        return False
    expected = inputs.float() @ weight.float().t() + bias.float()
    tolerance = 1e-4 if dtype == torch.float32 else 0.25  # half precision rounds results of about 16
    return all(
        received.dtype == dtype and torch.allclose(received.float(), wanted, rtol=0, atol=tolerance)
        for received, wanted in [(plain, expected), (added, expected + add.float())]
    )
