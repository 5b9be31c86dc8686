"""Losses of the overlap of regions: Dice, Jaccard, Tversky and focal Tversky.

All sum soft counts tp, fp, fn over pixels (`segzoo._counts`), score each class and average.
"""

from __future__ import annotations

from typing import Any, Unpack

import keras
import numpy as np
from keras import ops

from segzoo._arguments import (
    ClassWeights,
    class_weights_of,
    flag,
    list_of_weights,
    number,
    one_of,
)
from segzoo._counts import Counts, soft_counts, tversky_distance
from segzoo._numerics import mean_of_last
from segzoo._reading import Batch
from segzoo.losses._base import SegmentationLoss
from segzoo.losses._declare import LossOptions, RegionOptions, as_function, register


class RegionLoss(SegmentationLoss):
    """Base of the region losses: counts, then `class_losses`, then the averages."""

    _counts_softly = True

    def __init__(
        self,
        multilabel: bool = False,
        per_image: bool = False,
        average: str = "macro",
        class_weights: ClassWeights = None,
        smooth: float = 1.0,
        **options: Unpack[LossOptions],
    ):
        super().__init__(multilabel=multilabel, **options)
        self.per_image = flag("per_image", per_image)
        self.average = one_of("average", average, ("macro", "micro"))
        self.class_weights = class_weights_of(class_weights)
        self.smooth = number("smooth", smooth)

    def class_losses(self, counts: Counts) -> Any:
        """Return the loss of each class, in the shape of the counts."""
        raise NotImplementedError

    def weighted_losses(self, batch: Batch) -> tuple[Batch, Any, Any]:
        """Return (B,) or a scalar, and what its sum is divided by."""
        counts, batch = soft_counts(batch, weigh_images=not self.per_image)
        if self.per_image:
            return self._mean_over_images(batch, self._average(counts, batch))
        losses = self._average(counts.sum(axis=0, keepdims=True), batch)
        return batch, losses[0], 1.0

    def _average(self, counts: Counts, batch: Batch) -> Any:
        """Return the mean over the classes: (B, C) to (B,)."""
        weights = list_of_weights(self.class_weights, batch.classes)
        if weights is not None:
            weights = ops.convert_to_tensor(weights, dtype=batch.dtype)
        if self.average == "micro":
            if weights is not None:
                counts = counts.scaled(weights / mean_of_last(weights))
            return ops.squeeze(self.class_losses(counts.sum(axis=-1, keepdims=True)), -1)
        losses = self.class_losses(counts)
        if weights is None:
            return mean_of_last(losses)
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
        ValueError: if an argument is out of range or the shapes do not fit.

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

    def class_losses(self, counts: Counts) -> Any:
        """Return the Dice loss of each class."""
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
        ValueError: if an argument is out of range or the shapes do not fit.

    Example:
        >>> import numpy as np
        >>> mask = np.array([[[[1.0], [1.0], [0.0]]]])
        >>> print(round(float(Jaccard(smooth=0)(mask, mask[:, :, ::-1])), 4))
        0.6667

    Reference:
        Rahman, Wang, "Optimizing Intersection-Over-Union in Deep Neural Networks for Image
        Segmentation", ISVC 2016, equations 1 to 3.
    """

    def class_losses(self, counts: Counts) -> Any:
        """Return the Jaccard loss of each class."""
        return tversky_distance(counts, 1.0, 1.0, self.smooth)


@register
class Tversky(RegionLoss):
    """Tversky loss: Dice with separate weights of false positives and false negatives.

        Tversky = 1 - (tp + smooth) / (tp + alpha fp + beta fn + smooth)

    Args:
        alpha: weight of false positives, >= 0. Defaults to 0.3.
        beta: weight of false negatives, >= 0; above `alpha` it favors recall. Defaults to 0.7.
        <shared>

    Returns:
        A scalar in 0..1; with `reduction="none"` and `per_image` (B,).

    Raises:
        ValueError: if an argument is out of range or the shapes do not fit.

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
        **options: Unpack[RegionOptions],
    ):
        super().__init__(**options)
        self.alpha = number("alpha", alpha)
        self.beta = number("beta", beta)

    def class_losses(self, counts: Counts) -> Any:
        """Return the Tversky loss of each class."""
        return tversky_distance(counts, self.alpha, self.beta, self.smooth)


@register
class FocalTversky(Tversky):
    """Focal Tversky loss: the Tversky loss of each class, raised to a power.

        FocalTversky = Tversky ** gamma

    The gradient at 0, which is infinite for gamma < 1, is taken to be 0.

    Args:
        alpha: weight of false positives, >= 0. Defaults to 0.3.
        beta: weight of false negatives, >= 0. Defaults to 0.7.
        gamma: the exponent, > 0; below 1 a class that is nearly right keeps its gradient. Defaults
            to 0.75.
        <shared>

    Returns:
        A scalar in 0..1; with `reduction="none"` and `per_image` (B,).

    Raises:
        ValueError: if an argument is out of range or the shapes do not fit.

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
        **options: Unpack[RegionOptions],
    ):
        super().__init__(alpha, beta, **options)
        self.gamma = number("gamma", gamma)
        if gamma == 0:
            raise ValueError("`gamma` must be > 0, received gamma=0")

    def class_losses(self, counts: Counts) -> Any:
        """Return the focal Tversky loss of each class."""
        losses = super().class_losses(counts)
        # An index within rounding of 1 is 1: a power below 1 would blow the last bit up.
        positive = losses > np.finfo(keras.backend.standardize_dtype(losses.dtype)).eps
        power = ops.power(ops.where(positive, losses, ops.ones_like(losses)), self.gamma)
        return ops.where(positive, power, ops.zeros_like(losses))


dice_loss = as_function(Dice)
jaccard_loss = as_function(Jaccard)
tversky_loss = as_function(Tversky)
focal_tversky_loss = as_function(FocalTversky)
