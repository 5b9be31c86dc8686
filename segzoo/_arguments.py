"""Arguments that losses and metrics share: their checks, and how they are declared.

A class with many shared arguments takes them as `**options: Unpack[SomeOptions]` (PEP 692), which a
type checker reads; `spelled_out` gives its `__init__` the whole signature, fills the place
`<shared>` of its docstring with their meaning, and makes a misspelled name an error.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import math
import operator
import textwrap
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Real
from typing import Any, TypeVar

import numpy as np

ClassWeights = Sequence[float] | Mapping[int, float] | None
Class = TypeVar("Class", bound=type)
Function = TypeVar("Function", bound=Callable[..., Any])

# What other libraries call an argument: what it may be here, and how that is said.
Elsewhere = Mapping[str, Mapping[str, str]]
_ELSEWHERE: Elsewhere = {
    "ignore_index": {"ignore_class": "`ignore_class`"},
    "num_classes": {
        "classes": "`classes`",
        "from_logits": "the number of channels of `y_pred`",
    },
    "class_indexes": {"class_weights": "`class_weights`, 0 for a class that does not count"},
    "include_background": {"class_weights": "`class_weights={0: 0}`, a background of no weight"},
    "weight": {"class_weights": "`class_weights`"},
    "per_image": {"average": '`average="per_image"`'},
    "reduction": {"average": "`average`"},
}


def flag(name: str, value: Any) -> bool:
    """Return `value` as a bool, or raise ValueError: "no" is not taken for true."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"`{name}` must be True or False, received {name}={value!r}")
    return bool(value)


def is_number(value: Any) -> bool:
    """Return whether `value` is a real number, which a boolean is not."""
    return isinstance(value, Real) and not isinstance(value, bool | np.bool_)


def plain(value: Any) -> Any:
    """Return the number that an array or tensor without axes holds, anything else as it is."""
    if isinstance(value, np.generic) or getattr(value, "shape", None) != ():
        return value
    try:
        return np.asarray(value).item()
    except Exception:  # each backend has its own error for a tensor without a value
        return value


def number(name: str, value: Any, least: float = 0.0, most: float = math.inf) -> float:
    """Return `value` if it is a finite number within the bounds, else raise ValueError."""
    value = plain(value)
    if not is_number(value) or not least <= value <= most or value == math.inf:
        bounds = f">= {least:g}" if most == math.inf else f"from {least:g} to {most:g}"
        raise ValueError(f"`{name}` must be {bounds}, received {name}={value!r}")
    return value.item() if isinstance(value, np.generic) else value  # JSON has no NumPy


def integer(name: str, value: Any, least: int = 0) -> int:
    """Return `value` as an int if it is a whole number >= `least`, else raise ValueError."""
    try:
        whole = None if isinstance(value, bool | np.bool_) else operator.index(value)
    except TypeError:
        whole = int(value) if is_number(value) and float(value).is_integer() else None
    if whole is None or whole < least:
        raise ValueError(f"`{name}` must be an integer >= {least}, received {name}={value!r}")
    return whole


def one_of(name: str, value: Any, choices: Sequence[Any]) -> Any:
    """Return `value` if it is one of the choices, else raise ValueError."""
    if not isinstance(value, str | None) or value not in choices:
        raise ValueError(
            f"`{name}` must be one of {', '.join(map(repr, choices))}, received {name}={value!r}"
        )
    return value


def is_several(value: Any) -> bool:
    """Return whether `value` holds values: a list, a set, an array with an axis; not a text."""
    return (
        isinstance(value, Iterable)
        and not isinstance(value, str | bytes | bytearray)
        and getattr(value, "ndim", 1) > 0
    )


def ignored_classes(ignore_class: Any) -> tuple[int, ...]:
    """Return `ignore_class` (an integer, several, or `None`) as a tuple of integers.

    Raises:
        ValueError: if it is not an integer, or holds anything but integers.
    """
    if ignore_class is None:
        return ()
    text = isinstance(ignore_class, str | bytes | bytearray)
    values = tuple(ignore_class) if is_several(ignore_class) else (ignore_class,)
    try:
        ignored = tuple(int(value) for value in values)
        exact = not text and ignored == values
        exact = exact and not any(isinstance(v, bool | np.bool_) for v in values)
    except (TypeError, ValueError, OverflowError):
        exact = False
    if not exact:
        raise ValueError(
            "`ignore_class` must be an integer, several integers, or None, "
            f"received ignore_class={ignore_class!r}"
        )
    return ignored


def class_weights_of(class_weights: Any) -> list[float] | dict[int, float] | None:
    """Return the weights as a list, or as a mapping of class to weight, checked.

    Pairs (class, weight), as a mapping is saved, give the mapping.
    """
    if class_weights is None:
        return None
    try:
        if isinstance(class_weights, str | bytes):
            raise TypeError
        mapping = isinstance(class_weights, Mapping)
        values = list(class_weights.items() if mapping else class_weights)
        if mapping or (values and all(np.ndim(value) == 1 for value in values)):
            weights: Any = {integer("class_weights", c): float(w) for c, w in values}
            if len(weights) < len(values):
                raise ValueError
            numbers = list(weights.values())
        else:
            numbers = weights = [float(w) for w in values]
        right = all(0 <= w < math.inf for w in numbers)
        # A class that a mapping leaves out weighs 1, so that it can never sum to 0 unseen.
        right = right and (isinstance(weights, dict) or sum(numbers) > 0)
    except (TypeError, ValueError, OverflowError):
        right = False
    if not right:
        raise ValueError(
            "`class_weights` must be numbers >= 0 that do not sum to 0, one for each class, or a "
            f"mapping of class to such a weight, received class_weights={class_weights!r}"
        )
    return weights


