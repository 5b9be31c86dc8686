"""Soft boundaries of masks and how well two of them match, for losses and metrics alike.

The boundary of a mask y (Bokhovkin and Burnaev, "Boundary Loss for Remote Sensing Imagery Semantic
Segmentation", ISNN 2019, arXiv 1905.07852, eq. 3) is

    boundary(y) = max_pool(1 - y, width) - (1 - y)

the inner rim of the mask, (width - 1) / 2 pixels deep. A boundary pixel is matched where the other
side has a boundary within `tolerance` pixels (the paper's eq. 4: a pooling over a window of
2 tolerance + 1). Precision is the matched share of the predicted boundary, recall that of the true.

Everything here works on (H, W, K) with K = B * C, the images' channels side by side: a pooling over
one axis of that layout runs on many channels at once. With one class it is ten times as fast as a
pooling window over (B, H, W, 1), forward and backward, for the price of one transposition.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from keras import ops


class BoundaryCounts(NamedTuple):
    """Sums over the pixels of each image and class, each of shape (B, C)."""

    matched_pred: Any
    pred: Any
    matched_true: Any
    true: Any


def boundary_counts(
    y_true: Any,
    y_pred: Any,
    valid: Any = None,
    *,
    boundary_width: int = 3,
    tolerance: int = 2,
    pooling: str = "max",
) -> BoundaryCounts:
    """Return the boundary lengths of truth and prediction and how much of each is matched.

    Args:
        y_true: (B, H, W, C) targets in 0..1, in the dtype of `y_pred`.
        y_pred: (B, H, W, C) probabilities, or 0 and 1.
        valid: `None`, or booleans that broadcast to (B, H, W, C): pixels that are false belong to
            no boundary, make none beside them, and their values have no effect.
        boundary_width: odd size of the window whose minimum tells the rim.
        tolerance: distance in pixels up to which boundaries match.
        pooling: `"max"`, or `"average"` for the share of the window that is boundary.
    """
    rows = _row_sums(y_true, y_pred, valid, boundary_width, tolerance, pooling)
    return BoundaryCounts(*(_image_sums(x, y_pred) for x in rows))


def boundary_misses(
    y_true: Any,
    y_pred: Any,
    valid: Any = None,
    *,
    boundary_width: int = 3,
    tolerance: int = 2,
    pooling: str = "max",
) -> tuple[Any, Any, Any, Any]:
    """Return the missed and whole lengths of the prediction's boundary, then of the truth's.

    As `boundary_counts`, with the digits that the difference of whole and matched would lose.
    """
    matched_pred, pred, matched_true, true = _row_sums(
        y_true, y_pred, valid, boundary_width, tolerance, pooling
    )
    sums = (pred - matched_pred, pred, true - matched_true, true)
    missed_pred, pred, missed_true, true = (_image_sums(x, y_pred) for x in sums)
    return missed_pred, pred, missed_true, true


def _row_sums(
    y_true: Any, y_pred: Any, valid: Any, boundary_width: int, tolerance: int, pooling: str
) -> tuple[Any, ...]:
    """Return the counts by row, (H, K): no float32 sum is long enough to lose digits."""
    if valid is not None:
        valid = side_by_side(ops.broadcast_to(valid, ops.shape(y_pred)))
    true = boundary(side_by_side(y_true), boundary_width, valid)
    pred = boundary(side_by_side(y_pred), boundary_width, valid)
    window = 2 * tolerance + 1
    near_true, near_pred = pool(true, window, pooling), pool(pred, window, pooling)
    return tuple(ops.sum(x, axis=1) for x in (pred * near_true, pred, true * near_pred, true))


def _image_sums(rows: Any, y_pred: Any) -> Any:
    """Return (H, K) summed to (B, C)."""
    batch, _, _, classes = ops.shape(y_pred)
    return ops.reshape(ops.sum(rows, axis=0), (batch, classes))


def side_by_side(x: Any) -> Any:
    """Return (B, H, W, C) as (H, W, B * C)."""
    batch, height, width, classes = ops.shape(x)
    return ops.reshape(ops.transpose(x, (1, 2, 0, 3)), (height, width, batch * classes))


def boundary(x: Any, width: int, valid: Any = None) -> Any:
    """Return the soft inner rim of the masks `x`, (H, W, K): x minus its minimum nearby."""
    negative = -x  # exact for every x, as 1 - x is not
    if valid is None:
        return pool(negative, width) + x
    lowest = -ops.ones_like(x)  # what a maximum of negated probabilities never takes
    rim = pool(ops.where(valid, negative, lowest), width) + x
    return ops.where(valid, rim, ops.zeros_like(x))


def pool(x: Any, window: int, pooling: str = "max") -> Any:
    """Return the maximum or mean of `x`, (H, W, K), over a square window, edges cut off."""
    if window == 1 or 0 in x.shape:  # PyTorch refuses to pool an empty map
        return x
    height, width, channels = ops.shape(x)
    pool_axis = ops.max_pool if pooling == "max" else ops.average_pool
    options = {"strides": 1, "padding": "same", "data_format": "channels_last"}
    x = pool_axis(x, window, **options)  # over W, the H rows as a batch
    x = pool_axis(ops.reshape(x, (1, height, width * channels)), window, **options)  # over H
    return ops.reshape(x, (height, width, channels))
