"""Scores of one batch as plain functions, soft or at a threshold.

They are the complements of the losses of the same maths, and differentiable when soft. In
`metrics=[...]` Keras averages a function's values over the batches; the classes of this package
count over the whole data set instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from segzoo import _targets
from segzoo._boundary import BoundaryCounts, boundary_counts
from segzoo._overlap import divide, overlap, tversky_distance
from segzoo.metrics._arguments import (
    check_beta,
    check_in_unit_interval,
    check_smooth,
    check_tolerance,
)

__all__ = ["boundary_f1_score", "dice_coef", "f_score", "iou_score"]

_AVERAGES = ("macro", "micro", "per_image", None)


@keras.saving.register_keras_serializable(package="segzoo.metrics")
def dice_coef(
    y_true: Any,
    y_pred: Any,
    threshold: float | None = None,
    smooth: float = 1.0,
    average: str | None = "macro",
) -> Any:
    """Returns the Dice coefficient of a batch, (2 tp + smooth) / (2 tp + fp + fn + smooth).

    Args:
        y_true: (B, H, W, C) one-hot or multi-label, or labels (B, H, W) or (B, H, W, 1).
        y_pred: (B, H, W, C) probabilities.
        threshold: `None` for soft counts, sums of probabilities; a number from 0 to 1 makes every
            channel a mask first, 1 where the probability is above it.
        smooth: added to numerator and denominator, >= 0; two empty masks score 1.
        average: `"macro"`, the mean of the classes' scores, counts summed over the batch;
            `"micro"`, counts summed over the classes too; `"per_image"`, the mean over all
            (image, class) pairs; `None`, the scores of the classes.

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


@keras.saving.register_keras_serializable(package="segzoo.metrics")
def iou_score(
    y_true: Any,
    y_pred: Any,
    threshold: float | None = None,
    smooth: float = 1.0,
    average: str | None = "macro",
) -> Any:
    """Returns the intersection over union of a batch, (tp + smooth) / (tp + fp + fn + smooth).

    Arguments, result and errors are those of `segzoo.metrics.dice_coef`.

    Example:
        >>> from keras import ops
        >>> truth = ops.expand_dims([[[1.0, 1.0, 0.0, 0.0]]], -1)
        >>> guess = ops.expand_dims([[[0.8, 0.4, 0.3, 0.0]]], -1)
        >>> float(iou_score(truth, guess, threshold=0.5, smooth=0))
        0.5
    """
    return _region_score(y_true, y_pred, threshold, smooth, average, 1.0, 1.0, 1.0)


@keras.saving.register_keras_serializable(package="segzoo.metrics")
def f_score(
    y_true: Any,
    y_pred: Any,
    threshold: float | None = None,
    smooth: float = 1.0,
    average: str | None = "macro",
    beta: float = 1.0,
) -> Any:
    """Returns the F-beta score of a batch.

    F = ((1 + beta^2) tp + smooth) / ((1 + beta^2) tp + beta^2 fn + fp + smooth)

    Arguments, result and errors are those of `segzoo.metrics.dice_coef`, and `beta` above 0.

    Example:
        >>> from keras import ops
        >>> truth = ops.expand_dims([[[1.0, 1.0, 0.0, 0.0]]], -1)
        >>> guess = ops.expand_dims([[[0.8, 0.4, 0.3, 0.0]]], -1)
        >>> round(float(f_score(truth, guess, threshold=0.5, smooth=0, beta=2)), 3)  # 5 / (5 + 4)
        0.556
    """
    check_beta(beta)
    square = beta * beta
    # (1 + b^2) tp + ... divided by 1 + b^2 is a Tversky ratio
    weights = (1 / (1 + square), square / (1 + square), 1 / (1 + square))
    return _region_score(y_true, y_pred, threshold, smooth, average, *weights)


@keras.saving.register_keras_serializable(package="segzoo.metrics")
def boundary_f1_score(
    y_true: Any,
    y_pred: Any,
    threshold: float | None = None,
    smooth: float = 1.0,
    average: str | None = "macro",
    tolerance: int = 2,
) -> Any:
    """Returns the F1 of the boundaries of a batch, 2 P R / (P + R).

    P = (matched boundary of `y_pred` + smooth) / (boundary of `y_pred` + smooth), and R the same of
    `y_true`; matched is what lies within `tolerance` pixels of the other boundary. Soft without a
    threshold, and then the complement of `segzoo.losses.BoundaryF1` with the same `smooth`.

    Arguments, result and errors are those of `segzoo.metrics.dice_coef`, and `tolerance`, an
    integer >= 0.

    Example:
        >>> import numpy as np
        >>> truth, guess = np.zeros((1, 8, 8, 1)), np.zeros((1, 8, 8, 1))
        >>> truth[0, 2:6, 2:6] = 1
        >>> guess[0, 3:7, 2:6] = 1  # one pixel lower
        >>> float(boundary_f1_score(truth, guess, tolerance=1))
        1.0
    """
    check_tolerance(tolerance)
    y_true, y_pred = _read(y_true, y_pred, threshold, smooth, average)
    counts = boundary_counts(y_true, y_pred, tolerance=tolerance)

    def score(counts: BoundaryCounts) -> Any:
        precision = _smooth_ratio(counts.matched_pred, counts.pred, smooth)
        recall = _smooth_ratio(counts.matched_true, counts.true, smooth)
        return divide(2 * precision * recall, precision + recall)

    return _average(counts, score, average)


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
    """Returns the Tversky ratio, with weights of fp and fn, and `smooth` brought to its scale."""
    y_true, y_pred = _read(y_true, y_pred, threshold, smooth, average)
    return _average(
        overlap(y_true, y_pred),
        lambda counts: 1 - tversky_distance(counts, alpha, beta, scale * smooth),
        average,
    )


def _read(
    y_true: Any, y_pred: Any, threshold: float | None, smooth: float, average: str | None
) -> tuple[Any, Any]:
    check_smooth(smooth)
    if threshold is not None:
        check_in_unit_interval("threshold", threshold)
    if average not in _AVERAGES:
        raise ValueError(
            f"`average` must be one of {', '.join(map(repr, _AVERAGES))}, "
            f"received average={average!r}"
        )
    y_true, y_pred = _targets.standardize(y_true, y_pred)
    y_true = _targets.dense_targets(y_true, y_pred.shape[-1], dtype=y_pred.dtype)
    if threshold is not None:
        y_pred = ops.cast(y_pred > ops.cast(threshold, y_pred.dtype), y_pred.dtype)
    return y_true, y_pred


def _average(counts: Any, score: Callable[[Any], Any], average: str | None) -> Any:
    """Returns the average of the scores of counts (B, C)."""

    def summed(counts: Any, axis: int) -> Any:
        return type(counts)(*(ops.sum(count, axis=axis, keepdims=True) for count in counts))

    if average != "per_image":
        counts = summed(counts, axis=0)
    if average == "micro":
        counts = summed(counts, axis=1)
    scores = score(counts)
    return scores[0] if average is None else ops.mean(scores)


def _smooth_ratio(matched: Any, whole: Any, smooth: float) -> Any:
    return divide(matched + smooth, whole + smooth, default=1.0)
