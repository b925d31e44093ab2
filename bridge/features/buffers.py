"""Memory that batches are made in again and again: `Buffers`."""

from __future__ import annotations

import math
import weakref
from collections import deque

import numpy as np

# TensorFlow takes NumPy's memory over where it is aligned like its own, and copies it where not.
ALIGNMENT = 64
KEPT = 4


class Buffers:
    """Makes arrays in the memory of arrays that nobody uses any more.

    Memory fresh from the operating system takes as long to get as to fill. These arrays are so large that Python
    itself would give theirs back each time.
    """

    def __init__(self) -> None:
        # Appending and popping are atomic: arrays die in any thread, and at any time.
        self._free: deque[np.ndarray] = deque(maxlen=KEPT)

    def take(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """An array with arbitrary contents.

        Its memory comes back when the array is gone, and all views and tensors that were made of it.
        """
        size = math.prod(shape) * dtype.itemsize
        memory = self._free.pop() if self._free else None
        if memory is None or len(memory) < size:
            memory = np.empty(size + ALIGNMENT, np.uint8)
            memory = memory[-memory.ctypes.data % ALIGNMENT :]
        # Views of views refer to the first array whose base is no array, which the memoryview makes this one.
        array = np.frombuffer(memory.data[:size], dtype)
        weakref.finalize(array, self._free.append, memory).atexit = False
        return array.reshape(shape)
