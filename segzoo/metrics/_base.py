"""What every streaming metric shares: its arguments, its counts, and the five averages.

A metric keeps counts. `update_state` adds a batch's counts, `result` divides once, at the end, so
the value is that of the whole data set however it was cut into batches. The one exception is
`average="per_image"`, which scores every image by itself and keeps the sums of these scores.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import keras
from keras import ops

from segzoo import _targets
from segzoo.metrics import _counts
from segzoo.metrics._arguments import (
    check_average,
    check_empty_score,
    check_in_unit_interval,
    checked_classes,
    checked_names,
    checked_weights,
)
from segzoo.metrics._counters import Counter, wide_dtype


class SegmentationMetric(keras.metrics.Metric):
    """Base class: arguments, class names, lazy building. Its arguments are those of `IoU`.

    The number of classes is that of `classes`, `class_names` or `class_weights` if one of them is
    given, and is read from the first `y_pred` otherwise.
    """

    _default_name = "segmentation_metric"

    def __init__(
        self,
        threshold: float = 0.5,
        multilabel: bool = False,
        from_logits: bool = False,
        average: str | None = "macro",
        class_weights: Sequence[float] | None = None,
        ignore_class: int | Iterable[int] | None = None,
        empty_score: float | None = None,
        class_names: Sequence[str] | None = None,
        classes: int | None = None,
        name: str | None = None,
        dtype: str | None = None,
    ) -> None:
        super().__init__(name=name or self._default_name, dtype=dtype or wide_dtype())
        check_in_unit_interval("threshold", threshold)
        check_average(average)
        check_empty_score(empty_score)
        self.threshold = threshold
        self.multilabel = multilabel
        self.from_logits = from_logits
        self.average = average
        self.class_weights = checked_weights(class_weights)
        self.ignore_class = _targets.ignored_classes(ignore_class)
        self.empty_score = empty_score
        self.class_names = checked_names(class_names)
        self.classes = checked_classes(classes, self.class_names, self.class_weights)
        self._dtype_given = dtype is not None
        self._built = False
        if self.classes is not None:
            self._build(self.classes)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""

        def listed(values):
            return None if values is None else list(values)

        return {
            "threshold": self.threshold,
            "multilabel": self.multilabel,
            "from_logits": self.from_logits,
            "average": self.average,
            "class_weights": listed(self.class_weights),
            "ignore_class": listed(self.ignore_class) or None,
            "empty_score": self.empty_score,
            "class_names": listed(self.class_names),
            "classes": self.classes,
            "name": self.name,
            "dtype": self.dtype if self._dtype_given else None,
        }

    _by_channel = False  # whether exclusive classes too are read as a mask for each channel

    def _read(self, y_true: Any, y_pred: Any, sample_weight: Any) -> _counts.Batch:
        """Returns the batch, read, and builds the state for its classes."""
        batch = _counts.read_batch(
            y_true,
            y_pred,
            sample_weight,
            ignored=self.ignore_class,
            from_logits=self.from_logits,
            multilabel=self.multilabel,
            channels=self._by_channel,
        )
        self._build(batch.scores.shape[-1])
        return batch

    def _build(self, classes: int) -> None:
        if self.classes is None:
            self.classes = classes
        elif classes != self.classes:
            raise ValueError(
                f"`y_pred` has {classes} class(es), but the metric {self.name!r} counts "
                f"{self.classes}: `classes`, `class_names`, `class_weights` or the first batch "
                "said so"
            )
        if not self._built:
            self._built = True
            self._create_counters(classes)

    def _create_counters(self, classes: int) -> None:
        raise NotImplementedError

    def _is_exclusive(self, classes: int) -> bool:
        """Whether each pixel has one class, the largest, instead of a decision per channel."""
        return classes > 1 and not self.multilabel

    def _names(self) -> tuple[str, ...]:
        """Returns the classes' names: `class_names`, or their numbers."""
        return self.class_names or tuple(str(c) for c in range(self.classes or 0))

    def _nan(self) -> Any:
        return ops.cast(math.nan, self.dtype)


