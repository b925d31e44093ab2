"""The crossing between TensorFlow and PyTorch: an `ElmoEncoder` on TensorFlow tensors."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import tensorflow as tf

from bridge.encoder.encoder import ElmoEncoder
from bridge.errors import ProcessError
from bridge.layers.forks import refuse_graphs_in_forked_children
from bridge.layers.tensors import to_tensorflow
from bridge.python_calls import counted, py_function


class EncoderAdapter:
    """Calls an encoder from eager code and from graphs.

    In a graph the call is a `tf.py_function`; in eager mode it is direct, because eager `tf.py_function` leaks
    memory at every call. Graphs hold the encoder weakly, so that it goes when its layer goes.

    Call arguments:
        char_ids: integer tensor `(batch, timesteps, 50)`.
        mask: optional bool tensor `(batch, timesteps)`.

    Returns:
        float32 `(batch, timesteps, num_layers, output_dim)`, `timesteps` grown by 2 with sentence boundaries.

    Raises:
        InputTypeError, InputValueError: in eager mode; in a graph TensorFlow raises
            `tf.errors.InvalidArgumentError` with their text.
    """

    def __init__(self, encoder: ElmoEncoder) -> None:
        refuse_graphs_in_forked_children()
        self.encoder = encoder
        # One function for the life of the adapter: TensorFlow keeps every function it is given.
        self._callback = _weak_callback(encoder)

    def __call__(self, char_ids: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
        arguments = [char_ids] if mask is None else [char_ids, mask]
        if tf.executing_eagerly():
            return self._callback(*arguments)
        layers = py_function(self._callback, arguments, tf.float32, name="elmo")
        layers.set_shape(activations_shape(self.encoder, char_ids))
        return layers


def activations_shape(encoder: ElmoEncoder, char_ids: tf.Tensor) -> tuple[int | None, ...]:
    """Static shape of what the encoder makes of char ids."""
    batch, timesteps = (char_ids.shape[0], char_ids.shape[1]) if char_ids.shape.rank else (None, None)
    if timesteps is not None and encoder.keep_sentence_boundaries:
        timesteps += 2
    return (batch, timesteps, encoder.num_layers, encoder.output_dim)


def _weak_callback(encoder: ElmoEncoder) -> Callable[..., tf.Tensor]:
    reference = weakref.ref(encoder)

    @counted
    def run_elmo(char_ids: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
        alive = reference()
        if alive is None:
            raise ProcessError("The ElmoEmbedding layer of this function was deleted. Keep the layer or its model.")
        output = alive(char_ids.numpy(), None if mask is None else mask.numpy())
        return to_tensorflow(output.activations)

    return run_elmo
