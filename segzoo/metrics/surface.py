"""Distances between the outlines of two masks, in physical units, on the host.

These are NumPy functions for one pair of masks at a time, to judge a finished prediction with; the
boundary scores that run inside `fit` are in `boundary.py`. The surface of a mask is its set of
pixels with a neighbor (left, right, above, below) outside the mask, where everything beyond the
image is outside. Distances are Euclidean, between pixel centers, `spacing` apart along each axis.

Reference: Nikolov et al., "Deep learning to achieve clinically applicable segmentation of head and
neck anatomy for radiotherapy", 2018, arXiv 1809.04430 (surface Dice, the robust Hausdorff
distance); Heimann et al., "Comparison and Evaluation of Methods for Liver Segmentation From CT
Datasets", IEEE TMI 28(8), 2009 (average symmetric surface distance).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["average_surface_distance", "hausdorff_distance", "surface_dice"]


def hausdorff_distance(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    percentile: float = 100,
    spacing: Sequence[float] = (1, 1),
) -> float:
    """Returns the Hausdorff distance of two masks: how far the worst outline pixel is off.

    The larger of the two directed distances; a directed distance is the `percentile` of the
    distances from one surface's pixels to the other surface.

    Args:
        y_true: (H, W) mask, boolean or of 0 and 1; a volume works with a spacing for each axis.
        y_pred: a mask of the same shape.
        percentile: above 0, up to 100; 95 leaves out the worst twentieth ("HD95").
        spacing: size of a pixel along each axis (rows, columns), in the unit of the result.

    Returns:
        A distance in the unit of `spacing`: 0.0 for equal masks, two empty ones too, and infinity
        when exactly one mask is empty.

    Raises:
        ValueError: if the shapes differ, a mask holds other values, or an argument is out of range.

    Example:
        >>> truth, guess = np.zeros((2, 5, 5), "uint8")
        >>> truth[0, 1] = guess[2, 1] = 1
        >>> hausdorff_distance(truth, guess, spacing=(2.5, 1.0))
        5.0
    """
    if not 0 < percentile <= 100:
        raise ValueError(
            f"`percentile` must be above 0 and at most 100, received percentile={percentile}"
        )
    to_pred, to_true = _surface_distances(y_true, y_pred, spacing)
    if to_pred.size == 0 or to_true.size == 0:
        return 0.0 if to_pred.size == to_true.size else float("inf")
    return float(max(np.percentile(to_pred, percentile), np.percentile(to_true, percentile)))


def average_surface_distance(
    y_true: ArrayLike, y_pred: ArrayLike, spacing: Sequence[float] = (1, 1)
) -> float:
    """Returns the average symmetric surface distance of two masks.

    The mean, over the pixels of both surfaces together, of the distance to the other surface.

    Args:
        y_true: (H, W) mask, boolean or of 0 and 1; a volume works with a spacing for each axis.
        y_pred: a mask of the same shape.
        spacing: size of a pixel along each axis (rows, columns), in the unit of the result.

    Returns:
        A distance in the unit of `spacing`: 0.0 for equal masks, two empty ones too, and infinity
        when exactly one mask is empty.

    Raises:
        ValueError: if the shapes differ, a mask holds other values, or an argument is out of range.

    Example:
        >>> truth, guess = np.zeros((2, 5, 5), bool)
        >>> truth[2, 0] = guess[2, 1:3] = True
        >>> round(average_surface_distance(truth, guess), 3)  # 1 from the truth; 1 and 2 to it
        1.333
    """
    to_pred, to_true = _surface_distances(y_true, y_pred, spacing)
    if to_pred.size == 0 or to_true.size == 0:
        return 0.0 if to_pred.size == to_true.size else float("inf")
    return float(np.concatenate([to_pred, to_true]).mean())


def surface_dice(
    y_true: ArrayLike, y_pred: ArrayLike, tolerance: float, spacing: Sequence[float] = (1, 1)
) -> float:
    """Returns the share of both surfaces that lies within `tolerance` of the other one.

    Differs from the paper: a surface is counted in pixels, not measured by the length of a contour
    interpolated between them.

    Args:
        y_true: (H, W) mask, boolean or of 0 and 1; a volume works with a spacing for each axis.
        y_pred: a mask of the same shape.
        tolerance: distance up to which an outline counts as right, in the unit of `spacing`.
        spacing: size of a pixel along each axis (rows, columns).

    Returns:
        A share from 0 to 1: 1.0 for equal masks, two empty ones too, and 0.0 when exactly one mask
        is empty.

    Raises:
        ValueError: if the shapes differ, a mask holds other values, or an argument is out of range.

    Example:
        >>> truth, guess = np.zeros((2, 5, 5), bool)
        >>> truth[2, 0] = guess[2, 1:3] = True
        >>> round(surface_dice(truth, guess, tolerance=1), 3)  # two of the three pixels
        0.667
    """
    if not tolerance >= 0:
        raise ValueError(f"`tolerance` must be >= 0, received tolerance={tolerance}")
    to_pred, to_true = _surface_distances(y_true, y_pred, spacing)
    if to_pred.size == 0 or to_true.size == 0:
        return 1.0 if to_pred.size == to_true.size else 0.0
    return float((np.concatenate([to_pred, to_true]) <= tolerance).mean())


def _surface_distances(
    y_true: ArrayLike, y_pred: ArrayLike, spacing: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns each true surface pixel's distance to the prediction's surface, and the reverse.

    Both are empty if both masks are; if one mask is, its own distances are empty and the others
    infinite.
    """
    truth, guess = _mask("y_true", y_true), _mask("y_pred", y_pred)
    if truth.shape != guess.shape:
        raise ValueError(
            "`y_true` and `y_pred` must have the same shape, "
            f"received {truth.shape} and {guess.shape}"
        )
    sizes = np.asarray(spacing, "float64")
    if sizes.shape != (truth.ndim,) or not (np.isfinite(sizes) & (sizes > 0)).all():
        raise ValueError(
            "`spacing` must be one positive number for each axis of a mask, received "
            f"spacing={spacing} for masks of shape {truth.shape}"
        )
    surfaces = [_surface(truth), _surface(guess)]
    return (
        _distance_to(surfaces[1], sizes)[surfaces[0]],
        _distance_to(surfaces[0], sizes)[surfaces[1]],
    )


