"""Counts of true positives, false positives and false negatives, soft or hard, and their ratios.

With targets y, probabilities p and pixel weights w, summed over the pixels of each image and class:

    tp = sum w min(y, p)    fp = sum w max(p - y, 0)    fn = sum w max(y - p, 0)

For a y of 0 or 1 these are the products y p, (1 - y) p and y (1 - p), in value and in gradient. For
soft targets they have their extreme at p = y, where the products have it at 0 or 1 (Wang et al.,
"Jaccard Metric Losses: Optimizing the Jaccard Index with Soft Labels", NeurIPS 2023, arXiv
2302.05666).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
from keras import ops

from segzoo._numerics import divide, segment_sum, sum_columns, wide_dtype, with_gradient
from segzoo._reading import Batch

# Both 1: the prediction counts as below its label, whatever the rounding of a softmax made of 1.
# Both 0: as above. That is what the products have.
_JUST_ABOVE_ONE = 1 + 2**-22
_LARGEST = 1e36  # what probabilities far outside 0..1 cannot push a ratio past


class Counts(NamedTuple):
    """Counts of pixels, of any one shape: (C,), (B, C), (B, C, thresholds)."""

    tp: Any
    """True positives."""
    fp: Any
    """False positives."""
    fn: Any
    """False negatives."""
    total: Any
    """All pixels that count."""

    @property
    def tn(self) -> Any:
        """True negatives."""
        return self.total - self.tp - self.fp - self.fn

    @property
    def predicted(self) -> Any:
        """Pixels that the prediction has in the class."""
        return self.tp + self.fp

    @property
    def actual(self) -> Any:
        """Pixels that the truth has in the class."""
        return self.tp + self.fn

    def sum(self, axis: int, keepdims: bool = False) -> Counts:
        """Return the counts summed over `axis`."""
        return Counts(*(ops.sum(count, axis=axis, keepdims=keepdims) for count in self))

    def scaled(self, factor: Any) -> Counts:
        """Return the counts times `factor`."""
        return Counts(*(count * factor for count in self))

    def iou(self, empty_score: float = 1.0) -> Any:
        """Return the intersection over union, tp / (tp + fp + fn)."""
        return self._ratio(self.tp, self.tp + self.fp + self.fn, empty_score)

    def dice(self, empty_score: float = 1.0) -> Any:
        """Return the Dice coefficient, 2 tp / (2 tp + fp + fn)."""
        return self.f_score(1.0, empty_score)

    def f_score(self, beta: float = 1.0, empty_score: float = 1.0) -> Any:
        """Return F-beta, (1 + beta^2) tp / ((1 + beta^2) tp + beta^2 fn + fp)."""
        tp, fp, fn = (as_float(count) for count in self[:3])
        square = beta * beta
        found = (1 + square) * tp
        return self._ratio(found, found + square * fn + fp, empty_score)

    def precision(self, empty_score: float = 1.0) -> Any:
        """Return tp / (tp + fp), 0 where nothing is predicted but something is true."""
        return self._ratio(self.tp, self.predicted, empty_score)

    def recall(self, empty_score: float = 1.0) -> Any:
        """Return tp / (tp + fn), 0 where nothing is true but something is predicted."""
        return self._ratio(self.tp, self.actual, empty_score)

    def _ratio(self, numerator: Any, denominator: Any, empty_score: float) -> Any:
        ratio = divide(as_float(numerator), as_float(denominator))
        found = self.tp + self.fp + self.fn != 0
        return ops.where(found, ratio, ops.cast(empty_score, ratio.dtype))


def as_float(x: Any) -> Any:
    """Return integers as the widest float of the backend, floats as they are."""
    return x if keras.backend.is_float_dtype(x.dtype) else ops.cast(x, wide_dtype())


def soft_counts(batch: Batch, weigh_images: bool = True) -> tuple[Counts, Batch]:
    """Return the soft counts (B, C) of a batch, and the batch, bad where there is NaN in them.

    A hand-written gradient serves the sums: automatic differentiation broadcasts each sum back to
    (B, H, W, C) and adds the results, this makes one pass. For labels it also spares the
    one-hot: with 150 classes half the time and less than half the memory.
    """
    weights = batch.counted(weigh_images)
    p, (height, width) = batch.probabilities(), batch.size[1:3]
    constants = () if weights is None else (weights,)
    if batch.targets.dense is None:
        constants = (batch.targets.labels, *constants)
        function = with_gradient(_of_labels, _slope_of_labels)
    elif batch.targets.soft is False:
        constants = (batch.targets.dense, *constants)
        function = with_gradient(_of_masks, _slope_of_masks)
    else:  # masks of floats are mostly hard, which costs less
        constants = (batch.targets.dense, batch.targets.soft, *constants)
        function = with_gradient(_of_targets, _slope_of_targets)
    tp, fp, fn = ops.unstack(function(p, *constants), 3)
    if weights is None:
        total = ops.cast(height * width, p.dtype) * ops.ones_like(tp)
    else:
        weights = ops.broadcast_to(weights, (*batch.size[:3], weights.shape[-1]))
        total = ops.broadcast_to(ops.sum(sum_columns(weights), axis=1), ops.shape(tp))
    batch = batch.also_bad_if(ops.any(ops.isnan(tp + fp + fn)))
    tp, fp, fn = (batch.settle(count) for count in (tp, fp, fn))
    return Counts(tp, fp, fn, total), batch


def within_range(counts: Counts) -> tuple[Any, Any, Any, Any]:
    """Return tp, fp, fn and tn, in the range that probabilities outside 0..1 would leave."""

    def inside(x: Any) -> Any:  # its gradient at 0 is whole, as a maximum's is not everywhere
        return ops.where(x < 0, 0.0, ops.where(x > _LARGEST, _LARGEST, x))

    tp, fp, fn, tn = (inside(x) for x in (*counts[:3], counts.tn))
    return tp, fp, fn, tn


def tversky_distance(counts: Counts, alpha: float, beta: float, smooth: float) -> Any:
    """Return 1 - (tp + smooth) / (tp + alpha fp + beta fn + smooth), and 0 for 0 / 0.

    Every overlap loss is this ratio (Tversky 1977, eq. 1; for segmentation Salehi et al. 2017,
    arXiv 1706.05721, eq. 4) with its own weights: Dice has 1/2 and 1/2, Jaccard 1 and 1. Written as
    its complement, (alpha fp + beta fn) / (...): a loss near 0 keeps its digits.
    """
    tp, fp, fn, _ = within_range(counts)
    wrong = alpha * fp + beta * fn
    return divide(wrong, tp + wrong + smooth)


def _of_targets(p: Any, y: Any, soft: Any, weights: Any = None) -> Any:
    return ops.cond(soft, lambda: _of_soft_targets(p, y, weights), lambda: _of_masks(p, y, weights))


def _slope_of_targets(upstream: Any, p: Any, y: Any, soft: Any, weights: Any = None) -> Any:
    return ops.cond(
        soft,
        lambda: _slope_of_soft_targets(upstream, p, y, weights),
        lambda: _slope_of_masks(upstream, p, y, weights),
    )


def _of_masks(p: Any, y: Any, weights: Any = None) -> Any:
    if weights is None:
        return _sum_lines(y * p, p, y)
    y = y * weights
    return _sum_lines(y * p, p * weights, y)


def _of_soft_targets(p: Any, y: Any, weights: Any = None) -> Any:
    hit = ops.minimum(y * _JUST_ABOVE_ONE, p)
    if weights is None:
        return _sum_lines(hit, p, y)
    return _sum_lines(hit * weights, p * weights, y * weights)


def _of_labels(p: Any, labels: Any, weights: Any = None) -> Any:
    batch, height, width, classes = ops.shape(p)
    if weights is None:
        weights = ops.ones((1, 1, 1, 1), p.dtype)
    weights = ops.broadcast_to(weights, (batch, height, width, 1))
    known = ops.cast(ops.expand_dims(labels >= 0, -1), p.dtype) * weights
    index = ops.expand_dims(ops.maximum(labels, 0), -1)  # (B, H, W, 1)
    hit = ops.take_along_axis(p, index, axis=-1) * known
    # One segment per row and class, then the rows: long float32 sums would lose digits.
    rows = ops.reshape(ops.arange(batch * height, dtype="int32"), (batch, height, 1, 1))
    segments = rows * classes + index

    def by_class(x: Any) -> Any:
        sums = segment_sum(x, segments, batch * height * classes)
        return ops.reshape(sums, (batch, height, classes))

    # (B, H, 1, W) @ (B, H, W, C): the weighted sum without a weighted copy of p.
    predicted = ops.squeeze(ops.matmul(ops.swapaxes(weights, 2, 3), p), 2)
    return _sum_differences(by_class(hit), predicted, by_class(known))


def _sum_lines(tp: Any, predicted: Any, actual: Any) -> Any:
    """Return values of pixels, (B, H, W, C), as sums tp, fp, fn: (3, B, C)."""
    return _sum_differences(*(_lines(x) for x in (tp, predicted, actual)))


def _sum_differences(tp: Any, predicted: Any, actual: Any) -> Any:
    """Return counts of lines, (B, lines, C), as sums tp, fp, fn: (3, B, C)."""
    # Subtracted line by line: what is wrong keeps its digits where little is wrong.
    return ops.sum(ops.stack((tp, predicted - tp, actual - tp)), axis=2)


def _lines(x: Any) -> Any:
    """Return (B, H, W, C) summed over W for one class, over H for several: (B, lines, C)."""
    return ops.sum(x, axis=2) if x.shape[-1] == 1 else sum_columns(x)


def _slope_of_masks(upstream: Any, p: Any, below: Any, weights: Any = None) -> Any:
    """Return the gradient by p where `below`, (B, H, W, C), is 1 where p is below its target."""
    width, classes = ops.shape(p)[2:]
    d_tp, d_fp, d_fn = (ops.expand_dims(d, (1, 2)) for d in ops.unstack(upstream, 3))
    d_below = d_tp - d_fp - d_fn
    if classes > 1:  # TensorFlow multiplies by whole rows three times as fast as by classes
        d_below, d_fp = (ops.tile(d, (1, 1, width, 1)) for d in (d_below, d_fp))
    result = below * d_below + d_fp
    return result if weights is None else result * weights


def _slope_of_soft_targets(upstream: Any, p: Any, y: Any, weights: Any = None) -> Any:
    below = ops.cast(p < y * _JUST_ABOVE_ONE, p.dtype)
    return _slope_of_masks(upstream, p, below, weights)


def _slope_of_labels(upstream: Any, p: Any, labels: Any, weights: Any = None) -> Any:
    below = ops.one_hot(labels, ops.shape(p)[-1], dtype=p.dtype)
    return _slope_of_masks(upstream, p, below, weights)
