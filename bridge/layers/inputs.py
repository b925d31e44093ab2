"""What the layers accept: the checks that come before any computation."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from bridge.errors import InputTypeError, InputValueError, MissingDependencyError
from bridge.text.character_checks import check_character_ids_form
from bridge.text.characters import MAX_CHARACTERS_PER_TOKEN

if keras.backend.backend() != "tensorflow":
    raise MissingDependencyError(
        "The layers need Keras 3 on its TensorFlow backend. Received: the "
        f"{keras.backend.backend()!r} backend. Set KERAS_BACKEND=tensorflow before Keras is imported."
    )


def check_is_tensor(inputs: Any, wanted: str = "string tokens or of character ids") -> None:
    """Raises unless `inputs` is one tensor or NumPy array: Keras's own message on lists is hard to read."""
    if isinstance(inputs, tf.RaggedTensor | tf.SparseTensor):
        way = "inputs.to_tensor()" if isinstance(inputs, tf.RaggedTensor) else "tf.sparse.to_dense(inputs)"
        raise InputTypeError(
            f"`inputs` must be a dense tensor, padded at the end of its rows. Received: a {type(inputs).__name__}. "
            f"Make it one with `{way}`."
        )
    if isinstance(inputs, list | tuple | dict | str | bytes | int | float) or inputs is None:
        raise InputTypeError(
            f"`inputs` must be a tensor of {wanted}. Received: {inputs!r:.80} of type {type(inputs).__name__}. "
            "`bridge.to_tensor(values)` makes one of lists, arrays and columns. A list of token lists also becomes a "
            "tensor with `tf.ragged.constant(sentences).to_tensor()`, or character ids with `batch_to_ids(sentences)`."
        )


def is_string(inputs: Any) -> bool:
    """Whether a (symbolic) tensor or array holds strings."""
    return dtype_of(inputs) == "string"


def dtype_of(inputs: Any) -> str:
    """Name of a dtype, `"string"` for strings."""
    if isinstance(inputs, np.ndarray) and inputs.dtype.kind in "OSU":
        return "string"
    return keras.backend.standardize_dtype(inputs.dtype)


def check_string_tokens(inputs: Any) -> None:
    """Raises unless `inputs` is a (symbolic) string tensor of rank 2, or 3 with passages."""
    wanted = "`inputs` must be string tokens of shape (batch, timesteps) or (batch, passages, timesteps)"
    if not is_string(inputs):
        raise InputTypeError(
            f"{wanted}. Received: dtype {dtype_of(inputs)}. A model declares them with "
            '`keras.Input((None,), dtype="string")`.'
        )
    shape = shape_of(inputs)
    if shape is not None and len(shape) not in (2, 3):
        raise InputValueError(
            f"{wanted}. Received: shape {shape}. Split sentences into tokens first; a ragged list of token lists "
            "becomes a tensor with `tf.ragged.constant(sentences).to_tensor()`."
        )


def check_tokens_or_ids(inputs: Any) -> None:
    """Raises unless `inputs` is a (symbolic) tensor of string tokens or of character ids."""
    if is_string(inputs):
        check_string_tokens(inputs)
    elif isinstance(inputs, keras.KerasTensor) and dtype_of(inputs).startswith("float"):
        raise InputTypeError(
            "`inputs` must be string tokens (batch, timesteps) or integer character ids (batch, timesteps, 50). "
            f"Received: dtype {dtype_of(inputs)}, which Keras takes where a model does not declare its input. Begin "
            'the model with `keras.Input((None,), dtype="string")` or `keras.Input((None, 50), dtype="int32")`.'
        )
    elif (shape := shape_of(inputs)) is not None:
        check_character_ids_form(dtype_of(inputs), shape, passages=True)


def check_mask(mask: Any, inputs: Any) -> None:
    """Raises unless `mask` is None or a (symbolic) tensor or array with an element for each token of `inputs`."""
    if mask is None:
        return
    if isinstance(mask, list | tuple):  # Keras hands them on as they are
        raise InputTypeError(
            f"`mask` must be a tensor or NumPy array of bool. Received: {mask!r:.80} of type {type(mask).__name__}. "
            "Make it one with `tf.constant(mask)`."
        )
    shape, wanted = shape_of(mask), shape_of(inputs)
    if wanted is not None and not is_string(inputs):
        wanted = wanted[:-1]
    if shape is not None and wanted is not None and not tf.TensorShape(shape).is_compatible_with(wanted):
        axes = "(batch, timesteps)" if len(wanted) == 2 else "(batch, passages, timesteps)"
        raise InputValueError(
            f"`mask` must have shape {axes} = {wanted}. Received: shape {shape}. "
            "Use the mask that belongs to these inputs, or none."
        )


def shape_of(inputs: Any) -> tuple[int | None, ...] | None:
    """Static shape, None where even the rank is unknown."""
    return None if getattr(inputs.shape, "rank", 0) is None else tuple(inputs.shape)


def with_known_rank(inputs: Any) -> Any:
    """A dataset may not know the rank of its elements, which Keras needs; their dtype tells."""
    if shape_of(inputs) is not None:
        return inputs
    return tf.ensure_shape(inputs, [None, None] if is_string(inputs) else [None, None, MAX_CHARACTERS_PER_TOKEN])


def fit_length(values: tf.Tensor, length: int, axis: int) -> tf.Tensor:
    """Pads and truncates the timesteps, which are on that (negative) axis, to `length`."""
    axis += values.shape.rank
    values = values[(*[slice(None)] * axis, slice(length))]
    missing = length - tf.shape(values)[axis]
    padded = tf.pad(values, [[0, missing if dimension == axis else 0] for dimension in range(values.shape.rank)])
    return tf.ensure_shape(padded, [*values.shape[:axis], length, *values.shape[axis + 1 :]])
