"""Scores of outlines, inside the graph: boundary F1 and boundary IoU.

Both turn the prediction into masks first (the decision of every metric here), find the boundary of
each class in truth and prediction, and count pixels over the whole data set.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Unpack

from keras import ops

from segzoo._arguments import integer
from segzoo._boundary import boundary_counts, pool, side_by_side
from segzoo._numerics import divide, wide_dtype
from segzoo._reading import Batch
from segzoo._targets import largest_class
from segzoo.metrics import _counts
from segzoo.metrics._arguments import MetricOptions, register
from segzoo.metrics._base import AveragedMetric

__all__ = ["BoundaryF1Score", "BoundaryIoU"]


class BoundaryMetric(AveragedMetric):
    """Base of the boundary scores: hard masks, and images as the smallest unit of weight."""

    _tally_type: Any

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add a batch; `sample_weight` is `None` or (B,)."""
        if sample_weight is not None:
            sample_weight = ops.convert_to_tensor(sample_weight)
            if len(sample_weight.shape) > 1:
                raise ValueError(
                    "a boundary has no pixel of its own to weigh: `sample_weight` must be None or "
                    f"(B,), received shape {tuple(sample_weight.shape)}"
                )
        super().update_state(y_true, y_pred, sample_weight)

    def _counts_shape(self, classes: int) -> tuple[int, ...]:
        return (len(self._tally_type._fields), classes)

    def _count(self, batch: Batch) -> Any:
        truth, guess = self._masks(batch)
        counts = self._count_masks(truth, guess, batch.valid)
        return ops.stack([ops.cast(count, "int32") for count in counts], axis=1)

    def _tally(self, counts: Any) -> Any:
        return self._tally_type(*(counts[:, k] for k in range(len(self._tally_type._fields))))

    def _masks(self, batch: Batch) -> tuple[Any, Any]:
        """Return the classes' masks as (B, H, W, C) booleans, false where ignored."""
        if batch.kind == "exclusive":
            channels = ops.arange(batch.classes, dtype="int32")
            truth = ops.expand_dims(batch.labels(), -1) == channels
            guess = ops.expand_dims(largest_class(batch.scores), -1) == channels
        else:
            truth = _counts.true_masks(batch)
            guess = _counts.above(batch.probabilities(), self.threshold)
        if batch.valid is not None:
            truth = ops.logical_and(truth, batch.valid)
            guess = ops.logical_and(guess, batch.valid)
        return truth, guess

    def _count_masks(self, truth: Any, guess: Any, valid: Any) -> Any:
        """Return `_tally_type` of (B, C) counts."""
        raise NotImplementedError


class F1Tally(NamedTuple):
    """Boundary pixels, pixels, and pixels that are labeled wrong, of each class."""

    matched_pred: Any
    pred: Any
    matched_true: Any
    true: Any
    predicted: Any
    actual: Any
    wrong: Any


@register
class BoundaryF1Score(BoundaryMetric):
    """Boundary F1: how much of each outline lies near the other one.

    F1 = 2 P R / (P + R), where P is the share of the predicted boundary within `tolerance` pixels
    of the true boundary, and R the share of the true boundary near the predicted one. The boundary
    consists of the outermost pixels of a mask beside another label; none runs along the edge of the
    image. Near means within a square window of 2 tolerance + 1 pixels, as in the loss
    `segzoo.losses.BoundaryF1`.

    A class that has pixels but no boundary, because it fills whole images, has the `empty_score` if
    every pixel is right, and 0 otherwise.

    Args:
        tolerance: distance in pixels, an integer >= 0. Defaults to 2.
        <shared>

    Returns:
        `result()` is the score, in 0..1 or NaN where there is none; with `average=None` it is a
        mapping of keys to the scores of all classes, as in `segzoo.metrics.IoU`.

    Example:
        >>> import numpy as np
        >>> score = BoundaryF1Score(tolerance=1)
        >>> truth, guess = np.zeros((1, 8, 8, 1)), np.zeros((1, 8, 8, 1))
        >>> truth[0, 2:6, 2:6] = 1
        >>> guess[0, 3:7, 2:6] = 1  # one pixel lower
        >>> float(score(truth, guess))
        1.0

    Reference: Csurka et al., "What is a good evaluation measure for semantic segmentation?", BMVC
    2013. Differs from the paper: the tolerance is a square window, not a disk, and counts are
    summed over the data set unless `average="per_image"`.
    """

    _default_name = "boundary_f1_score"
    _tally_type = F1Tally

    def __init__(self, tolerance: int = 2, **options: Unpack[MetricOptions]) -> None:
        self.tolerance = integer("tolerance", tolerance)
        super().__init__(**options)

    def _count_masks(self, truth: Any, guess: Any, valid: Any) -> F1Tally:
        lines = boundary_counts(
            ops.cast(truth, "float32"),
            ops.cast(guess, "float32"),
            valid,
            tolerance=self.tolerance,
        )
        return F1Tally(
            matched_pred=lines.matched_pred,
            pred=lines.pred,
            matched_true=lines.matched_true,
            true=lines.true,
            predicted=_counts.sum_pixels(guess),
            actual=_counts.sum_pixels(truth),
            wrong=_counts.sum_pixels(ops.not_equal(truth, guess)),
        )

    def _score(self, tally: F1Tally) -> Any:
        precision = divide(tally.matched_pred, tally.pred)
        recall = divide(tally.matched_true, tally.true)
        return divide(2 * precision * recall, precision + recall)

    def _present(self, tally: F1Tally) -> Any:
        return tally.pred + tally.true + tally.wrong != 0


