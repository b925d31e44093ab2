"""Layers inside a layer, whose first calls may come from several threads at once: `build_once`."""

from __future__ import annotations

import threading

import keras

_one_thread = threading.Lock()


def build_once(layer: keras.layers.Layer, input_shape: tuple[int | None, ...]) -> None:
    """Builds a layer unless it is built; Keras lets threads build one at once, and fails or makes weights twice."""
    with _one_thread:
        if not layer.built:
            layer.build(input_shape)