class AveragedMetric(SegmentationMetric):
    """A metric that scores each class and averages the scores.

    A subclass says what is counted (`_count`, `_counts_shape`, `_tally`) and what a score is
    (`_score`); the averages are here. Counts have the images first, then the classes, then
    whatever else there is (the thresholds of `ThresholdSearch`).
    """

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch.

        Args:
            y_true: (B, H, W, C) dense targets, or labels (B, H, W) or (B, H, W, 1).
            y_pred: (B, H, W, C) probabilities, or logits with `from_logits=True`.
            sample_weight: `None`, (B,), or (B, H, W) or (B, H, W, 1); with
                `average="per_image"` weights (B,) weigh the images' scores, else the pixels.
        """
        batch = self._read(y_true, y_pred, sample_weight)
        counts = self._count(batch)  # (B, ...)
        weights = batch.image_weights
        if self.average != "per_image":
            self._counter.add(_counts.sum_images(counts, weights))
            return
        scores = self._class_scores(self._tally(ops.cast(counts, wide_dtype())))
        found = ops.logical_not(ops.isnan(scores))
        scores = ops.where(found, scores, 0)
        self._score_sums.add(_counts.sum_images(scores, weights))
        self._images.add(_counts.sum_images(ops.cast(found, "int32"), weights))

    def result(self) -> Any:
        """Returns the score, or with `average=None` the scores of all classes by their keys."""
        if not self._built:
            return self._nan() if self.average is not None else {self.name: self._nan()}
        overall, scores = (ops.cast(x, self.dtype) for x in self._averages())
        if self.average is not None:
            return overall
        keys = (f"{self.name}_{name}" for name in self._names())
        return {self.name: overall} | {key: scores[c] for c, key in enumerate(keys)}

    def _averages(self) -> tuple[Any, Any]:
        """Returns the average score, (...), and the classes' scores, (C, ...)."""
        if self.average == "per_image":
            sums, images = self._score_sums.total(), self._images.total()
            weights = self._broadcast_class_weights(sums)
            overall = divide(
                ops.sum(weights * sums, axis=0), ops.sum(weights * images, axis=0), math.nan
            )
            return overall, divide(sums, images, math.nan)
        tally = self._tally(ops.expand_dims(self._counter.total(), 0))
        scores = self._class_scores(tally)[0]
        weights = self._broadcast_class_weights(scores)
        if self.average == "micro":
            weighted = (ops.sum(weights * x, axis=1, keepdims=True) for x in tally)
            return self._class_scores(type(tally)(*weighted))[0, 0], scores
        found = ops.logical_not(ops.isnan(scores))
        if self.average == "weighted":
            weights = weights * tally.actual[0]
            # no truth at all is 0 / 0: nothing but false positives, or an empty data set
            without = ops.where(ops.any(self._present(tally)[0], axis=0), 0.0, self._empty())
        else:
            without = math.nan
        weights = ops.where(found, weights, 0)
        total = ops.sum(ops.where(found, weights * scores, 0), axis=0)
        return divide(total, ops.sum(weights, axis=0), without), scores

    def _class_scores(self, tally: Any) -> Any:
        """Returns the scores, with `empty_score` where a class does not occur at all."""
        return ops.where(self._present(tally), self._score(tally), self._empty())

    def _empty(self) -> float:
        if self.empty_score is None:
            return 1.0 if self.average == "per_image" else math.nan
        return float(self.empty_score)

    def _broadcast_class_weights(self, like: Any) -> Any:
        weights = self.class_weights or (1.0,) * (self.classes or 1)
        weights = ops.convert_to_tensor(weights, dtype=like.dtype)
        return ops.reshape(weights, (-1,) + (1,) * (len(like.shape) - 1)) * ops.ones_like(like)

    def _create_counters(self, classes: int) -> None:
        if self.average == "per_image":
            shape = self._scores_shape(classes)
            self._score_sums = Counter(self, shape, "scores")
            self._images = Counter(self, shape, "images")
        else:
            self._counter = Counter(self, self._counts_shape(classes), "counts")

    def _scores_shape(self, classes: int) -> tuple[int, ...]:
        return (classes,)

    def _counts_shape(self, classes: int) -> tuple[int, ...]:
        """Returns the shape of one image's counts."""
        raise NotImplementedError

    def _count(self, batch: Any) -> Any:
        """Returns the counts of each image, (B, *counts_shape)."""
        raise NotImplementedError

    def _tally(self, counts: Any) -> Any:
        """Returns (N, *counts_shape) as a named tuple of (N, C, ...) with the field `actual`."""
        raise NotImplementedError

    def _score(self, tally: Any) -> Any:
        """Returns the scores, (N, C, ...), 0 where they are 0 / 0."""
        raise NotImplementedError

    def _present(self, tally: Any) -> Any:
        """Returns where a class has a pixel in truth or prediction."""
        return tally.predicted + tally.actual > 0


def divide(numerator: Any, denominator: Any, without: Any = 0.0) -> Any:
    """Returns the quotient, and `without` where the denominator is 0."""
    some = denominator > 0
    quotient = numerator / ops.where(some, denominator, 1)
    return ops.where(some, quotient, ops.cast(without, quotient.dtype))