class IoUTally(NamedTuple):
    """Pixels of the boundary regions' intersection and union, and of each class."""

    intersection: Any
    union: Any
    predicted: Any
    actual: Any


@register
class BoundaryIoU(BoundaryMetric):
    """Boundary IoU: the IoU of the two boundary regions, which stays sensitive on large objects.

    Boundary IoU = |(G_d and G) and (P_d and P)| / |(G_d and G) or (P_d and P)|

    where G and P are the masks and G_d, P_d the pixels within distance d of their outlines: the
    pixels that d erosions by a 3x3 square take away. d is `dilation_ratio` times the image's
    diagonal, rounded, and at least 1. The image's edge counts as boundary.

    Args:
        dilation_ratio: share of the image's diagonal, above 0 and up to 1. Defaults to 0.02.
        <shared>

    Returns:
        `result()` is the score, in 0..1 or NaN where there is none; with `average=None` it is a
        mapping of keys to the scores of all classes, as in `segzoo.metrics.IoU`.

    Example:
        >>> import numpy as np
        >>> score = BoundaryIoU(dilation_ratio=0.1)  # d = 1 at 8x8
        >>> truth, guess = np.zeros((1, 8, 8, 1)), np.zeros((1, 8, 8, 1))
        >>> truth[0, 1:5, 1:5] = 1  # its boundary: 12 pixels
        >>> guess[0, 1:5, 1:6] = 1  # its boundary: 14 pixels, 10 of them the truth's
        >>> round(float(score(truth, guess)), 3)  # 10 / (12 + 14 - 10)
        0.625

    Reference: Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation
    Evaluation", CVPR 2021, arXiv 2103.16562, equation 2. Differs from the paper: counts are summed
    over the data set, which `average="per_image"` does not do.
    """

    _default_name = "boundary_iou"
    _tally_type = IoUTally

    def __init__(self, dilation_ratio: float = 0.02, **options: Unpack[MetricOptions]) -> None:
        if not isinstance(dilation_ratio, int | float) or not 0 < dilation_ratio <= 1:
            raise ValueError(
                "`dilation_ratio` must be above 0 and at most 1, "
                f"received dilation_ratio={dilation_ratio!r}"
            )
        self.dilation_ratio = float(dilation_ratio)
        super().__init__(**options)

    def _count_masks(self, truth: Any, guess: Any, valid: Any) -> IoUTally:
        true_region = self._boundary_region(truth, valid)
        pred_region = self._boundary_region(guess, valid)
        return IoUTally(
            intersection=_counts.sum_pixels(ops.logical_and(true_region, pred_region)),
            union=_counts.sum_pixels(ops.logical_or(true_region, pred_region)),
            predicted=_counts.sum_pixels(guess),
            actual=_counts.sum_pixels(truth),
        )

    def _boundary_region(self, mask: Any, valid: Any) -> Any:
        """Return the pixels of `mask`, (B, H, W, C), that the erosions take away."""
        batch, height, width, classes = ops.shape(mask)
        outside = ops.logical_not(mask)
        if valid is not None:  # an ignored pixel makes no boundary beside it
            outside = ops.logical_and(outside, valid)
        reached = side_by_side(ops.cast(outside, "float32"))  # (H, W, B * C)
        distance = boundary_distance(height, width, self.dilation_ratio)
        if isinstance(distance, int):
            reached = pool(reached, 2 * distance + 1)
        else:
            shape = ops.shape(reached)
            reached = ops.fori_loop(
                0, distance, lambda _, x: ops.reshape(pool(x, 3), shape), reached
            )
        reached = ops.reshape(reached, (height, width, batch, classes))
        reached = ops.transpose(reached, (2, 0, 1, 3)) > 0
        near_edge = _near_edge(height, width, distance)
        return ops.logical_and(mask, ops.logical_or(reached, near_edge))

    def _score(self, tally: IoUTally) -> Any:
        return divide(tally.intersection, tally.union)


def boundary_distance(height: Any, width: Any, ratio: float) -> Any:
    """Return d in pixels: an int for a static size, otherwise an int32 scalar."""
    if isinstance(height, int) and isinstance(width, int):
        return max(1, round(ratio * math.hypot(height, width)))
    height, width = ops.cast(height, wide_dtype()), ops.cast(width, wide_dtype())
    diagonal = ops.sqrt(height * height + width * width)
    return ops.maximum(1, ops.cast(ops.round(ratio * diagonal), "int32"))


def _near_edge(height: Any, width: Any, distance: Any) -> Any:
    """Return (H, W, 1) booleans: whether the image's edge is within `distance`."""
    rows, columns = (ops.arange(size, dtype="int32") for size in (height, width))
    rows = ops.minimum(rows, height - 1 - rows) < distance
    columns = ops.minimum(columns, width - 1 - columns) < distance
    near = ops.logical_or(ops.expand_dims(rows, 1), ops.expand_dims(columns, 0))
    return ops.expand_dims(near, -1)
