"""Python lists, NumPy arrays and pandas columns as the tensors that Keras's `fit` accepts: `to_tensor`."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from bridge.checks import check_integer
from bridge.errors import InputTypeError, InputValueError
from bridge.text.characters import MAX_CHARACTER_ID, MAX_CHARACTERS_PER_TOKEN
from bridge.text.nested_lists import (
    WANTED,
    Lengths,
    check_column,
    check_range,
    flatten,
    is_array,
    kind_of,
    place_of,
    read_array,
    show_place,
)


def to_tensor(values: Any, max_sequence_length: int | None = None) -> tf.Tensor:
    """Makes what `fit`, `predict` and the layers accept from what people have.

    Keras takes strings as tensors only, and nothing ragged. Here lists may be ragged: they are padded at the end,
    with `""` or 0. NumPy arrays, RaggedTensors, pandas columns and whatever else NumPy can read are as good as
    lists, at every level. What is given is never changed.

    Args:
        values: a batch, whose nesting and entries tell what it is:
            token lists become strings `(batch, timesteps)`, for `ElmoEmbedding`;
            sentences (strings) become strings `(batch,)`, for `WhitespaceTokenizer`;
            word-id lists become int32 `(batch, timesteps)`, for `VocabularyCharacterIds`;
            character ids, 50 for each token, become int32 `(batch, timesteps, 50)`, for `ElmoEmbedding` (three levels
            of integers whose innermost lists all have 50 are taken for these);
            lists of any of these but sentences (passages) become `(batch, passages, timesteps)` and so on;
            a dense tensor of one of these shapes stays what it is.
        max_sequence_length: number of timesteps to pad and truncate to; the longest sentence's by default.

    Returns:
        A dense tensor of strings or integers. `timesteps` is at least 1: recurrent layers cannot run on none.

    Raises:
        InputTypeError: an entry is no string, integer or list (a missing value, a float, a set), or kinds are mixed.
        InputValueError: the nesting has no meaning, a column has missing values, an id is negative or too large, a
            string is not UTF-8, or padding comes before a token, where Keras's `pad_sequences` puts it by default.

    Example:
        >>> to_tensor([["The", "cat", "sat"], ["Hello"]]).shape
        TensorShape([2, 3])
        >>> model.fit(to_tensor(frame["tokens"]), frame["label"].to_numpy())
    """
    if max_sequence_length is not None:
        check_integer("max_sequence_length", max_sequence_length, minimum=1, maximum=2**31 - 1)
    if isinstance(values, keras.KerasTensor | tf.SparseTensor | tf.TensorArray | tf.data.Dataset):
        raise InputTypeError(
            f"{WANTED}. Received: a {type(values).__name__}. A model's symbolic input goes to the layer as it is, a "
            "SparseTensor through `tf.sparse.to_dense` first, and a Dataset through `dataset.map(to_tensor)`."
        )
    if isinstance(values, tf.RaggedTensor):
        tensor = values.to_tensor()
    elif tf.is_tensor(values):
        tensor = tf.convert_to_tensor(values)  # of a variable
    else:
        tensor = _from_python(values)
    _check_form(tensor, max_sequence_length)
    tensor = _fit_length(tensor, max_sequence_length)
    if tf.executing_eagerly():
        _check_padding(tensor)
    return tensor


def _from_python(values: Any) -> tf.Tensor:
    check_column(values)
    if is_array(type(values)):
        array = read_array(values, "values")
        if array.dtype.kind in "iu":  # the one kind that needs no look at every entry
            if array.ndim >= 3 and array.shape[-1] == MAX_CHARACTERS_PER_TOKEN and array.dtype.itemsize == 1:
                raise InputTypeError(
                    f"{WANTED}. Received: dtype {array.dtype} of shape {array.shape}: character ids go up to "
                    f"{MAX_CHARACTER_ID}, which it can't hold; those above its range are lost. Make them as int32."
                )
            check_range(array.ravel(), lambda index: show_place(np.unravel_index(index, array.shape)))
            return tf.constant(array.astype(np.int32))
        values = array.tolist()
    kind = kind_of(type(values))
    if kind != "lists":
        remedy = "A single sentence is a batch of one" if kind == "text" else "Make it a list, in your labels' order"
        raise InputTypeError(f"{WANTED}. Received: {values!r:.80} of type {type(values).__name__}. {remedy}: `[...]`.")
    flat, lengths, types = flatten(values)
    if not lengths and not flat:
        raise InputValueError(
            f"{WANTED}. Received: an empty one, which does not tell what it is a batch of. Give at least one entry."
        )
    integers = any(kind_of(of_type) == "integers" for of_type in types)
    leaves = _integers(flat, lengths) if integers else _strings(flat, lengths, types)
    return tf.RaggedTensor.from_nested_row_lengths(leaves, lengths).to_tensor() if lengths else leaves


def _integers(flat: list[Any], lengths: Lengths) -> tf.Tensor:
    try:
        numbers = np.fromiter(flat, np.int64, len(flat))
    except OverflowError:
        numbers = np.array(flat, dtype=object)
    check_range(numbers, lambda index: place_of(index, lengths))
    return tf.constant(numbers.astype(np.int32))


def _strings(flat: list[Any], lengths: Lengths, types: set[type]) -> tf.Tensor:
    try:
        if any(issubclass(of_type, bytes) for of_type in types):
            flat = [value.decode() if isinstance(value, bytes) else value for value in flat]
        return tf.constant(flat, tf.string, shape=[len(flat)])
    except ValueError:  # TensorFlow's own, or a UnicodeDecodeError
        index = next(index for index, value in enumerate(flat) if not _is_utf8(value))
        raise InputValueError(
            f"{WANTED}; strings are UTF-8. Received: {flat[index]!r:.80} at {place_of(index, lengths)}, which is not. "
            "Read the text in the encoding that it was written in, as in `open(path, encoding='latin-1')`; lone "
            "surrogates go with `.encode('utf-8', 'ignore').decode()`."
        ) from None


def _is_utf8(value: str | bytes) -> bool:
    try:
        value.decode() if isinstance(value, bytes) else value.encode()
    except UnicodeError:
        return False
    return True


def _has_characters(tensor: tf.Tensor) -> bool:
    return tensor.dtype != tf.string and tensor.shape.rank >= 3 and tensor.shape[-1] == MAX_CHARACTERS_PER_TOKEN


def _check_form(tensor: tf.Tensor, max_sequence_length: int | None) -> None:
    """Raises unless dtype and rank have a meaning."""
    rank, received = tensor.shape.rank, f"{WANTED}. Received: dtype {tensor.dtype.name} of shape {tensor.shape}"
    if tensor.dtype != tf.string and not tensor.dtype.is_integer:
        raise InputTypeError(f"{received}. Ids are integers: keep them so where they come from, or use `tf.cast`.")
    if rank is None:
        raise InputValueError(f"{received}. Tell TensorFlow the rank with `tf.ensure_shape` first.")
    if tensor.dtype == tf.string:
        if rank not in (1, 2, 3):
            raise InputValueError(f"{received}. Passages of token lists, of three levels, are the deepest.")
        if rank == 1 and max_sequence_length is not None:
            raise InputValueError(
                f"`max_sequence_length` must be left out for sentences. Received: {max_sequence_length} for strings of "
                f"shape {tensor.shape}. Give it to `WhitespaceTokenizer`, or give token lists."
            )
    elif rank not in (2, 3) and not (rank == 4 and _has_characters(tensor)):
        raise InputValueError(
            f"{received}. A single sentence is a batch of one: `[ids]`. Passages of tokens of "
            f"{MAX_CHARACTERS_PER_TOKEN} characters each, of four levels, are the deepest."
        )


def _fit_length(tensor: tf.Tensor, length: int | None) -> tf.Tensor:
    """Pads and truncates the timesteps to `length`, or to at least 1."""
    if tensor.shape.rank == 1:
        return tensor
    axis = tensor.shape.rank - (2 if _has_characters(tensor) else 1)
    if length is None and (tensor.shape[axis] or 0) >= 1:
        return tensor
    if length is not None:
        tensor = tensor[(slice(None),) * axis + (slice(length),)]
    timesteps = tf.shape(tensor)[axis]
    missing = tf.maximum(1, timesteps) - timesteps if length is None else length - timesteps
    paddings = [[0, missing if index == axis else 0] for index in range(tensor.shape.rank)]
    padded = tf.pad(tensor, paddings, constant_values="" if tensor.dtype == tf.string else 0)
    shape = tensor.shape.as_list()
    shape[axis] = length
    return tf.ensure_shape(padded, shape)


def _check_padding(tensor: tf.Tensor) -> None:
    """Raises if padding comes before a token."""
    if tensor.shape.rank == 1:
        return
    tokens = tf.not_equal(tensor, "" if tensor.dtype == tf.string else 0)
    if _has_characters(tensor):
        tokens = tf.reduce_any(tokens, axis=-1)
    gaps = tokens[..., 1:] & ~tokens[..., :-1]
    if tf.reduce_any(gaps):
        raise InputValueError(
            '`values` must have padding ("" or 0) only after the tokens of a sentence. Received: padding at '
            f"{show_place(tf.where(gaps)[0].numpy())}, before a token. Take empty strings out of sentences, and pad "
            "ids at the end, with `padding='post'` in `pad_sequences`."
        )
