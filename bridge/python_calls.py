"""Python functions in TensorFlow's graphs, which let the process end: `py_function` and `numpy_function`.

A dataset that reads ahead calls Python from TensorFlow's threads, also while the interpreter shuts down. Python stops
such a thread for good, and TensorFlow waits for it for ever. These calls look first whether the process ends.
"""

from __future__ import annotations

import atexit
import functools
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import numpy as np
import tensorflow as tf

# TensorFlow's functions take tensors below this size by value, and one of them must be seen to change.
ELEMENTS = 256
ALIGNMENT = 64
# Seconds in which a thread that has looked gets to its call.
GRACE = 0.1

Function = TypeVar("Function", bound=Callable[..., Any])

_memory = np.zeros(ELEMENTS * 8 + ALIGNMENT, np.uint8)
_ends = _memory[-_memory.ctypes.data % ALIGNMENT :][: ELEMENTS * 8].view(np.int64)
_running = 0
_made = False
_changed = threading.Condition()


def py_function(function: Callable[..., Any], arguments: Sequence[Any], dtypes: Any, name: str) -> Any:
    """`tf.py_function` of a `counted` function."""
    with tf.control_dependencies(_look()):
        return tf.py_function(function, arguments, dtypes, name=name)


def numpy_function(function: Callable[..., Any], arguments: Sequence[Any], dtypes: Any, stateful: bool = True) -> Any:
    """`tf.numpy_function` of a `counted` function."""
    with tf.control_dependencies(_look()):
        return tf.numpy_function(function, arguments, dtypes, stateful=stateful)


def while_process_lives(tensor: tf.Tensor) -> tf.Tensor:
    """A graph's tensor, there only as long as the process does not end: for calls that can't look themselves."""
    if tf.executing_eagerly():
        return tensor
    with tf.control_dependencies(_look()):
        return tf.identity(tensor)


def counted(function: Function) -> Function:
    """A function for the calls above: the end of the process waits until it returns."""

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        global _running  # noqa: PLW0603 - of the process, as its end is
        # The main thread ends the process, so that it is in no call then; and Ctrl-C comes to it, at any place.
        if threading.get_ident() == threading.main_thread().ident:
            return _checked(function, arguments)
        with _changed:
            _running += 1
        try:
            return _checked(function, arguments)
        finally:
            with _changed:
                _running -= 1
                _changed.notify_all()

    return cast(Function, tf.autograph.experimental.do_not_convert(call))


def _checked(function: Callable[..., Any], arguments: Sequence[Any]) -> Any:
    try:
        return function(*arguments)
    except StopIteration as error:
        # TensorFlow would take it for the end of the data: `fit` would end early, and say nothing.
        raise RuntimeError(f"StopIteration: {error}") from error


def _look() -> list[tf.Operation]:
    """What has to be true before a graph calls Python."""
    global _made  # noqa: PLW0603
    _made = True
    return [tf.raw_ops.Assert(condition=tf.equal(_flag()[0], 0), data=[tf.constant("The process ends.")])]


@functools.cache
def _flag() -> tf.Tensor:
    with tf.init_scope(), tf.device("CPU"):
        return tf.experimental.dlpack.from_dlpack(_ends.__dlpack__())


@atexit.register
def _end() -> None:
    """Lets no call of a graph begin, and waits for those that have."""
    if not _made:
        return
    _ends[:] = 1
    time.sleep(GRACE)
    with _changed:
        _changed.wait_for(lambda: not _running)


def _begin_child() -> None:
    """The threads of the calls that run do not survive a fork."""
    global _running, _changed
    _running, _changed = 0, threading.Condition()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_child)
