"""What `ElmoEncoder` is given, in the form that it works with."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch

from bridge.errors import InputTypeError, InputValueError

State = Literal["zero", "warm", "carry"]
Engine = Literal["auto", "allennlp", "fused"]
Layers = Literal["all", "top", "average"]


def as_device(device: str | int | torch.device | None) -> torch.device:
    """The CPU by default.

    Raises:
        InputValueError: PyTorch does not know the device, or does not have it here.
    """
    try:
        # Of a tensor that is really there: "cuda" becomes "cuda:0", and "meta" fails.
        tensor = torch.zeros(1, device="cpu" if device is None else device)
        tensor.item()
    # PyTorch's words for unknown and missing devices.
    except (AssertionError, OverflowError, RuntimeError, TypeError, ValueError) as error:
        problem = str(error).partition("\n")[0]
        raise InputValueError(
            '`device` must be a device that PyTorch has here, such as "cpu" or "cuda". '
            f"Received: {device!r} ({problem})."
        ) from error
    return tensor.device


def as_array(values: Any, argument: str) -> np.ndarray:
    """A NumPy array of an array or tensor, without a copy where possible.

    Raises:
        InputTypeError: it is a list or something else.
    """
    try:
        if isinstance(values, torch.Tensor):
            values = values.detach().cpu()
            # NumPy has no bfloat16.
            return (values.float() if values.dtype == torch.bfloat16 else values).numpy()
        if not isinstance(values, list | tuple) and hasattr(values, "__array__"):
            return np.asarray(values)
    except (NotImplementedError, RuntimeError, TypeError, ValueError) as error:  # symbolic, sparse, without data
        raise InputTypeError(
            f"`{argument}` must be a NumPy array or a tensor with its values. Received: {values!r:.80} of type "
            f"{type(values).__name__}, which NumPy can't read: {error}. Models call `ElmoEmbedding` instead."
        ) from error
    remedy = {
        "char_ids": "Sentences go through `batch_to_ids` first; nested lists of ids through "
        "`np.array(ids, dtype='int32')`.",
        "mask": "Nested lists go through `np.array(mask, dtype=bool)` first.",
    }[argument]
    raise InputTypeError(
        f"`{argument}` must be a NumPy array or a tensor. Received: {values!r:.80} of type "
        f"{type(values).__name__}. {remedy}"
    )
