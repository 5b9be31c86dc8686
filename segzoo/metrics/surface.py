"""Distances between the outlines of masks, in physical units, on the host.

These are NumPy functions, to judge finished predictions with; the boundary scores that run inside
`fit` are in `boundary.py`. The surface of a mask is its set of pixels with a neighbor (left, right,
above, below) outside the mask, where everything beyond the image is outside. Distances are
Euclidean, between pixel centers, `spacing` apart along each axis.

Two masks of as many axes as `spacing` has entries are one pair and give a number. With one axis
more they are a batch of masks, or with `classes` of labels; with two axes more a batch of masks
with the classes last. These give an array, (B,) or (B, C).

Reference: Nikolov et al., "Deep learning to achieve clinically applicable segmentation of head and
neck anatomy for radiotherapy", 2018, arXiv 1809.04430 (surface Dice, the robust Hausdorff
distance); Heimann et al., "Comparison and Evaluation of Methods for Liver Segmentation From CT
Datasets", IEEE TMI 28(8), 2009 (average symmetric surface distance).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from segzoo._arguments import integer, is_number

__all__ = ["average_surface_distance", "hausdorff_distance", "surface_dice"]


def hausdorff_distance(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    percentile: float = 100,
    spacing: Sequence[float] = (1, 1),
    *,
    classes: int | None = None,
    empty: float = float("inf"),
) -> float | np.ndarray:
    """Compute the Hausdorff distance of two masks: how far the worst outline pixel is off.

    The larger of the two directed distances, each of which is the `percentile` of the distances
    from the pixels of one surface to the other surface. At 95 it is known as HD95, or the robust
    Hausdorff distance.

    Args:
        y_true: mask (H, W), boolean or of 0 and 1; a batch (B, H, W) or (B, H, W, C); or, with
            `classes`, labels (B, H, W). A volume works with a spacing for each axis.
        y_pred: masks or labels of the same shape.
        percentile: number above 0 and up to 100; 95 leaves out the worst twentieth. Defaults to
            100.
        spacing: size of a pixel along each axis (rows, columns), in the unit of the result.
            Defaults to (1, 1).
        classes: number of classes, if the masks are a batch of labels. Defaults to None.
        empty: the result of a pair of masks of which exactly one is empty, for example NaN.
            Defaults to infinity.

    Returns:
        A distance in the unit of `spacing` for each pair: 0.0 for equal masks, including two empty
        ones, and `empty` if exactly one mask is empty.

    Raises:
        ValueError: if the shapes differ, a mask holds other values, or an argument is out of range.

    Example:
        >>> truth, guess = np.zeros((2, 5, 5), "uint8")
        >>> truth[0, 1] = guess[2, 1] = 1
        >>> hausdorff_distance(truth, guess, spacing=(2.5, 1.0))
        5.0
        >>> hausdorff_distance([truth, guess], [truth, truth], spacing=(2.5, 1.0))
        array([0., 5.])
    """
    if not is_number(percentile) or not 0 < percentile <= 100:
        raise ValueError(
            f"`percentile` must be above 0 and at most 100, received percentile={percentile!r}"
        )

    def measure(to_pred: np.ndarray, to_true: np.ndarray) -> float:
        return max(np.percentile(to_pred, percentile), np.percentile(to_true, percentile))

    return _of_pairs(measure, y_true, y_pred, spacing, classes, both_empty=0.0, empty=empty)


def average_surface_distance(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    spacing: Sequence[float] = (1, 1),
    *,
    classes: int | None = None,
    empty: float = float("inf"),
) -> float | np.ndarray:
    """Compute the average symmetric surface distance (ASSD, ASD) of two masks.

    The mean, over the pixels of both surfaces together, of the distance to the other surface.

    Args:
        y_true: mask (H, W), boolean or of 0 and 1; a batch (B, H, W) or (B, H, W, C); or, with
            `classes`, labels (B, H, W). A volume works with a spacing for each axis.
        y_pred: masks or labels of the same shape.
        spacing: size of a pixel along each axis (rows, columns), in the unit of the result.
            Defaults to (1, 1).
        classes: number of classes, if the masks are a batch of labels. Defaults to None.
        empty: the result of a pair of masks of which exactly one is empty, for example NaN.
            Defaults to infinity.

    Returns:
        A distance in the unit of `spacing` for each pair: 0.0 for equal masks, including two empty
        ones, and `empty` if exactly one mask is empty.

    Raises:
        ValueError: if the shapes differ, a mask holds other values, or an argument is out of range.

    Example:
        >>> truth, guess = np.zeros((2, 5, 5), bool)
        >>> truth[2, 0] = guess[2, 1:3] = True
        >>> round(average_surface_distance(truth, guess), 3)  # 1 from the truth; 1 and 2 to it
        1.333
    """

    def measure(to_pred: np.ndarray, to_true: np.ndarray) -> float:
        return np.concatenate([to_pred, to_true]).mean()

    return _of_pairs(measure, y_true, y_pred, spacing, classes, both_empty=0.0, empty=empty)


def surface_dice(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    tolerance: float,
    spacing: Sequence[float] = (1, 1),
    *,
    classes: int | None = None,
    empty: float = 0.0,
) -> float | np.ndarray:
    """Compute the share of both surfaces that lies within `tolerance` of the other one.

    Also called the normalized surface distance (NSD). Differs from the paper: a surface is counted
    in pixels, not measured by the length of a contour interpolated between them.

    Args:
        y_true: mask (H, W), boolean or of 0 and 1; a batch (B, H, W) or (B, H, W, C); or, with
            `classes`, labels (B, H, W). A volume works with a spacing for each axis.
        y_pred: masks or labels of the same shape.
        tolerance: distance up to which an outline counts as right, in the unit of `spacing`, >= 0.
        spacing: size of a pixel along each axis (rows, columns), in the unit of the result.
            Defaults to (1, 1).
        classes: number of classes, if the masks are a batch of labels. Defaults to None.
        empty: the result of a pair of masks of which exactly one is empty, for example NaN.
            Defaults to 0.0.

    Returns:
        A share from 0 to 1 for each pair: 1.0 for equal masks, including two empty ones, and
        `empty` if exactly one mask is empty.

    Raises:
        ValueError: if the shapes differ, a mask holds other values, or an argument is out of range.

    Example:
        >>> truth, guess = np.zeros((2, 5, 5), bool)
        >>> truth[2, 0] = guess[2, 1:3] = True
        >>> round(surface_dice(truth, guess, tolerance=1), 3)  # two of the three pixels
        0.667
    """
    if not is_number(tolerance) or not tolerance >= 0:
        raise ValueError(f"`tolerance` must be >= 0, received tolerance={tolerance!r}")

    def measure(to_pred: np.ndarray, to_true: np.ndarray) -> float:
        return (np.concatenate([to_pred, to_true]) <= tolerance).mean()

    return _of_pairs(measure, y_true, y_pred, spacing, classes, both_empty=1.0, empty=empty)


def _of_pairs(
    measure: Callable[[np.ndarray, np.ndarray], float],
    y_true: ArrayLike,
    y_pred: ArrayLike,
    spacing: Sequence[float],
    classes: int | None,
    *,
    both_empty: float,
    empty: float,
) -> float | np.ndarray:
    """Return `measure` of the surface distances of one pair, or of each of a batch and class."""
    truth, guess = np.asarray(y_true), np.asarray(y_pred)
    if truth.shape != guess.shape:
        raise ValueError(
            "`y_true` and `y_pred` must have the same shape, "
            f"received {truth.shape} and {guess.shape}"
        )
    sizes = np.asarray(spacing, "float64")
    axes, more = sizes.size, truth.ndim - sizes.size
    if classes is not None and sizes.ndim == 1 and more != 1:
        raise ValueError(
            "`classes` is for a batch of labels, (B, H, W), received masks of shape "
            f"{truth.shape} with spacing={spacing}: one label map is `labels[None]`, a batch with "
            "one channel for each class takes no `classes`"
        )
    if sizes.ndim != 1 or more not in (0, 1, 2) or not (np.isfinite(sizes) & (sizes > 0)).all():
        raise ValueError(
            "`spacing` must be one positive number for each axis of a mask, which comes alone or "
            "in a batch with or without classes (labels in a batch), received "
            f"spacing={spacing} for masks of shape {truth.shape}"
        )
    if classes is not None:
        integer("classes", classes, 1)
        truth, guess = _masks_of("y_true", truth, classes), _masks_of("y_pred", guess, classes)
    truth, guess = _mask("y_true", truth), _mask("y_pred", guess)
    if truth.ndim == axes:
        return _of_pair(measure, truth, guess, sizes, both_empty, empty)
    shape = truth.shape[:1] + truth.shape[1 + axes :]
    values = np.empty(shape)
    for index in np.ndindex(*shape):
        place = (index[0], *[slice(None)] * axes, *index[1:])
        values[index] = _of_pair(measure, truth[place], guess[place], sizes, both_empty, empty)
    return values


def _of_pair(
    measure: Callable[[np.ndarray, np.ndarray], float],
    truth: np.ndarray,
    guess: np.ndarray,
    sizes: np.ndarray,
    both_empty: float,
    empty: float,
) -> float:
    if not truth.any() or not guess.any():
        return float(both_empty if truth.any() == guess.any() else empty)
    surfaces = [_surface(truth), _surface(guess)]
    to_pred = _distance_to(surfaces[1], sizes)[surfaces[0]]
    to_true = _distance_to(surfaces[0], sizes)[surfaces[1]]
    return float(measure(to_pred, to_true))


def _masks_of(argument: str, labels: np.ndarray, classes: int) -> np.ndarray:
    """Return the masks of labels, the classes last."""
    most = max(classes, 2) - 1
    whole = labels.dtype.kind in "biu"
    if not whole or (labels.size and not 0 <= labels.min() <= labels.max() <= most):
        wrong = labels[(labels < 0) | (labels > most)] if whole else labels[:0]
        received = f"the label {wrong[0]}" if wrong.size else f"dtype {labels.dtype}"
        raise ValueError(
            f"`{argument}` must hold integer labels 0 to {most} with classes={classes}, received "
            f"{received}"
        )
    if classes == 1:
        return labels[..., None] == 1
    return labels[..., None] == np.arange(classes)


def _mask(argument: str, mask: np.ndarray) -> np.ndarray:
    if mask.ndim < 1 or not (mask.dtype == bool or np.isin(mask, (0, 1)).all()):
        raise ValueError(
            f"`{argument}` must be a mask of 0 and 1 or booleans, (H, W), received shape "
            f"{mask.shape} and dtype {mask.dtype} with other values: compare first, as in "
            "`probability[..., 0] > 0.5` or `labels == 3`, or give `classes=` for labels"
        )
    return mask.astype(bool)


def _surface(mask: np.ndarray) -> np.ndarray:
    """Return the pixels of `mask` with a direct neighbor outside it or outside the image."""
    inner = mask.copy()
    framed = np.pad(mask, 1)  # what lies beyond the image is outside
    core = (slice(1, -1),) * mask.ndim
    for axis in range(mask.ndim):
        for shift in (-1, 1):
            inner &= np.roll(framed, shift, axis)[core]
    return mask & ~inner


def _distance_to(surface: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Return every pixel's Euclidean distance to the nearest pixel of `surface`."""
    try:
        from scipy.ndimage import distance_transform_edt
    except ImportError as error:
        raise ImportError(
            "surface distances need SciPy, which is not installed: `pip install scipy`"
        ) from error
    return distance_transform_edt(~surface, sampling=spacing)
