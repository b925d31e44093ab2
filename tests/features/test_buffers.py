"""Buffers gives memory out again, but only what nobody has."""

import numpy as np
import pytest
import tensorflow as tf

from bridge.features.buffers import ALIGNMENT, KEPT, Buffers

FLOAT32 = np.dtype(np.float32)


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


@pytest.mark.parametrize("dtype", ["float32", "float16", "int64"])
@pytest.mark.parametrize("shape", [(), (0, 3), (7,), (5, 3, 2)])
def test_arrays_are_as_asked_for(shape: tuple[int, ...], dtype: str) -> None:
    array = Buffers().take(shape, np.dtype(dtype))
    assert (array.shape, array.dtype) == (shape, dtype)
    assert address(array) % ALIGNMENT == 0
    assert array.flags.c_contiguous
    array[...] = 1
    assert (array == 1).all()


def test_memory_is_used_again() -> None:
    buffers = Buffers()
    first = buffers.take((100,), FLOAT32)
    place = address(first)
    del first
    assert address(buffers.take((3, 3), FLOAT32)) == place
    assert address(buffers.take((50,), np.dtype(np.float64))) == place


def test_memory_that_is_too_small_is_left() -> None:
    buffers = Buffers()
    buffers.take((100,), FLOAT32)
    larger = buffers.take((1000,), FLOAT32)
    larger[:] = 2
    buffers.take((100,), FLOAT32)[:] = 3
    assert larger.sum() == 2000


@pytest.mark.parametrize(
    "kept",
    [
        lambda array: array[10:20],
        lambda array: array.reshape(10, 10).T[2][3:5],
        memoryview,
        lambda array: np.asarray(memoryview(array[10:])),
        lambda array: tf.experimental.dlpack.from_dlpack(array.__dlpack__()),
        lambda array: tf.experimental.dlpack.from_dlpack(array.__dlpack__())[:50].numpy(),
    ],
)
def test_memory_of_views_and_tensors_is_left_alone(kept: object) -> None:
    buffers = Buffers()
    array = buffers.take((100,), FLOAT32)
    array[:] = np.arange(100)
    view = kept(array)  # type: ignore[operator]
    wanted = np.array(view)
    del array
    others = [buffers.take((100,), FLOAT32) for _ in range(3)]
    for other in others:
        other[:] = -1
    np.testing.assert_array_equal(view, wanted)


def test_little_is_kept() -> None:
    buffers = Buffers()
    arrays = [buffers.take((100,), FLOAT32) for _ in range(3 * KEPT)]
    places = {address(array) for array in arrays}
    arrays.clear()
    again = [buffers.take((100,), FLOAT32) for _ in range(KEPT)]
    assert {address(array) for array in again} <= places
    assert len(buffers._free) == 0
