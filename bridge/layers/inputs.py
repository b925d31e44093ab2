"""What the layers accept: the checks that come before any computation."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from bridge.errors import InputTypeError, InputValueError
from bridge.text.character_checks import check_character_ids_form


def check_is_tensor(inputs: Any) -> None:
    """Raises unless `inputs` is one tensor or NumPy array: Keras's own message on lists is hard to read."""
    if isinstance(inputs, list | tuple | str | bytes | int | float) or inputs is None:
        raise InputTypeError(
            f"`inputs` must be a tensor of string tokens or of character ids. Received: {inputs!r:.80} of type "
            f"{type(inputs).__name__}. A list of token lists becomes a tensor with "
            "`tf.ragged.constant(sentences).to_tensor()`, or character ids with `batch_to_ids(sentences)`."
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
    """Raises unless `inputs` is a (symbolic) string tensor of rank 2."""
    wanted = "`inputs` must be string tokens of shape (batch, timesteps)"
    if not is_string(inputs):
        raise InputTypeError(
            f"{wanted}. Received: dtype {dtype_of(inputs)}. A model declares them with "
            '`keras.Input((None,), dtype="string")`.'
        )
    shape = shape_of(inputs)
    if shape is not None and len(shape) != 2:
        raise InputValueError(
            f"{wanted}. Received: shape {shape}. Split sentences into tokens first; a ragged list of token lists "
            "becomes a tensor with `tf.ragged.constant(sentences).to_tensor()`."
        )


def check_tokens_or_ids(inputs: Any) -> None:
    """Raises unless `inputs` is a (symbolic) tensor of string tokens or of character ids."""
    if is_string(inputs):
        check_string_tokens(inputs)
    elif (shape := shape_of(inputs)) is not None:
        check_character_ids_form(dtype_of(inputs), shape)


def shape_of(inputs: Any) -> tuple[int | None, ...] | None:
    """Static shape, None where even the rank is unknown."""
    return None if getattr(inputs.shape, "rank", 0) is None else tuple(inputs.shape)
