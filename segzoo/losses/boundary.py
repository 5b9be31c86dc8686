"""Losses of shapes: the match of boundaries, and of centerlines."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Unpack

import numpy as np
from keras import ops

from segzoo._arguments import flag, integer, number, one_of
from segzoo._boundary import boundary_misses, pool, side_by_side
from segzoo._numerics import divide, host_value, mean_of_last
from segzoo._reading import Batch
from segzoo.losses._base import SegmentationLoss
from segzoo.losses._declare import LossOptions, OutlineOptions, ShapeOptions, as_function, register

_log = logging.getLogger("segzoo")


class ShapeLoss(SegmentationLoss):
    """Base of the shape losses: a precision and a recall for each image and class."""

    def __init__(
        self,
        multilabel: bool = False,
        per_image: bool = False,
        smooth: float = 1.0,
        **options: Unpack[LossOptions],
    ):
        super().__init__(multilabel=multilabel, **options)
        self.per_image = flag("per_image", per_image)
        self.smooth = number("smooth", smooth)

    def _counts(self, targets: Any, probs: Any, valid: Any) -> Sequence[Any]:
        """Return missed and total counts of the prediction, then of the truth, each (B, C)."""
        raise NotImplementedError

    def weighted_losses(self, batch: Batch) -> tuple[Batch, Any, Any]:
        """Return (B,) or a scalar, and what its sum is divided by."""
        self._only_image_weights(batch, self.per_image)
        probs = batch.settle(batch.probabilities())
        counts = self._counts(batch.dense(), probs, batch.valid)
        if not self.per_image:
            counts = [ops.sum(count, axis=0, keepdims=True) for count in counts]
        missed_pred, pred, missed_true, true = counts
        imprecision = divide(missed_pred, pred + self.smooth)
        unrecalled = divide(missed_true, true + self.smooth)
        precision, recall = 1 - imprecision, 1 - unrecalled
        # 1 - 2 P R / (P + R), without the subtraction that costs a small loss its digits
        wrong = precision * unrecalled + recall * imprecision
        losses = divide(wrong, precision + recall, default=1.0)
        losses = mean_of_last(losses)
        if self.per_image:
            return self._mean_over_images(batch, losses)
        return batch, losses[0], 1.0


@register
class BoundaryF1(ShapeLoss):
    """Boundary F1 loss: one minus the harmonic mean of boundary precision and recall.

        boundary(y) = max_pool(1 - y, boundary_width) - (1 - y)
        P = (sum boundary(p) near(boundary(y)) + smooth) / (sum boundary(p) + smooth)
        R = (sum boundary(y) near(boundary(p)) + smooth) / (sum boundary(y) + smooth)
        BoundaryF1 = 1 - 2 P R / (P + R)

    where near(b) is b pooled over a window of 2 tolerance + 1. Averaged over the classes.

    Args:
        boundary_width: odd int >= 3, size of the window whose minimum defines the boundary.
            Defaults to 3.
        tolerance: int >= 0, distance in pixels up to which boundaries match. Defaults to 2.
        pooling: `"max"`, or `"average"` for the share of the window that is boundary, with which
            a perfect prediction has a loss above 0. Defaults to `"max"`.
        smooth: number >= 0 that is added to numerator and denominator, so that two masks without
            a boundary have loss 0. With the default, a boundary predicted where the truth has none
            has loss 1 and no gradient.
            Defaults to 1e-7.
        <shared>

    Returns:
        A scalar in 0..1; with `reduction="none"` and `per_image` (B,).

    Raises:
        ValueError: if an argument is out of range, the shapes do not fit, or `sample_weight` weighs
            pixels.

    Example:
        >>> import numpy as np
        >>> mask = np.zeros((1, 9, 9, 1))
        >>> mask[:, 3:6, 3:6] = 1
        >>> shifted = np.roll(mask, 1, axis=2)
        >>> print(float(BoundaryF1()(mask, shifted)))
        0.0
        >>> print(round(float(BoundaryF1(tolerance=0)(mask, shifted)), 2))
        0.5

    Reference:
        Bokhovkin, Burnaev, "Boundary Loss for Remote Sensing Imagery Semantic Segmentation", ISNN
        2019, arXiv 1905.07852, equations 3 to 6.
    """

    def __init__(
        self,
        boundary_width: int = 3,
        tolerance: int = 2,
        pooling: str = "max",
        smooth: float = 1e-7,
        **options: Unpack[OutlineOptions],
    ):
        super().__init__(smooth=smooth, **options)
        self.boundary_width = integer("boundary_width", boundary_width, 3)
        if self.boundary_width % 2 == 0:
            raise ValueError(
                "`boundary_width` must be an odd integer >= 3, "
                f"received boundary_width={boundary_width}"
            )
        self.tolerance = integer("tolerance", tolerance)
        self.pooling = one_of("pooling", pooling, ("max", "average"))

    def _counts(self, targets: Any, probs: Any, valid: Any) -> Sequence[Any]:
        return boundary_misses(
            targets,
            probs,
            valid,
            boundary_width=self.boundary_width,
            tolerance=self.tolerance,
            pooling=self.pooling,
        )


@register
class CenterlineDice(ShapeLoss):
    """Centerline Dice (clDice) loss: how much of each side's skeleton lies in the other's mask.

        P = (sum skeleton(p) y + smooth) / (sum skeleton(p) + smooth)
        R = (sum skeleton(y) p + smooth) / (sum skeleton(y) + smooth)
        CenterlineDice = 1 - 2 P R / (P + R)

    For roads, vessels and cracks, whose connections matter more than their width. Averaged over the
    classes. The paper trains on `0.5 * Dice() + 0.5 * CenterlineDice()`.

    The soft skeleton finds structures up to 2 (iterations + 1) pixels wide. A wider one has no
    skeleton, so that a gap in it costs nothing. If a class of the truth has pixels but no skeleton
    at all, a call outside a compiled graph logs a warning (logger `segzoo`).

    Args:
        iterations: int >= 0, steps of the soft skeleton; half the width of the widest structure,
            in pixels, is enough. Defaults to 5.
        <shared>

    Returns:
        A scalar in 0..1; with `reduction="none"` and `per_image` (B,).

    Raises:
        ValueError: if an argument is out of range, the shapes do not fit, or `sample_weight` weighs
            pixels.

    Example:
        >>> import numpy as np
        >>> road = np.zeros((1, 9, 16, 1))
        >>> road[:, 3:6] = 1
        >>> print(float(CenterlineDice()(road, road)))
        0.0
        >>> cut = road * (np.arange(16) % 8 > 2)[:, None]
        >>> print(float(CenterlineDice()(road, cut)) > 0.1)
        True

    Reference:
        Shit, Paetzold, Sekuboyina, et al., "clDice - A Novel Topology-Preserving Loss Function for
        Tubular Structure Segmentation", CVPR 2021, arXiv 2003.07311, equations 1 and 2, algorithm
        1 (soft skeleton), algorithm 2 (soft clDice).
    """

    def __init__(
        self,
        iterations: int = 5,
        **options: Unpack[ShapeOptions],
    ):
        super().__init__(**options)
        self.iterations = integer("iterations", iterations)

    def _counts(self, targets: Any, probs: Any, valid: Any) -> Sequence[Any]:
        batch, _, _, classes = ops.shape(probs)
        if valid is not None:
            probs = ops.where(valid, probs, ops.zeros_like(probs))
        targets, probs = side_by_side(targets), side_by_side(probs)
        skeleton_true = _soft_skeleton(targets, self.iterations)
        skeleton_pred = _soft_skeleton(probs, self.iterations)

        def total(x: Any) -> Any:
            return ops.reshape(ops.sum(ops.sum(x, axis=1), axis=0), (batch, classes))

        length_true = total(skeleton_true)
        self._say_what_is_too_wide(total(targets), length_true)
        return (
            total(skeleton_pred * (1 - targets)),
            total(skeleton_pred),
            total(skeleton_true * (1 - probs)),
            length_true,
        )

    def _say_what_is_too_wide(self, area: Any, length: Any) -> None:
        """Log the classes of the truth that have pixels and no skeleton, where values are seen."""
        area, length = host_value(area), host_value(length)
        if area is None or length is None:
            return
        wide = np.flatnonzero((area.sum(axis=0) > 0) & (length.sum(axis=0) == 0)).tolist()
        if wide:
            _log.warning(
                "`CenterlineDice`: class(es) %s of the truth have no skeleton at iterations=%d, "
                "which finds structures up to %d pixels wide, and add nothing to the loss; raise "
                "`iterations` to half the width of the widest structure",
                wide,
                self.iterations,
                2 * (self.iterations + 1),
            )


def _soft_skeleton(x: Any, iterations: int) -> Any:
    """Return the soft skeleton of (H, W, K): what openings of ever thinner masks remove."""
    skeleton = ops.relu(x - pool(_eroded(x), 3))
    for _ in range(iterations):
        x = _eroded(x)
        skeleton = skeleton + (1 - skeleton) * ops.relu(x - pool(_eroded(x), 3))
    return skeleton


def _eroded(x: Any) -> Any:
    return -pool(-x, 3)


boundary_f1_loss = as_function(BoundaryF1)
centerline_dice_loss = as_function(CenterlineDice)
