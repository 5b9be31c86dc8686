"""Scores of one batch as plain functions, soft or at a threshold.

They are the complements of the losses of the same math, and differentiable when soft. In
`metrics=[...]` Keras averages a function's values over the batches; the classes of this package
count over the whole data set instead.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import keras
from keras import ops

from segzoo._arguments import described, flag, ignored_classes, integer, named, number, one_of
from segzoo._boundary import BoundaryCounts, boundary_counts
from segzoo._counts import Counts, as_float, soft_counts, tversky_distance
from segzoo._numerics import divide, has_nan, host_value, wide_integer
from segzoo._reading import Batch, Reading
from segzoo.metrics._arguments import (
    beta_above_zero,
    checked_classes,
    checked_threshold,
    probability,
)
from segzoo.metrics._counts import hard_counts

__all__ = ["boundary_f1_score", "counts", "dice_coef", "f_score", "iou_score"]

_AVERAGES = ("macro", "micro", "per_image", None)
_SOFT = Reading(probabilities=True, for_counts=True)
_MEANINGS = {
    "y_true": "(B, H, W, C) one-hot or multi-label, or labels (B, H, W) or (B, H, W, 1).",
    "y_pred": "(B, H, W, C) probabilities.",
    "threshold": "`None` for soft counts, sums of probabilities; a number from 0 to 1 makes every "
    "channel a mask first, 1 where the probability is above it. Defaults to None.",
    "smooth": "added to numerator and denominator, >= 0; two empty masks score 1. Defaults to 1.0.",
    "average": '`"macro"`, the mean of the classes\' scores, counts summed over the batch; '
    '`"micro"`, counts summed over the classes too; `"per_image"`, the mean over all (image, '
    'class) pairs; `None`, the scores of the classes. Defaults to `"macro"`.',
}
Function = TypeVar("Function", bound=Callable[..., Any])


def _score(function: Function) -> Function:
    """Register a score and document the arguments that all of them share."""
    known = inspect.signature(function).parameters
    function.__doc__ = described(function.__doc__ or "", known, _MEANINGS)
    return keras.saving.register_keras_serializable(package="segzoo.metrics")(named(function))


@named
def counts(
    y_true: Any,
    y_pred: Any,
    *,
    threshold: float | Sequence[float] = 0.5,
    multilabel: bool = False,
    from_logits: bool = False,
    ignore_class: int | Iterable[int] | None = None,
    classes: int | None = None,
) -> Counts:
    """Count the true and false positives and negatives of each image and class of a batch.

    Args:
        y_true: (B, H, W, C) one-hot or multi-label, or labels (B, H, W) or (B, H, W, 1).
        y_pred: (B, H, W, C) probabilities or logits, or decided labels of integer type, (B, H, W)
            or (B, H, W, 1).
        threshold: probability above which a pixel is positive, one number or one for each class.
            Used for one class and with `multilabel`. Defaults to 0.5.
        multilabel: whether several classes may overlap. Defaults to
            False.
        from_logits: whether `y_pred` are logits. Defaults to False.
        ignore_class: one integer or several: labels of pixels that are left out. Defaults to None.
        classes: number of classes, which must be given if `y_pred` holds decided labels. Defaults
            to that of `y_pred`.

    Returns:
        `Counts` with `tp`, `fp`, `fn` and `tn`, each (B, C), and the methods `iou()`, `dice()`,
        `f_score(beta)`, `precision()` and `recall()`, all with `empty_score=1.0` for a class that
        is in neither truth nor prediction. `counts(...).sum(axis=0)` has those of the whole batch.

    Raises:
        ValueError: if an argument is out of range, the shapes do not fit, or a value is invalid.

    Example:
        >>> truth = [[[0, 0, 1, 1]], [[0, 0, 0, 0]]]  # two images of 1x4 pixels
        >>> guess = keras.ops.convert_to_tensor([[[0, 1, 1, 1]], [[0, 0, 0, 0]]], "int32")
        >>> found = counts(truth, guess, classes=2)
        >>> keras.ops.convert_to_numpy(found.tp).tolist()
        [[1, 2], [4, 0]]
        >>> keras.ops.convert_to_numpy(found.iou()).round(3).tolist()
        [[0.5, 0.667], [1.0, 1.0]]
        >>> keras.ops.convert_to_numpy(found.sum(axis=0).iou()).round(3).tolist()
        [0.833, 0.667]
    """
    reading = Reading(
        multilabel=flag("multilabel", multilabel),
        from_logits=flag("from_logits", from_logits),
        ignored=ignored_classes(ignore_class),
        probabilities=True,
        infinite=True,
        decided_classes=None if classes is None else integer("classes", classes, 1),
    )
    threshold = checked_threshold(threshold)
    batch = reading(y_true, y_pred)
    wanted = checked_classes(classes, threshold=threshold)
    if wanted not in (None, batch.classes):
        raise ValueError(
            f"`y_pred` has {batch.classes} class(es), `classes` or `threshold` says {wanted}"
        )
    found = hard_counts(batch, threshold)
    if host_value(batch.bad) is None:  # a graph, where NaN says what no error can
        return Counts(*(batch.guard(as_float(count)) for count in found))
    return Counts(*(ops.cast(count, wide_integer()) for count in found))


@_score
def dice_coef(
    y_true: Any,
    y_pred: Any,
    threshold: float | None = None,
    smooth: float = 1.0,
    average: str | None = "macro",
) -> Any:
    """Compute the Dice coefficient of a batch, (2 tp + smooth) / (2 tp + fp + fn + smooth).

    Args:
        <shared>

    Returns:
        A scalar from 0 to 1, or (C,) with `average=None`.

    Raises:
        ValueError: if an argument is out of range or the shapes do not fit.

    Example:
        >>> from keras import ops
        >>> truth = ops.expand_dims([[[1.0, 1.0, 0.0, 0.0]]], -1)
        >>> guess = ops.expand_dims([[[0.8, 0.4, 0.3, 0.0]]], -1)
        >>> round(float(dice_coef(truth, guess, smooth=0)), 3)  # 2 * 1.2 / (2 + 1.5)
        0.686
        >>> round(float(dice_coef(truth, guess, threshold=0.5, smooth=0)), 3)  # 2 * 1 / (2 + 1)
        0.667
    """
    return _region_score(y_true, y_pred, threshold, smooth, average, 0.5, 0.5, 0.5)


@_score
def iou_score(
    y_true: Any,
    y_pred: Any,
    threshold: float | None = None,
    smooth: float = 1.0,
    average: str | None = "macro",
) -> Any:
    """Compute the intersection over union of a batch, (tp + smooth) / (tp + fp + fn + smooth).

    Args:
        <shared>

    Returns:
        A scalar from 0 to 1, or (C,) with `average=None`.

    Raises:
        ValueError: if an argument is out of range or the shapes do not fit.

    Example:
        >>> from keras import ops
        >>> truth = ops.expand_dims([[[1.0, 1.0, 0.0, 0.0]]], -1)
        >>> guess = ops.expand_dims([[[0.8, 0.4, 0.3, 0.0]]], -1)
        >>> float(iou_score(truth, guess, threshold=0.5, smooth=0))
        0.5
    """
    return _region_score(y_true, y_pred, threshold, smooth, average, 1.0, 1.0, 1.0)


@_score
def f_score(
    y_true: Any,
    y_pred: Any,
    threshold: float | None = None,
    smooth: float = 1.0,
    average: str | None = "macro",
    beta: float = 1.0,
) -> Any:
    """Compute the F-beta score of a batch.

    F = ((1 + beta^2) tp + smooth) / ((1 + beta^2) tp + beta^2 fn + fp + smooth)

    Args:
        <shared>
        beta: number above 0; 1 gives Dice, 2 favors recall, 0.5 favors precision. Defaults to 1.0.

    Returns:
        A scalar from 0 to 1, or (C,) with `average=None`.

    Raises:
        ValueError: if an argument is out of range or the shapes do not fit.

    Example:
        >>> from keras import ops
        >>> truth = ops.expand_dims([[[1.0, 1.0, 0.0, 0.0]]], -1)
        >>> guess = ops.expand_dims([[[0.8, 0.4, 0.3, 0.0]]], -1)
        >>> round(float(f_score(truth, guess, threshold=0.5, smooth=0, beta=2)), 3)  # 5 / (5 + 4)
        0.556
    """
    square = beta_above_zero(beta) ** 2
    # (1 + b^2) tp + ... divided by 1 + b^2 is a Tversky ratio
    weights = (1 / (1 + square), square / (1 + square), 1 / (1 + square))
    return _region_score(y_true, y_pred, threshold, smooth, average, *weights)


@_score
def boundary_f1_score(
    y_true: Any,
    y_pred: Any,
    threshold: float | None = None,
    smooth: float = 1.0,
    average: str | None = "macro",
    tolerance: int = 2,
) -> Any:
    """Compute the boundary F1 of a batch, 2 P R / (P + R).

    P = (matched boundary of `y_pred` + smooth) / (boundary of `y_pred` + smooth), and R the same of
    `y_true`; matched is what lies within `tolerance` pixels of the other boundary. Without a
    threshold the score is soft, and one minus `segzoo.losses.BoundaryF1` of the same `smooth`.

    Args:
        <shared>
        tolerance: int >= 0, distance in pixels up to which boundaries match. Defaults to 2.

    Returns:
        A scalar from 0 to 1, or (C,) with `average=None`.

    Raises:
        ValueError: if an argument is out of range or the shapes do not fit.

    Example:
        >>> import numpy as np
        >>> truth, guess = np.zeros((1, 8, 8, 1)), np.zeros((1, 8, 8, 1))
        >>> truth[0, 2:6, 2:6] = 1
        >>> guess[0, 3:7, 2:6] = 1  # one pixel lower
        >>> float(boundary_f1_score(truth, guess, tolerance=1))
        1.0
    """
    batch = _read(y_true, y_pred, threshold, smooth, average)
    batch = batch.also_bad_if(ops.logical_or(has_nan(batch.scores), has_nan(batch.dense())))
    tolerance = integer("tolerance", tolerance)
    probabilities = batch.settle(batch.scores)
    counts = boundary_counts(batch.dense(), probabilities, tolerance=tolerance)

    def score(counts: BoundaryCounts) -> Any:
        precision = _smooth_ratio(counts.matched_pred, counts.pred, smooth)
        recall = _smooth_ratio(counts.matched_true, counts.true, smooth)
        return divide(2 * precision * recall, precision + recall)

    return _average(batch, counts, score, average)


def _region_score(
    y_true: Any,
    y_pred: Any,
    threshold: float | None,
    smooth: float,
    average: str | None,
    alpha: float,
    beta: float,
    scale: float,
) -> Any:
    """Return the Tversky ratio, with weights of fp and fn, and `smooth` brought to its scale."""
    batch = _read(y_true, y_pred, threshold, smooth, average)
    counts, batch = soft_counts(batch)
    return _average(
        batch,
        counts,
        lambda counts: 1 - tversky_distance(counts, alpha, beta, scale * smooth),
        average,
    )


def _read(
    y_true: Any, y_pred: Any, threshold: float | None, smooth: float, average: str | None
) -> Batch:
    number("smooth", smooth)
    one_of("average", average, _AVERAGES)
    batch = _SOFT(y_true, y_pred)
    if threshold is None:
        return batch
    guess = batch.scores > ops.cast(probability("threshold", threshold), batch.dtype)
    batch = batch.also_bad_if(has_nan(batch.scores))  # which no comparison shows
    return dataclasses.replace(batch, scores=ops.cast(guess, batch.dtype))


def _average(batch: Batch, counts: Any, score: Callable[[Any], Any], average: str | None) -> Any:
    """Return the average of the scores of counts (B, C), NaN for a bad batch or an empty one."""

    def summed(counts: Any, axis: int) -> Any:
        return type(counts)(*(ops.sum(count, axis=axis, keepdims=True) for count in counts))

    if average != "per_image":
        counts = summed(counts, axis=0)
    if average == "micro":
        counts = summed(counts, axis=1)
    scores = score(counts)
    images, height, width, _ = batch.size
    batch = batch.also_bad_if(ops.equal(images * height * width, 0))
    return batch.guard(scores[0] if average is None else ops.mean(scores))


def _smooth_ratio(matched: Any, whole: Any, smooth: float) -> Any:
    return divide(matched + smooth, whole + smooth, default=1.0)
