"""Losses of exclusive classes: cross-entropy and focal loss."""

from __future__ import annotations

from typing import Any, Unpack

from keras import ops

from segzoo._arguments import number
from segzoo._numerics import with_gradient
from segzoo._reading import Batch
from segzoo.losses._base import several_classes
from segzoo.losses._declare import PixelOptions, as_function, register
from segzoo.losses._pixel import PixelLoss, cost, costs_of_logits, power


class _CategoricalLoss(PixelLoss):
    """Base of the losses of exclusive classes.

    A subclass has the weight of each cost -log p, and for logits its part of the derivative, which
    is written down: the sum over the classes of t_c f(p_c) has the derivative g_k - p_k sum_c g_c
    by logit k, with g = t p f'(p).
    """

    _instead: str

    def __init__(self, **options: Unpack[PixelOptions]):
        super().__init__(**options)

    def weighted_losses(self, batch: Batch) -> tuple[Batch, Any, Any]:
        """Return (B, H, W), and the divisor of the sum."""
        several_classes(self, batch, self._instead)
        targets = batch.dense()
        counted = None if batch.valid is None else ops.cast(batch.valid, batch.dtype)
        class_weights = self._weights_of_classes(batch)
        weighted = targets
        if self.label_smoothing:
            weighted = targets * (1 - self.label_smoothing) + self.label_smoothing / batch.classes
            if counted is not None:
                weighted = weighted * counted
        if class_weights is not None:
            counted = ops.sum(targets * class_weights, axis=-1, keepdims=True)
            weighted = weighted * class_weights
        if self.from_logits:
            loss = with_gradient(self._of_logits, self._slope_of_logits)
            values = loss(batch.scores, weighted, batch.fine())
        else:
            p = batch.settle(batch.scores)
            values = ops.sum(weighted * self._weighted_cost(1 - p, cost(p)), axis=-1)
        weights = batch.weights()
        if weights is not None:
            values = values * ops.squeeze(weights, -1)
        return batch, values, self._divisor(batch, counted)

    def _of_logits(self, x: Any, targets: Any, _: Any) -> Any:
        costs = costs_of_logits(x)
        return ops.sum(targets * self._weighted_cost(-ops.expm1(-costs), costs), axis=-1)

    def _slope_of_logits(self, upstream: Any, x: Any, targets: Any, fine: Any) -> Any:
        parts = targets * self._part(x)
        p = ops.exp(-costs_of_logits(x))  # which a graph has computed already, unlike a softmax
        slope = parts - p * ops.sum(parts, axis=-1, keepdims=True)
        # Times upstream, and 0 where that is 0 or the batch is bad, whatever NaN stands before.
        inverse = ops.divide_no_nan(fine, ops.expand_dims(upstream, -1))
        return ops.divide_no_nan(slope, inverse)

    def _weighted_cost(self, q: Any, costs: Any) -> Any:
        """Return f(p) of q = 1 - p and -log p."""
        raise NotImplementedError

    def _part(self, x: Any) -> Any:
        """Return p f'(p) of logits."""
        raise NotImplementedError


@register
class CategoricalCrossentropy(_CategoricalLoss):
    """Categorical cross-entropy, for exclusive classes.

        CategoricalCrossentropy = mean of -sum_c y_c log p_c

    With `class_weights` the mean is sum_i w_i loss_i / sum_i w_i, where w_i is the weight of the
    class of pixel i. Probabilities are clipped at 1e-7 in the logarithm.

    Args:
        <shared>

    Returns:
        A scalar >= 0; (B, H, W) with `reduction="none"`.

    Raises:
        ValueError: if there is one class only, an argument is out of range, or the shapes do not
            fit.

    Example:
        >>> import numpy as np
        >>> labels, logits = np.array([[[2, 0]]]), np.zeros((1, 1, 2, 3))
        >>> print(round(float(CategoricalCrossentropy(from_logits=True)(labels, logits)), 4))
        1.0986

    Reference:
        Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic Segmentation", CVPR
        2015, arXiv 1411.4038, section 3 (a loss summed over pixels).
    """

    _instead = "BinaryCrossentropy"

    def _weighted_cost(self, q: Any, costs: Any) -> Any:
        return costs

    def _part(self, x: Any) -> Any:
        return -1.0


@register
class CategoricalFocal(_CategoricalLoss):
    """Categorical focal loss: cross-entropy of exclusive classes with little weight on easy pixels.

        CategoricalFocal = mean of -sum_c alpha y_c (1 - p_c) ** gamma log p_c

    Args:
        gamma: the focusing exponent, >= 0; 0 gives cross-entropy. Defaults to 2.0.
        alpha: factor >= 0 of the whole loss, or None for 1; for a factor of each class use
            `class_weights`. Defaults to None.
        <shared>

    Returns:
        A scalar >= 0; (B, H, W) with `reduction="none"`.

    Raises:
        ValueError: if there is one class only, an argument is out of range, or the shapes do not
            fit.

    Example:
        >>> import numpy as np
        >>> labels, logits = np.array([[[2, 0]]]), np.zeros((1, 1, 2, 3))
        >>> print(round(float(CategoricalFocal(from_logits=True)(labels, logits)), 4))
        0.4883

    Reference:
        Lin, Goyal, Girshick, He, Dollar, "Focal Loss for Dense Object Detection", ICCV 2017,
        arXiv 1708.02002, equation 5, with the softmax probability of the true class.
    """

    _instead = "BinaryFocal"

    def __init__(
        self,
        gamma: float = 2.0,
        alpha: float | None = None,
        **options: Unpack[PixelOptions],
    ):
        super().__init__(**options)
        self.gamma = number("gamma", gamma)
        self.alpha = alpha if alpha is None else number("alpha", alpha)

    def _weighted_cost(self, q: Any, costs: Any) -> Any:
        scale = 1.0 if self.alpha is None else self.alpha
        return scale * power(q, self.gamma) * costs

    def _part(self, x: Any) -> Any:
        costs = costs_of_logits(x)
        p, q = ops.exp(-costs), -ops.expm1(-costs)
        scale = 1.0 if self.alpha is None else self.alpha
        # Each cost, which may be as large as float32, only with its vanishing probability.
        slowing = power(q, self.gamma - 1) * ((self.gamma * p) * costs)
        return -scale * (power(q, self.gamma) + slowing)


categorical_crossentropy_loss = as_function(CategoricalCrossentropy)
categorical_focal_loss = as_function(CategoricalFocal)
