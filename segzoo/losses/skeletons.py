"""Skeleton recall of Kirchhoff et al., and the tubed skeletons that it reads."""

from __future__ import annotations

import functools
from typing import Any, Unpack

import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from segzoo._arguments import (
    ClassWeights,
    class_weights_of,
    integer,
    list_of_weights,
)
from segzoo._counts import Counts, tversky_distance
from segzoo._numerics import divide
from segzoo._reading import Batch
from segzoo.losses._declare import ShapeOptions, as_function, register
from segzoo.losses._masks import IgnoreClass, by_image
from segzoo.losses.region import RegionLoss


def skeleton(
    mask: ArrayLike,
    classes: int | None = None,
    width: int = 3,
    *,
    background: int | None = 0,
    ignore_class: IgnoreClass = None,
) -> np.ndarray:
    """Compute the tubed skeleton of a mask: its center lines, `width` pixels wide, on the host.

    The foreground is thinned to lines of one pixel, which are dilated to `width` and restricted to
    the mask. Of several exclusive classes the union is thinned, and each class gets its part; the
    channel of the background stays empty. With `background=None` the classes are thinned one by
    one, for classes that may overlap or have no background among them.

    Args:
        mask: array (H, W) or (H, W, 1) of 0 and 1, or of labels if `classes` is above 1; or
            (H, W, C) of 0 and 1. A batch is (B, H, W, 1) or (B, H, W, C).
        classes: number of classes, if the mask holds labels. Defaults to None, for masks of 0 and
            1.
        width: odd int >= 1; a pixel of the center line becomes a diamond of that width. The paper
            uses 5. Defaults to 3.
        background: the class that has no skeleton, if there are several classes, or None. Defaults
            to 0.
        ignore_class: one integer or several: labels of pixels that belong to no class. Defaults to
            None.

    Returns:
        A uint8 array (H, W, C) of 0 and 1, or (B, H, W, C): the `y_true` of `SkeletonRecall`.

    Raises:
        ValueError: if a shape or a value does not fit, or `width` is even.

    Example:
        >>> road = np.zeros((7, 9), "uint8")
        >>> road[1:6] = 1
        >>> skeleton(road)[:, 4, 0]
        array([0, 0, 1, 1, 1, 0, 0], dtype=uint8)

    Reference:
        Kirchhoff et al. 2024, arXiv 2404.03010, algorithm 1; the thinning is that of Guo, Hall,
        "Parallel Thinning with Two-Subiteration Algorithms", CACM 32(3), 1989, algorithm A1.
    """
    from scipy import ndimage

    width = integer("width", width, 1)
    if width % 2 == 0:
        raise ValueError(f"`width` must be an odd integer >= 1, received width={width}")
    if background is not None:
        background = integer("background", background)

    def tube(foreground: np.ndarray) -> np.ndarray:
        lines = _thinned(foreground)
        radius = width // 2
        return ndimage.binary_dilation(lines, iterations=radius) if radius else lines

    def tubes(one_hot: np.ndarray, _: np.ndarray) -> np.ndarray:
        count = one_hot.shape[-1]
        if background is not None and count > 1:
            if background >= count:
                raise ValueError(
                    f"`background` must be a class of 0 to {count - 1} or None, "
                    f"received background={background}"
                )
            one_hot = one_hot & (np.arange(count) != background)
            result = one_hot & tube(np.logical_or.reduce(one_hot, axis=-1))[..., None]
        else:
            tubed = [tube(one_hot[..., c]) for c in range(count)]
            result = one_hot & np.stack(tubed, axis=-1)
        return result.astype("uint8")

    return by_image(tubes, mask, classes, ignore_class)


def _thinned(mask: np.ndarray) -> np.ndarray:
    """Return the lines of one pixel that booleans (H, W) thin to, with all parts and holes."""
    padded = np.pad(mask, 1).astype("uint8")
    x, columns = padded.ravel(), padded.shape[1]  # x is a view
    left, before = np.flatnonzero(x), -1
    while len(left) != before:
        before = len(left)
        for removable in _removable():
            # The neighbors of a pixel as the bits of one byte, north first, clockwise.
            code = np.zeros(len(left), "uint8")
            for bit, (row, column) in enumerate(_AROUND):
                code |= x[left + (row * columns + column)] << bit
            gone = removable[code]
            x[left[gone]] = 0
            left = left[~gone]
    return padded[1:-1, 1:-1].astype(bool)


