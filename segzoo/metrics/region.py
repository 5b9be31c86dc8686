"""Scores of regions: Dice, IoU, F-beta, precision, recall, pixel accuracy.

All of them are ratios of the pixel counts of a class over the whole data set: true positives, false
positives and false negatives. The values are scikit-learn's on the flattened arrays, with
`zero_division=0`, and with classes that never occur left out of the mean.
"""

from __future__ import annotations

from typing import Any, Unpack

from keras import ops

from segzoo._counts import Counts
from segzoo._numerics import divide
from segzoo._reading import Batch
from segzoo.metrics import _counts
from segzoo.metrics._arguments import DecisionOptions, MetricOptions, beta_above_zero, register
from segzoo.metrics._base import AveragedMetric

__all__ = ["DiceScore", "FScore", "IoU", "PixelAccuracy", "Precision", "Recall"]


class RegionMetric(AveragedMetric):
    """Base of the scores that are made of tp, fp, fn and the number of pixels."""

    def _counts_shape(self, classes: int) -> tuple[int, ...]:
        return (len(Counts._fields), classes)

    def _count(self, batch: Batch) -> Any:
        return ops.stack(_counts.hard_counts(batch, self.threshold), axis=1)

    def _tally(self, counts: Any) -> Counts:
        return Counts(*(counts[:, kind] for kind in range(len(Counts._fields))))


@register
class IoU(RegionMetric):
    """Intersection over union, the Jaccard index, of each class over the whole data set.

    IoU = tp / (tp + fp + fn)

    Args:
        <shared>

    Returns:
        `result()` is a scalar from 0 to 1, or NaN before any data. With `average=None` it is
        `{"<name>": macro mean, "<name>_<class>": score, ...}`.

    Raises:
        ValueError: if an argument is out of range, or `class_names`, `class_weights` and `classes`
            contradict each other or `y_pred`.

    Example:
        >>> import keras
        >>> truth = [[[0, 0, 1, 1]]]  # one image of 1x4 pixels, as labels
        >>> prediction = keras.ops.one_hot([[[0, 1, 1, 1]]], 2)
        >>> iou = IoU(average=None, class_names=["land", "water"])
        >>> {key: round(float(value), 3) for key, value in iou(truth, prediction).items()}
        {'iou': 0.583, 'iou_land': 0.5, 'iou_water': 0.667}
    """

    _default_name = "iou"

    def _score(self, tally: Counts) -> Any:
        return tally.iou()


@register
class DiceScore(RegionMetric):
    """Dice coefficient, the same as F1, of each class over the whole data set.

    Dice = 2 tp / (2 tp + fp + fn)

    `average="per_image"` is the mean Dice of Kaggle's competitions, in which an empty mask
    predicted as empty scores 1.

    Args:
        <shared>

    Returns:
        `result()` is the score, in 0..1 or NaN where there is none; with `average=None` it is a
        mapping of keys to the scores of all classes, as in `segzoo.metrics.IoU`.

    Example:
        >>> import keras
        >>> dice = DiceScore(average="per_image")
        >>> truth = [[[1, 1, 0, 0]], [[0, 0, 0, 0]]]  # the second image is empty
        >>> prediction = keras.ops.expand_dims([[[0.9, 0.2, 0.1, 0.1]], [[0.3, 0.1, 0.0, 0.2]]], -1)
        >>> round(float(dice(truth, prediction)), 3)  # (2/3 + 1) / 2
        0.833
    """

    _default_name = "dice_score"

    def _score(self, tally: Counts) -> Any:
        return tally.dice()


@register
class FScore(RegionMetric):
    """F-beta score: the harmonic mean of precision and recall, with recall beta times as important.

    F = (1 + beta^2) tp / ((1 + beta^2) tp + beta^2 fn + fp)

    Args:
        beta: number above 0; 1 gives Dice, 2 favors recall, 0.5 favors precision. Defaults to 1.0.
        <shared>

    Returns:
        `result()` is the score, in 0..1 or NaN where there is none; with `average=None` it is a
        mapping of keys to the scores of all classes, as in `segzoo.metrics.IoU`.

    Example:
        >>> import keras
        >>> f2 = FScore(beta=2)
        >>> truth = [[[1, 1, 0, 0]]]
        >>> prediction = keras.ops.expand_dims([[[0.9, 0.2, 0.1, 0.1]]], -1)
        >>> round(float(f2(truth, prediction)), 3)  # 5 / (5 + 4)
        0.556
    """

    _default_name = "f_score"

    def __init__(self, beta: float = 1.0, **options: Unpack[MetricOptions]) -> None:
        self.beta = beta_above_zero(beta)
        super().__init__(**options)

    def _score(self, tally: Counts) -> Any:
        return tally.f_score(self.beta)


