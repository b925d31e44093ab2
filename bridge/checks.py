"""Checks of plain arguments, which several rooms share."""

from typing import Any, get_args

import numpy as np

from bridge.errors import InputTypeError, InputValueError


def check_choice(argument: str, value: object, choices: Any) -> None:
    """Raises InputValueError unless `value` is one of the strings of a Literal type."""
    if value not in get_args(choices):
        listed = " or ".join(f'"{choice}"' for choice in get_args(choices))
        raise InputValueError(f"`{argument}` must be {listed}. Received: {value!r}.")


def check_integer(argument: str, value: object, minimum: int) -> None:
    """Raises InputTypeError or InputValueError unless `value` is an integer of at least `minimum`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise InputTypeError(
            f"`{argument}` must be an integer. Received: {value!r:.80} of type {type(value).__name__}."
        )
    if value < minimum:
        raise InputValueError(f"`{argument}` must be at least {minimum}. Received: {value}.")


def check_boolean(argument: str, value: object) -> None:
    """Raises InputTypeError unless `value` is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise InputTypeError(
            f"`{argument}` must be True or False. Received: {value!r:.80} of type {type(value).__name__}."
        )
