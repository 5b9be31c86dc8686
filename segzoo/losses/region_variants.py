"""Losses built on soft counts that are no plain ratio of them: log-cosh, generalized, Matthews'."""

from __future__ import annotations

from typing import Any, Unpack

from keras import ops

from segzoo._counts import Counts, tversky_distance, within_range
from segzoo._numerics import divide
from segzoo._reading import Batch
from segzoo.losses._declare import ShapeOptions, as_function, register
from segzoo.losses.region import RegionLoss


@register
class LogCoshDice(RegionLoss):
    """Log-cosh Dice loss: the Dice loss of each class, quadratic near 0 and linear far from it.

        LogCoshDice = log(cosh(Dice))

    Args:
        <shared>

    Returns:
        A scalar from 0 to log(cosh(1)) = 0.4338; with `reduction="none"` and `per_image` (B,).

    Raises:
        ValueError: if an argument is out of range or the shapes do not fit.

    Example:
        >>> import numpy as np
        >>> mask = np.array([[[[1.0], [1.0], [0.0], [0.0]]]])
        >>> print(round(float(LogCoshDice(smooth=0)(mask, 1 - mask)), 4))
        0.4338

    Reference:
        Jadon, "A survey of loss functions for semantic segmentation", CIBCB 2020,
        arXiv 2006.14822, section II.N. Differs from the paper: applied per class, then averaged.
    """

    def class_losses(self, counts: Counts) -> Any:
        """Return the log-cosh Dice loss of each class."""
        dice = tversky_distance(counts, 0.5, 0.5, 0.5 * self.smooth)
        return 0.5 * ops.log1p(ops.square(ops.sinh(dice)))  # log(cosh) without cancellation at 0


@register
class MCC(RegionLoss):
    """Matthews loss: one minus Matthews' correlation coefficient, which counts true negatives too.

        MCC = 1 - (tp tn - fp fn) / sqrt((tp + fp) (tp + fn) (tn + fp) (tn + fn))

    with soft counts, and `smooth` added to tp and tn.

    Args:
        <shared>

    Returns:
        A scalar in 0..2, 1 for a random prediction; with `reduction="none"` and `per_image` (B,).

    Raises:
        ValueError: if an argument is out of range or the shapes do not fit.

    Example:
        >>> import numpy as np
        >>> mask = np.array([[[[1.0], [1.0], [0.0], [0.0]]]])
        >>> print(round(float(MCC(smooth=0)(mask, 1 - mask)), 4))
        2.0

    Reference:
        Abhishek, Hamarneh, "Matthews Correlation Coefficient Loss for Deep Convolutional Networks:
        Application to Skin Lesion Segmentation", ISBI 2021, arXiv 2010.13454, equation 4.
    """

    def class_losses(self, counts: Counts) -> Any:
        """Return the Matthews loss of each class."""
        # Shares of all pixels: a product of four counts would leave float32's range.
        total = counts.total + 2 * self.smooth
        tp, fp, fn, tn = within_range(counts)
        shares = (tp + self.smooth, fp, fn, tn + self.smooth)
        tp, fp, fn, tn = (divide(share, total) for share in shares)
        scale = _sqrt((tp + fp) * (tp + fn)) * _sqrt((tn + fp) * (tn + fn))
        loss = 1 - divide(tp * tn - fp * fn, scale)
        # Without smoothing, an all-empty or all-full mask that is predicted right.
        return ops.where(ops.logical_and(scale == 0, fp + fn == 0), 0.0, loss)


@register
class GeneralizedDice(RegionLoss):
    """Generalized Dice loss: each class is weighted by the inverse square of its area.

        GeneralizedDice = 1 - (2 sum_c w_c tp_c + smooth)
                              / (sum_c w_c (2 tp_c + fp_c + fn_c) + smooth)
        w_c = (n / sum y_c) ** 2,  where n is the area of the smallest class present

    Args:
        <shared>

    Returns:
        A scalar in 0..1; with `reduction="none"` and `per_image` (B,).

    Raises:
        ValueError: if an argument is out of range or the shapes do not fit.

    Example:
        >>> import numpy as np
        >>> labels = np.array([[[0, 0, 0, 1]]])
        >>> print(float(GeneralizedDice()(labels, np.eye(2)[labels])))
        0.0

    Reference:
        Sudre, Li, Vercauteren, Ourselin, Cardoso, "Generalised Dice overlap as a deep learning loss
        function for highly unbalanced segmentations", DLMIA 2017, arXiv 1707.03237, section 2.
        Differs from the paper: an absent class weighs as much as the smallest one present, where
        the paper divides by zero, so that a false positive in it has a gradient; the weights are
        relative to that class, which changes no ratio and gives `smooth` a scale.
    """

    def __init__(self, **options: Unpack[ShapeOptions]):
        super().__init__(**options)

    def _average(self, counts: Counts, batch: Batch) -> Any:
        """Return the loss over all classes: (B, C) to (B,)."""
        area = counts.tp + counts.fn
        present = area > 0
        far = ops.where(present, area, ops.full_like(area, float("inf")))
        smallest = ops.min(far, axis=-1, keepdims=True, initial=float("inf"))
        relative = ops.where(present, smallest / ops.where(present, area, 1.0), 1.0)
        weighted = counts.scaled(ops.stop_gradient(ops.square(relative)))
        weighted = weighted.sum(axis=-1, keepdims=True)
        return ops.squeeze(tversky_distance(weighted, 0.5, 0.5, 0.5 * self.smooth), -1)


def _sqrt(x: Any) -> Any:
    """Return the square root, with gradient 0 at 0."""
    positive = x > 0
    root = ops.sqrt(ops.where(positive, x, ops.ones_like(x)))
    return ops.where(positive, root, ops.zeros_like(x))


log_cosh_dice_loss = as_function(LogCoshDice)
generalized_dice_loss = as_function(GeneralizedDice)
mcc_loss = as_function(MCC)