def _mask(argument: str, values: ArrayLike) -> np.ndarray:
    mask = np.asarray(values)
    if mask.ndim < 1 or not (mask.dtype == bool or np.isin(mask, (0, 1)).all()):
        raise ValueError(
            f"`{argument}` must be a mask of 0 and 1 or booleans, (H, W), received shape "
            f"{mask.shape} and dtype {mask.dtype} with other values: compare first, as in "
            "`probability[..., 0] > 0.5` or `labels == 3`"
        )
    return mask.astype(bool)


def _surface(mask: np.ndarray) -> np.ndarray:
    """Returns the pixels of `mask` with a direct neighbor outside it or outside the image."""
    inner = mask.copy()
    framed = np.pad(mask, 1)  # what lies beyond the image is outside
    core = (slice(1, -1),) * mask.ndim
    for axis in range(mask.ndim):
        for shift in (-1, 1):
            inner &= np.roll(framed, shift, axis)[core]
    return mask & ~inner


def _distance_to(surface: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Returns every pixel's Euclidean distance to the nearest pixel of `surface`."""
    if not surface.any():
        return np.full(surface.shape, np.inf)
    try:
        from scipy.ndimage import distance_transform_edt
    except ImportError as error:
        raise ImportError(
            "surface distances need SciPy, which is not installed: `pip install scipy`"
        ) from error
    return distance_transform_edt(~surface, sampling=spacing)
