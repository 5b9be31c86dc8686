"""Losses of each class by itself: binary cross-entropy and binary focal loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import numpy as np
from keras import ops

from segzoo._arguments import number
from segzoo._numerics import divide, with_gradient
from segzoo._reading import Batch
from segzoo.losses._declare import BinaryOptions, PixelOptions, as_function, register
from segzoo.losses._pixel import EPSILON, PixelLoss, cost, cost_of_complement, power


class _BinaryLoss(PixelLoss):
    """Base of the losses that treat each class by itself.

    A subclass has the loss of an entry, for probabilities and for logits, and its derivative by the
    logit; that by the probability p is 1 / (p (1 - p)) times as large. The derivative is written
    down because it takes half the passes over (B, H, W, C) that automatic differentiation takes,
    and passes are the time of a step. It is spelled with the terms of the loss, which a compiler
    then computes once. Second derivatives are exact too.
    """

    def __init__(self, multilabel: bool = True, **options: Unpack[PixelOptions]):
        super().__init__(multilabel=multilabel, **options)

    def weighted_losses(self, batch: Batch) -> tuple[Batch, Any, Any]:
        """Return the mean over the classes, (B, H, W) or the whole sum, and its divisor."""
        as_logits = batch.activation == "sigmoid"
        x = batch.scores if as_logits else batch.settle(batch.probabilities())
        targets = batch.dense()
        if self.label_smoothing:
            targets = targets * (1 - self.label_smoothing) + 0.5 * self.label_smoothing
        factor, counted = self._shares(batch)
        divisor = self._divisor(batch, counted)
        if batch.weights() is not None:
            factor = factor * batch.weights()
        by_pixel = self.reduction in (None, "none")
        scale = ops.ones_like(divisor) if by_pixel or self.reduction == "sum" else 1 / divisor
        one = isinstance(factor, float)
        factors = (scale * factor,) if one else (scale, factor)

        def loss(x: Any, y: Any, fine: Any, scale: Any, factor: Any = None) -> Any:
            values = self._loss(y, x, as_logits)
            if factor is not None:
                values = values * factor
            values = values * scale  # before the sum, which could leave float32's range
            # No float32 sum is long enough to lose digits.
            return ops.sum(values, axis=-1) if by_pixel else ops.sum(ops.sum(values, axis=(2, 3)))

        def slope(upstream: Any, x: Any, y: Any, fine: Any, scale: Any, factor: Any = None) -> Any:
            upstream = scale * (ops.expand_dims(upstream, -1) if by_pixel else upstream)
            if factor is not None:
                upstream = upstream * factor
            by_logit = self._slope(y, x, as_logits)
            if as_logits:  # times upstream, and 0 where the batch is bad, whatever NaN is there
                return ops.divide_no_nan(by_logit, ops.divide_no_nan(fine, upstream))
            by_logit = by_logit * upstream
            spread = x * (1 - x)
            inside = spread > EPSILON * (1 - 2 * EPSILON)  # where no logarithm is cut off
            return ops.divide_no_nan(by_logit * ops.cast(inside, x.dtype), spread)

        values = with_gradient(loss, slope)(x, targets, batch.fine(), *factors)
        return batch, values, divisor if by_pixel else ops.ones_like(divisor)

    def _shares(self, batch: Batch) -> tuple[Any, Any]:
        """Return what each entry counts in its pixel's mean, and each pixel in the divisor."""
        share = self._weights_of_classes(batch)
        counted = None if batch.valid is None else ops.cast(batch.valid, batch.dtype)
        if counted is None or not batch.targets.by_entry:
            share = 1 / batch.classes if share is None else share / ops.sum(share)
            return share if counted is None else share * counted, counted
        share = counted if share is None else share * counted  # (B, H, W, C)
        total = ops.sum(share, axis=-1, keepdims=True)
        return divide(share, total), ops.cast(total > 0, batch.dtype)

    def _loss(self, y: Any, x: Any, as_logits: bool) -> Any:
        raise NotImplementedError

    def _slope(self, y: Any, x: Any, as_logits: bool) -> Any:
        raise NotImplementedError


