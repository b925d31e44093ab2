"""Notices a `fit` that shuffles, which a carried state does not survive."""

from __future__ import annotations

import sys
import threading
import weakref
from types import FrameType
from typing import Any

import keras
import tensorflow as tf
from torch.utils import data

from bridge.errors import UnsupportedError
from bridge.python_calls import counted, py_function


def check_order_is_kept(layer: keras.layers.Layer) -> None:
    """Raises UnsupportedError when `layer` is called out of a `fit` that shuffles.

    Keras tells a layer nothing about the data it is trained on, but `fit` has its arguments on the stack. A graph is
    checked when it is traced and whenever it runs: the next `fit` takes the trace of the one before.
    """
    _check(sys._getframe(), layer)
    if not tf.executing_eagerly():
        reference = weakref.ref(layer)  # a graph must not keep the layer alive

        @counted
        def check_all_threads() -> None:
            alive = reference()
            for thread, frame in sys._current_frames().items():
                # TensorFlow runs graphs in threads of its own; `fit` waits in another.
                if alive is not None and thread != threading.get_ident():
                    _check(frame, alive)

        py_function(check_all_threads, [], [], name="check_order_is_kept")


def _check(frame: FrameType | None, layer: keras.layers.Layer) -> None:
    while frame is not None:
        if frame.f_code.co_name in ("fit", "evaluate", "predict"):
            arguments = frame.f_locals
            model = arguments.get("self")
            if isinstance(model, keras.Model) and "x" in arguments and layer in model._flatten_layers():
                if "shuffle" in arguments and _shuffles(arguments["x"], arguments["shuffle"]):
                    raise UnsupportedError(
                        '`state="carry"` must be trained in the order of the text: every row of a batch goes on where '
                        "the same row of the batch before it ended. Received: a `fit` that shuffles. Pass "
                        "`shuffle=False` (and data that does not shuffle: no `Dataset.shuffle`, no "
                        '`DataLoader(shuffle=True)`), and compile the model again; or use `state="zero"` or '
                        '`state="warm"`.'
                    )
                return  # the innermost: a `fit` that validates calls `evaluate`
        frame = frame.f_back


def _shuffles(x: Any, shuffle: Any) -> bool:
    """Whether `fit` mixes the rows or batches of `x`: Keras itself shuffles arrays and PyDatasets of known length."""
    if isinstance(x, tf.data.Dataset):
        return any("Shuffle" in type(dataset).__name__ for dataset in _lineage(x))
    if isinstance(x, data.DataLoader):
        samplers = (x.sampler, getattr(x.batch_sampler, "sampler", None))
        return any("Random" in type(sampler).__name__ for sampler in samplers)
    if isinstance(x, keras.utils.PyDataset):
        return bool(shuffle) and x.num_batches is not None
    return bool(shuffle) and all(hasattr(array, "shape") for array in keras.tree.flatten(x))


def _lineage(dataset: tf.data.Dataset) -> list[tf.data.Dataset]:
    """A dataset and all that it is made from."""
    return [dataset, *(ancestor for parent in dataset._inputs() for ancestor in _lineage(parent))]
