"""Checks of plain arguments, which several rooms share."""

import difflib
import math
from collections.abc import Iterable, Sequence
from typing import Any, get_args

import numpy as np

from bridge.errors import InputTypeError, InputValueError


def check_choice(argument: str, value: object, choices: Any) -> None:
    """Raises InputValueError unless `value` is one of the strings of a Literal type."""
    if not isinstance(value, str) or value not in get_args(choices):
        listed = " or ".join(f'"{choice}"' for choice in get_args(choices))
        raise InputValueError(f"`{argument}` must be {listed}. Received: {value!r:.80}.")


def check_integer(argument: str, value: object, minimum: int, maximum: int = 2**63 - 1) -> None:
    """Raises InputTypeError or InputValueError unless `value` is an integer from `minimum` to `maximum`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise InputTypeError(
            f"`{argument}` must be an integer. Received: {value!r:.80} of type {type(value).__name__}."
        )
    if value < minimum:
        raise InputValueError(f"`{argument}` must be at least {minimum}. Received: {value}.")
    if value > maximum:
        raise InputValueError(f"`{argument}` must be at most {maximum}. Received: a larger integer.")


def check_boolean(argument: str, value: object) -> None:
    """Raises InputTypeError unless `value` is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise InputTypeError(
            f"`{argument}` must be True or False. Received: {value!r:.80} of type {type(value).__name__}."
        )


def check_keywords(callee: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raises InputTypeError unless every keyword is known."""
    known = list(known)
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            remedy = f"Did you mean `{close[0]}`?" if close else f"It has: {', '.join(known)}."
            if name in ("options_file", "weight_file"):
                remedy = "Give both files as `config=ElmoConfig(options_file, weight_file)`."
            raise InputTypeError(
                f"Every keyword of `{callee}` must be one of its arguments. Received: `{name}`. {remedy}"
            )


def numbers_of_layers(argument: str, values: Sequence[float] | None) -> list[float] | None:
    """The unnormalised weights of a mix, as JSON can hold them.

    Args:
        argument: its name, for messages.
        values: a number for each layer; minus infinity leaves one out.

    Raises:
        InputTypeError: it is no list of numbers.
        InputValueError: they have no softmax.
    """
    if values is None:
        return None
    wanted = f"`{argument}` must be a list of numbers, one a layer, before the softmax."
    if not isinstance(values, list | tuple | np.ndarray):  # a string has elements that are numbers, a set no order
        raise InputTypeError(f"{wanted} Received: {values!r:.80} of type {type(values).__name__}.")
    try:
        numbers = [float(value) for value in values]
    except (OverflowError, TypeError, ValueError):
        raise InputTypeError(f"{wanted} Received: {values!r:.80}.") from None
    if any(math.isnan(number) or number == math.inf for number in numbers) or (numbers and max(numbers) == -math.inf):
        raise InputValueError(f"{wanted} Received: {numbers}, whose softmax is not a number.")
    return numbers
