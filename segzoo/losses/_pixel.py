"""What the losses of single pixels share: the mean over the valid pixels, and safe logarithms."""

from __future__ import annotations

import math
from typing import Any, Unpack

from keras import ops

from segzoo._arguments import ClassWeights, class_weights_of, list_of_weights, number
from segzoo._reading import Batch
from segzoo.losses._base import SegmentationLoss, nonzero
from segzoo.losses._declare import LossOptions

EPSILON = 1e-7
_LARGEST = 3e38


class PixelMean(SegmentationLoss):
    """Base of what is averaged over the valid pixels, with weights of classes."""

    def __init__(
        self,
        class_weights: ClassWeights = None,
        multilabel: bool = False,
        **options: Unpack[LossOptions],
    ):
        super().__init__(multilabel=multilabel, **options)
        self.class_weights = class_weights_of(class_weights)

    def _weights_of_classes(self, batch: Batch) -> Any:
        """Return the class weights as a tensor (C,), or `None`."""
        weights = list_of_weights(self.class_weights, batch.classes)
        return None if weights is None else ops.convert_to_tensor(weights, dtype=batch.dtype)

    def _divisor(self, batch: Batch, counted: Any) -> Any:
        """Return what the sum of the pixels' weighted values is divided by.

        `counted` is `None`, or what each pixel counts, (B, H, W, 1).
        """
        weights = batch.weights()
        if self.reduction == "mean_with_sample_weight" and weights is not None:
            counted = weights if counted is None else weights * counted
            counted = ops.broadcast_to(counted, (*batch.size[:3], 1))
        if counted is None:
            batch_size, height, width, _ = batch.size
            return nonzero(ops.cast(batch_size * height * width, batch.dtype))
        return nonzero(ops.sum(ops.sum(counted, axis=2)))


class PixelLoss(PixelMean):
    """Base of the pixel losses: a value for each pixel, averaged over the valid ones."""

    def __init__(
        self,
        class_weights: ClassWeights = None,
        label_smoothing: float = 0.0,
        multilabel: bool = False,
        **options: Unpack[LossOptions],
    ):
        super().__init__(class_weights, multilabel, **options)
        self.label_smoothing = number("label_smoothing", label_smoothing, 0, 1)


def cost(p: Any) -> Any:
    """Return -log(max(p, 1e-7))."""
    return -ops.log(ops.maximum(p, EPSILON))


def cost_of_complement(p: Any) -> Any:
    """Return -log(max(1 - p, 1e-7)), exact for small p where 1 - p has lost its digits."""
    return ops.minimum(-ops.log1p(-ops.minimum(p, 1)), -math.log(EPSILON))


def costs_of_logits(logits: Any) -> Any:
    """Return -log(softmax(logits)), finite for any finite logits."""
    return ops.minimum(-ops.log_softmax(logits, axis=-1), _LARGEST)


def power(x: Any, exponent: float) -> Any:
    """Return x ** exponent of a probability, finite with its gradient for any finite x."""
    if exponent in (1, 2):
        return x if exponent == 1 else x * x
    if exponent == 0:
        return ops.ones_like(x)
    return ops.power(ops.maximum(x, EPSILON), exponent)
