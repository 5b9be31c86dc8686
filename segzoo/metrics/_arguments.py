"""The arguments that metrics share: their meaning and their checks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict, TypeVar

import keras
import numpy as np

from segzoo._arguments import ClassWeights, integer, is_number, plain, spelled_out

AVERAGES = ("macro", "micro", "weighted", "per_image", "micro_per_image", None)

MEANINGS = {
    "threshold": "probability above which a pixel is positive, one number or one for each class. "
    "Used for one class and with `multilabel`; of exclusive classes the one with the largest score "
    "is predicted. Defaults to 0.5.",
    "multilabel": "whether several classes may overlap, each of which is then decided by itself. "
    "Defaults to False.",
    "from_logits": "whether `y_pred` are logits instead of probabilities. Defaults to False.",
    "average": 'how the scores of the classes become one. `"macro"`: their mean, weighted by '
    '`class_weights`. `"micro"`: the score of the summed counts. `"weighted"`: their mean weighted '
    'by the pixels of the truth. `"per_image"`: the mean over all (image, class) pairs, each image '
    'scored by itself. `"micro_per_image"`: the mean over the images of the score of their summed '
    'counts. `None`: all of them, see Returns. Defaults to `"macro"`.',
    "class_weights": "numbers >= 0, one for each class, or a mapping from class to weight in which "
    "a missing class weighs 1. They multiply the scores of the classes, or their counts where "
    "these are summed. Defaults to None.",
    "ignore_class": "one integer or several: labels of pixels that are left out, such as 255. "
    "Defaults to None.",
    "empty_score": "score of a class that has no pixel in truth and prediction; NaN leaves it out "
    'of the mean. Defaults to None, for 1.0 with `"per_image"` and `"micro_per_image"` and for NaN '
    "otherwise.",
    "class_names": "names of the classes, for the keys of `result()`. Defaults to `class_0`, "
    "`class_1`, ...",
    "classes": "number of classes. Defaults to that of the first `y_pred`.",
    "name": "name of the metric, with which every key begins. Defaults to that of the class, "
    "such as `dice_score`.",
    "dtype": "type of the result. Defaults to float64 where the backend has it.",
}


class CommonOptions(TypedDict, total=False):
    """What every streaming metric takes."""

    multilabel: bool
    from_logits: bool
    ignore_class: int | Iterable[int] | None
    classes: int | None
    name: str | None
    dtype: str | None


class SharedOptions(CommonOptions, total=False):
    """What the metrics take that score classes."""

    class_weights: ClassWeights
    empty_score: float | None
    class_names: Sequence[str] | None


class DecisionOptions(SharedOptions, total=False):
    """What the metrics take that decide at a threshold."""

    threshold: float | Sequence[float]


class SearchOptions(SharedOptions, total=False):
    """What the metrics take that average scores."""

    average: str | None


class MetricOptions(DecisionOptions, SearchOptions, total=False):
    """What the metrics take that decide at a threshold and average scores."""


MetricClass = TypeVar("MetricClass", bound=type[keras.metrics.Metric])


def register(cls: MetricClass) -> MetricClass:
    """Register a metric with Keras, and spell out and document the arguments metrics share."""
    return keras.saving.register_keras_serializable(package="segzoo.metrics")(
        spelled_out(cls, MEANINGS)
    )


def beta_above_zero(beta: Any) -> float:
    """Return `beta` as a float, or raise ValueError unless it is a positive number."""
    if not is_number(beta) or not 0 < beta < math.inf:
        raise ValueError(f"`beta` must be a number above 0, received beta={beta!r}")
    return float(beta)


def checked_empty_score(empty_score: Any) -> float | None:
    """Return `empty_score`, or raise ValueError unless it is a number, NaN or `None`."""
    if empty_score is not None and not is_number(empty_score):
        raise ValueError(
            "`empty_score` must be a number, NaN (left out of the mean) or None, "
            f"received empty_score={empty_score!r}"
        )
    return None if empty_score is None else float(empty_score)


def probability(argument: str, value: Any) -> float:
    """Return `value` as a float, or raise ValueError unless it is a number from 0 to 1."""
    value = plain(value)
    if not is_number(value) or not 0 <= value <= 1:
        raise ValueError(
            f"`{argument}` must be a probability from 0 to 1 (logits are turned into "
            f"probabilities first), received {argument}={value!r}"
        )
    return float(value)


def checked_threshold(threshold: Any) -> float | tuple[float, ...]:
    """Return one threshold, or one for each class, or raise ValueError."""
    if isinstance(threshold, Mapping | str | bytes) or np.ndim(threshold) != 1:
        return probability("threshold", threshold)
    return tuple(probability("threshold", value) for value in np.asarray(threshold).tolist())


def checked_names(class_names: Sequence[str] | None) -> tuple[str, ...] | None:
    """Return the names as a tuple, or raise ValueError unless they are different strings."""
    if class_names is None:
        return None
    names = (class_names,) if isinstance(class_names, str) else tuple(class_names)
    if (
        not names
        or not all(isinstance(name, str) and name for name in names)
        or len(set(names)) < len(names)
    ):
        raise ValueError(
            "`class_names` must be different, non-empty strings, one for each class, "
            f"received class_names={class_names!r}"
        )
    return names


def checked_classes(classes: Any, **others: Any) -> int | None:
    """Return the number of classes that `classes` or the length of another argument says."""
    given = {} if classes is None else {"classes": integer("classes", classes, 1)}
    for argument, value in others.items():
        if isinstance(value, list | tuple):
            given[argument] = len(value)
    if len(set(given.values())) > 1:
        said = ", ".join(f"`{argument}` of {count}" for argument, count in given.items())
        raise ValueError(
            f"`class_names`, `class_weights`, `threshold` and `classes` must agree, received {said}"
        )
    return next(iter(given.values()), None)
