"""Losses of each class by itself: binary cross-entropy and binary focal loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import ops

from segzoo import _targets
from segzoo._overlap import divide, with_gradient
from segzoo.losses._base import as_function, at_least, register, weights_of_classes
from segzoo.losses._pixel import EPSILON, PixelLoss, cost, cost_of_complement, power


class _BinaryLoss(PixelLoss):
    """Base of the losses that treat each class by itself.

    A subclass has the loss of an entry, for probabilities and for logits, and its derivative by the
    logit; that by the probability p is 1 / (p (1 - p)) times as large. The derivative is written
    down because it takes half the passes over (B, H, W, C) that automatic differentiation takes,
    and passes are the time of a step. It is spelled with the terms of the loss, which a compiler
    then computes once. Second derivatives are exact too.
    """

    multilabel: bool

    def call(self, y_true: Any, y_pred: Any, weights: Any = None) -> tuple[Any, Any]:
        """Returns the mean over the classes, (B, H, W) or summed as reduced, and its divisor."""
        classes = y_pred.shape[-1]
        valid = _targets.valid_mask(y_true, classes, self._ignored)
        targets = _targets.dense_targets(y_true, classes, valid, y_pred.dtype)
        targets = ops.stop_gradient(targets)
        if self.label_smoothing:
            targets = targets * (1 - self.label_smoothing) + 0.5 * self.label_smoothing
        as_logits = self.from_logits and (self.multilabel or classes == 1)
        if not as_logits:
            y_pred = _targets.probabilities(y_pred, self.from_logits)
        factor, counted = self._shares(y_pred, valid)
        if weights is not None:
            factor = factor * weights
        scale, factor = (factor, None) if isinstance(factor, float) else (1.0, factor)
        for_each_pixel = self.reduction in (None, "none")

        def loss(x: Any) -> Any:
            values = self._loss(targets, x, as_logits)
            if factor is not None:
                values = values * factor
            if for_each_pixel:
                return scale * ops.sum(values, axis=-1)
            return scale * ops.sum(ops.sum(values, axis=(2, 3)))  # no long float32 sum

        def slope(x: Any, upstream: Any) -> Any:
            upstream = scale * (ops.expand_dims(upstream, -1) if for_each_pixel else upstream)
            if factor is not None:
                upstream = upstream * factor
            by_logit = upstream * self._slope(targets, x, as_logits)
            if as_logits:
                return by_logit
            spread = x * (1 - x)
            inside = spread > EPSILON * (1 - 2 * EPSILON)  # where no logarithm is cut off
            return ops.divide_no_nan(by_logit * ops.cast(inside, x.dtype), spread)

        return with_gradient(loss, slope)(y_pred), self._divisor(y_pred, counted, weights)

    def _shares(self, y_pred: Any, valid: Any) -> tuple[Any, Any]:
        """Returns what each entry counts in its pixel's mean, and each pixel in the divisor."""
        share = weights_of_classes(self.class_weights, y_pred)
        counted = None if valid is None else ops.cast(valid, y_pred.dtype)
        if counted is None or counted.shape[-1] == 1:
            share = 1 / y_pred.shape[-1] if share is None else share / ops.sum(share)
            return share if counted is None else share * counted, counted
        share = counted if share is None else share * counted  # (B, H, W, C)
        total = ops.sum(share, axis=-1, keepdims=True)
        return divide(share, total), ops.cast(total > 0, y_pred.dtype)

    def _loss(self, y: Any, x: Any, as_logits: bool) -> Any:
        raise NotImplementedError

    def _slope(self, y: Any, x: Any, as_logits: bool) -> Any:
        raise NotImplementedError


@register
class BinaryCrossentropy(_BinaryLoss):
    """Cross-entropy of each class by itself, for one class or classes that may overlap.

        BinaryCrossentropy = mean of -(y log p + (1 - y) log(1 - p))

    Logarithms of probabilities are cut off at 1e-7, as in Keras.

    Args:
        multilabel: `False` lets logits of several classes take a softmax instead of a sigmoid each.
        <shared>

    Returns:
        A scalar >= 0; (B, H, W) with `reduction="none"`.

    Raises:
        ValueError: for arguments out of range, or shapes that do not fit.

    Example:
        >>> import numpy as np
        >>> mask = np.array([[[1, 0, 255]]])
        >>> probabilities = np.array([[[[0.5], [0.5], [0.9]]]])
        >>> print(round(float(BinaryCrossentropy(ignore_class=255)(mask, probabilities)), 4))
        0.6931

    Reference:
        Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic Segmentation", CVPR
        2015, arXiv 1411.4038, section 3 (a loss summed over pixels).
    """

    def __init__(
        self,
        from_logits: bool = False,
        multilabel: bool = True,
        class_weights: Sequence[float] | None = None,
        ignore_class: int | Sequence[int] | None = None,
        label_smoothing: float = 0.0,
        name: str | None = None,
        reduction: str | None = "sum_over_batch_size",
        dtype: Any = None,
    ):
        super().__init__(
            from_logits, class_weights, ignore_class, label_smoothing, name, reduction, dtype
        )
        self.multilabel = multilabel

    def _loss(self, y: Any, x: Any, as_logits: bool) -> Any:
        if as_logits:
            return ops.relu(x) - x * y + _softplus_of_minus_abs(x)
        return y * cost(x) + (1 - y) * cost_of_complement(x)

    def _slope(self, y: Any, x: Any, as_logits: bool) -> Any:
        return (ops.sigmoid(x) if as_logits else x) - y


