"""Checks of arguments that layers, backbones and models share."""

import difflib
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras


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


def near(name: object, known: Iterable[str]) -> str:
    """The end of an error that has a name in it: which known names are near, or nothing.

    Example:
        >>> near("resnet5", ["resnet50", "vgg16"])
        '; near names: resnet50'
        >>> near("ResNet-50", ["resnet50", "vgg16"])
        '; the name is resnet50'
    """
    known, plain = list(known), _plain(name)
    same = next((word for word in known if _plain(word) == plain), None)
    if same:
        return f"; the name is {same}"
    found = difflib.get_close_matches(plain, known, n=5, cutoff=0.5)
    return f"; near names: {', '.join(found)}" if found else ""


def _plain(name: object) -> str:
    return str(name).lower().replace("-", "").replace("_", "")


def items(value: Any) -> list[Any] | None:
    """What a list, tuple or array holds; None of a number, a text or a mapping."""
    several = isinstance(value, Iterable) and getattr(value, "ndim", 1) > 0
    if not several or isinstance(value, str | bytes | Mapping):
        return None
    return list(value)


def activation_function(argument: str, value: Any) -> Callable[..., Any]:
    """The function of an activation's name, or ValueError with near names."""
    return _from_keras(argument, value, keras.activations, "the name of an activation of Keras's")


def regularizer(argument: str, value: Any) -> Any:
    """The regularizer of a name, or ValueError with near names."""
    return _from_keras(
        argument, value, keras.regularizers, "None, a regularizer of Keras's or its name"
    )


def _from_keras(argument: str, value: Any, module: Any, due: str) -> Any:
    try:
        if isinstance(value, type) and not issubclass(value, keras.regularizers.Regularizer):
            raise TypeError
        return module.get(value)
    except (TypeError, ValueError, AttributeError) as error:
        known = [name for name in dir(module) if name[0] != "_" and name not in _FUNCTIONS]
        raise ValueError(
            f"`{argument}` must be {due}, or a function, received {argument}={value!r}"
            f"{near(value, known)}"
        ) from error


_FUNCTIONS = ("deserialize", "get", "serialize")
