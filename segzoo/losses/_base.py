"""What all losses share: the base class, `a + b`, `0.5 * a`, and `Compound`."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from numbers import Real
from typing import Any

import keras
from keras import ops

from segzoo._arguments import flag, for_config, ignored_classes, is_several, parameters
from segzoo._inputs import static_shape, tensor_of, weights_shape
from segzoo._numerics import at_least_float32, settled
from segzoo._reading import Batch, Reading, activation
from segzoo.losses._declare import register, snake_case


class SegmentationLoss(keras.losses.Loss):
    """Base of the losses: reads the batch, reduces the values, adds and scales.

    A subclass stores every argument of `__init__` under its own name and has `weighted_losses`.
    """

    _counts_softly = False
    _reads_map = False  # whether it has channels of its own in the `y_true` of a sum

    def __init__(
        self,
        from_logits: bool = False,
        multilabel: bool = False,
        ignore_class: int | Sequence[int] | None = None,
        name: str | None = None,
        reduction: str | None = "sum_over_batch_size",
        dtype: Any = None,
    ):
        super().__init__(name=name or snake_case(type(self).__name__), reduction=reduction)
        if dtype is not None:
            self._dtype_policy = keras.dtype_policies.get(dtype)
            self._dtype = self._dtype_policy.compute_dtype
        self.from_logits = flag("from_logits", from_logits)
        self.multilabel = flag("multilabel", multilabel)
        self._ignored = ignored_classes(ignore_class)
        several = is_several(ignore_class)
        self.ignore_class = list(self._ignored) if several else next(iter(self._ignored), None)

    @functools.cached_property
    def _reading(self) -> Reading:
        return Reading(
            multilabel=self.multilabel,
            from_logits=self.from_logits,
            ignored=self._ignored,
            dtype=self.dtype,
            probabilities=True,
            for_counts=self._counts_softly,
        )

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Return the loss of (B, H, W, C) predictions, reduced."""
        with keras.name_scope(self.name):
            batch = self._reading(y_true, y_pred, sample_weight)
            batch, values, divisor = self.weighted_losses(batch)
            if self.reduction in (None, "none"):
                return batch.guard(values)
            if self.reduction != "sum":
                values = values / divisor  # before the sum, which could leave float32's range
            if len(values.shape) == 3:
                values = ops.sum(values, axis=-1)  # no long float32 sum
            total = batch.guard(ops.sum(values))
            return total if self.reduction == "sum" else _mean_over_replicas(total)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the losses before any weight and reduction: (B, H, W), (B,) or a scalar."""
        batch, values, _ = self.weighted_losses(self._reading(y_true, y_pred))
        return batch.guard(values)

    def weighted_losses(self, batch: Batch) -> tuple[Batch, Any, Any]:
        """Return the batch, its weighted losses, and what their sum is divided by.

        The losses are those of pixels (B, H, W), of images (B,), or one scalar of the batch, which
        comes back because a loss may find out on its way that it is bad.
        """
        raise NotImplementedError

    def _mean_over_images(self, batch: Batch, losses: Any) -> tuple[Batch, Any, Any]:
        """Return the images' losses (B,) weighted, with their divisor."""
        count = ops.cast(ops.shape(losses)[0], losses.dtype)
        weights = batch.image_weights
        if weights is not None:
            losses = losses * weights
            if self.reduction == "mean_with_sample_weight":
                count = ops.sum(weights)
        return batch, losses, nonzero(count)

    def _only_image_weights(self, batch: Batch, per_image: bool) -> None:
        given = "pixel" if batch.pixel_weights is not None else "image"
        has_weights = given == "pixel" or batch.image_weights is not None
        if has_weights and not (per_image and given == "image"):
            raise ValueError(
                f"`{type(self).__name__}` orders or matches pixels, which have no weights of their "
                f"own: `sample_weight` must be (B,) with `per_image=True`, received "
                f"{given} weights with per_image={per_image}"
            )

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of `__init__`."""
        return {name: for_config(getattr(self, name)) for name in parameters(type(self))}

    def __repr__(self) -> str:
        changed = (
            f"{name}={getattr(self, name)!r}"
            for name, parameter in parameters(type(self)).items()
            if name not in ("name", "dtype") and getattr(self, name) != parameter.default
        )
        return f"{type(self).__name__}({', '.join(changed)})"

    def __add__(self, other: Any) -> Compound:
        return Compound([self, other]) if isinstance(other, keras.losses.Loss) else NotImplemented

    def __radd__(self, other: Any) -> Any:
        if isinstance(other, Real) and other == 0:  # where `sum` begins
            return self
        return Compound([other, self]) if isinstance(other, keras.losses.Loss) else NotImplemented

    def __mul__(self, factor: Any) -> Compound:
        return Compound([self], [float(factor)]) if isinstance(factor, Real) else NotImplemented

    __rmul__ = __mul__

    def __truediv__(self, divisor: Any) -> Compound:
        return self * (1 / divisor) if isinstance(divisor, Real) and divisor else NotImplemented


@register
class Compound(SegmentationLoss):
    """Weighted sum of losses, the result of `a + b`, `0.5 * a` and `sum([...])`.

        Compound = sum_k weights_k losses_k

    Every part reads the same `y_true`, except `BoundaryDistance` and `SkeletonRecall`, which read
    maps that are made from the mask on the host. Beside other losses they need a `y_true` with the
    mask first, as labels (1 channel) or one-hot (C), then C channels for each map, in the order of
    the sum:
    (B, H, W, 1 + C) or (B, H, W, 2 C) for `Dice() + 0.1 * BoundaryDistance()`.

    Args:
        losses: a sequence of `keras.losses.Loss` objects, from segzoo or not. A `Compound` among
            them is taken apart.
        weights: a finite number for each of the losses. Defaults to None, for 1 each.
        name: name of the loss. Defaults to the names of the parts, joined.

    Attributes:
        parts: the losses, without their weights; `metrics=loss.parts` logs each of them.

    Returns:
        The weighted sum of the parts, each reduced by itself with the same `sample_weight`; NaN
        with gradient 0 where a part of segzoo finds that the batch cannot be right.

    Raises:
        ValueError: if there is no loss, an object is not a loss, or a weight is missing; at the
            first batch, if two parts disagree about `y_pred` (logits or probabilities; a softmax or
            sigmoids for the logits of several classes), or if `y_true` lacks the channels of the
            mask or of a map.

    Example:
        >>> from segzoo.losses import BinaryFocal, Dice
        >>> loss = Dice() + 0.5 * BinaryFocal()
        >>> loss
        Dice() + 0.5 * BinaryFocal()
        >>> [part.name for part in loss.parts]
        ['dice', 'binary_focal']
    """

    def __init__(
        self,
        losses: Iterable[keras.losses.Loss],
        weights: Sequence[float] | None = None,
        name: str | None = None,
    ):
        losses = list(losses)
        weights = [1.0] * len(losses) if weights is None else [float(w) for w in weights]
        if not losses or not all(isinstance(loss, keras.losses.Loss) for loss in losses):
            raise ValueError(
                f"`losses` must hold keras.losses.Loss objects, received losses={losses}"
            )
        if len(weights) != len(losses) or not all(abs(w) < float("inf") for w in weights):
            raise ValueError(
                f"`weights` must be one finite number for each of the {len(losses)} losses, "
                f"received weights={weights}"
            )
        self.parts: list[keras.losses.Loss] = []
        self.weights: list[float] = []
        for loss, weight in zip(losses, weights, strict=True):
            nested = type(loss) is Compound
            self.parts += loss.parts if nested else [loss]
            self.weights += [weight * w for w in loss.weights] if nested else [weight]
        super().__init__(name=name or "_plus_".join(part.name for part in self.parts))

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Return the weighted sum of the parts."""
        self._refuse_two_readings(y_pred)
        parts = list(zip(self.parts, self.weights, self._truths(y_true, y_pred), strict=True))
        own = [entry for entry in parts if isinstance(entry[0], SegmentationLoss)]
        others = [entry for entry in parts if not isinstance(entry[0], SegmentationLoss)]
        terms = [weight * part(truth, y_pred, sample_weight) for part, weight, truth in own]
        if others and terms:  # these do not find out that a batch is bad
            y_pred = settled(tensor_of("y_pred", y_pred), *terms)
        for part, weight, truth in others:
            terms.append(weight * part(*_as_keras_takes(truth, y_pred, sample_weight)))
        total = _aligned_sum(terms)
        return settled(total, total)  # what one part finds bad trains no other

    def _refuse_two_readings(self, y_pred: Any) -> None:
        """Raise ValueError if one part takes `y_pred` for what another part does not."""
        shape = static_shape("y_pred", tensor_of("y_pred", y_pred), "accepted is (B, H, W, C)")
        first, taken = None, None
        for part in _leaves(self):
            kind = part._reading.kind(shape[-1] or 1) if shape else "binary"
            as_ = activation(part.from_logits, kind) or "no activation"
            if first is not None and as_ != taken:
                raise ValueError(
                    f"the parts of a sum must read `y_pred` alike, but for {shape[-1]} class(es) "
                    f"`{first!r}` takes {taken} and `{part!r}` takes {as_}: give both the same "
                    "`from_logits=` and `multilabel=`"
                )
            first, taken = part, as_

    def _truths(self, y_true: Any, y_pred: Any) -> list[Any]:
        """Return what each part reads: of a mask and its maps, one behind the other, its share."""
        reads_map = [getattr(part, "_reads_map", False) for part in self.parts]
        maps = sum(reads_map)
        if not maps or len(self.parts) == 1:
            return [y_true] * len(self.parts)
        y_true = tensor_of("y_true", y_true)
        classes = tuple(y_pred.shape)[-1]
        shape = static_shape("y_true", y_true, "join the mask and its maps along the channels")
        mask = [] if maps == len(self.parts) else sorted({1, classes})
        own = [m for m in mask or [0] if len(shape) == 4 and shape[-1] == m + maps * classes]
        if not own:
            first = f"the mask in {' or '.join(map(str, mask))} channel(s), then " if mask else ""
            raise ValueError(
                f"`y_true` must be (B, H, W, channels) for `{self!r}`: {first}{classes} "
                f"channel(s) for each of its {maps} map(s), received shape {shape}. Join them as "
                "in `np.concatenate([mask[..., None], signed_distance(mask)], axis=-1)`"
            )
        truths, start = [], own[0]
        for reads in reads_map:
            if reads:
                truths.append(y_true[..., start : start + classes])
                start += classes
            else:
                truths.append(y_true[..., : own[0]])
        return truths

    def get_config(self) -> dict[str, Any]:
        """Return the serialized parts, their weights and the name."""
        parts = [keras.saving.serialize_keras_object(part) for part in self.parts]
        return {"losses": parts, "weights": self.weights, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Compound:
        """Return the loss of a `get_config`."""
        losses = [keras.saving.deserialize_keras_object(part) for part in config["losses"]]
        return cls(**{**config, "losses": losses})

    def __repr__(self) -> str:
        terms = (
            _repr(part) if weight == 1 else f"{weight:g} * {_repr(part)}"
            for part, weight in zip(self.parts, self.weights, strict=True)
        )
        return " + ".join(terms)


def _as_keras_takes(y_true: Any, y_pred: Any, sample_weight: Any) -> tuple[Any, Any, Any]:
    """Return a batch so that Keras's losses, too, give each pixel a value and weigh it."""
    y_true, y_pred = (ops.convert_to_tensor(values) for values in (y_true, y_pred))
    rank = len(static_shape("y_true", y_true, "give it its shape before batching"))
    if tuple(y_pred.shape)[-1] == 1 and rank == 3:
        y_true = ops.expand_dims(y_true, -1)  # it would squeeze `y_pred`
    if sample_weight is not None:
        sample_weight = ops.convert_to_tensor(sample_weight)
        if len(weights_shape(sample_weight)) == 1:  # it would take (B,) as columns
            sample_weight = ops.reshape(sample_weight, (-1, 1, 1))
    return y_true, y_pred, sample_weight


def _aligned_sum(terms: list[Any]) -> Any:
    """Return the sum in the widest dtype; values of images (B,) are added to all their pixels."""
    dtype = at_least_float32(*(term.dtype for term in terms))
    rank = max(len(term.shape) for term in terms)
    total = 0.0
    for term in terms:
        if 0 < len(term.shape) < rank:
            term = ops.expand_dims(term, tuple(range(len(term.shape), rank)))
        total = total + ops.cast(term, dtype)
    return total


def several_classes(loss: SegmentationLoss, batch: Batch, instead: str) -> None:
    """Raise ValueError if there is one class only."""
    if batch.classes == 1:
        raise ValueError(
            f"`{type(loss).__name__}` needs several exclusive classes, received y_pred of shape "
            f"{tuple(batch.scores.shape)}; for one class use `{instead}`"
        )


def nonzero(x: Any) -> Any:
    """Return `x`, and 1 where it is 0."""
    return ops.where(x == 0, ops.ones_like(x), x)


class _Mean(keras.losses.Loss):
    def call(self, y_true: Any, y_pred: Any) -> Any:
        return y_pred


def _mean_over_replicas(value: Any) -> Any:
    """Let Keras divide by the number of replicas, which it does for means of a batch.

    It has no other public door to that number than the reduction of a loss of its own.
    """
    one = ops.ones((1,), value.dtype)
    share = _Mean(dtype=keras.backend.standardize_dtype(value.dtype))(one, one)
    return value * ops.cast(share, value.dtype)  # Keras computes in float32 on some backends


def _leaves(loss: keras.losses.Loss) -> Iterator[SegmentationLoss]:
    """Yield the losses of segzoo that a loss is made of."""
    if isinstance(loss, Compound):
        for part in loss.parts:
            yield from _leaves(part)
    elif isinstance(loss, SegmentationLoss):
        yield loss


def _repr(loss: keras.losses.Loss) -> str:
    return repr(loss) if isinstance(loss, SegmentationLoss) else f"{type(loss).__name__}()"
