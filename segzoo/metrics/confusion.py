"""The confusion matrix, from which every other count-based score can be had."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from segzoo.metrics import _counts
from segzoo.metrics._base import SegmentationMetric, divide
from segzoo.metrics._counters import Counter

__all__ = ["ConfusionMatrix"]

_SUMMED_AXES: dict[str | None, tuple[int, ...] | None] = {
    None: None,
    "true": (-1,),
    "pred": (-2,),
    "all": (-2, -1),
}


@keras.saving.register_keras_serializable(package="segzoo.metrics")
class ConfusionMatrix(SegmentationMetric):
    """Counts of (truth, prediction) pairs over the whole data set; rows are the truth.

    Averages do not apply to a matrix: `average` takes its default or `None`, and `class_weights`
    must be `None`. `empty_score` is the score in `report()` of a class that never occurs (NaN by
    default). The other arguments, and the errors, are those of `segzoo.metrics.IoU`.

    Args:
        normalize: `None` for counts; `"true"` divides by the truth's pixels, so that rows sum to
            1; `"pred"` by the predicted pixels (columns sum to 1); `"all"` by all pixels. A row or
            column without a pixel stays 0.
        **shared: the arguments of `segzoo.metrics.IoU`.

    Returns:
        `result()` is (classes, classes) for exclusive classes; (2, 2) for one class, background
        first; (classes, 2, 2) with `multilabel`, each class against the rest.

    Example:
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

    def __init__(self, normalize: str | None = None, **shared: Any) -> None:
        if normalize not in _SUMMED_AXES:
            raise ValueError(
                "`normalize` must be None, 'true', 'pred' or 'all', "
                f"received normalize={normalize!r}"
            )
        for argument, accepted in (("average", ("macro", None)), ("class_weights", (None,))):
            if shared.get(argument) not in accepted:
                raise ValueError(
                    f"`{argument}` does not apply to a confusion matrix, "
                    f"received {argument}={shared[argument]!r}"
                )
        self.normalize = normalize
        super().__init__(**shared)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        return {"normalize": self.normalize, **super().get_config()}

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch; the arguments are those of `segzoo.metrics.IoU.update_state`."""
        batch = self._read(y_true, y_pred, sample_weight)
        if self._is_exclusive(batch.scores.shape[-1]):
            counts = _counts.count_confusion(batch)[:, 1:]
        else:
            tally = _counts.tally_masks(batch, self.threshold)
            fp, fn = tally.predicted - tally.tp, tally.actual - tally.tp
            counts = ops.stack([tally.tn, fp, fn, tally.tp], axis=-1)
            counts = ops.reshape(counts, (-1, *self._counter_shape(batch.scores.shape[-1])))
        self._counter.add(_counts.sum_images(counts, batch.image_weights))

    def result(self) -> Any:
        """Returns the matrix, normalized as `normalize` says; a NaN scalar before any data."""
        if not self._built:
            return self._nan()
        matrix = self._counter.total()
        axes = _SUMMED_AXES[self.normalize]
        if axes is not None:
            matrix = divide(matrix, ops.sum(matrix, axis=axes, keepdims=True))
        return ops.cast(matrix, self.dtype)

    def report(self) -> dict[str, dict[str, float]]:
        """Returns the scores of every class, as NumPy computes them from the exact counts.

        Returns:
            `{class: {"precision", "recall", "f1", "iou", "support"}}`; `support` is the number of
            the truth's pixels. Without data the dictionary is empty.
        """
        if not self._built:
            return {}
        counts = self._counter.numpy()
        if self._is_exclusive(self.classes or 1):
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
            "support": int(actual) if actual == int(actual) else actual,
        }

    def _create_counters(self, classes: int) -> None:
        self._counter = Counter(self, self._counter_shape(classes), "counts")

    def _counter_shape(self, classes: int) -> tuple[int, ...]:
        if self._is_exclusive(classes):
            return (classes, classes)
        return (2, 2) if classes == 1 and not self.multilabel else (classes, 2, 2)
