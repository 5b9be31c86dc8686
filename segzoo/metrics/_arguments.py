"""Checks of the arguments that metrics share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

AVERAGES = ("macro", "micro", "weighted", "per_image", None)


def check_average(average: Any) -> None:
    """Raises ValueError unless `average` is one of `AVERAGES`."""
    if average not in AVERAGES:
        raise ValueError(
            f"`average` must be one of {', '.join(map(repr, AVERAGES))}, "
            f"received average={average!r}"
        )


def check_beta(beta: Any) -> None:
    """Raises ValueError unless `beta` is a positive number."""
    if not isinstance(beta, int | float) or not 0 < beta < math.inf:
        raise ValueError(f"`beta` must be a number above 0, received beta={beta!r}")


def check_empty_score(empty_score: Any) -> None:
    """Raises ValueError unless `empty_score` is a number, NaN or `None`."""
    if empty_score is not None and not isinstance(empty_score, int | float):
        raise ValueError(
            "`empty_score` must be a number, NaN (left out of the mean) or None, "
            f"received empty_score={empty_score!r}"
        )


def check_smooth(smooth: Any) -> None:
    """Raises ValueError unless `smooth` is a number >= 0."""
    if not isinstance(smooth, int | float) or not 0 <= smooth < math.inf:
        raise ValueError(f"`smooth` must be a number >= 0, received smooth={smooth!r}")


def check_tolerance(tolerance: Any) -> None:
    """Raises ValueError unless `tolerance` is an integer >= 0."""
    if isinstance(tolerance, bool) or int(tolerance) != tolerance or tolerance < 0:
        raise ValueError(f"`tolerance` must be an integer >= 0, received tolerance={tolerance!r}")


def check_in_unit_interval(argument: str, value: Any) -> None:
    """Raises ValueError unless `value` is a number from 0 to 1."""
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(
            f"`{argument}` must be a probability from 0 to 1 (logits are turned into "
            f"probabilities first), received {argument}={value!r}"
        )


def checked_weights(class_weights: Sequence[float] | None) -> tuple[float, ...] | None:
    if class_weights is None:
        return None
    weights = tuple(float(weight) for weight in class_weights)
    if not all(0 <= weight < math.inf for weight in weights) or not sum(weights) > 0:
        raise ValueError(
            "`class_weights` must be numbers >= 0, one for each class, not all of them 0, "
            f"received class_weights={class_weights}"
        )
    return weights


def checked_names(class_names: Sequence[str] | None) -> tuple[str, ...] | None:
    if class_names is None:
        return None
    names = (class_names,) if isinstance(class_names, str) else tuple(class_names)
    if (
        not names
        or len(set(names)) < len(names)
        or not all(isinstance(name, str) and name for name in names)
    ):
        raise ValueError(
            "`class_names` must be different, non-empty strings, one for each class, "
            f"received class_names={class_names!r}"
        )
    return names


def checked_classes(
    classes: int | None, names: tuple[str, ...] | None, weights: tuple[float, ...] | None
) -> int | None:
    if classes is not None and (isinstance(classes, bool) or int(classes) != classes):
        raise ValueError(f"`classes` must be an integer >= 1, received classes={classes!r}")
    given = {"classes": classes}
    given["class_names"] = None if names is None else len(names)
    given["class_weights"] = None if weights is None else len(weights)
    counts = {argument: count for argument, count in given.items() if count is not None}
    if any(count < 1 for count in counts.values()):
        raise ValueError(f"`classes` must be an integer >= 1, received classes={classes!r}")
    if len(set(counts.values())) > 1:
        said = ", ".join(f"`{argument}` of {count}" for argument, count in counts.items())
        raise ValueError(
            f"`class_names`, `class_weights` and `classes` must agree, received {said}"
        )
    return next(iter(counts.values()), None)
