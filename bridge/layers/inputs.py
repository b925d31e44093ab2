"""What the layers accept: the checks that come before any computation."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from bridge.errors import InputTypeError, InputValueError
from bridge.layers.casts import check_no_cast_to_string
from bridge.text.character_checks import check_character_ids_form
from bridge.text.characters import MAX_CHARACTERS_PER_TOKEN


def check_is_tensor(inputs: Any, wanted: str = "string tokens or of character ids") -> None:
    """Raises unless `inputs` is one tensor or NumPy array: Keras's own message on lists is hard to read."""
    if isinstance(inputs, tf.RaggedTensor | tf.SparseTensor):
        way = "inputs.to_tensor()" if isinstance(inputs, tf.RaggedTensor) else "tf.sparse.to_dense(inputs)"
        raise InputTypeError(
            f"`inputs` must be a dense tensor, padded at the end of its rows. Received: a {type(inputs).__name__}. "
            f"Make it one with `{way}`."
        )
    if not hasattr(inputs, "dtype") or not hasattr(inputs, "shape"):
        raise InputTypeError(
            f"`inputs` must be a tensor of {wanted}. Received: {inputs!r:.80} of type {type(inputs).__name__}. "
            "`bridge.to_tensor(values)` makes one of lists, arrays and columns."
        )
    _check_is_readable(inputs, "inputs")
    if isinstance(getattr(inputs, "dtype", None), np.dtype) and inputs.dtype.kind == "O":
        for value in np.asarray(inputs).flat:
            if not isinstance(value, str | bytes):
                raise InputTypeError(
                    f"`inputs` must be a tensor of {wanted}. Received: an array or column of Python objects, such as "
                    f"{value!r:.80} of type {type(value).__name__}. `bridge.to_tensor(values)` makes a tensor of it, "
                    "or says which entry has no place in one."
                )


def check_are_tensors(inputs: Any, mask: Any) -> None:
    """Raises unless `inputs` is one tensor or array, and `mask` one or None."""
    check_is_tensor(inputs)
    objects = isinstance(getattr(mask, "dtype", None), np.dtype) and mask.dtype.kind == "O"
    if mask is not None and (objects or not hasattr(mask, "dtype")):
        raise InputTypeError(
            f"`mask` must be a tensor or NumPy array of bool. Received: {mask!r:.80} of type {type(mask).__name__}. "
            "Make it one with `np.array(mask, dtype=bool)`."
        )
    _check_is_readable(mask, "mask")


def _check_is_readable(values: Any, argument: str) -> None:
    """Raises on other libraries' tensors that NumPy, and so Keras, can't read."""
    if isinstance(values, np.ndarray | keras.KerasTensor) or tf.is_tensor(values) or not hasattr(values, "__array__"):
        return
    try:
        np.asarray(values)
    except (NotImplementedError, RuntimeError, TypeError, ValueError) as error:  # PyTorch's: sparse, with gradients ...
        raise InputTypeError(
            f"`{argument}` must be a tensor or NumPy array. Received: a {type(values).__name__} of dtype "
            f"{values.dtype}, which NumPy can't read: {error}. Give NumPy's array of it."
        ) from error


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
    if tf.is_tensor(inputs) and not isinstance(inputs, keras.KerasTensor):
        check_no_cast_to_string(inputs, "string tokens")


def check_inputs(inputs: Any, mask: Any) -> None:
    """Raises unless `inputs` is a (symbolic) tensor of string tokens or of character ids, and `mask` theirs or None."""
    _check_tokens_or_ids(inputs)
    _check_mask(mask, inputs)


def _check_tokens_or_ids(inputs: Any) -> None:
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


def _check_mask(mask: Any, inputs: Any) -> None:
    """`mask` has an element for each token of `inputs`."""
    if mask is None:
        return
    if is_string(mask):
        raise InputTypeError(
            "`mask` must be bool or 0/1, true where a token is. Received: dtype string. Make it with "
            '`tf.not_equal(tokens, "")`.'
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
