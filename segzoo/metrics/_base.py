"""What every streaming metric shares: its arguments, its counts, and the averages.

A metric keeps counts. `update_state` adds a batch's counts, `result` divides once, at the end, so
the value is that of the whole data set however it was cut into batches. The exceptions are
`average="per_image"` and `"micro_per_image"`, which score every image by itself and keep the sums
of these scores. A batch in which something cannot be right makes the counts NaN, and with them
everything that `result` returns.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from segzoo._arguments import (
    ClassWeights,
    class_weights_of,
    flag,
    for_config,
    ignored_classes,
    list_of_weights,
    one_of,
    parameters,
)
from segzoo._numerics import divide, wide_dtype
from segzoo._reading import Batch, Reading
from segzoo.metrics import _counts
from segzoo.metrics._arguments import (
    AVERAGES,
    checked_classes,
    checked_empty_score,
    checked_names,
    checked_threshold,
)
from segzoo.metrics._counters import Counter


class SegmentationMetric(keras.metrics.Metric):
    """Base class: arguments, class names, lazy building.

    The number of classes is that of `classes`, or the length of `class_names`, `class_weights` or
    `threshold` if one of them is given, and is read from the first `y_pred` otherwise.
    """

    name: str
    _default_name = "segmentation_metric"

    def __init__(
        self,
        threshold: float | Sequence[float] = 0.5,
        multilabel: bool = False,
        from_logits: bool = False,
        average: str | None = "macro",
        class_weights: ClassWeights = None,
        ignore_class: int | Iterable[int] | None = None,
        empty_score: float | None = None,
        class_names: Sequence[str] | None = None,
        classes: int | None = None,
        name: str | None = None,
        dtype: str | None = None,
    ) -> None:
        super().__init__(name=name or self._default_name, dtype=dtype or wide_dtype())
        self.threshold = checked_threshold(threshold)
        self.multilabel = flag("multilabel", multilabel)
        self.from_logits = flag("from_logits", from_logits)
        self.average = one_of("average", average, AVERAGES)
        self.class_weights = class_weights_of(class_weights)
        self.ignore_class = ignored_classes(ignore_class)
        self.empty_score = checked_empty_score(empty_score)
        self.class_names = checked_names(class_names)
        self.classes = checked_classes(
            classes,
            class_names=self.class_names,
            class_weights=self.class_weights,
            threshold=self.threshold,
        )
        self._dtype_given = dtype is not None
        self._built = False
        if self.classes is not None:
            self._build(self.classes)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        config = {name: for_config(getattr(self, name)) for name in parameters(type(self))}
        config["ignore_class"] = config["ignore_class"] or None
        config["dtype"] = self.dtype if self._dtype_given else None
        return config

    @functools.cached_property
    def _reading(self) -> Reading:
        return Reading(
            multilabel=self.multilabel,
            from_logits=self.from_logits,
            ignored=self.ignore_class,
            weights_dtype=wide_dtype(),
            decided_classes=self.classes,
            infinite=True,
        )

    def _read(self, y_true: Any, y_pred: Any, sample_weight: Any) -> Batch:
        """Return the batch, read, and build the state for its classes."""
        batch = self._reading(y_true, y_pred, sample_weight)
        self._build(batch.classes)
        return batch

    def _build(self, classes: int) -> None:
        if self.classes is None:
            self.classes = classes
        elif classes != self.classes:
            raise ValueError(
                f"`y_pred` has {classes} class(es), but the metric {self.name!r} counts "
                f"{self.classes}: `classes`, `class_names`, `class_weights`, `threshold` or the "
                "first batch said so"
            )
        if not self._built:
            self._weights = list_of_weights(self.class_weights, classes) or [1.0] * classes
            self._built = True
            self._create_counters(classes)

    def _create_counters(self, classes: int) -> None:
        raise NotImplementedError

    def _is_exclusive(self) -> bool:
        """Whether each pixel has one class, the largest, instead of a decision per channel."""
        return self._reading.kind(self.classes or 1) == "exclusive"

    def _names(self) -> tuple[str, ...]:
        """Return the classes' names: `class_names`, or `class_0`, `class_1`, ..."""
        return self.class_names or tuple(f"class_{c}" for c in range(self.classes or 0))

    def _nan(self) -> Any:
        return ops.cast(math.nan, self.dtype)


class MonitoredName(str):
    """The name of a metric, equal to the keys of its classes too.

    Keras's callbacks look for the metric whose name equals what they monitor, and ask it whether it
    rises; `val_iou_water` would have none.
    """

    keys: frozenset[str] = frozenset()

    def __eq__(self, other: object) -> bool:
        return str.__eq__(self, other) is True or other in self.keys

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__


