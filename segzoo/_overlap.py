"""Soft counts of true positives, false positives and false negatives, and their one ratio.

With targets y, probabilities p and pixel weights w, summed over the pixels of each image and class:

    tp = sum w y p        fp = sum w (1 - y) p        fn = sum w y (1 - p)

Every overlap loss is the Tversky ratio (Tversky 1977, eq. 1; for segmentation Salehi et al. 2017,
arXiv 1706.05721, eq. 4) with its own weights: Dice has 1/2 and 1/2, Jaccard 1 and 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from keras import ops


class Overlap(NamedTuple):
    """Soft counts, each (B, C) or whatever shape they were summed to."""

    tp: Any
    fp: Any
    fn: Any
    total: Any
    """Weight of all pixels that count, so that tn = total - tp - fp - fn."""

    def sum(self, axis: int) -> Overlap:
        """Returns the counts summed over `axis`, which stays with size 1."""
        return Overlap(*(ops.sum(count, axis=axis, keepdims=True) for count in self))

    def scaled(self, factor: Any) -> Overlap:
        """Returns the counts times `factor`."""
        return Overlap(*(count * factor for count in self))


def overlap(y_true: Any, y_pred: Any, weights: Any = None) -> Overlap:
    """Returns the soft counts per image and class.

    A hand-written gradient serves the sums: automatic differentiation broadcasts each sum back to
    (B, H, W, C) and adds the results, this makes one pass. For labels it also spares the
    one-hot: with 150 classes half the time and less than half the memory.

    Args:
        y_true: dense targets (B, H, W, C), or labels (B, H, W) int32 with -1 for no class.
        y_pred: probabilities (B, H, W, C).
        weights: `None`, or what multiplies the counts: (B or 1, H or 1, W or 1, C or 1) for dense
            targets, (B or 1, H or 1, W or 1, 1) for labels; 0 where ignored.

    Returns:
        Counts of shape (B, C); `total` of (B, C) too.
    """
    y_true = ops.stop_gradient(y_true)
    has_labels = len(y_true.shape) == 3
    batch, height, width, classes = ops.shape(y_pred)
    counts = _label_counts if has_labels else _dense_counts

    def slope(p: Any, upstream: Any) -> Any:
        d_tp, d_fp, d_fn = (ops.expand_dims(d, (1, 2)) for d in ops.unstack(upstream, 3))
        d_true = d_tp - d_fp - d_fn
        dense = ops.one_hot(y_true, classes, dtype=p.dtype) if has_labels else y_true
        if classes > 1:  # TensorFlow multiplies by whole rows three times as fast as by classes
            d_true, d_fp = (ops.tile(d, (1, 1, width, 1)) for d in (d_true, d_fp))
        result = dense * d_true + d_fp
        return result if weights is None else result * weights

    tp, fp, fn = ops.unstack(
        with_gradient(lambda p: _sum_lines(counts(y_true, p, weights)), slope)(y_pred), 3
    )
    if weights is None:
        total = ops.cast(height * width, y_pred.dtype) * ops.ones_like(tp)
    else:
        weights = ops.broadcast_to(weights, (batch, height, width, weights.shape[-1]))
        total = ops.sum(sum_columns(weights), axis=1)
        total = ops.broadcast_to(total, ops.shape(tp))
    return Overlap(tp, fp, fn, total)


def tversky_distance(counts: Overlap, alpha: float, beta: float, smooth: float) -> Any:
    """Returns 1 - (tp + smooth) / (tp + alpha fp + beta fn + smooth), and 0 for 0 / 0.

    Written as its complement, (alpha fp + beta fn) / (...): a loss near 0 keeps its digits.
    """
    # Predictions outside 0..1 could turn a count negative and the denominator to 0.
    tp, fp, fn = (ops.where(count < 0, 0.0, count) for count in counts[:3])
    wrong = alpha * fp + beta * fn
    return divide(wrong, tp + wrong + smooth)


def divide(numerator: Any, denominator: Any, default: float = 0.0) -> Any:
    """Returns the quotient, or `default` where the denominator is 0, with a finite gradient."""
    nonzero = denominator != 0
    quotient = numerator / ops.where(nonzero, denominator, ops.ones_like(denominator))
    return ops.where(nonzero, quotient, ops.cast(default, quotient.dtype))


def with_gradient(
    function: Callable[[Any], Any], gradient: Callable[[Any, Any], Any]
) -> Callable[[Any], Any]:
    """Returns `function` of one tensor, differentiated by `gradient(tensor, upstream)`.

    `gradient` is itself differentiated for second derivatives, so it computes from its arguments.
    """

    @ops.custom_gradient
    def wrapped(x: Any) -> Any:
        def grad(*args: Any, upstream: Any = None) -> Any:
            # PyTorch passes the saved inputs and the keyword, the others one argument.
            return gradient(x, args[0]) if upstream is None else gradient(args[0], upstream)

        return function(x), grad

    return wrapped


def sum_columns(x: Any) -> Any:
    """Returns (B, H, W, C) summed over H: (B, W, C).

    A product with ones is up to twice as fast as a reduction with few or many classes, and XLA
    cannot merge it with the sum over W: no partial sum has more than H or W terms, so that
    float32 keeps its digits past 2**24 pixels.
    """
    batch, height, width, channels = ops.shape(x)
    ones = ops.ones((batch, 1, height), x.dtype)
    columns = ops.matmul(ones, ops.reshape(x, (batch, height, width * channels)))
    return ops.reshape(columns, (batch, width, channels))


def _dense_counts(y_true: Any, y_pred: Any, weights: Any) -> tuple[Any, Any, Any]:
    if weights is not None:
        y_true = y_true * weights
    hit = y_true * y_pred
    if weights is not None:
        y_pred = y_pred * weights
    return tuple(_lines(x) for x in (hit, y_true, y_pred))  # type: ignore[return-value]


def _label_counts(labels: Any, y_pred: Any, weights: Any) -> tuple[Any, Any, Any]:
    batch, height, width, classes = ops.shape(y_pred)
    if weights is None:
        weights = ops.ones((1, 1, 1, 1), y_pred.dtype)
    weights = ops.broadcast_to(weights, (batch, height, width, 1))
    known = ops.cast(ops.expand_dims(labels >= 0, -1), y_pred.dtype) * weights
    index = ops.expand_dims(ops.maximum(labels, 0), -1)  # (B, H, W, 1)
    hit = ops.take_along_axis(y_pred, index, axis=-1) * known
    # One segment per row and class, then the rows: long float32 sums would lose digits.
    rows = ops.reshape(ops.arange(batch * height, dtype="int32"), (batch, height, 1, 1))
    segment = ops.reshape(rows * classes + index, (-1,))

    def by_class(x: Any) -> Any:
        sums = ops.segment_sum(ops.reshape(x, (-1,)), segment, batch * height * classes)
        return ops.reshape(sums, (batch, height, classes))

    tp, true = by_class(hit), by_class(known)
    # (B, H, 1, W) @ (B, H, W, C): the weighted sum without a weighted copy of y_pred.
    pred = ops.squeeze(ops.matmul(ops.swapaxes(weights, 2, 3), y_pred), 2)
    return tp, true, pred


def _sum_lines(counts: tuple[Any, Any, Any]) -> Any:
    """Returns tp, tp + fn and tp + fp of lines, (B, lines, C), as sums tp, fp, fn: (3, B, C)."""
    tp, true, pred = counts
    # Subtracted line by line: what is wrong keeps its digits where little is wrong.
    return ops.sum(ops.stack((tp, pred - tp, true - tp)), axis=2)


def _lines(x: Any) -> Any:
    """Returns (B, H, W, C) summed over W for one class, over H for several: (B, lines, C)."""
    return ops.sum(x, axis=2) if x.shape[-1] == 1 else sum_columns(x)
