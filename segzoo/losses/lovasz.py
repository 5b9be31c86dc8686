"""Lovász losses: convex surrogates of the Jaccard index, from sorted errors.

Berman, Rannen Triki, Blaschko, "The Lovász-Softmax loss: A tractable surrogate for the optimization
of the intersection-over-union measure in neural networks", CVPR 2018, arXiv 1705.08790.
"""

from __future__ import annotations

from typing import Any, Unpack

from keras import ops

from segzoo._arguments import flag
from segzoo._reading import Batch
from segzoo.losses._base import SegmentationLoss, several_classes
from segzoo.losses._declare import LossOptions, LovaszOptions, as_function, register


class LovaszLoss(SegmentationLoss):
    """Base of the Lovász losses: one sorted row for each class, and image with `per_image`."""

    def __init__(
        self,
        per_image: bool = False,
        multilabel: bool = False,
        **options: Unpack[LossOptions],
    ):
        super().__init__(multilabel=multilabel, **options)
        self.per_image = flag("per_image", per_image)

    def _rows(self, x: Any, batch: Batch) -> Any:
        """Return (B, H, W, C) as (B, C, H W) with `per_image`, else as (1, C, B H W)."""
        images, height, width, classes = batch.size
        x = ops.broadcast_to(x, batch.size)
        if self.per_image:
            x = ops.reshape(x, (images, height * width, classes))
        else:
            x = ops.reshape(x, (1, images * height * width, classes))
        return ops.transpose(x, (0, 2, 1))

    def _reduced(self, batch: Batch, losses: Any) -> tuple[Batch, Any, Any]:
        if self.per_image:
            return self._mean_over_images(batch, losses)
        return batch, losses[0], 1.0


@register
class LovaszHinge(LovaszLoss):
    """Lovász hinge loss: the Jaccard loss of each class by itself, convex in the logits.

        LovaszHinge = sum_i max(m_i, 0) dJ_i,    m_i = 1 - (2 y_i - 1) logit_i in falling order

    where dJ are the increments of the Jaccard loss along that order. Averaged over the classes. If
    the truth is empty, the loss is the largest error.

    Args:
        <shared>

    Returns:
        A scalar >= 0; with `reduction="none"` and `per_image` (B,).

    Raises:
        ValueError: if an argument is out of range, the shapes do not fit, or `sample_weight` weighs
            pixels.

    Example:
        >>> import numpy as np
        >>> logits = np.array([[[[3.0], [0.5], [-3.0]]]])
        >>> print(float(LovaszHinge(from_logits=True)(np.array([[[1, 0, 0]]]), logits)))
        0.75

    Reference:
        Berman, Rannen Triki, Blaschko, "The Lovász-Softmax loss", CVPR 2018, arXiv 1705.08790,
        equations 7 to 9. Probabilities are turned into logits, between those of 1e-7 and 1 - 1e-7.
    """

    def __init__(self, **options: Unpack[LovaszOptions]):
        super().__init__(multilabel=True, **options)

    def weighted_losses(self, batch: Batch) -> tuple[Batch, Any, Any]:
        """Return (B,) or a scalar, and what its sum is divided by."""
        self._only_image_weights(batch, self.per_image)
        logits = batch.settle(batch.scores)
        if not self.from_logits:
            probs = ops.clip(logits, 1e-7, 1 - 1e-7)
            logits = ops.log(probs) - ops.log1p(-probs)
        truth = batch.dense() >= 0.5
        errors = 1 - ops.where(truth, logits, -logits)
        if batch.valid is not None:
            errors = ops.where(batch.valid, errors, ops.full_like(errors, -1.0))
        rows = _lovasz_extension(self._rows(errors, batch), self._rows(truth, batch))
        return self._reduced(batch, ops.sum(rows / batch.classes, axis=-1))


@register
class LovaszSoftmax(LovaszLoss):
    """Lovász-softmax loss: the Jaccard loss of exclusive classes, extended to probabilities.

        LovaszSoftmax = mean over the classes present of sum_i m_i dJ_i,
        m_i = |y_i - p_i| in falling order

    where dJ are the increments of the class's Jaccard loss along that order.

    Args:
        <shared>

    Returns:
        A scalar in 0..1; with `reduction="none"` and `per_image` (B,).

    Raises:
        ValueError: if there is one class only, an argument is out of range, the shapes do not fit,
            or `sample_weight` weighs pixels.

    Example:
        >>> import numpy as np
        >>> labels = np.array([[[0, 0, 1, 1]]])
        >>> wrong = np.eye(2)[[[[0, 1, 1, 1]]]]
        >>> print(round(float(LovaszSoftmax()(labels, wrong)), 4))  # 1 - (1/2 + 2/3) / 2
        0.4167

    Reference:
        Berman, Rannen Triki, Blaschko, "The Lovász-Softmax loss", CVPR 2018, arXiv 1705.08790,
        equations 10 and 11, averaged over the classes present in the truth.
    """

    def __init__(self, **options: Unpack[LovaszOptions]):
        super().__init__(**options)

    def weighted_losses(self, batch: Batch) -> tuple[Batch, Any, Any]:
        """Return (B,) or a scalar, and what its sum is divided by."""
        several_classes(self, batch, "LovaszHinge")
        self._only_image_weights(batch, self.per_image)
        truth = ops.one_hot(batch.labels(), batch.classes, dtype="bool")
        probs = batch.settle(batch.probabilities())
        errors = ops.where(truth, 1 - probs, probs)
        if batch.valid is not None:
            errors = ops.where(batch.valid, errors, ops.full_like(errors, -1.0))
        truth = self._rows(truth, batch)
        rows = _lovasz_extension(self._rows(errors, batch), truth)
        present = ops.cast(ops.any(truth, axis=-1), rows.dtype)  # (B or 1, C)
        count = ops.maximum(ops.sum(present, axis=-1), 1.0)
        return self._reduced(batch, ops.sum(rows * present, axis=-1) / count)


def _lovasz_extension(errors: Any, truth: Any) -> Any:
    """Return the Lovász extension of the Jaccard loss at max(errors, 0), over the last axis.

    With intersection I and union U after each pixel in falling order of error, the Jaccard loss
    1 - I / U grows by 1 / U at a true pixel and by I / (U (U - 1)) at any other: in this form the
    increments keep their digits, as differences of neighbors, 1e-7 apart, would not.
    """
    order = ops.stop_gradient(ops.argsort(-errors, axis=-1))
    errors = ops.take_along_axis(errors, order, axis=-1)
    hit = ops.cast(ops.take_along_axis(truth, order, axis=-1), "int32")
    area = ops.sum(hit, axis=-1, keepdims=True)
    intersection = ops.cast(area - ops.cumsum(hit, axis=-1), errors.dtype)
    union = ops.cast(area + ops.cumsum(1 - hit, axis=-1), errors.dtype)
    # On an empty truth the first pixel brings the whole loss: U is 1 there, and I 0.
    missed = ops.where(union > 1, intersection / union / ops.maximum(union - 1, 1), 1.0)
    growth = ops.stop_gradient(ops.where(hit == 1, 1 / ops.maximum(union, 1), missed))
    return ops.sum(ops.maximum(errors, 0) * growth, axis=-1)


lovasz_hinge_loss = as_function(LovaszHinge)
lovasz_softmax_loss = as_function(LovaszSoftmax)
