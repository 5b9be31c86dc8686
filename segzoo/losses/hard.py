"""The hard pixels of a pixel loss (online hard example mining)."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import keras
from keras import ops

from segzoo._arguments import number
from segzoo._numerics import wide_dtype
from segzoo._reading import Batch
from segzoo.losses._base import SegmentationLoss
from segzoo.losses._declare import as_function, register
from segzoo.losses._pixel import PixelLoss


@register
class OHEM(SegmentationLoss):
    """Online hard example mining: a pixel loss over the hard pixels only.

        OHEM = mean of loss_i over the pixels i that are kept

    A pixel is hard if the probability of its true class is below `threshold`; for one class, and
    with `multilabel`, if that holds for the true side of any of its channels (p in the foreground,
    1 - p in the background). At least the share `min_kept` of the valid pixels of the batch is
    kept, those with the largest loss, ties included; `class_weights` and `sample_weight` have no
    influence on which.

    Args:
        loss: a `CategoricalCrossentropy`, `CategoricalFocal`, `BinaryCrossentropy` or
            `BinaryFocal`, whose arguments apply to the pixels that are kept.
        threshold: probability, 0 to 1. Defaults to 0.7.
        min_kept: share of the valid pixels, 0 to 1. Defaults to 0.0625, a sixteenth.
        name: name of the loss. Defaults to `"ohem"`.
        reduction: `"sum_over_batch_size"`, `"sum"`, `"mean_with_sample_weight"` or `"none"`, as in
            `keras.losses.Loss`; that of `loss` has no effect. Defaults to `"sum_over_batch_size"`.
        dtype: precision of the math, which is at least float32. Defaults to that of `loss`.

    Returns:
        A scalar >= 0; with `reduction="none"` (B, H, W), 0 where a pixel is not kept.

    Raises:
        ValueError: if `loss` is not a pixel loss, or an argument is out of range.

    Example:
        >>> import numpy as np
        >>> from segzoo.losses import CategoricalCrossentropy
        >>> labels = np.array([[[0, 0, 0, 0]]])
        >>> p = np.array([0.9, 0.8, 0.6, 0.2])  # of class 0: the last two are hard
        >>> loss = OHEM(CategoricalCrossentropy())
        >>> print(round(float(loss(labels, np.stack([p, 1 - p], -1)[None, None])), 4))
        1.0601

    Reference:
        Shrivastava, Gupta, Girshick, "Training Region-based Object Detectors with Online Hard
        Example Mining", CVPR 2016, arXiv 1604.03540; for pixels with a threshold and a least number
        Wu, Shen, van den Hengel, "High-performance Semantic Segmentation Using Very Deep Fully
        Convolutional Networks", 2016, arXiv 1604.04339, section 3.3.
    """

    def __init__(
        self,
        loss: PixelLoss,
        threshold: float = 0.7,
        min_kept: float = 0.0625,
        name: str | None = None,
        reduction: str | None = "sum_over_batch_size",
        dtype: Any = None,
    ):
        if not isinstance(loss, PixelLoss):
            raise ValueError(
                "`loss` must be a pixel loss, such as segzoo.losses.CategoricalCrossentropy(), "
                f"received loss={loss!r}"
            )
        super().__init__(
            from_logits=loss.from_logits,
            multilabel=loss.multilabel,
            ignore_class=loss.ignore_class,
            name=name,
            reduction=reduction,
            dtype=dtype or loss.dtype,
        )
        self.loss = loss
        self.threshold = number("threshold", threshold, 0, 1)
        self.min_kept = number("min_kept", min_kept, 0, 1)

    def weighted_losses(self, batch: Batch) -> tuple[Batch, Any, Any]:
        """Return the inner loss of the pixels that are kept, and what its sum is divided by."""
        alone = dataclasses.replace(batch, pixel_weights=None, image_weights=None)
        values = ops.stop_gradient(self._by_pixel.weighted_losses(alone)[1])  # (B, H, W)
        valid = batch.valid_pixels()
        kept = ops.logical_or(self._hard(batch), self._largest(values, valid))
        return self._inner.weighted_losses(batch.only(kept))

    def _hard(self, batch: Batch) -> Any:
        """Return where the probability of the truth is below the threshold, (B, H, W)."""
        truth, p = batch.dense(), ops.stop_gradient(batch.probabilities())
        if batch.kind == "exclusive":
            return ops.sum(truth * p, axis=-1) < self.threshold
        side = truth * p + (1 - truth) * (1 - p)
        if batch.valid is not None:
            side = ops.where(batch.valid, side, ops.ones_like(side))
        return ops.any(side < self.threshold, axis=-1)

    def _largest(self, values: Any, valid: Any) -> Any:
        """Return where a loss is among the largest of the share `min_kept` of the valid pixels."""
        values = ops.where(valid, values, -ops.ones_like(values))  # below every loss
        ordered = ops.sort(ops.reshape(values, (-1,)))
        size = ops.shape(ordered)[0]
        pixels = ops.sum(ops.sum(ops.cast(valid, "int32"), axis=(1, 2)))
        share = ops.cast(pixels, wide_dtype()) * (self.min_kept * (1 - 1e-9))  # 0.1 of 10 is 1
        wanted = ops.cast(ops.ceil(share), "int32")
        place = ops.clip(size - wanted, 0, ops.maximum(size - 1, 0))
        least = ops.take(ops.concatenate([ordered, ops.zeros((1,), ordered.dtype)]), place)
        return ops.logical_and(values >= least, wanted > 0)

    @functools.cached_property
    def _inner(self) -> PixelLoss:
        return self._like(self.loss, reduction=self.reduction, dtype=self.dtype)

    @functools.cached_property
    def _by_pixel(self) -> PixelLoss:
        return self._like(self.loss, reduction="none", dtype=self.dtype, class_weights=None)

    def _like(self, loss: PixelLoss, **changed: Any) -> PixelLoss:
        return type(loss).from_config({**loss.get_config(), **changed})

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of `__init__`, the loss serialized."""
        return {**super().get_config(), "loss": keras.saving.serialize_keras_object(self.loss)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> OHEM:
        """Return the loss of a `get_config`."""
        return cls(**{**config, "loss": keras.saving.deserialize_keras_object(config["loss"])})


ohem_loss = as_function(OHEM, needs="loss=losses.BinaryFocal()")
