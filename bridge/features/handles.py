"""Objects that TensorFlow's graphs call for: `handle_of` and `object_of`."""

from __future__ import annotations

import itertools
import weakref
from typing import Any

import numpy as np
import tensorflow as tf

from bridge.features.buffers import Buffers

# Of smaller tensors TensorFlow's functions take the values alone.
SIZE = 256

_OBJECTS: dict[int, Any] = {}
_NUMBERS = itertools.count()
_BUFFERS = Buffers()


def handle_of(value: Any) -> tf.Tensor:
    """An int64 tensor that stands for an object, which lives as long as TensorFlow can still ask for it.

    What `tf.numpy_function` calls lives for ever, in the process's default graph. So it must be a function that holds
    nothing, and gets the handle as an argument.
    """
    number = next(_NUMBERS)
    array = _BUFFERS.take((SIZE,), np.dtype(np.int64))
    array[:] = number
    _OBJECTS[number] = value
    weakref.finalize(array, _OBJECTS.pop, number).atexit = False
    # Not a copy, as `tf.constant` would make: it is the memory whose end is awaited.
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())


def object_of(handle: np.ndarray) -> Any:
    """The object that a handle stands for."""
    return _OBJECTS[int(handle[0])]
