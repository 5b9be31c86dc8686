"""The best threshold, found in one pass over the data.

A pixel whose probability exceeds k of the thresholds is positive at exactly the k lowest of them.
So it is enough to count, for each class and for true and false pixels, how many exceed k
thresholds; sums from the top of that histogram are the counts at every threshold at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import keras
import numpy as np
from keras import ops

from segzoo._arguments import is_several, one_of
from segzoo._counts import Counts
from segzoo._reading import Batch
from segzoo.metrics import _counts
from segzoo.metrics._arguments import (
    SearchOptions,
    beta_above_zero,
    probability,
    register,
)
from segzoo.metrics._base import AveragedMetric

__all__ = ["ThresholdSearch"]

_SCORES = ("iou", "dice", "f_score")
_MOST_CELLS = 2**16


@register
class ThresholdSearch(AveragedMetric):
    """Search for the threshold with the best score, in one pass of `evaluate`.

    The result is that of a loop that evaluates `IoU(threshold=t)` for every t; of equal scores the
    lowest threshold wins. Each channel is compared with the threshold by itself: one mask,
    `multilabel` masks, or each of several exclusive classes against the rest.

    Args:
        thresholds: number of thresholds, spaced evenly from 0 to 1, or the thresholds themselves,
            probabilities from 0 to 1 (for logits too: `from_logits` turns them into probabilities
            first).
            Defaults to 101.
        score: `"iou"`, `"dice"` or `"f_score"`. Defaults to `"iou"`.
        beta: beta of the F-score. Defaults to 1.0.
        average: as in `segzoo.metrics.IoU`, over the classes at one common threshold; None is
            the same as `"macro"` here. Defaults to `"macro"`.
        <shared>

    Returns:
        `result()` is `{"<name>": best score, "<name>_threshold": its threshold}` and, for several
        classes, `"<name>_<class>"` and `"<name>_<class>_threshold"`, the best of each class by
        itself. The default name is `"best_iou"`, `"best_dice"` or `"best_f_score"`.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> search = ThresholdSearch(thresholds=[0.25, 0.5, 0.75])
        >>> truth = [[[1, 1, 0, 0]]]
        >>> prediction = keras.ops.expand_dims([[[0.9, 0.4, 0.3, 0.1]]], -1)
        >>> {key: round(float(value), 3) for key, value in search(truth, prediction).items()}
        {'best_iou': 0.667, 'best_iou_threshold': 0.25}
    """

    def __init__(
        self,
        thresholds: int | Sequence[float] = 101,
        score: str = "iou",
        beta: float = 1.0,
        **options: Unpack[SearchOptions],
    ) -> None:
        self.thresholds = _checked_thresholds(thresholds)
        self.score = one_of("score", score, _SCORES)
        self.beta = beta_above_zero(beta)
        self._default_name = f"best_{score}"
        super().__init__(**options)

    def result(self) -> dict[str, Any]:
        """Return the best score and its threshold, of the average and of each class."""
        if not self._built:
            return {str(self.name): self._nan(), f"{self.name}_threshold": self._nan()}
        overall, by_class = self._averages()  # (T,), (C, T)
        keys, curves = [str(self.name)], ops.expand_dims(overall, 0)
        if self._class_keys():
            keys += self._class_keys()
            curves = ops.concatenate([curves, by_class])
        # the first of the largest scores of each curve; NaN, if there is no score
        known = ops.where(ops.isnan(curves), -1.0, curves)
        index = ops.argmax(known, axis=1)
        scores = ops.max(known, axis=1)
        thresholds = ops.take(ops.convert_to_tensor(self.thresholds, dtype=self.dtype), index)
        found = scores >= 0
        scores, thresholds = (
            ops.where(found, ops.cast(x, self.dtype), self._nan()) for x in (scores, thresholds)
        )
        best: dict[str, Any] = {}
        for row, key in enumerate(keys):
            best |= {key: scores[row], f"{key}_threshold": thresholds[row]}
        return best

    def curve(self) -> dict[str, Any]:
        """Return the scores at every threshold, as NumPy arrays.

        Returns:
            `{"thresholds": (T,), "scores": (T,), "classes": {class: (T,)}}`; `scores` are the
            average over the classes. Without data the scores are NaN and `classes` is empty;
            `"micro_per_image"` has no scores of single classes either.
        """
        thresholds = np.asarray(self.thresholds)
        if not self._built:
            return {
                "thresholds": thresholds,
                "scores": np.full(thresholds.shape, np.nan),
                "classes": {},
            }
        overall, scores = (ops.convert_to_numpy(x) for x in self._averages())
        names = [] if self.average == "micro_per_image" else self._names()
        by_class = dict(zip(names, scores, strict=False))
        return {"thresholds": thresholds, "scores": overall, "classes": by_class}

    def _class_keys(self) -> list[str]:
        if self.average == "micro_per_image":  # the classes of an image are summed at once
            return []
        names = self._names()
        return [f"{self.name}_{name}" for name in names] if len(names) > 1 else []

    def _counts_shape(self, classes: int) -> tuple[int, ...]:
        return (classes * 2 * (len(self.thresholds) + 1),)

    def _scores_shape(self, classes: int) -> tuple[int, ...]:
        return (classes, len(self.thresholds))

    def _count(self, batch: Batch) -> Any:
        """Return (B, C * 2 * (T + 1)): pixels by class, truth, and thresholds exceeded."""
        classes, levels = batch.classes, len(self.thresholds) + 1
        exceeded = count_below(batch.probabilities(), self.thresholds)
        truth = ops.cast(_counts.true_masks(batch), "int32")
        rows = 2 * ops.arange(classes, dtype="int32") + truth
        numbers, limit = rows * levels + exceeded, classes * 2 * levels
        if batch.valid is not None:  # one more number for the pixels that count nowhere
            numbers = ops.where(batch.valid, numbers, limit)
        return _counts.count_numbers(numbers, limit + 1, batch.pixel_weights)[:, :limit]

    def _tally(self, counts: Any) -> Counts:
        """Return the counts at every threshold, (N, C, T): those that exceed more than t."""
        levels = len(self.thresholds) + 1
        histogram = ops.reshape(counts, (ops.shape(counts)[0], self.classes or 1, 2, levels))
        reached = ops.flip(ops.cumsum(ops.flip(histogram, axis=-1), axis=-1), axis=-1)
        false, true = reached[:, :, 0], reached[:, :, 1]  # (N, C, T + 1)
        tp, fp = true[..., 1:], false[..., 1:]
        total = ops.broadcast_to(true[..., :1] + false[..., :1], ops.shape(tp))
        return Counts(tp, fp, true[..., :1] - tp, total)

    def _score(self, tally: Counts) -> Any:
        if self.score == "iou":
            return tally.iou()
        return tally.f_score(self.beta if self.score == "f_score" else 1.0)


def count_below(values: Any, thresholds: Sequence[float]) -> Any:
    """Return how many of the sorted `thresholds` are below each value, as int32.

    Exactly the number of thresholds t with `value > t` in the precision of `values`, without a
    search whose cost would grow with their number. 0..1 is cut into a power of two cells, which
    makes a value's cell exact. The thresholds of lower cells are below the value and those of
    higher cells are not; those of its own cell, normally one at most, are compared with it.
    """
    edges = np.asarray(thresholds, dtype=keras.backend.standardize_dtype(values.dtype))
    gaps = np.diff(edges)
    smallest = gaps[gaps > 0].min(initial=1.0)
    cells = min(2 ** int(np.ceil(np.log2(1 / smallest)) + 1), _MOST_CELLS)
    cell_of_edge = np.floor(edges * cells)
    below = np.searchsorted(cell_of_edge, np.arange(cells + 1)).astype("int32")
    crowd = int(np.unique(cell_of_edge, return_counts=True)[1].max())
    cell = ops.cast(ops.clip(values, 0, 1) * cells, "int32")
    cell = ops.clip(cell, 0, cells)  # NaN has no cell
    lower = ops.take(ops.convert_to_tensor(below), cell)
    padded = ops.convert_to_tensor(np.append(edges, [np.inf] * crowd).astype(edges.dtype))
    count = lower
    for nth in range(crowd):
        count = count + ops.cast(values > ops.take(padded, lower + nth), "int32")
    return count


def _checked_thresholds(thresholds: int | Sequence[float]) -> tuple[float, ...]:
    if isinstance(thresholds, int | np.integer):
        if thresholds < 2:
            raise ValueError(
                "`thresholds` must be at least 2 when it is a number of thresholds, "
                f"received thresholds={thresholds}"
            )
        return tuple(np.linspace(0, 1, thresholds).tolist())
    if not is_several(thresholds):
        raise ValueError(
            "`thresholds` must be an integer or a list of probabilities, received "
            f"thresholds={thresholds!r}"
        )
    values = {probability("thresholds", value) for value in thresholds}
    if not values:
        raise ValueError("`thresholds` must hold at least one threshold, received none")
    return tuple(sorted(values))