@register
class BinaryCrossentropy(_BinaryLoss):
    """Binary cross-entropy: each class by itself, for one class or classes that may overlap.

        BinaryCrossentropy = mean of -(pos_weight y log p + (1 - y) log(1 - p))

    Probabilities are clipped at 1e-7 in the logarithm, as in Keras.

    Args:
        pos_weight: weight >= 0 of the foreground, one number or one for each class; above 1 it
            favors recall. Defaults to None, for 1.
        multilabel: whether several classes may overlap. With False, a softmax is taken of the
            logits of several classes instead of a sigmoid of each. Defaults to True.
        <shared>

    Returns:
        A scalar >= 0; (B, H, W) with `reduction="none"`.

    Raises:
        ValueError: if an argument is out of range or the shapes do not fit.

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
        pos_weight: float | Sequence[float] | None = None,
        **options: Unpack[BinaryOptions],
    ):
        super().__init__(**options)
        self.pos_weight: Any = None
        if pos_weight is not None and np.ndim(pos_weight) == 1:
            self.pos_weight = [number("pos_weight", w) for w in np.asarray(pos_weight).tolist()]
        elif pos_weight is not None:
            self.pos_weight = number("pos_weight", pos_weight)

    def _loss(self, y: Any, x: Any, as_logits: bool) -> Any:
        front, back = self._sides(y)
        if not as_logits:
            return front * cost(x) + back * cost_of_complement(x)
        if self.pos_weight is None:
            return ops.relu(x) - x * y + _softplus_of_minus_abs(x)
        small = _softplus_of_minus_abs(x)
        return front * (ops.relu(-x) + small) + back * (ops.relu(x) + small)

    def _slope(self, y: Any, x: Any, as_logits: bool) -> Any:
        p = ops.sigmoid(x) if as_logits else x
        if self.pos_weight is None:
            return p - y
        front, back = self._sides(y)
        return back * p - front * (1 - p)

    def _sides(self, y: Any) -> tuple[Any, Any]:
        """Return the weight of foreground and background in each entry."""
        if self.pos_weight is None:
            return y, 1 - y
        if isinstance(self.pos_weight, list) and len(self.pos_weight) != y.shape[-1]:
            raise ValueError(
                f"`pos_weight` must be a number, or one for each of the {y.shape[-1]} class(es), "
                f"received pos_weight={self.pos_weight}"
            )
        return y * ops.convert_to_tensor(self.pos_weight, dtype=y.dtype), 1 - y


@register
class BinaryFocal(_BinaryLoss):
    """Binary focal loss: cross-entropy of each class with little weight on easy pixels.

        BinaryFocal = mean of -(alpha y (1 - p) ** gamma log p
                                + (1 - alpha) (1 - y) p ** gamma log(1 - p))

    Args:
        gamma: the focusing exponent, >= 0; 0 gives weighted cross-entropy. Defaults to 2.0.
        alpha: weight of the foreground, 0 to 1, or None for no weights. Defaults to 0.25.
        multilabel: whether several classes may overlap. With False, a softmax is taken of the
            logits of several classes instead of a sigmoid of each. Defaults to True.
        <shared>

    Returns:
        A scalar >= 0; (B, H, W) with `reduction="none"`.

    Raises:
        ValueError: if an argument is out of range or the shapes do not fit.

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
        **options: Unpack[BinaryOptions],
    ):
        super().__init__(**options)
        self.gamma = number("gamma", gamma)
        self.alpha = alpha if alpha is None else number("alpha", alpha, 0, 1)

    def _parts(self, y: Any, x: Any, as_logits: bool) -> tuple[Any, ...]:
        """Return p, 1 - p, and the focused weight and the cost of foreground and background."""
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
        # First of all each cost, which may be as large as float32, with its vanishing probability.
        slowing = back * (q * cost_q) - front * (p * cost_p)
        return p * back - q * front + self.gamma * slowing


def _softplus_of_minus_abs(x: Any) -> Any:
    """Return log(1 + exp(-|x|)): in a graph one pass, which TensorFlow's softplus is not."""
    return ops.log1p(ops.exp(-ops.abs(x)))


binary_crossentropy_loss = as_function(BinaryCrossentropy)
binary_focal_loss = as_function(BinaryFocal)
