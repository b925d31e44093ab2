"""Tensors of one framework as tensors of the other, without a copy where possible."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import numpy as np
import tensorflow as tf
import torch

# TensorFlow aborts the process on memory that is aligned to less.
ALIGNMENT = 64


def to_tensorflow(tensor: torch.Tensor) -> tf.Tensor:
    """A CPU tensor as a TensorFlow tensor, without a copy where possible. Nobody may write to it afterwards."""
    if tensor.numel() and tensor.is_contiguous() and tensor.data_ptr() % ALIGNMENT == 0:
        return tf.experimental.dlpack.from_dlpack(tensor.__dlpack__())
    return tf.constant(tensor.numpy())


def to_torch(tensor: tf.Tensor) -> torch.Tensor:
    """An eager tensor as a CPU tensor of PyTorch, without a copy where possible. Nobody may write to it."""
    if "CPU" in tensor.device and tensor.shape.num_elements():
        return torch.utils.dlpack.from_dlpack(tf.experimental.dlpack.to_dlpack(tensor))
    return torch.from_numpy(tensor.numpy().copy())


def tensor_with_farewell(number: int, farewell: Callable[[int], object]) -> tf.Tensor:
    """An int64 scalar tensor; `farewell(number)` is called when TensorFlow has freed its memory.

    That is how something on the PyTorch side lives as long as TensorFlow can still ask for it.
    """
    memory = np.zeros(2 * ALIGNMENT // 8, dtype=np.int64)
    start = -memory.ctypes.data % ALIGNMENT // 8
    scalar = memory[start : start + 1].reshape(())
    scalar[...] = number
    weakref.finalize(scalar, farewell, number).atexit = False
    return tf.experimental.dlpack.from_dlpack(scalar.__dlpack__())
