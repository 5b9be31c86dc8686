"""Losses of the overlap of regions: Dice, Jaccard, Tversky and focal Tversky.

All sum soft counts tp, fp, fn over pixels (`segzoo._overlap`), score each class and average.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import ops

from segzoo import _targets
from segzoo._overlap import Overlap, overlap, tversky_distance
from segzoo.losses._base import (
    SegmentationLoss,
    as_function,
    at_least,
    checked_class_weights,
    register,
    weights_of_classes,
)


class RegionLoss(SegmentationLoss):
    """Base of the region losses: counts, then `class_losses`, then the averages."""

    def __init__(
        self,
        from_logits: bool = False,
        multilabel: bool = False,
        per_image: bool = False,
        average: str = "macro",
        class_weights: Sequence[float] | None = None,
        ignore_class: int | Sequence[int] | None = None,
        smooth: float = 1.0,
        name: str | None = None,
        reduction: str | None = "sum_over_batch_size",
        dtype: Any = None,
    ):
        super().__init__(from_logits, ignore_class, name, reduction, dtype)
        if average not in ("macro", "micro"):
            raise ValueError(f'`average` must be "macro" or "micro", received average={average!r}')
        self.multilabel = multilabel
        self.per_image = per_image
        self.average = average
        self.class_weights = checked_class_weights(class_weights)
        self.smooth = at_least("smooth", smooth)

    def class_losses(self, counts: Overlap) -> Any:
        """Returns the loss of each class, in the shape of the counts."""
        raise NotImplementedError

    def call(self, y_true: Any, y_pred: Any, weights: Any = None) -> tuple[Any, Any]:
        """Returns (B,) or a scalar, and what its sum is divided by."""
        image_weights = None
        if self.per_image and weights is not None and weights.shape[1] == 1 == weights.shape[2]:
            image_weights, weights = weights, None
        counts = self._counts(y_true, y_pred, weights)
        losses = self._average(counts if self.per_image else counts.sum(axis=0), y_pred)
        if self.per_image:
            return self._mean_over_images(losses, image_weights)
        return losses[0], 1.0

    def _counts(self, y_true: Any, y_pred: Any, weights: Any) -> Overlap:
        """Returns the soft counts (B, C)."""
        classes = y_pred.shape[-1]
        valid = _targets.valid_mask(y_true, classes, self._ignored)
        if valid is not None:
            valid = ops.cast(valid, y_pred.dtype)
            weights = valid if weights is None else weights * valid
        if len(y_true.shape) == 3:
            targets = _targets.label_targets(y_true, classes)
        else:
            mask = None if valid is None else valid > 0
            targets = _targets.dense_targets(y_true, classes, mask, y_pred.dtype)
        y_pred = _targets.probabilities(y_pred, self.from_logits, self.multilabel)
        return overlap(targets, y_pred, weights)

    def _average(self, counts: Overlap, y_pred: Any) -> Any:
        """Returns the mean over the classes: (B, C) to (B,)."""
        weights = weights_of_classes(self.class_weights, y_pred)
        if self.average == "micro":
            if weights is not None:
                counts = counts.scaled(weights / ops.mean(weights))
            return ops.squeeze(self.class_losses(counts.sum(axis=-1)), -1)
        losses = self.class_losses(counts)
        if weights is None:
            return ops.mean(losses, axis=-1)
        return ops.sum(weights * losses, axis=-1) / ops.sum(weights)


@register
class Dice(RegionLoss):
    """Dice loss: one minus twice the overlap over the sum of both areas.

        Dice = 1 - (2 tp + smooth) / (2 tp + fp + fn + smooth)

    Args:
        <shared>

    Returns:
        A scalar in 0..1; with `reduction="none"` and `per_image` (B,).

    Raises:
        ValueError: for arguments out of range, or shapes that do not fit.

    Example:
        >>> import numpy as np
        >>> mask = np.array([[[[1.0], [1.0], [0.0], [0.0]]]])
        >>> print(round(float(Dice(smooth=0)(mask, mask[:, :, ::-1] * 0.5 + mask * 0.5)), 4))
        0.5

    Reference:
        Milletari, Navab, Ahmadi, "V-Net: Fully Convolutional Neural Networks for Volumetric
        Medical Image Segmentation", 3DV 2016, arXiv 1606.04797, section 3. Differs from the paper:
        the denominator has no squares, as in Drozdzal et al. 2016, arXiv 1608.04117.
    """

    def class_losses(self, counts: Overlap) -> Any:
        """Returns the Dice loss of each class."""
        return tversky_distance(counts, 0.5, 0.5, 0.5 * self.smooth)


@register
class Jaccard(RegionLoss):
    """Jaccard (IoU) loss: one minus intersection over union.

        Jaccard = 1 - (tp + smooth) / (tp + fp + fn + smooth)

    Args:
        <shared>

    Returns:
        A scalar in 0..1; with `reduction="none"` and `per_image` (B,).

    Raises:
        ValueError: for arguments out of range, or shapes that do not fit.

    Example:
        >>> import numpy as np
        >>> mask = np.array([[[[1.0], [1.0], [0.0]]]])
        >>> print(round(float(Jaccard(smooth=0)(mask, mask[:, :, ::-1])), 4))
        0.6667

    Reference:
        Rahman, Wang, "Optimizing Intersection-Over-Union in Deep Neural Networks for Image
        Segmentation", ISVC 2016, equations 1 to 3.
    """

    def class_losses(self, counts: Overlap) -> Any:
        """Returns the Jaccard loss of each class."""
        return tversky_distance(counts, 1.0, 1.0, self.smooth)


@register
class Tversky(RegionLoss):
    """Tversky loss: Dice with a weight of its own for each kind of error.

        Tversky = 1 - (tp + smooth) / (tp + alpha fp + beta fn + smooth)

    Args:
        alpha: weight of false positives, >= 0.
        beta: weight of false negatives, >= 0; above `alpha` it favors recall.
        <shared>

    Returns:
        A scalar in 0..1; with `reduction="none"` and `per_image` (B,).

    Raises:
        ValueError: for arguments out of range, or shapes that do not fit.

    Example:
        >>> import numpy as np
        >>> mask = np.array([[[[1.0], [1.0], [0.0], [0.0]]]])
        >>> missed, extra = mask * [[[[1], [0], [0], [0]]]], mask + [[[[0], [0], [1], [0]]]]
        >>> loss = Tversky(smooth=0)
        >>> print(round(float(loss(mask, missed)), 4), round(float(loss(mask, extra)), 4))
        0.4118 0.1304

    Reference:
        Salehi, Erdogmus, Gholipour, "Tversky loss function for image segmentation using 3D fully
        convolutional deep networks", MLMI 2017, arXiv 1706.05721, equation 4.
    """

    def __init__(
        self,
        alpha: float = 0.3,
        beta: float = 0.7,
        from_logits: bool = False,
        multilabel: bool = False,
        per_image: bool = False,
        average: str = "macro",
        class_weights: Sequence[float] | None = None,
        ignore_class: int | Sequence[int] | None = None,
        smooth: float = 1.0,
        name: str | None = None,
        reduction: str | None = "sum_over_batch_size",
        dtype: Any = None,
    ):
        super().__init__(
            from_logits,
            multilabel,
            per_image,
            average,
            class_weights,
            ignore_class,
            smooth,
            name,
            reduction,
            dtype,
        )
        self.alpha = at_least("alpha", alpha)
        self.beta = at_least("beta", beta)

    def class_losses(self, counts: Overlap) -> Any:
        """Returns the Tversky loss of each class."""
        return tversky_distance(counts, self.alpha, self.beta, self.smooth)


@register
class FocalTversky(Tversky):
    """Focal Tversky loss: the Tversky loss of each class to a power.

        FocalTversky = Tversky ** gamma

    The gradient at 0, infinite for gamma < 1, is taken as 0.

    Args:
        alpha: weight of false positives, >= 0.
        beta: weight of false negatives, >= 0.
        gamma: the exponent, > 0; below 1 a class that is nearly right still learns.
        <shared>

    Returns:
        A scalar in 0..1; with `reduction="none"` and `per_image` (B,).

    Raises:
        ValueError: for arguments out of range, or shapes that do not fit.

    Example:
        >>> import numpy as np
        >>> mask = np.array([[[[1.0], [1.0], [0.0]]]])
        >>> print(float(FocalTversky()(mask, mask)))
        0.0

    Reference:
        Abraham, Khan, "A Novel Focal Tversky Loss Function with Improved Attention U-Net for Lesion
        Segmentation", ISBI 2019, arXiv 1810.07842, equation 4. Differs from the paper: `gamma` is
        the exponent itself, the paper's 1 / gamma; alpha weighs false positives, the paper's beta.
    """

    def __init__(
        self,
        alpha: float = 0.3,
        beta: float = 0.7,
        gamma: float = 0.75,
        from_logits: bool = False,
        multilabel: bool = False,
        per_image: bool = False,
        average: str = "macro",
        class_weights: Sequence[float] | None = None,
        ignore_class: int | Sequence[int] | None = None,
        smooth: float = 1.0,
        name: str | None = None,
        reduction: str | None = "sum_over_batch_size",
        dtype: Any = None,
    ):
        super().__init__(
            alpha,
            beta,
            from_logits,
            multilabel,
            per_image,
            average,
            class_weights,
            ignore_class,
            smooth,
            name,
            reduction,
            dtype,
        )
        if not 0 < gamma < float("inf"):
            raise ValueError(f"`gamma` must be > 0, received gamma={gamma}")
        self.gamma = gamma

    def class_losses(self, counts: Overlap) -> Any:
        """Returns the focal Tversky loss of each class."""
        losses = super().class_losses(counts)
        positive = losses > 0
        power = ops.power(ops.where(positive, losses, ops.ones_like(losses)), self.gamma)
        return ops.where(positive, power, ops.zeros_like(losses))


dice_loss = as_function(Dice)
jaccard_loss = as_function(Jaccard)
tversky_loss = as_function(Tversky)
focal_tversky_loss = as_function(FocalTversky)
