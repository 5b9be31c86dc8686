"""The confusion matrix, from which every other count-based score can be had."""

from __future__ import annotations

import math
from typing import Any, Unpack

import numpy as np
from keras import ops

from segzoo._arguments import one_of
from segzoo._numerics import divide
from segzoo.metrics import _counts
from segzoo.metrics._arguments import MetricOptions, register
from segzoo.metrics._base import SegmentationMetric
from segzoo.metrics._counters import Counter

__all__ = ["ConfusionMatrix"]

_SUMMED_AXES: dict[str | None, tuple[int, ...] | None] = {
    None: None,
    "true": (-1,),
    "pred": (-2,),
    "all": (-2, -1),
}


@register
class ConfusionMatrix(SegmentationMetric):
    """Confusion matrix over the whole data set; the rows are the truth.

    A matrix has no average: `average` takes its default or None, and `class_weights` must be None.
    `empty_score` is the score in `report()` of a class that never occurs (NaN by default). The
    errors are those of `segzoo.metrics.IoU`.

    Args:
        normalize: None for counts; `"true"` divides by the pixels of the truth, so that rows sum
            to 1; `"pred"` by the predicted pixels, so that columns sum to 1; `"all"` by all pixels.
            A row or column without pixels stays 0. Defaults to None.
        <shared>

    Returns:
        `result()` is (classes, classes) for exclusive classes; (2, 2) for one class, background
        first; (classes, 2, 2) with `multilabel`, each class against the rest.

    Example:
        >>> import keras
        >>> matrix = ConfusionMatrix(class_names=["land", "water"])
        >>> truth = [[[0, 0, 1, 1]]]  # one image of 1x4 pixels, as labels
        >>> matrix.update_state(truth, keras.ops.one_hot([[[0, 1, 1, 1]]], 2))
        >>> keras.ops.convert_to_numpy(matrix.result()).astype(int)
        array([[1, 1],
               [0, 2]])
        >>> matrix.report()["water"]["recall"], matrix.report()["water"]["support"]
        (1.0, 2)
    """

    _default_name = "confusion_matrix"

    def __init__(self, normalize: str | None = None, **options: Unpack[MetricOptions]) -> None:
        given: dict[str, Any] = dict(options)
        for argument, accepted in (("average", ("macro", None)), ("class_weights", (None,))):
            if given.get(argument) not in accepted:
                raise ValueError(
                    f"`{argument}` does not apply to a confusion matrix, "
                    f"received {argument}={given[argument]!r}"
                )
        self.normalize = one_of("normalize", normalize, tuple(_SUMMED_AXES))
        super().__init__(**options)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add a batch; the arguments are those of `segzoo.metrics.IoU.update_state`."""
        batch = self._read(y_true, y_pred, sample_weight)
        if batch.kind == "exclusive":
            counts = _counts.count_confusion(batch)[:, 1:]
        else:
            masks = _counts.count_masks(batch, self.threshold)
            counts = ops.stack([masks.tn, masks.fp, masks.fn, masks.tp], axis=-1)
            counts = ops.reshape(counts, (batch.size[0], *self._counter_shape(batch.classes)))
        self._counter.add(_counts.sum_images(counts, batch.image_weights), batch)

    def result(self) -> Any:
        """Return the matrix, normalized as `normalize` says; a NaN scalar before any data."""
        if not self._built:
            return self._nan()
        matrix = self._counter.total()
        axes = _SUMMED_AXES[self.normalize]
        if axes is not None:
            matrix = divide(matrix, ops.sum(matrix, axis=axes, keepdims=True))
        matrix = ops.where(self._counter.spoiled(), ops.cast(np.nan, matrix.dtype), matrix)
        return ops.cast(matrix, self.dtype)

    def report(self) -> dict[str, dict[str, float]]:
        """Return the scores of every class, as NumPy computes them from the exact counts.

        Returns:
            `{class: {"precision", "recall", "f1", "iou", "support"}}`; `support` is the number of
            pixels of the truth. Without data the dictionary is empty.
        """
        if not self._built:
            return {}
        counts = self._counter.numpy()
        if np.isnan(counts).any():
            counts = np.full_like(counts, np.nan)
        if self._is_exclusive():
            tp, predicted, actual = np.diagonal(counts), counts.sum(axis=0), counts.sum(axis=1)
        else:
            tables = counts.reshape(-1, 2, 2)
            tp = tables[:, 1, 1]
            predicted, actual = tables[:, :, 1].sum(axis=1), tables[:, 1, :].sum(axis=1)
        rows = zip(self._names(), tp, predicted, actual, strict=True)
        return {name: self._scores(*map(float, row)) for name, *row in rows}

    def _scores(self, tp: float, predicted: float, actual: float) -> dict[str, float]:
        empty = math.nan if self.empty_score is None else float(self.empty_score)

        def share(numerator: float, denominator: float) -> float:
            if predicted + actual == 0:
                return empty
            return numerator / denominator if denominator > 0 else 0.0

        return {
            "precision": share(tp, predicted),
            "recall": share(tp, actual),
            "f1": share(2 * tp, predicted + actual),
            "iou": share(tp, predicted + actual - tp),
            "support": int(actual) if float(actual).is_integer() else actual,
        }

    def _create_counters(self, classes: int) -> None:
        self._counter = Counter(self, self._counter_shape(classes), "counts")

    def _counter_shape(self, classes: int) -> tuple[int, ...]:
        if self._reading.kind(classes) == "exclusive":
            return (classes, classes)
        return (2, 2) if classes == 1 and not self.multilabel else (classes, 2, 2)
