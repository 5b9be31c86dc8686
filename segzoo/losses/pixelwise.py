"""Losses of single pixels: cross-entropy and focal loss, binary and categorical."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from keras import ops

from segzoo import _targets
from segzoo._overlap import divide, with_gradient
from segzoo.losses._base import (
    SegmentationLoss,
    as_function,
    at_least,
    checked_class_weights,
    register,
    several_classes,
    weights_of_classes,
)


class PixelLoss(SegmentationLoss):
    """Base of the pixel losses: a value for each pixel, averaged over the valid ones."""

    def __init__(
        self,
        from_logits: bool = False,
        class_weights: Sequence[float] | None = None,
        ignore_class: int | Sequence[int] | None = None,
        label_smoothing: float = 0.0,
        name: str | None = None,
        reduction: str | None = "sum_over_batch_size",
        dtype: Any = None,
    ):
        super().__init__(from_logits, ignore_class, name, reduction, dtype)
        self.class_weights = checked_class_weights(class_weights)
        self.label_smoothing = at_least("label_smoothing", label_smoothing, 0, 1)

    def _mean(self, values: Any, valid: Any, weights: Any) -> tuple[Any, Any]:
        """Returns the weighted values (B, H, W), and what their sum is divided by.

        `valid` is `None`, or what each pixel's value counts in the divisor, (B, H, W, 1).
        """
        if weights is not None:
            values = values * ops.squeeze(weights, -1)
        if self.reduction == "mean_with_sample_weight" and weights is not None:
            valid = weights if valid is None else weights * valid
            valid = ops.broadcast_to(valid, (*ops.shape(values), 1))
        if valid is None:
            count = ops.cast(ops.prod(ops.shape(values)), values.dtype)
        else:
            count = ops.sum(ops.sum(valid, axis=2))
        return values, ops.where(count == 0, ops.ones_like(count), count)


class _BinaryLoss(PixelLoss):
    """Base of the losses that treat each class by itself.

    A subclass has the loss of an entry and its derivative, for probabilities and for logits. The
    derivatives are written down because they take half the passes over (B, H, W, C) that automatic
    differentiation takes, which halves the time of a step.
    """

    multilabel: bool

    def call(self, y_true: Any, y_pred: Any, weights: Any = None) -> tuple[Any, Any]:
        """Returns (B, H, W), the mean over the classes, and the divisor of the sum."""
        classes = y_pred.shape[-1]
        valid = _targets.valid_mask(y_true, classes, self._ignored)
        targets = _targets.dense_targets(y_true, classes, valid, y_pred.dtype)
        targets = ops.stop_gradient(targets)
        if self.label_smoothing:
            targets = targets * (1 - self.label_smoothing) + 0.5 * self.label_smoothing
        as_logits = self.from_logits and (self.multilabel or classes == 1)
        if not as_logits:
            y_pred = _targets.probabilities(y_pred, self.from_logits)

        share = weights_of_classes(self.class_weights, y_pred)
        counted = None
        if valid is not None:
            mask = ops.cast(valid, y_pred.dtype)
            share = mask * (ops.ones((classes,), y_pred.dtype) if share is None else share)
        if share is None:
            share = 1.0 / classes
        else:
            total = ops.sum(share, axis=-1, keepdims=True)
            share = divide(share, total)  # (C,) or (B, H, W, C)
            if valid is not None:
                counted = ops.cast(total > 0, y_pred.dtype)

        def loss(x: Any) -> Any:
            return ops.sum(share * self._loss(targets, x, as_logits), axis=-1)

        def slope(x: Any, upstream: Any) -> Any:
            return ops.expand_dims(upstream, -1) * share * self._slope(targets, x, as_logits)

        return self._mean(with_gradient(loss, slope)(y_pred), counted, weights)

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
            return ops.softplus(x) - x * y
        return -(y * _log(x) + (1 - y) * _log_complement(x))

    def _slope(self, y: Any, x: Any, as_logits: bool) -> Any:
        if as_logits:
            return ops.sigmoid(x) - y
        p, inside = _clipped(x)
        return inside * (p - y) / (p * (1 - p))


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

    def _balanced(self, y: Any) -> tuple[Any, Any]:
        """Returns the targets of foreground and background, weighted."""
        if self.alpha is None:
            return y, 1 - y
        return self.alpha * y, (1 - self.alpha) * (1 - y)

    def _loss(self, y: Any, x: Any, as_logits: bool) -> Any:
        front, back = self._balanced(y)
        if as_logits:  # -log p = softplus(-x), -log q = softplus(x)
            p, q = ops.sigmoid(x), ops.sigmoid(-x)
            cost_p, cost_q = ops.softplus(-x), ops.softplus(x)
        else:
            p, q = x, 1 - x
            cost_p, cost_q = -_log(p), -_log_complement(p)
        return front * _power(q, self.gamma) * cost_p + back * _power(p, self.gamma) * cost_q

    def _slope(self, y: Any, x: Any, as_logits: bool) -> Any:
        front, back = self._balanced(y)
        gamma = self.gamma
        if as_logits:  # dp/dx = p q, and what it multiplies is finite
            p, q = ops.sigmoid(x), ops.sigmoid(-x)
            cost_p, cost_q = ops.softplus(-x), ops.softplus(x)
            of_front = -_power(q, gamma) * (gamma * p * cost_p + q)
            of_back = _power(p, gamma) * (gamma * q * cost_q + p)
            return front * of_front + back * of_back
        p, inside = _clipped(x)
        q = 1 - p
        of_front = _power(q, gamma - 1) * (q / p - gamma * ops.log(p))
        of_back = _power(p, gamma - 1) * (p / q - gamma * ops.log1p(-p))
        return inside * (back * of_back - front * of_front)


class _CategoricalLoss(PixelLoss):
    """Base of the losses of exclusive classes."""

    _instead: str

    def call(self, y_true: Any, y_pred: Any, weights: Any = None) -> tuple[Any, Any]:
        """Returns (B, H, W), and the divisor of the sum."""
        several_classes(self, y_pred, self._instead)
        classes = y_pred.shape[-1]
        valid = _targets.valid_mask(y_true, classes, self._ignored, exclusive=True)
        targets = _targets.dense_targets(y_true, classes, valid, y_pred.dtype)
        targets = ops.stop_gradient(targets)
        counted = None if valid is None else ops.cast(valid, y_pred.dtype)
        class_weights = weights_of_classes(self.class_weights, y_pred)
        weighted = targets
        if self.label_smoothing:
            weighted = targets * (1 - self.label_smoothing) + self.label_smoothing / classes
            if counted is not None:
                weighted = weighted * counted
        if class_weights is not None:
            counted = ops.sum(targets * class_weights, axis=-1, keepdims=True)
            weighted = weighted * class_weights
        log_p = ops.log_softmax(y_pred, axis=-1) if self.from_logits else _log(y_pred)
        return self._mean(self._losses(weighted, y_pred, log_p), counted, weights)

    def _losses(self, targets: Any, y_pred: Any, log_p: Any) -> Any:
        raise NotImplementedError


@register
class CategoricalCrossentropy(_CategoricalLoss):
    """Cross-entropy of exclusive classes.

        CategoricalCrossentropy = mean of -sum_c y_c log p_c

    With `class_weights` w the mean is sum_i w_i loss_i / sum_i w_i, w_i the weight of the class of
    pixel i. Logarithms of probabilities are cut off at 1e-7.

    Args:
        <shared>

    Returns:
        A scalar >= 0; (B, H, W) with `reduction="none"`.

    Raises:
        ValueError: for one class, arguments out of range, or shapes that do not fit.

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

    def _losses(self, targets: Any, y_pred: Any, log_p: Any) -> Any:
        return -ops.sum(targets * log_p, axis=-1)


