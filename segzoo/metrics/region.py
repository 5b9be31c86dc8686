"""Scores of regions: Dice, IoU, F-beta, precision, recall, pixel accuracy.

All of them are ratios of the pixel counts of a class over the whole data set: tp (true and
predicted), predicted, actual. The values are scikit-learn's on the flattened arrays, with
`zero_division=0`, and with classes that never occur left out of the mean.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from segzoo.metrics import _counts
from segzoo.metrics._arguments import check_beta
from segzoo.metrics._base import AveragedMetric, divide
from segzoo.metrics._counts import Tally

__all__ = ["DiceScore", "FScore", "IoU", "PixelAccuracy", "Precision", "Recall"]


class RegionMetric(AveragedMetric):
    """Base of the scores that are made of tp, predicted, actual and tn."""

    def _counts_shape(self, classes: int) -> tuple[int, ...]:
        return (len(Tally._fields), classes)

    def _count(self, batch: _counts.Batch) -> Any:
        if self._is_exclusive(batch.scores.shape[-1]):
            tally = _counts.tally_of_confusion(_counts.count_confusion(batch))
        else:
            tally = _counts.tally_masks(batch, self.threshold)
        return ops.stack(tally, axis=1)

    def _tally(self, counts: Any) -> Tally:
        return Tally(*(counts[:, kind] for kind in range(len(Tally._fields))))


@keras.saving.register_keras_serializable(package="segzoo.metrics")
class IoU(RegionMetric):
    """Intersection over union, the Jaccard index, of each class over the whole data set.

    IoU = tp / (tp + fp + fn)

    Args:
        threshold: probability above which a pixel is positive, for one class and with
            `multilabel`; several exclusive classes go by their largest score.
        multilabel: whether the classes of a pixel are independent of each other.
        from_logits: whether `y_pred` are logits instead of probabilities.
        average: how the classes' scores become one. `"macro"`: their mean, weighted by
            `class_weights`. `"micro"`: the score of the summed counts. `"weighted"`: their mean
            weighted by the truth's pixels. `"per_image"`: the mean over all (image, class)
            pairs, each image scored by itself. `None`: all of them, see Returns.
        class_weights: numbers >= 0, one for each class.
        ignore_class: label value, or several, of pixels that count nowhere (255, -1, 0).
        empty_score: score of a class with no pixel in truth and prediction. By default 1.0 with
            `"per_image"`; otherwise the class is left out of the mean, as NaN does.
        class_names: names of the classes in the keys of `result()`; their numbers by default.
        classes: number of classes; read from the first `y_pred` when left out.
        name: of the metric, and the beginning of every key.
        dtype: of the result; float64 by default where the backend has it.

    Returns:
        `result()` is a scalar from 0 to 1, NaN before any data. With `average=None` it is
        `{"<name>": macro mean, "<name>_<class>": score, ...}`.

    Raises:
        ValueError: for an argument out of range, or `class_names`, `class_weights` and `classes`
            that contradict each other or `y_pred`.

    Example:
        >>> truth = [[[0, 0, 1, 1]]]  # one image of 1x4 pixels, as labels
        >>> prediction = keras.ops.one_hot([[[0, 1, 1, 1]]], 2)
        >>> iou = IoU(average=None, class_names=["land", "water"])
        >>> {key: round(float(value), 3) for key, value in iou(truth, prediction).items()}
        {'iou': 0.583, 'iou_land': 0.5, 'iou_water': 0.667}
    """

    _default_name = "iou"

    def _score(self, tally: Tally) -> Any:
        return iou_of(tally)


@keras.saving.register_keras_serializable(package="segzoo.metrics")
class DiceScore(RegionMetric):
    """Dice coefficient of each class over the whole data set, the same as F1.

    Dice = 2 tp / (2 tp + fp + fn)

    `average="per_image"` is the mean Dice of Kaggle's competitions: an empty mask predicted empty
    scores 1. Arguments, result and errors are those of `segzoo.metrics.IoU`.

    Example:
        >>> dice = DiceScore(average="per_image")
        >>> truth = [[[1, 1, 0, 0]], [[0, 0, 0, 0]]]  # the second image is empty
        >>> prediction = keras.ops.expand_dims([[[0.9, 0.2, 0.1, 0.1]], [[0.3, 0.1, 0.0, 0.2]]], -1)
        >>> round(float(dice(truth, prediction)), 3)  # (2/3 + 1) / 2
        0.833
    """

    _default_name = "dice_score"

    def _score(self, tally: Tally) -> Any:
        return divide(2 * tally.tp, tally.predicted + tally.actual)


@keras.saving.register_keras_serializable(package="segzoo.metrics")
class FScore(RegionMetric):
    """F-beta: the harmonic mean of precision and recall, recall counting beta times as much.

    F = (1 + beta^2) tp / ((1 + beta^2) tp + beta^2 fn + fp)

    Args:
        beta: above 0; 1 is Dice, 2 favors recall, 0.5 precision.
        **shared: the arguments of `segzoo.metrics.IoU`.

    Example:
        >>> f2 = FScore(beta=2)
        >>> truth = [[[1, 1, 0, 0]]]
        >>> prediction = keras.ops.expand_dims([[[0.9, 0.2, 0.1, 0.1]]], -1)
        >>> round(float(f2(truth, prediction)), 3)  # 5 / (5 + 4)
        0.556
    """

    _default_name = "f_score"

    def __init__(self, beta: float = 1.0, **shared: Any) -> None:
        check_beta(beta)
        self.beta = float(beta)
        super().__init__(**shared)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        return {"beta": self.beta, **super().get_config()}

    def _score(self, tally: Tally) -> Any:
        return f_beta(tally, self.beta)


@keras.saving.register_keras_serializable(package="segzoo.metrics")
class Precision(RegionMetric):
    """Share of the predicted pixels of a class that are right.

    Precision = tp / (tp + fp)

    Arguments, result and errors are those of `segzoo.metrics.IoU`.

    Example:
        >>> precision = Precision()
        >>> prediction = keras.ops.expand_dims([[[0.9, 0.8, 0.7, 0.1]]], -1)
        >>> round(float(precision([[[1, 1, 0, 1]]], prediction)), 3)
        0.667
    """

    _default_name = "precision"

    def _score(self, tally: Tally) -> Any:
        return divide(tally.tp, tally.predicted)


@keras.saving.register_keras_serializable(package="segzoo.metrics")
class Recall(RegionMetric):
    """Share of the true pixels of a class that are found.

    Recall = tp / (tp + fn)

    Arguments, result and errors are those of `segzoo.metrics.IoU`.

    Example:
        >>> recall = Recall()
        >>> prediction = keras.ops.expand_dims([[[0.9, 0.8, 0.7, 0.1]]], -1)
        >>> float(recall([[[1, 1, 1, 1]]], prediction))
        0.75
    """

    _default_name = "recall"

    def _score(self, tally: Tally) -> Any:
        return divide(tally.tp, tally.actual)


@keras.saving.register_keras_serializable(package="segzoo.metrics")
class PixelAccuracy(RegionMetric):
    """Share of the valid pixels that are labelled right.

    With one class, and with `multilabel`, every channel of a pixel is a label of its own, and true
    negatives are right too. That is `average="micro"`, the default of this metric. Every other
    average is one of the classes' recalls: `"macro"` is the mean recall, the "mean accuracy" of
    the FCN paper and the balanced accuracy of scikit-learn.

    Arguments, result and errors are those of `segzoo.metrics.IoU`, but `average="micro"`.

    Example:
        >>> truth = [[[0, 0, 0, 1]]]
        >>> prediction = keras.ops.one_hot([[[0, 0, 0, 0]]], 2)
        >>> float(PixelAccuracy()(truth, prediction))
        0.75
        >>> float(PixelAccuracy(average="macro")(truth, prediction))
        0.5
    """

    _default_name = "pixel_accuracy"

    def __init__(
        self,
        threshold: float = 0.5,
        multilabel: bool = False,
        from_logits: bool = False,
        average: str | None = "micro",
        **shared: Any,
    ) -> None:
        super().__init__(threshold, multilabel, from_logits, average, **shared)

    def _score(self, tally: Tally) -> Any:
        if self.average != "micro":
            return divide(tally.tp, tally.actual)
        return divide(tally.tp + tally.tn, self._labels(tally))

    def _present(self, tally: Tally) -> Any:
        if self.average != "micro":
            return super()._present(tally)
        return self._labels(tally) > 0

    def _labels(self, tally: Tally) -> Any:
        """Returns the number of decisions: one per pixel, or one per pixel and channel."""
        if self._is_exclusive(self.classes or 1):
            return tally.predicted
        return tally.predicted + tally.actual - tally.tp + tally.tn


def iou_of(tally: Any) -> Any:
    """Returns the intersection over union of counts."""
    return divide(tally.tp, tally.predicted + tally.actual - tally.tp)


def f_beta(tally: Any, beta: float) -> Any:
    """Returns the F-beta score of counts."""
    square = beta * beta
    return divide((1 + square) * tally.tp, square * tally.actual + tally.predicted)
