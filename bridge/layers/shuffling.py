"""Notices a `fit` that shuffles, which a carried state does not survive."""

from __future__ import annotations

import inspect
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from bridge.errors import UnsupportedError


def check_order_is_kept() -> None:
    """Raises UnsupportedError when the call comes out of a `fit` that shuffles.

    Keras tells a layer nothing about the data it is trained on. But `fit` traces it, with its arguments on the stack.
    """
    frame = inspect.currentframe()
    while frame is not None:
        arguments = frame.f_locals
        if frame.f_code.co_name == "fit" and isinstance(arguments.get("self"), keras.Model) and "shuffle" in arguments:
            if _shuffles(arguments.get("x"), arguments["shuffle"]):
                raise UnsupportedError(
                    '`state="carry"` must be trained in the order of the text: every row of a batch goes on where the '
                    "same row of the batch before it ended. Received: a `fit` that shuffles. Pass `shuffle=False` "
                    '(and no `Dataset.shuffle`), or use `state="zero"` or `state="warm"`.'
                )
            return
        frame = frame.f_back


def _shuffles(x: Any, shuffle: Any) -> bool:
    if isinstance(x, tf.data.Dataset):
        return any("Shuffle" in type(dataset).__name__ for dataset in _lineage(x))
    # Of arrays; Keras does not reorder what it can only iterate over.
    first = keras.tree.flatten(x)[:1]
    return bool(shuffle) and all(isinstance(array, np.ndarray | tf.Tensor) for array in first)


def _lineage(dataset: tf.data.Dataset) -> list[tf.data.Dataset]:
    """A dataset and all that it is made from."""
    return [dataset, *(ancestor for parent in dataset._inputs() for ancestor in _lineage(parent))]
