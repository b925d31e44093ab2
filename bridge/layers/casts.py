"""What Keras casts on the way in: `fit` and `predict` turn every array into the dtype of `keras.Input`, silently."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from bridge.errors import InputTypeError
from bridge.text.characters import MAX_CHARACTER_ID

GRAPH_INPUTS = ("Placeholder", "IteratorGetNext")
# Up to here a float holds every integer.
HIGHEST_INTEGERS = {"bool": 1, "bfloat16": 2**8, "float16": 2**11, "float32": 2**24, "float64": 2**53}


def check_no_cast_to_string(inputs: tf.Tensor, wanted: str) -> None:
    """Raises InputTypeError where numbers were fed to a model whose input is strings: TensorFlow can't cast those."""
    source = _before_casts(inputs)
    if source.dtype != tf.string:
        raise InputTypeError(
            f"`inputs` must be {wanted}, as the model's `keras.Input` says. Received: dtype {source.dtype.name} of "
            f"shape {source.shape}. Give the strings; for character ids the model begins with "
            '`keras.Input((None, 50), dtype="int32")`, for word ids with `keras.Input((None,), dtype="int32")` and '
            "`VocabularyCharacterIds`."
        )


def check_cast_ids(inputs: tf.Tensor, wanted: str, highest: int) -> tf.Tensor:
    """Checks that ids are still what they were before they were cast.

    The cast can be seen in a graph alone. In eager mode (`model(x)`, `run_eagerly=True`) Keras has done it before any
    layer is called.

    Args:
        inputs: integers.
        wanted: what they must be, for the message.
        highest: the highest id that there is.

    Returns:
        `inputs`. In a graph a `tf.errors.InvalidArgumentError` comes in their place if a cast changed one.

    Raises:
        InputTypeError: they were of a dtype that has not every id.
    """
    source = _before_casts(inputs)
    if source is inputs:
        return inputs
    dtype = source.dtype.name
    if source.dtype == tf.string:
        raise InputTypeError(
            f"`inputs` must be {wanted}, as the model's `keras.Input` says. Received: strings of shape {source.shape}. "
            'String tokens go to `ElmoEmbedding` in a model that begins with `keras.Input((None,), dtype="string")`.'
        )
    holds = np.iinfo(dtype).max if source.dtype.is_integer else HIGHEST_INTEGERS.get(dtype, 0)
    if holds < highest:
        raise InputTypeError(
            f"`inputs` must be {wanted}, from 0 to {highest}. Received: dtype {dtype}, which does not have them all, "
            f"cast to {inputs.dtype.name} on the way: what it lacked is lost. Make the ids as int32."
        )
    changed = tf.not_equal(source, tf.cast(inputs, source.dtype))  # true of NaN
    text = tf.strings.format(
        f"`inputs` must be {wanted}. Received: {{}} of dtype {dtype}, which the cast to {inputs.dtype.name} changes. "
        "Give integers of that dtype from the start; NaN is a missing value.",
        tf.boolean_mask(source, changed)[:1],
    )
    with tf.control_dependencies([tf.debugging.Assert(~tf.reduce_any(changed), [text])]):
        return tf.identity(inputs)


def check_cast_character_ids(inputs: tf.Tensor) -> tf.Tensor:
    """`check_cast_ids` of character ids."""
    return check_cast_ids(inputs, "integer character ids", MAX_CHARACTER_ID)


def _before_casts(inputs: tf.Tensor) -> tf.Tensor:
    """The graph's input that became `inputs` by casts; `inputs` itself in eager mode, or if it was computed."""
    source = inputs
    while tf.is_symbolic_tensor(source) and source.op.type == "Cast":  # not one that the graph captures
        source = source.op.inputs[0]
    if tf.is_symbolic_tensor(source) and source.op.type in GRAPH_INPUTS:
        return source
    return inputs  # who casts what he has computed, such as random numbers, means it