class AveragedMetric(SegmentationMetric):
    """A metric that scores each class and averages the scores.

    A subclass says what is counted (`_count`, `_counts_shape`, `_tally`) and what a score is
    (`_score`); the averages are here. Counts have the images first, then the classes, then
    whatever else there is (the thresholds of `ThresholdSearch`).
    """

    _direction = "up"  # what Keras's callbacks ask for

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add a batch.

        Args:
            y_true: (B, H, W, C) dense targets, or labels (B, H, W) or (B, H, W, 1).
            y_pred: (B, H, W, C) probabilities, or logits with `from_logits=True`.
            sample_weight: `None`, (B,), or (B, H, W) or (B, H, W, 1); with
                `average="per_image"` and `"micro_per_image"` weights (B,) weigh the images'
                scores, else the pixels.

        Raises:
            ValueError: for shapes or types that do not fit; in eager mode for values that cannot
                be right. In a compiled graph those make `result()` NaN.
        """
        batch = self._read(y_true, y_pred, sample_weight)
        counts = self._count(batch)  # (B, ...)
        weights = batch.image_weights
        if not self._by_image():
            self._counter.add(_counts.sum_images(counts, weights), batch)
            return
        tally = self._tally(ops.cast(counts, wide_dtype()))
        scores = self._class_scores(self._summed(tally) if self._sums_classes() else tally)
        found = ops.logical_not(ops.isnan(scores))
        scores = ops.where(found, scores, 0)
        self._score_sums.add(_counts.sum_images(scores, weights), batch)
        self._images.add(_counts.sum_images(ops.cast(found, "int32"), weights))

    def result(self) -> Any:
        """Return the score, or with `average=None` the scores of all classes by their keys."""
        if not self._built:
            return self._nan() if self.average is not None else {str(self.name): self._nan()}
        overall, scores = (ops.cast(x, self.dtype) for x in self._averages())
        if self.average is not None:
            return overall
        # A plain string: Keras sorts its logs, and where two keys are equal it compares the values.
        by_class = {key: scores[c] for c, key in enumerate(self._class_keys())}
        return {str(self.name): overall, **by_class}

    def _averages(self) -> tuple[Any, Any]:
        """Return the average score, (...), and the classes' scores, (C, ...), NaN if spoiled."""
        counter = self._score_sums if self._by_image() else self._counter
        averages = self._averages_of_images() if self._by_image() else self._averages_of_counts()
        spoiled = counter.spoiled()
        overall, scores = (ops.where(spoiled, ops.cast(np.nan, x.dtype), x) for x in averages)
        return overall, scores

    def _averages_of_images(self) -> tuple[Any, Any]:
        sums, images = self._score_sums.total(), self._images.total()
        weights = 1.0 if self._sums_classes() else self._broadcast_class_weights(sums)
        overall = divide(
            ops.sum(weights * sums, axis=0), ops.sum(weights * images, axis=0), math.nan
        )
        return overall, divide(sums, images, math.nan)

    def _averages_of_counts(self) -> tuple[Any, Any]:
        tally = self._tally(ops.expand_dims(self._counter.total(), 0))
        scores = self._class_scores(tally)[0]
        if self._sums_classes():
            return self._class_scores(self._summed(tally))[0, 0], scores
        weights = self._broadcast_class_weights(scores)
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

    def _class_keys(self) -> list[str]:
        """Return the keys of the classes' scores, none where the result has no classes."""
        return [] if self.average else [f"{self.name}_{name}" for name in self._names()]

    def _by_image(self) -> bool:
        return self.average in ("per_image", "micro_per_image")

    def _sums_classes(self) -> bool:
        return self.average in ("micro", "micro_per_image")

    def _summed(self, tally: Any) -> Any:
        """Return the counts (N, C, ...) summed over the classes: (N, 1, ...)."""
        weights = ops.convert_to_tensor(self._weights, dtype=tally[0].dtype)
        weights = ops.reshape(weights, (1, -1) + (1,) * (len(tally[0].shape) - 2))
        return type(tally)(*(ops.sum(weights * x, axis=1, keepdims=True) for x in tally))

    def _class_scores(self, tally: Any) -> Any:
        """Return the scores, with `empty_score` where a class does not occur at all."""
        return ops.where(self._present(tally), self._score(tally), self._empty())

    def _empty(self) -> float:
        if self.empty_score is None:
            return 1.0 if self._by_image() else math.nan
        return self.empty_score

    def _broadcast_class_weights(self, like: Any) -> Any:
        """Return the class weights along the first axis of `like`, in its shape."""
        weights = ops.convert_to_tensor(self._weights, dtype=like.dtype)
        return ops.reshape(weights, (-1,) + (1,) * (len(like.shape) - 1)) * ops.ones_like(like)

    def _create_counters(self, classes: int) -> None:
        name = MonitoredName(self.name)
        name.keys = frozenset(self._class_keys())
        self.name = name
        if self._by_image():
            shape = self._scores_shape(1 if self._sums_classes() else classes)
            self._score_sums = Counter(self, shape, "scores")
            self._images = Counter(self, shape, "images")
        else:
            self._counter = Counter(self, self._counts_shape(classes), "counts")

    def _scores_shape(self, classes: int) -> tuple[int, ...]:
        return (classes,)

    def _counts_shape(self, classes: int) -> tuple[int, ...]:
        """Return the shape of one image's counts."""
        raise NotImplementedError

    def _count(self, batch: Any) -> Any:
        """Return the counts of each image, (B, *counts_shape)."""
        raise NotImplementedError

    def _tally(self, counts: Any) -> Any:
        """Return (N, *counts_shape) as a named tuple of (N, C, ...) with the field `actual`."""
        raise NotImplementedError

    def _score(self, tally: Any) -> Any:
        """Return the scores, (N, C, ...), 0 where they are 0 / 0."""
        raise NotImplementedError

    def _present(self, tally: Any) -> Any:
        """Return where a class has a pixel in truth or prediction."""
        return tally.predicted + tally.actual != 0
