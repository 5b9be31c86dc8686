"""Checks of arguments that layers, backbones and models share."""

import operator
from typing import Any


def as_int(value: Any) -> int | None:
    """`value` as an int: Python's and NumPy's integers are ints, a bool is none."""
    if isinstance(value, bool) or type(value).__name__ in ("bool", "bool_"):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def positive_int(argument: str, value: Any) -> int:
    """`value` as an int, or ValueError unless it is one of at least 1."""
    number = as_int(value)
    if number is None or number < 1:
        raise ValueError(f"`{argument}` must be an int >= 1, received {argument}={value!r}")
    return number
