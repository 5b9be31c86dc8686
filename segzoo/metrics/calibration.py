"""How far confidence is from accuracy: the calibration error, by bins."""

from __future__ import annotations

from typing import Any, Unpack

import numpy as np
from keras import ops

from segzoo._arguments import integer, one_of
from segzoo._numerics import divide, wide_dtype
from segzoo._reading import Batch
from segzoo._targets import largest_class
from segzoo.metrics import _counts
from segzoo.metrics._arguments import CommonOptions, register
from segzoo.metrics._base import SegmentationMetric
from segzoo.metrics._counters import Counter
from segzoo.metrics.threshold import count_below

__all__ = ["CalibrationError"]


@register
class CalibrationError(SegmentationMetric):
    """Expected calibration error: the gap between confidence and accuracy, by bins of confidence.

        ECE = sum_b (n_b / n) |accuracy_b - confidence_b|

    over bins ((b - 1) / bins, b / bins] with n_b pixels; `norm="max"` gives the largest gap of any
    bin that has pixels. For several exclusive classes the confidence of a pixel is its largest
    probability, and it is right if its label is that class. For one class, and with `multilabel`
    for every channel, the confidence is the probability, and it is right in the foreground: 0.8 is
    calibrated where 80% of the pixels belong to the class.

    Exact over the whole data set, however it is split into batches.

    Args:
        bins: int >= 1, number of bins. Defaults to 15.
        norm: `"l1"`, the mean gap, or `"max"`, the largest. Defaults to `"l1"`.
        <shared>

    Returns:
        `result()` is a scalar from 0 to 1, or NaN before any data.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> import numpy as np
        >>> error = CalibrationError(bins=10)
        >>> truth = np.array([[[1, 1, 1, 0]]])
        >>> sure = np.full((1, 1, 4, 1), 0.95)  # right in three of four
        >>> round(float(error(truth, sure)), 3)
        0.2

    Reference:
        Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017,
        arXiv 1706.04599, equations 3 to 5; the reliability of one class as in its figure 1.
    """

    _default_name = "calibration_error"
    _direction = "down"  # what Keras's callbacks ask for

    def __init__(self, bins: int = 15, norm: str = "l1", **options: Unpack[CommonOptions]) -> None:
        self.bins = integer("bins", bins, 1)
        self.norm = one_of("norm", norm, ("l1", "max"))
        super().__init__(**options)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add a batch; the arguments are those of `segzoo.metrics.IoU.update_state`."""
        batch = self._read(y_true, y_pred, sample_weight)
        confidence, right, valid = self._judged(batch)
        edges = tuple(b / self.bins for b in range(1, self.bins))
        numbers = count_below(confidence, edges) if edges else ops.zeros_like(confidence, "int32")
        numbers = ops.where(valid, numbers, self.bins)  # one more for what counts nowhere
        weights = batch.pixel_weights
        if weights is None:
            weights = ops.ones((1, 1, 1, 1), wide_dtype())
        sums = [
            _counts.count_numbers(numbers, self.bins + 1, weights * ops.cast(x, wide_dtype()))
            for x in (ops.ones_like(confidence), confidence, right)
        ]
        sums = ops.stack(sums, axis=1)[:, :, : self.bins]  # (B, 3, bins)
        self._counter.add(_counts.sum_images(sums, batch.image_weights), batch)

    def _judged(self, batch: Batch) -> tuple[Any, Any, Any]:
        """Return confidence, whether it is right, and whether it counts, each (B, H, W, K)."""
        p = batch.probabilities()
        if batch.kind == "exclusive":
            guess = ops.expand_dims(largest_class(batch.scores), -1)
            right = guess == ops.expand_dims(batch.labels(), -1)
            p = ops.max(p, axis=-1, keepdims=True, initial=0.0)  # also of no pixel
        else:
            right = _counts.true_masks(batch)
        valid = ops.ones_like(right) if batch.valid is None else batch.valid
        return p, right, ops.broadcast_to(valid, ops.shape(right))

    def result(self) -> Any:
        """Return the calibration error; NaN before any data."""
        if not self._built:
            return self._nan()
        amount, confidence, right = ops.unstack(self._counter.total(), 3)
        gap = ops.abs(divide(right - confidence, amount))
        total = ops.sum(amount)
        largest = ops.where(total == 0, ops.cast(np.nan, gap.dtype), ops.max(gap))
        mean = divide(ops.sum(gap * amount), total, np.nan)
        error = largest if self.norm == "max" else mean
        error = ops.where(self._counter.spoiled(), ops.cast(np.nan, error.dtype), error)
        return ops.cast(error, self.dtype)

    def curve(self) -> dict[str, np.ndarray]:
        """Return what a reliability diagram shows, as NumPy arrays.

        Returns:
            `{"confidence": (bins,), "accuracy": (bins,), "share": (bins,)}`: means of each bin, NaN
            where it has no pixel, and the bin's share of the pixels.
        """
        sums = self._counter.numpy() if self._built else np.zeros((3, self.bins))
        amount, confidence, right = sums
        with np.errstate(divide="ignore", invalid="ignore"):
            return {
                "confidence": confidence / amount,
                "accuracy": right / amount,
                "share": amount / amount.sum(),
            }

    def _create_counters(self, classes: int) -> None:
        self._counter = Counter(self, (3, self.bins), "bins")
