"""Nested lists, arrays and pandas columns as one flat list: what `to_tensor` reads, framework-free."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any, Literal

import numpy as np

from bridge.errors import InputTypeError, InputValueError

Kind = Literal["text", "integers", "lists"]
# The lengths of all lists of a level; the outermost level is that of the batch's entries.
Lengths = list[list[int]]

WANTED = (
    "`values` must be a batch: a list, array or column of token lists, of sentences, of word-id lists or of "
    "character ids"
)
CAST = "Ids are integers: keep them so where they come from, or cast them with `.astype('int32')`."
MAX_ID = np.iinfo(np.int32).max


def check_column(values: Any) -> None:
    """Raises on a pandas table, and on missing values in a column: only pandas knows all it calls missing."""
    pandas = sys.modules.get("pandas")  # whoever has a column has imported it
    if pandas is None:
        return
    if isinstance(values, pandas.DataFrame):
        raise InputTypeError(
            f"{WANTED}. Received: a DataFrame with the columns {list(values.columns)!r:.80}. Choose one of them, as in "
            "`frame['text']`."
        )
    if isinstance(values, pandas.Series) and values.isna().any():
        row = int(values.isna().to_numpy().argmax())
        raise InputValueError(
            f"{WANTED}. Received: a missing value, {values.iloc[row]!r}, in row {row}, whose index label is "
            f"{values.index[row]}. Drop such rows together with their labels, with `frame.dropna`, or fill them."
        )


def is_array(of_type: type) -> bool:
    """Whether NumPy reads values of this type as arrays, as it does pandas columns and PyTorch's tensors."""
    return hasattr(of_type, "__array__") and not issubclass(of_type, np.generic)


def kind_of(of_type: type) -> Kind | None:
    """What a value of this type is; None for what has no place in a batch."""
    if issubclass(of_type, str | bytes):
        return "text"
    if issubclass(of_type, int | np.integer) and not issubclass(of_type, bool):
        return "integers"
    return "lists" if is_array(of_type) or issubclass(of_type, Sequence) else None


def read_array(values: Any, place: str) -> np.ndarray:
    """The NumPy array of what `is_array` accepts. Raises unless it holds strings, integers or objects."""
    try:
        array = np.asarray(values)
    except (RuntimeError, TypeError, ValueError) as error:  # of PyTorch: bfloat16, sparse, with gradients, on a GPU
        raise InputTypeError(
            f"{WANTED}. Received: a {type(values).__name__} at {place}, which NumPy can't read: {error}. {CAST}"
        ) from error
    if array.ndim == 0:
        raise InputTypeError(
            f"{WANTED}. Received: an array without dimensions, {array}, at {place}. A single sentence is a batch of "
            "one: `[...]`."
        )
    if array.size and array.dtype.kind not in "iuOSTU":  # an empty one is of floats unless told
        raise InputTypeError(f"{WANTED}. Received: an array of dtype {array.dtype} at {place}. {CAST}")
    return array


def flatten(values: Any) -> tuple[list[Any], Lengths, set[type]]:
    """The strings or integers of nested lists, the lengths of the lists, and the types of strings or integers."""
    flat, lengths = list(values), Lengths()
    while types := set(map(type, flat)):
        kinds = set(map(kind_of, types))
        if len(kinds) > 1 or None in kinds:
            raise _mixed_error(flat, lengths)
        if kinds != {"lists"}:
            break
        if any(map(is_array, types)):
            flat = [
                read_array(row, place_of(index, lengths)).tolist() if is_array(type(row)) else row
                for index, row in enumerate(flat)
            ]
        lengths.append(list(map(len, flat)))
        flat = list(chain.from_iterable(flat))
    return flat, lengths, types


def _mixed_error(flat: list[Any], lengths: Lengths) -> InputTypeError:
    first = kind_of(type(flat[0]))
    index = 0 if first is None else next(index for index, value in enumerate(flat) if kind_of(type(value)) != first)
    value = flat[index]
    received = f"{value!r:.80} of type {type(value).__name__} at {place_of(index, lengths)}"
    is_missing = value is None or type(value).__name__ in ("NAType", "NaTType")
    if is_missing or (isinstance(value, float) and math.isnan(value)):
        remedy = "It is a missing value: drop its sentence together with the label, or fill it."
    elif isinstance(value, float | np.floating):
        remedy = CAST
    elif kind_of(type(value)) is None:
        remedy = "Only strings, integers, and lists or arrays of them have a meaning here."
    else:
        received += f", beside {flat[0]!r:.80} of type {type(flat[0]).__name__} at {place_of(0, lengths)}"
        remedy = "Entries of one level are of one kind: split every sentence into tokens, or none."
    return InputTypeError(f"{WANTED}. Received: {received}. {remedy}")


def check_range(numbers: np.ndarray, place: Callable[[int], str]) -> None:
    """Raises unless flat ids fit int32 and are not negative; `place` says where the id of an index stood."""
    wrong = np.flatnonzero((numbers < 0) | (numbers > MAX_ID))
    if wrong.size:
        raise InputValueError(
            f"{WANTED}; ids are from 0, which is padding, to {MAX_ID}. Received: {numbers[wrong[0]]} at "
            f"{place(int(wrong[0]))}. Give the ids of the vocabulary, padded with 0."
        )


def place_of(index: int, lengths: Lengths) -> str:
    """Where an entry stood before the lists around it were flattened, such as `values[3][1]`."""
    path = []
    for level in reversed(lengths):
        ends = np.cumsum(level)
        row = int(np.searchsorted(ends, index, side="right"))
        path.append(index - int(ends[row]) + level[row])
        index = row
    return show_place([index, *reversed(path)])


def show_place(path: Iterable[int | np.integer]) -> str:
    """Indices as one would type them: `values[3][1]`."""
    return "values" + "".join(f"[{index}]" for index in path)
