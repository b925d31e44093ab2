"""TensorFlow's graphs in forked children: an error instead of a hang."""

from __future__ import annotations

import functools
import os
from typing import Any, NoReturn

from tensorflow.python.eager import context as eager_context

from bridge.errors import ProcessError


@functools.cache
def refuse_graphs_in_forked_children() -> None:
    """From now on a `tf.function` raises where it would hang: in processes forked after TensorFlow's first operation.

    A graph waits for TensorFlow's threads, which do not survive a fork, before it comes to any code of ours; and
    Keras's `fit`, `evaluate` and `predict` are graphs. This process, children that TensorFlow did not run before, and
    eager operations stay as they are.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_refuse_graphs)


def _refuse_graphs() -> None:
    context = eager_context.context_safe()
    # Its first operation initialises it, and starts the threads. What the parent had not begun, the child can.
    if context is not None and context._initialized:
        context.call_function = _refuse


def _refuse(*arguments: Any, **more: Any) -> NoReturn:
    raise ProcessError(
        "A `tf.function`, and so Keras's `fit`, `evaluate` and `predict`, must not be called in a process forked "
        "after TensorFlow ran: TensorFlow's threads do not survive a fork, and the call would hang. Start child "
        "processes with multiprocessing's 'spawn' method, or fork before TensorFlow is used, and make the model in "
        "them."
    )
