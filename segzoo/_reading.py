"""The one reader of losses and metrics: any accepted `(y_true, y_pred, sample_weight)`, made typed.

A `Reading` is checked when a loss or metric is made; called on data it returns a `Batch`, whose
fields say what they are. Shapes are checked whenever they are static. Values that cannot be right
(a label that is no class, a dense target outside 0..1, NaN, a negative or infinite weight) are a
ValueError where they can be seen, in eager calls. In a compiled graph, where nothing can raise,
`Batch.bad` is true there, and `Batch.guard` turns what is computed into NaN.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
from keras import ops

from segzoo import _targets
from segzoo._inputs import checked_values, fitted_truth, refuse, static_shape, tensor_of, weights_of
from segzoo._numerics import at_least_float32, has_nan, host_value, settled_by


@dataclasses.dataclass(frozen=True)
class Batch:
    """One batch, read: what is true, what was predicted, what counts, and how much."""

    kind: str
    """`"binary"` (one class), `"exclusive"` (one class for each pixel) or `"multilabel"`."""
    classes: int
    scores: Any
    """(B, H, W, C) probabilities, or logits with `from_logits`; float32 or wider."""
    from_logits: bool
    targets: _targets.Targets
    pixel_weights: Any
    """`None` or (B, H, W, 1)."""
    image_weights: Any
    """`None` or (B,)."""
    bad: Any
    """A boolean scalar: whether something in the batch cannot be right."""

    @property
    def valid(self) -> Any:
        """`None` where everything counts, else booleans that broadcast to (B, H, W, C)."""
        return self.targets.valid

    @property
    def dtype(self) -> str:
        """The dtype of the math."""
        return keras.backend.standardize_dtype(self.scores.dtype)

    @property
    def activation(self) -> str | None:
        """What turns the scores into probabilities: `"sigmoid"`, `"softmax"` or nothing."""
        return activation(self.from_logits, self.kind)

    @property
    def size(self) -> tuple[Any, Any, Any, int]:
        """B, H, W and C, as numbers where they are static."""
        return ops.shape(self.scores)

    def dense(self) -> Any:
        """Return the truth as (B, H, W, C) in the dtype of the scores, 0 where ignored."""
        if self.targets.dense is not None:
            return self.targets.dense
        return ops.one_hot(self.targets.labels, self.classes, dtype=self.dtype)

    def labels(self) -> Any:
        """Return the truth of exclusive classes as (B, H, W) int32, -1 for no class."""
        if self.targets.labels is not None:
            return self.targets.labels
        return _targets.labels_of(self.targets.dense, self.valid)

    def probabilities(self) -> Any:
        """Return the scores as probabilities."""
        if self.activation is None:
            return self.scores
        activate = ops.sigmoid if self.activation == "sigmoid" else ops.softmax
        return activate(self.settle(self.scores))

    def weights(self) -> Any:
        """Return what multiplies a pixel: `None`, (B, 1, 1, 1) or (B, H, W, 1)."""
        if self.image_weights is None:
            return self.pixel_weights
        return ops.reshape(self.image_weights, (-1, 1, 1, 1))

    def counted(self, weigh_images: bool = True) -> Any:
        """Return the weights, 0 where ignored: `None` or what broadcasts to (B, H, W, C)."""
        weights = self.weights() if weigh_images else self.pixel_weights
        if self.valid is None:
            return weights
        valid = ops.cast(self.valid, self.dtype)
        return valid if weights is None else weights * valid

    def valid_pixels(self) -> Any:
        """Return the pixels of which something counts, as booleans (B, H, W)."""
        if self.valid is None:
            return ops.ones(self.size[:3], "bool")
        return ops.any(
            ops.broadcast_to(self.valid, (*self.size[:3], self.valid.shape[-1])), axis=-1
        )

    def only(self, pixels: Any) -> Batch:
        """Return the batch in which only some of its pixels count, (B, H, W) booleans."""
        some, targets = ops.expand_dims(pixels, -1), self.targets
        valid = some if self.valid is None else ops.logical_and(self.valid, some)
        if targets.dense is None:
            labels = ops.where(pixels, targets.labels, -ops.ones_like(targets.labels))
            targets = targets._replace(labels=labels, valid=valid)
        else:
            dense = ops.where(some, targets.dense, ops.zeros_like(targets.dense))
            targets = targets._replace(dense=dense, valid=valid)
        return dataclasses.replace(self, targets=targets)

    def also_bad_if(self, condition: Any) -> Batch:
        """Return the batch, bad where `condition`, a boolean scalar, is true."""
        return dataclasses.replace(self, bad=ops.logical_or(self.bad, condition))

    def guard(self, value: Any) -> Any:
        """Return `value`, or NaN all over where the batch is bad."""
        return ops.where(self.bad, ops.cast(np.nan, value.dtype), value)

    def settle(self, x: Any) -> Any:
        """Return `x`, with gradient 0 where the batch is bad, whatever came of NaN behind it."""
        return settled_by(x, self.fine())

    def fine(self) -> Any:
        """Return 0 where the batch is bad, otherwise 1, in the dtype of the scores."""
        return ops.stop_gradient(ops.cast(ops.logical_not(self.bad), self.dtype))


@dataclasses.dataclass(frozen=True)
class Reading:
    """How batches are read.

    Attributes:
        multilabel: whether several classes may overlap; otherwise they are exclusive.
        from_logits: whether `y_pred` holds logits.
        ignored: values of pixels that count nowhere.
        dtype: the least precision of the scores.
        probabilities: whether scores outside 0..1 are refused in eager calls.
        for_counts: whether the batch is counted softly. Then soft targets are told from masks, and
            NaN is left to the counts, in which it shows.
        weights_dtype: of the weights, that of the scores if left out.
        infinite: whether scores may be infinite, of both signs.
        signed: whether `y_true` is a map of signed distances, (B, H, W, C), instead of targets.
        decided_classes: number of classes, where `y_pred` may also hold decided labels,
            (B, H, W) or (B, H, W, 1).
    """

    multilabel: bool = False
    from_logits: bool = False
    ignored: tuple[int, ...] = ()
    dtype: str = "float32"
    probabilities: bool = False
    for_counts: bool = False
    weights_dtype: str | None = None
    decided_classes: int | None = None
    infinite: bool = False
    signed: bool = False

    def kind(self, classes: int) -> str:
        """Return the kind of a batch of so many classes."""
        return "binary" if classes == 1 else "multilabel" if self.multilabel else "exclusive"

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Batch:
        """Return the batch.

        Args:
            y_true: (B, H, W, C), (B, H, W) or (B, H, W, 1), any numeric or boolean dtype.
            y_pred: (B, H, W, C), any numeric dtype; decided labels as `decided_classes` says.
            sample_weight: `None`, a scalar, (B,), (B, H, W) or (B, H, W, 1).

        Raises:
            ValueError: if shapes or types do not fit; in eager mode if values cannot be right.
        """
        y_true = tensor_of("y_true", y_true, self.ignored)
        y_pred, decided = self._scores(tensor_of("y_pred", y_pred))
        scores = ops.cast(y_pred, at_least_float32(y_pred.dtype, self.dtype))
        holds_labels, y_true = fitted_truth(y_true, scores)
        classes = scores.shape[-1]
        kind = self.kind(classes)
        if self.signed:
            targets = _targets.read_map(y_true, classes, holds_labels, self.ignored, scores.dtype)
        elif holds_labels:
            targets = _targets.read_labels(y_true, classes, self.ignored)
        else:
            dtype = keras.backend.standardize_dtype(scores.dtype)
            targets = _targets.read_dense(y_true, kind, self.ignored, dtype, self.for_counts)
            targets = targets._replace(dense=ops.stop_gradient(targets.dense))
        refuse(targets.wrong, lambda: _targets.explain(y_true, classes, holds_labels, self.ignored))
        bad = ops.logical_or(targets.wrong, self._bad_scores(scores))
        if decided is not None:
            bad = ops.logical_or(bad, decided)
        weights, of_images = weights_of(sample_weight, scores, self.weights_dtype)
        if weights is not None:
            weights, wrong = checked_values(weights)
            bad = ops.logical_or(bad, wrong)
        return Batch(
            kind=kind,
            classes=classes,
            scores=scores,
            from_logits=self.from_logits and decided is None,
            targets=targets,
            pixel_weights=None if of_images else weights,
            image_weights=weights if of_images else None,
            bad=bad,
        )

    def _scores(self, y_pred: Any) -> tuple[Any, Any]:
        """Return scores; of decided labels their one-hot, and whether one is wrong."""
        shape = static_shape("y_pred", y_pred, "accepted is (B, H, W, C)")
        column = len(shape) == 4 and shape[-1] == 1 and (self.decided_classes or 1) > 1
        if not (len(shape) == 3 or column) or keras.backend.is_float_dtype(y_pred.dtype):
            return y_pred, None
        if self.decided_classes is None:
            raise ValueError(
                f"`y_pred` of shape {shape} with integers holds decided labels, which say nothing "
                "of the number of classes: pass `classes=`, or scores (B, H, W, C)"
            )
        levels = max(self.decided_classes, 2)
        y_pred = y_pred[..., 0] if column else y_pred
        labels, *_, wrong = _targets.read_labels(y_pred, levels, ())
        refuse(wrong, lambda: _targets.explain(y_pred, levels, True, (), "y_pred"))
        scores = ops.one_hot(labels, levels, dtype="float32")
        return (scores[..., 1:] if self.decided_classes == 1 else scores), wrong

    def _bad_scores(self, scores: Any) -> Any:
        """Return whether there is NaN; in eager mode raises for it, and for no probabilities."""
        seen = host_value(ops.max(scores, initial=0)) is not None
        found = ops.convert_to_tensor(False)
        # A NaN logit would show too late, behind the gradient of its activation.
        if seen or self.from_logits or not self.for_counts:
            found = ops.any(ops.isnan(scores)) if self.infinite else has_nan(scores)
        if not seen:
            return found
        refuse(found, lambda: "`y_pred` must hold numbers, received NaN")
        if self.probabilities and not self.from_logits:
            known = ops.stop_gradient(scores)
            low, high = (float(f(known, initial=0)) for f in (ops.min, ops.max))
            if low < -_targets.TOLERANCE or high > 1 + _targets.TOLERANCE:
                raise ValueError(
                    "`y_pred` must hold probabilities from 0 to 1, received "
                    f"{low if low < 0 else high:g}; for logits pass `from_logits=True`"
                )
        return found


def activation(from_logits: bool, kind: str) -> str | None:
    """Return what turns scores into probabilities: a sigmoid, a softmax, or nothing."""
    if not from_logits:
        return None
    return "softmax" if kind == "exclusive" else "sigmoid"