_AROUND = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))


@functools.cache
def _removable() -> tuple[np.ndarray, np.ndarray]:
    """Return which of the 256 neighborhoods lose their pixel in the two halves of a step."""
    n, ne, e, se, s, sw, w, nw = (np.arange(256) >> bit & 1 for bit in range(8))
    corners = ((n, ne, e), (e, se, s), (s, sw, w), (w, nw, n))
    parts = sum((1 - a) & (b | c) for a, b, c in corners)
    pairs = (nw | n) + (ne | e) + (se | s) + (sw | w)
    others = (n | ne) + (e | se) + (s | sw) + (w | nw)
    few = np.minimum(pairs, others)
    border = (parts == 1) & (few >= 2) & (few <= 3)
    first = border & ((n | ne | (1 - se)) & e == 0)
    second = border & ((s | sw | (1 - nw)) & w == 0)
    return first, second


@register
class SkeletonRecall(RegionLoss):
    """Skeleton recall loss: one minus the share of the true skeleton that is predicted.

        SkeletonRecall = 1 - (sum p s + smooth) / (sum s + smooth)

    where s = `skeleton(mask)`. Averaged over the classes that have a skeleton in the batch, so that
    the background does not count. For roads, vessels and cracks, whose connections matter more than
    their width. Unlike `CenterlineDice`, it thins only the truth, once, on the host. False
    positives cost nothing, so add it to a loss in which they do: `BCEDice() + 0.1 *
    SkeletonRecall()` on a `y_true` that has the mask first and the skeleton after it (see
    `Compound`). With the weight of `Dice` a network may learn to predict nearly everything: start
    with a small weight and watch the precision.

    Args:
        class_weights: weights w >= 0 of the classes, a sequence, or a mapping from class to weight
            in which a missing class weighs 1; normalized over the classes that have a skeleton.
            Defaults to None.
        <shared>

    Returns:
        A scalar in 0..1; with `reduction="none"` and `per_image` (B,).

    Raises:
        ValueError: if an argument is out of range or the shapes do not fit.

    Example:
        >>> import numpy as np
        >>> road = np.zeros((1, 9, 16, 1), "uint8")
        >>> road[:, 3:6] = 1
        >>> lines = skeleton(road)
        >>> print(float(SkeletonRecall()(lines, road)))
        0.0
        >>> cut = road * (np.arange(16) % 8 > 2)[:, None]
        >>> print(round(float(SkeletonRecall(smooth=0)(lines, cut)), 3))
        0.364

    Reference:
        Kirchhoff, Rokuss, Roy, et al., "Skeleton Recall Loss for Connectivity Conserving and
        Resource Efficient Segmentation of Thin Tubular Structures", ECCV 2024, arXiv 2404.03010,
        equation 1. Differs from the paper: a class that is absent from the batch is left out, where
        the paper's mean is over all classes but the background.
    """

    _reads_map = True

    def __init__(self, class_weights: ClassWeights = None, **options: Unpack[ShapeOptions]):
        super().__init__(class_weights=class_weights_of(class_weights), **options)

    def class_losses(self, counts: Counts) -> Any:
        """Return the missed share of each class's skeleton."""
        return tversky_distance(counts, 0.0, 1.0, self.smooth)

    def _average(self, counts: Counts, batch: Batch) -> Any:
        """Return the mean over the classes that have a skeleton: (B, C) to (B,)."""
        weights = list_of_weights(self.class_weights, batch.classes) or [1.0] * batch.classes
        present = ops.cast(counts.actual > 0, batch.dtype)
        share = ops.convert_to_tensor(weights, dtype=batch.dtype) * present
        return divide(ops.sum(share * self.class_losses(counts), axis=-1), ops.sum(share, axis=-1))


skeleton_recall_loss = as_function(SkeletonRecall)
