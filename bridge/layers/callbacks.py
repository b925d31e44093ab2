"""Seeing the mix while it trains: `ScalarMixLogger`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from bridge.errors import InputTypeError, InputValueError
from bridge.layers.scalar_mix import ScalarMix


class ScalarMixLogger(keras.callbacks.Callback):
    """Writes the weight of every biLM layer, and gamma, to `logs` and to TensorBoard after each epoch.

    The weights are those of the mixture: after the softmax, so that they add up to 1. In `logs` they reach the
    progress bar, `History`, and every callback that comes after this one in `callbacks=`, such as `CSVLogger` or
    Keras's `TensorBoard`.

    They are named by the layers that hold the mix: `elmo_embedding/scalar_mix/layer_0` and so on, layer 0 being the
    token layer, and `elmo_embedding/scalar_mix/gamma`. Keras numbers the layers that have no name of their own;
    `ElmoEmbedding(name="elmo")` stays `elmo/scalar_mix/gamma` in every run. A second mix of the same name gets `_1`.

    Args:
        log_dir: folder for TensorBoard's event files; none are written by default. Needs no TensorBoard to write.

    Raises:
        InputTypeError: `log_dir` is no path.
        InputValueError: when training begins, if the model has no `ScalarMix`.

    Example:
        >>> history = model.fit(tokens, labels, epochs=3, callbacks=[ScalarMixLogger("runs/1")])
        >>> history.history["elmo/scalar_mix/layer_1"]
        [0.334, 0.337, 0.341]
    """

    def __init__(self, log_dir: str | os.PathLike[str] | None = None) -> None:
        super().__init__()
        if not isinstance(log_dir, str | os.PathLike | None):
            raise InputTypeError(
                f"`log_dir` must be a path, or None for no TensorBoard. Received: {log_dir!r:.80} of type "
                f"{type(log_dir).__name__}."
            )
        self.log_dir = None if log_dir is None else os.fspath(log_dir)
        self._writer: Any = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if not scalar_mixes(self.model):
            raise InputValueError(
                "`ScalarMixLogger` must be used with a model that has a `ScalarMix`. Received: the model "
                f'{self.model.name!r} without one. Use `ElmoEmbedding(output_mode="elmo")`, or a `ScalarMix` after '
                '`output_mode="all"`, or leave the callback out.'
            )
        if self.log_dir is not None:
            self._writer = tf.summary.create_file_writer(self.log_dir)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        values = {
            f"{path}/{name}": value
            for path, mix in scalar_mixes(self.model).items()
            if mix.built  # else nothing calls it
            for name, value in mix_values(mix).items()
        }
        if logs is not None:
            logs.update(values)
        if self._writer is not None:
            with self._writer.as_default():  # and flushes, so that an interrupted training has its epochs
                for name, value in values.items():
                    write_scalar(name, value, epoch)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def scalar_mixes(model: keras.Model) -> dict[str, ScalarMix]:
    """Every mix of a model, however deep inside, by a unique name."""
    mixes: dict[str, ScalarMix] = {}
    for name, mix in _named_mixes(model):
        if any(mix is other for other in mixes.values()):
            continue  # a shared layer has several places
        unique, copies = name, 0
        while unique in mixes:  # a subclassed model may give one name twice
            copies += 1
            unique = f"{name}_{copies}"
        mixes[unique] = mix
    return mixes


def _named_mixes(model: keras.Model) -> Iterator[tuple[str, ScalarMix]]:
    """Mixes by the names that the user sees: of the models inside the model, of their layers, and of the mix."""
    for layer in model.layers:
        if isinstance(layer, ScalarMix):
            yield layer.name, layer
        elif isinstance(layer, keras.Model):
            yield from ((f"{layer.name}/{name}", mix) for name, mix in _named_mixes(layer))
        else:
            inner = [part for part in layer._flatten_layers() if isinstance(part, ScalarMix)]
            yield from ((f"{layer.name}/{mix.name}", mix) for mix in sorted(inner, key=lambda mix: mix.name))


def mix_values(mix: ScalarMix) -> dict[str, float]:
    """`layer_0`, `layer_1`, ... and `gamma`, as the mixture uses them."""
    parameters = np.asarray(mix.scalar_parameters, dtype=np.float64)
    exponentials = np.exp(parameters - parameters.max())
    weights = exponentials / exponentials.sum()
    return {
        **{f"layer_{index}": float(weight) for index, weight in enumerate(weights)},
        "gamma": float(np.asarray(mix.gamma)),
    }


def write_scalar(name: str, value: float, step: int) -> None:
    """Writes a number to the default summary writer. `tf.summary.scalar` would need TensorBoard installed."""
    metadata = tf.compat.v1.SummaryMetadata(data_class=1)  # DATA_CLASS_SCALAR
    metadata.plugin_data.plugin_name = "scalars"  # draws it as a curve
    tf.summary.write(name, tf.constant(value, tf.float32), step=step, metadata=metadata)
