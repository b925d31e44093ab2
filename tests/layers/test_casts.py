"""Casts on the way to a layer: what a graph shows of them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from bridge.errors import InputTypeError
from bridge.layers.casts import check_cast_character_ids, check_cast_ids, check_no_cast_to_string


def run(values: Any, cast: Callable[[tf.Tensor], tf.Tensor], highest: int = 300) -> list[int]:
    """Ids that were cast in a graph, after the check."""
    return tf.function(lambda ids: check_cast_ids(cast(ids), "ids", highest))(tf.constant(values)).numpy().tolist()


def to_int32(ids: tf.Tensor) -> tf.Tensor:
    return tf.cast(ids, tf.int32)


@pytest.mark.parametrize("dtype", ["int16", "int64", "uint16", "uint64", "float16", "float32", "float64"])
def test_ids_that_survive(dtype: str) -> None:
    assert run(np.array([0, 7, 300], dtype), to_int32) == [0, 7, 300]
    assert run(np.array([0, 7, 300], dtype), lambda ids: to_int32(tf.cast(ids, tf.float32))) == [0, 7, 300]
    assert run(np.zeros(0, dtype), to_int32) == []


def test_what_was_not_cast_is_left_alone() -> None:
    ids = tf.constant([1, 2])
    assert check_cast_ids(ids, "ids", 10**9) is ids
    assert run([1, 2], lambda ids: ids) == [1, 2]
    assert run([1.5, 2.5], lambda ids: to_int32(ids) + 1) == [2, 3]  # the user's own arithmetic
    assert run([1.5, 2.5], lambda ids: to_int32(ids * 1.5)) == [2, 3]
    assert run([1, 2], lambda ids: to_int32(tf.random.uniform([2]) * 0.9)) == [0, 0]


@pytest.mark.parametrize(("dtype", "highest"), [("bool", 1), ("int8", 127), ("uint8", 255), ("float16", 2048)])
def test_a_dtype_must_have_every_id(dtype: str, highest: int) -> None:
    assert run(np.array([0, 1], dtype), to_int32, highest) == [0, 1]
    with pytest.raises(InputTypeError, match=rf"from 0 to {highest + 1}. Received: dtype {dtype}, which does not have"):
        run(np.array([0, 1], dtype), to_int32, highest + 1)


def test_bfloat16_has_no_257() -> None:
    with pytest.raises(InputTypeError, match=r"must be integer character ids, from 0 to 261. Received: dtype bfloat16"):
        tf.function(lambda ids: check_cast_character_ids(to_int32(ids)))(tf.constant([259], tf.bfloat16))


CHANGED: dict[str, tuple[Any, Callable[[tf.Tensor], tf.Tensor], str]] = {
    "a fraction": ([1, 2.25, 3.5], to_int32, r"Received: \[2.25\] of dtype float32"),
    "NaN": ([1, np.nan], to_int32, r"Received: \[nan\] of dtype float32"),
    "infinity": ([1, np.inf], to_int32, r"Received: \[inf\] of dtype float32"),
    "too large": (np.array([2**32 + 3]), to_int32, r"Received: \[4294967299\] of dtype int64"),
    "a narrow dtype between": (
        np.array([259]),
        lambda ids: to_int32(tf.cast(ids, tf.uint8)),
        r"Received: \[259\] of dtype int64",
    ),
}


@pytest.mark.parametrize("case", CHANGED)
def test_ids_that_a_cast_changes(case: str) -> None:
    values, cast, text = CHANGED[case]
    with pytest.raises(tf.errors.InvalidArgumentError, match=rf"`inputs` must be ids. {text}, which the cast to int32"):
        run(values, cast)


def test_in_a_dataset() -> None:
    dataset = tf.data.Dataset.from_tensors([1.0, 2.5])
    dataset = dataset.map(lambda ids: check_cast_ids(to_int32(ids), "ids", 9))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"Received: \[2.5\]"):
        list(dataset)


def test_strings_and_numbers() -> None:
    with pytest.raises(InputTypeError, match=r"must be ids, .*Received: strings of shape \(1,\)"):
        run(["a"], to_int32)

    def of_numbers(numbers: tf.Tensor) -> tf.Tensor:
        check_no_cast_to_string(tf.cast(numbers, tf.string), "string tokens")
        return numbers

    with pytest.raises(InputTypeError, match=r"must be string tokens, .*Received: dtype int32 of shape \(2,\)"):
        tf.function(of_numbers)(tf.constant([1, 2]))
    check_no_cast_to_string(tf.constant("a"), "string tokens")
