"""The one reader of labels: any accepted `(y_true, y_pred, sample_weight)` made uniform.

Losses and metrics never look at a label themselves. They call, in this order:

1. `ignored_classes(ignore_class)` at construction: the argument as a tuple of integers.
2. `standardize(y_true, y_pred, ignored)`: both as tensors that fit each other. From here on the
   *rank* of `y_true` tells its form: (B, H, W) are integer labels of several classes, (B, H, W, C)
   are dense targets (one-hot, multi-label, soft, or the mask of one class). `y_pred` is
   (B, H, W, C), float32 or wider.
3. `valid_mask(y_true, classes, ignored)`: `None` when everything counts, else a boolean
   (B, H, W, 1) or (B, H, W, C), false where nothing may count.
4. `dense_targets(y_true, classes, valid)`: (B, H, W, C) floats, 0 where ignored; or
   `label_targets(y_true, classes, valid)`: (B, H, W) int32, -1 where ignored, without a one-hot.
5. `probabilities(y_pred, from_logits, multilabel)`.
6. `pixel_weights(sample_weight, y_pred)`: (B, 1, 1, 1) or (B, H, W, 1), to multiply with.

Shapes are checked whenever they are static. Values are checked in eager mode only: a label that is
no class, or a target outside 0..1, raises ValueError there. In a compiled graph, where nothing can
raise, a label outside the classes is a pixel of no class (its one-hot is all zero: the prediction
there is a false positive, no other pixel is touched), and the mask of one class is clipped to 0..1.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
from keras import ops

_ACCEPTED = (
    "accepted are (B, H, W, C) one-hot or multi-label targets and labels (B, H, W) or "
    "(B, H, W, 1), where (B, H, W, C) is the shape of `y_pred`"
)
_FEW_CLASSES = 24
_TOLERANCE = 1e-3  # soft labels that a resize pushed a little past 0..1 are no error


def ignored_classes(ignore_class: int | Iterable[int] | None) -> tuple[int, ...]:
    """Returns `ignore_class` (an integer, several, or `None`) as a tuple of integers.

    Raises:
        ValueError: if it is, or holds, something else than integers.
    """
    if ignore_class is None:
        return ()
    values = tuple(ignore_class) if isinstance(ignore_class, Iterable) else (ignore_class,)
    try:
        ignored = tuple(int(value) for value in values)
        exact = ignored == values and not any(isinstance(v, bool) for v in values)
    except (TypeError, ValueError):
        exact = False
    if not exact:
        raise ValueError(
            "`ignore_class` must be an integer, several integers, or None, "
            f"received ignore_class={ignore_class!r}"
        )
    return ignored


def standardize(
    y_true: Any, y_pred: Any, ignored: tuple[int, ...] = (), dtype: str = "float32"
) -> tuple[Any, Any]:
    """Returns `y_true` and `y_pred` as tensors of shapes that fit each other.

    Args:
        y_true: (B, H, W, C), (B, H, W) or (B, H, W, 1), any numeric or boolean dtype.
        y_pred: (B, H, W, C), any floating dtype.
        ignored: values that `y_true` may hold beside its classes.
        dtype: the least precision of the returned `y_pred`; wider inputs keep theirs.

    Returns:
        `y_true` in its own dtype, (B, H, W) where it holds labels of several classes and
        (B, H, W, C) otherwise; `y_pred` as (B, H, W, C) of `dtype` or wider.

    Raises:
        ValueError: if the shapes do not fit; in eager mode if a value is no class.
    """
    y_pred = ops.convert_to_tensor(y_pred)
    y_pred = ops.cast(y_pred, keras.backend.result_type(y_pred.dtype, dtype, "float32"))
    y_true = ops.convert_to_tensor(y_true)
    true_shape, pred_shape = tuple(y_true.shape), tuple(y_pred.shape)
    if len(pred_shape) != 4 or pred_shape[-1] is None:
        raise ValueError(
            "`y_pred` must be (B, H, W, C) with a static number of classes C, "
            f"received y_pred of shape {pred_shape}"
        )
    classes = pred_shape[-1]
    fits = (
        len(true_shape) in (3, 4)
        and all(
            a is None or b is None or a == b
            for a, b in zip(true_shape[:3], pred_shape[:3], strict=True)
        )
        and (len(true_shape) == 3 or true_shape[3] in (None, 1, classes))
    )
    if not fits:
        raise ValueError(
            f"`y_true` of shape {true_shape} does not fit `y_pred` of shape {pred_shape}: "
            + _ACCEPTED
        )
    if len(true_shape) == 3 and classes == 1:
        y_true = ops.expand_dims(y_true, -1)
    elif len(true_shape) == 4 and true_shape[3] == 1 and classes > 1:
        y_true = ops.squeeze(y_true, -1)
    _check_values(y_true, classes, ignored)
    return y_true, y_pred


def valid_mask(
    y_true: Any, classes: int, ignored: tuple[int, ...], *, exclusive: bool = False
) -> Any:
    """Returns where `y_true` counts, or `None` when it counts everywhere.

    - Labels, and the mask of one class: a pixel is ignored where its value is in `ignored`.
    - Dense targets, a value that names a class: a pixel is ignored where that class is its class
      (the largest target, ties included, and not zero).
    - Dense targets, any other value (255, -1): the entries that hold it are ignored.

    Args:
        y_true: as `standardize` returns it.
        classes: C of `y_pred`.
        ignored: as `ignored_classes` returns it.
        exclusive: whether each pixel has one class. Then a dense pixel with one ignored entry is
            ignored whole, and with a value outside the classes in `ignored` so is an all-zero
            pixel: that is what a one-hot makes of a void label.

    Returns:
        `None`, or booleans (B, H, W, 1), or (B, H, W, C) for dense targets with ignored entries.
    """
    if not ignored:
        return None
    values = y_true if keras.backend.is_float_dtype(y_true.dtype) else ops.cast(y_true, "int32")
    if len(values.shape) == 3:
        values = ops.expand_dims(values, -1)
    inside = [value for value in ignored if 0 <= value < classes]
    outside = [value for value in ignored if not 0 <= value < classes]
    if classes == 1 or len(y_true.shape) == 3:
        return ops.logical_not(_is_any_of(values, ignored))
    valid = None
    if outside:
        void = _is_any_of(values, outside)
        values = ops.where(void, ops.zeros_like(values), values)
        if exclusive:
            empty = ops.logical_not(ops.any(values != 0, axis=-1, keepdims=True))
            void = ops.logical_or(ops.any(void, axis=-1, keepdims=True), empty)
        valid = ops.logical_not(void)
    if inside:
        largest = ops.max(values, axis=-1, keepdims=True)  # (B, H, W, 1)
        of_class = ops.take(values, ops.convert_to_tensor(inside, "int32"), axis=-1)
        belongs = ops.logical_and(of_class == largest, of_class > 0)
        kept = ops.logical_not(ops.any(belongs, axis=-1, keepdims=True))
        valid = kept if valid is None else ops.logical_and(valid, kept)
    return valid


def dense_targets(y_true: Any, classes: int, valid: Any = None, dtype: str = "float32") -> Any:
    """Returns the targets as (B, H, W, C) of `dtype`, 0 where ignored or of no class."""
    if len(y_true.shape) == 3:
        return ops.one_hot(label_targets(y_true, classes, valid), classes, dtype=dtype)
    targets = ops.cast(y_true, dtype)
    if valid is not None:
        targets = ops.where(valid, targets, ops.zeros_like(targets))
    return ops.clip(targets, 0, 1) if classes == 1 else targets


def label_targets(y_true: Any, classes: int, valid: Any = None) -> Any:
    """Returns the class of every pixel as (B, H, W) int32, -1 where ignored or of no class.

    Dense targets give their largest class, and the mask of one class 0 or 1 (from 1/2 up).
    `valid` is per pixel, (B, H, W, 1): use `exclusive=True` in `valid_mask`.
    """
    if len(y_true.shape) == 3:
        labels = ops.cast(y_true, "int32")
        known = ops.logical_and(labels >= 0, labels < classes)
        if valid is not None:
            known = ops.logical_and(known, ops.squeeze(valid, -1))
        return ops.where(known, labels, -1)
    if classes == 1:
        labels = ops.cast(ops.squeeze(ops.cast(y_true, "float32"), -1) >= 0.5, "int32")
    else:  # an all-zero pixel is of no class
        y_true = ops.cast(y_true, keras.backend.result_type(y_true.dtype, "float32"))
        labels = largest_class(y_true, above_zero=True)
    return labels if valid is None else ops.where(ops.squeeze(valid, -1), labels, -1)


def largest_class(values: Any, above_zero: bool = False) -> Any:
    """Returns the channel of the largest value as (B, H, W) int32, the first one of equals.

    With `above_zero` it is -1 where no value is above 0. For few channels a running maximum over
    them takes a quarter of the time of an argmax along the short last axis.
    """
    classes = values.shape[-1]
    if classes > _FEW_CLASSES:
        labels = ops.cast(ops.argmax(values, axis=-1), "int32")
        return ops.where(ops.any(values > 0, axis=-1), labels, -1) if above_zero else labels
    # labels in float32, whose maximum TensorFlow computes in half the time of the integers'
    first = values[..., 0]
    largest = ops.relu(first) if above_zero else first
    labels = ops.cast(first > 0, "float32") - 1 if above_zero else ops.zeros_like(first, "float32")
    for channel in range(1, classes):
        larger = ops.cast(values[..., channel] > largest, "float32")
        labels = ops.maximum(labels, larger * channel)
        largest = ops.maximum(largest, values[..., channel])
    return ops.cast(labels, "int32")


def probabilities(y_pred: Any, from_logits: bool = False, multilabel: bool = False) -> Any:
    """Returns probabilities: of logits the sigmoid for one class or `multilabel`, else softmax."""
    if not from_logits:
        return y_pred
    if multilabel or y_pred.shape[-1] == 1:
        return ops.sigmoid(y_pred)
    return ops.softmax(y_pred, axis=-1)


def pixel_weights(sample_weight: Any, y_pred: Any) -> Any:
    """Returns `sample_weight` in `y_pred`'s dtype, shaped to multiply (B, H, W, C) with.

    Args:
        sample_weight: `None`, a scalar, (B,), (B, H, W) or (B, H, W, 1).
        y_pred: the predictions, (B, H, W, C).

    Returns:
        `None`, or (1, 1, 1, 1), (B, 1, 1, 1) or (B, H, W, 1).

    Raises:
        ValueError: if the shape is another one, or its rank is unknown.
    """
    if sample_weight is None:
        return None
    weights = ops.cast(ops.convert_to_tensor(sample_weight), y_pred.dtype)
    shape, expected = weights_shape(weights), (*y_pred.shape[:3], 1)
    if len(shape) not in (0, 1, 3, 4) or any(
        a is not None and b is not None and a != b
        for a, b in zip(shape, expected, strict=False)  # weights may have fewer axes
    ):
        raise ValueError(
            f"`sample_weight` of shape {shape} does not fit `y_pred` of shape "
            f"{tuple(y_pred.shape)}: accepted are (B,), (B, H, W) and (B, H, W, 1)"
        )
    if len(shape) == 4:
        return weights
    if len(shape) == 3:
        return ops.expand_dims(weights, -1)
    return ops.reshape(weights, (-1, 1, 1, 1))


def weights_shape(sample_weight: Any) -> tuple[int | None, ...]:
    """Returns the static shape of weights, or raises ValueError where not even the rank is known.

    That is how TensorFlow traces a step that was given weights (B,) before and gets (B, H, W) now.
    Images' and pixels' weights mean different things, so nothing is guessed at run time.
    """
    try:
        return tuple(sample_weight.shape)
    except ValueError:
        raise ValueError(
            "`sample_weight` must have one rank in all calls of a compiled model, received one of "
            "unknown rank: weights of another rank came before. Give all of them as (B,), all as "
            "(B, H, W) or all as (B, H, W, 1), or call `compile` again in between"
        ) from None


def _is_any_of(values: Any, candidates: Iterable[int]) -> Any:
    found = None
    for candidate in candidates:
        equal = values == ops.cast(candidate, values.dtype)
        found = equal if found is None else ops.logical_or(found, equal)
    return found


def _check_values(y_true: Any, classes: int, ignored: tuple[int, ...]) -> None:
    """Raises ValueError for a value that is no target; does nothing where values are symbolic."""
    is_float = keras.backend.is_float_dtype(y_true.dtype)
    values = y_true if is_float else ops.cast(y_true, "int32")
    if ignored:
        kept = ops.logical_not(_is_any_of(values, ignored))
        values = ops.where(kept, values, ops.zeros_like(values))
    try:
        low, high = (
            float(ops.convert_to_numpy(reduce(values, initial=0))) for reduce in (ops.min, ops.max)
        )
    except Exception:  # each backend has its own error for a tensor without a value
        return
    holds_labels = len(y_true.shape) == 3
    limit = classes - 1 if holds_labels else 1 + _TOLERANCE
    if low >= (0 if holds_labels else -_TOLERANCE) and high <= limit:
        return
    wrong = high if high > limit else low
    expected = f"labels 0 to {classes - 1}" if holds_labels else "targets from 0 to 1"
    raise ValueError(
        f"`y_true` must hold {expected} for {classes} class(es), or values of `ignore_class`, "
        f"received {wrong:g} (ignore_class={list(ignored) or None})"
    )