def list_of_weights(class_weights: Any, classes: int) -> list[float] | None:
    """Return the checked weights as a list of `classes` numbers, or `None`.

    Raises:
        ValueError: for another number of classes, or a class beyond it in a mapping.
    """
    if class_weights is None:
        return None
    if isinstance(class_weights, dict):
        if max(class_weights, default=0) >= classes:
            raise ValueError(
                f"`class_weights` must map classes 0 to {classes - 1}, there are {classes} "
                f"class(es), received class_weights={class_weights}"
            )
        weights = [class_weights.get(c, 1.0) for c in range(classes)]
        if not sum(weights) > 0:
            raise ValueError(
                "`class_weights` must not sum to 0, received "
                f"class_weights={class_weights} for {classes} class(es)"
            )
        return weights
    if len(class_weights) != classes:
        raise ValueError(
            f"`class_weights` must have one weight for each of the {classes} class(es), "
            f"received class_weights={class_weights}"
        )
    return list(class_weights)


def for_config(value: Any) -> Any:
    """Return an argument as JSON keeps it: a mapping as pairs, for JSON's keys are strings."""
    if isinstance(value, dict):
        return [[key, item] for key, item in value.items()]
    return list(value) if isinstance(value, tuple) else value


def parameters(cls: type) -> dict[str, inspect.Parameter]:
    """Return the parameters of a class but `self`, `**options` replaced by what they may hold."""
    init = cls.__init__  # type: ignore[misc]
    found = dict(list(inspect.signature(init).parameters.items())[1:])
    last = next((p for p in found.values() if p.kind is p.VAR_KEYWORD), None)
    if last is None:
        return found
    del found[last.name]
    # Unpack[SomeOptions]: the names are the dictionary's, the defaults those of the base class
    module = inspect.unwrap(init).__globals__
    options = typing.get_type_hints(init, module)[last.name]
    names = typing.get_args(options)[0].__annotations__
    owner = next(base for base in cls.__mro__ if "__init__" in vars(base))
    above = parameters(owner.__mro__[1])
    for name in names:
        found.setdefault(name, above[name].replace(kind=inspect.Parameter.KEYWORD_ONLY))
    return found


def spelled_out(cls: Class, meanings: Mapping[str, str]) -> Class:
    """Give a class its whole signature, document its shared arguments, and name misspelled ones.

    Args:
        cls: the class. Its `__init__` is replaced by one of the same work.
        meanings: what each shared argument means, for the line `<shared>` of the docstring.

    Returns:
        `cls`.
    """
    known, init = parameters(cls), cls.__init__  # type: ignore[misc]

    @functools.wraps(init)
    def checked(self: Any, *args: Any, **kwargs: Any) -> None:
        refuse_unknown(cls.__name__, kwargs, known)
        init(self, *args, **kwargs)

    own = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD), *known.values()]
    checked.__signature__ = inspect.Signature(own)  # type: ignore[attr-defined]
    cls.__init__ = checked  # type: ignore[misc]
    cls.__doc__ = described(cls.__doc__ or "", known, meanings)
    return cls


def described(text: str, known: Iterable[str], meanings: Mapping[str, str]) -> str:
    """Return a docstring in which the line `<shared>` is the arguments that it leaves out.

    Args:
        text: the docstring of a class or of a function.
        known: the names of its arguments.
        meanings: what each shared argument means.
    """
    wrap = textwrap.TextWrapper(99, initial_indent=" " * 8, subsequent_indent=" " * 12)
    lines = (
        wrap.fill(f"{name}: {meanings[name]}")
        for name in known
        if name in meanings and f"        {name}:" not in text
    )
    return text.replace("        <shared>", "\n".join(lines))


def named(function: Function) -> Function:
    """Return the function, whose errors name arguments near to one that it does not have."""
    known = list(inspect.signature(function).parameters)

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        refuse_unknown(function.__name__, kwargs, known)
        return function(*args, **kwargs)

    return checked  # type: ignore[return-value]


def refuse_unknown(
    owner: str, given: Iterable[str], known: Iterable[str], elsewhere: Elsewhere = _ELSEWHERE
) -> None:
    """Raise TypeError for an argument that `owner` lacks: its name here, near ones, or all."""
    known = list(known)
    for name in given:
        if name in known:
            continue
        ours = [said for argument, said in elsewhere.get(name, {}).items() if argument in known]
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
        if ours:
            hint = f"here it is {ours[0]}"
        else:
            listed = ", ".join(f"`{word}`" for word in near or known)
            hint = f"near: {listed}" if near else f"it has {listed}"
        raise TypeError(f"`{owner}` has no argument `{name}`; {hint}")