@register
class Precision(RegionMetric):
    """Precision: the share of the predicted pixels of a class that are right.

    Precision = tp / (tp + fp)

    Args:
        <shared>

    Returns:
        `result()` is the score, in 0..1 or NaN where there is none; with `average=None` it is a
        mapping of keys to the scores of all classes, as in `segzoo.metrics.IoU`.

    Example:
        >>> import keras
        >>> precision = Precision()
        >>> prediction = keras.ops.expand_dims([[[0.9, 0.8, 0.7, 0.1]]], -1)
        >>> round(float(precision([[[1, 1, 0, 1]]], prediction)), 3)
        0.667
    """

    _default_name = "precision"

    def _score(self, tally: Counts) -> Any:
        return tally.precision()


@register
class Recall(RegionMetric):
    """Recall: the share of the true pixels of a class that are found.

    Recall = tp / (tp + fn)

    Args:
        <shared>

    Returns:
        `result()` is the score, in 0..1 or NaN where there is none; with `average=None` it is a
        mapping of keys to the scores of all classes, as in `segzoo.metrics.IoU`.

    Example:
        >>> import keras
        >>> recall = Recall()
        >>> prediction = keras.ops.expand_dims([[[0.9, 0.8, 0.7, 0.1]]], -1)
        >>> float(recall([[[1, 1, 1, 1]]], prediction))
        0.75
    """

    _default_name = "recall"

    def _score(self, tally: Counts) -> Any:
        return tally.recall()


@register
class PixelAccuracy(RegionMetric):
    """Pixel accuracy: the share of the valid pixels whose label is right.

    With one class, and with `multilabel`, every channel of a pixel is a label of its own, and true
    negatives count as right. That is `average="micro"`, the default of this metric; `class_weights`
    weigh a pixel there by its true class, or each of its channels. Every other average is taken of
    the recalls of the classes: `"macro"` is the mean recall, the "mean accuracy" of the FCN paper
    and the balanced accuracy of scikit-learn.

    Args:
        average: as in `segzoo.metrics.IoU`. Defaults to `"micro"`.
        <shared>

    Returns:
        `result()` is the score, in 0..1 or NaN where there is none; with `average=None` it is a
        mapping of keys to the scores of all classes, as in `segzoo.metrics.IoU`.

    Example:
        >>> import keras
        >>> truth = [[[0, 0, 0, 1]]]
        >>> prediction = keras.ops.one_hot([[[0, 0, 0, 0]]], 2)
        >>> float(PixelAccuracy()(truth, prediction))
        0.75
        >>> float(PixelAccuracy(average="macro")(truth, prediction))
        0.5
    """

    _default_name = "pixel_accuracy"

    def __init__(self, average: str | None = "micro", **options: Unpack[DecisionOptions]) -> None:
        super().__init__(average=average, **options)

    def _score(self, tally: Counts) -> Any:
        if not self._sums_classes():
            return tally.recall()
        return divide(tally.tp if self._is_exclusive() else tally.tp + tally.tn, tally.total)

    def _present(self, tally: Counts) -> Any:
        return tally.total != 0 if self._sums_classes() else super()._present(tally)

    def _summed(self, tally: Counts) -> Counts:
        """Return the summed counts, of exclusive classes with one decision for each pixel."""
        summed = super()._summed(tally)
        if not self._is_exclusive():
            return summed
        # A pixel weighs as its true class does; one of no class, which cannot be right, weighs 1.
        nowhere = tally.total[:, :1] - ops.sum(tally.actual, axis=1, keepdims=True)
        return summed._replace(total=summed.actual + nowhere)