@register
class BinaryFocal(_BinaryLoss):
    """Focal loss of each class by itself: cross-entropy that lets go of easy pixels.

        BinaryFocal = mean of -(alpha y (1 - p) ** gamma log p
                                + (1 - alpha) (1 - y) p ** gamma log(1 - p))

    Args:
        gamma: the focusing exponent, >= 0; 0 gives weighted cross-entropy.
        alpha: weight of the foreground in 0..1, or `None` for no weights.
        multilabel: `False` lets logits of several classes take a softmax instead of a sigmoid each.
        <shared>

    Returns:
        A scalar >= 0; (B, H, W) with `reduction="none"`.

    Raises:
        ValueError: for arguments out of range, or shapes that do not fit.

    Example:
        >>> import numpy as np
        >>> mask = np.array([[[1, 0]]])
        >>> easy, hard = np.array([[[[0.9], [0.1]]]]), np.array([[[[0.4], [0.6]]]])
        >>> print(float(BinaryFocal()(mask, hard)) > 50 * float(BinaryFocal()(mask, easy)))
        True

    Reference:
        Lin, Goyal, Girshick, He, Dollar, "Focal Loss for Dense Object Detection", ICCV 2017,
        arXiv 1708.02002, equation 5.
    """

    def __init__(
        self,
        gamma: float = 2.0,
        alpha: float | None = 0.25,
        from_logits: bool = False,
        multilabel: bool = True,
        class_weights: Sequence[float] | None = None,
        ignore_class: int | Sequence[int] | None = None,
        label_smoothing: float = 0.0,
        name: str | None = None,
        reduction: str | None = "sum_over_batch_size",
        dtype: Any = None,
    ):
        super().__init__(
            from_logits, class_weights, ignore_class, label_smoothing, name, reduction, dtype
        )
        self.multilabel = multilabel
        self.gamma = at_least("gamma", gamma)
        self.alpha = alpha if alpha is None else at_least("alpha", alpha, 0, 1)

    def _parts(self, y: Any, x: Any, as_logits: bool) -> tuple[Any, ...]:
        """Returns p, 1 - p, and the focused weight and the cost of foreground and background."""
        front, back = y, 1 - y
        if self.alpha is not None:
            front, back = self.alpha * front, (1 - self.alpha) * back
        if as_logits:  # -log p = softplus(-x) = relu(-x) + softplus(-|x|)
            p, q, small = ops.sigmoid(x), ops.sigmoid(-x), _softplus_of_minus_abs(x)
            cost_p, cost_q = ops.relu(-x) + small, ops.relu(x) + small
        else:
            p, q = x, 1 - x
            cost_p, cost_q = cost(x), cost_of_complement(x)
        return p, q, front * power(q, self.gamma), cost_p, back * power(p, self.gamma), cost_q

    def _loss(self, y: Any, x: Any, as_logits: bool) -> Any:
        _, _, front, cost_p, back, cost_q = self._parts(y, x, as_logits)
        return front * cost_p + back * cost_q

    def _slope(self, y: Any, x: Any, as_logits: bool) -> Any:
        p, q, front, cost_p, back, cost_q = self._parts(y, x, as_logits)
        gamma = self.gamma
        return p * (back - gamma * (front * cost_p)) - q * (front - gamma * (back * cost_q))


def _softplus_of_minus_abs(x: Any) -> Any:
    """Returns log(1 + exp(-|x|)): in a graph one pass, which TensorFlow's softplus is not."""
    return ops.log1p(ops.exp(-ops.abs(x)))


binary_crossentropy_loss = as_function(BinaryCrossentropy)
binary_focal_loss = as_function(BinaryFocal)