@register
class CategoricalFocal(_CategoricalLoss):
    """Focal loss of exclusive classes.

        CategoricalFocal = mean of -sum_c alpha y_c (1 - p_c) ** gamma log p_c

    Args:
        gamma: the focusing exponent, >= 0; 0 gives cross-entropy.
        alpha: factor >= 0 of the whole, or `None` for 1; for a factor of each class use
            `class_weights`.
        <shared>

    Returns:
        A scalar >= 0; (B, H, W) with `reduction="none"`.

    Raises:
        ValueError: for one class, arguments out of range, or shapes that do not fit.

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
        from_logits: bool = False,
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
        self.gamma = at_least("gamma", gamma)
        self.alpha = alpha if alpha is None else at_least("alpha", alpha)

    def _losses(self, targets: Any, y_pred: Any, log_p: Any) -> Any:
        q = -ops.expm1(log_p) if self.from_logits else 1 - y_pred
        focus = _power(q, self.gamma)
        scale = 1.0 if self.alpha is None else self.alpha
        return -scale * ops.sum(targets * focus * log_p, axis=-1)


_EPSILON = 1e-7


def _log(p: Any) -> Any:
    """Returns log(max(p, 1e-7))."""
    return ops.log(ops.maximum(p, _EPSILON))


def _log_complement(p: Any) -> Any:
    """Returns log(max(1 - p, 1e-7)), exact for small p where 1 - p has lost its digits."""
    return ops.maximum(ops.log1p(-ops.minimum(p, 1)), math.log(_EPSILON))


def _clipped(p: Any) -> tuple[Any, Any]:
    """Returns p within 1e-7 and 1 - 1e-7, and 1 where it was, 0 where the slope is cut off."""
    clipped = ops.clip(p, _EPSILON, 1 - _EPSILON)
    return clipped, ops.cast(clipped == p, p.dtype)


def _power(x: Any, exponent: float) -> Any:
    """Returns x ** exponent of a probability, finite with its gradient for any finite x."""
    if exponent in (1, 2):
        return x if exponent == 1 else x * x
    if exponent == 0:
        return ops.ones_like(x)
    return ops.power(ops.maximum(x, _EPSILON), exponent)


binary_crossentropy_loss = as_function(BinaryCrossentropy)
binary_focal_loss = as_function(BinaryFocal)
categorical_crossentropy_loss = as_function(CategoricalCrossentropy)
categorical_focal_loss = as_function(CategoricalFocal)
