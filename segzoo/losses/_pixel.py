"""What the losses of single pixels share: the mean over the valid pixels, and safe logarithms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from keras import ops

from segzoo.losses._base import SegmentationLoss, at_least, checked_class_weights

EPSILON = 1e-7


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

    def _divisor(self, y_pred: Any, valid: Any, weights: Any) -> Any:
        """Returns what the sum of the pixels' weighted values is divided by.

        `valid` is `None`, or what each pixel counts, (B, H, W, 1).
        """
        pixels = ops.shape(y_pred)[:3]
        if self.reduction == "mean_with_sample_weight" and weights is not None:
            valid = weights if valid is None else weights * valid
            valid = ops.broadcast_to(valid, (*pixels, 1))
        if valid is None:
            return ops.cast(ops.prod(pixels), y_pred.dtype)
        count = ops.sum(ops.sum(valid, axis=2))
        return ops.where(count == 0, ops.ones_like(count), count)


def cost(p: Any) -> Any:
    """Returns -log(max(p, 1e-7))."""
    return -ops.log(ops.maximum(p, EPSILON))


def cost_of_complement(p: Any) -> Any:
    """Returns -log(max(1 - p, 1e-7)), exact for small p where 1 - p has lost its digits."""
    return ops.minimum(-ops.log1p(-ops.minimum(p, 1)), -math.log(EPSILON))


def power(x: Any, exponent: float) -> Any:
    """Returns x ** exponent of a probability, finite with its gradient for any finite x."""
    if exponent in (1, 2):
        return x if exponent == 1 else x * x
    if exponent == 0:
        return ops.ones_like(x)
    return ops.power(ops.maximum(x, EPSILON), exponent)
