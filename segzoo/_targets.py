"""The forms of truth: labels of exclusive classes, and dense targets with a channel for each class.

Labels are whole numbers: a float is one if it is within 1e-3 of it. Dense targets are in 0..1, give
or take 1e-3, because a resize may push a soft mask a little past its ends. Everything else is
wrong unless `ignore_class` names it, and what is wrong is reported, not repaired.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from segzoo._numerics import has_nan, host_value, wide_integer

TOLERANCE = 1e-3
_FEW_CLASSES = 24


class Targets(NamedTuple):
    """What a `y_true` says, in one of two forms; the other is `None`."""

    labels: Any
    """(B, H, W) int32, -1 for a pixel that is ignored, wrong, or of no class."""
    dense: Any
    """(B, H, W, C), 0 where ignored."""
    valid: Any
    """`None` where everything counts, else booleans (B, H, W, 1), or (B, H, W, C) `by_entry`."""
    by_entry: bool
    """Whether an entry of a pixel may be ignored without the others."""
    soft: Any
    """Whether a target is neither 0 nor 1: `False`, a boolean scalar, or `None` if not asked."""
    wrong: Any
    """A boolean scalar: whether a value is no target."""


def read_labels(y_true: Any, classes: int, ignored: tuple[int, ...]) -> Targets:
    """Return the targets of labels (B, H, W) of several classes."""
    if keras.backend.is_float_dtype(y_true.dtype):
        values = ops.cast(y_true, _at_least_single(y_true.dtype))
        whole = ops.round(values)
        exact = ops.abs(values - whole) <= TOLERANCE
        values = ops.where(exact, whole, ops.full_like(whole, -0.5))  # which is nobody's label
    else:
        values = _as_integers(y_true)
        ignored = _held(y_true.dtype, ignored)
    known = ops.logical_and(values >= 0, values < classes)
    void, valid = _is_any_of(values, ignored), None
    accounted = known
    if void is not None:
        accounted = ops.logical_or(known, void)
        known = ops.logical_and(known, ops.logical_not(void))
        valid = ops.expand_dims(ops.logical_not(void), -1)
    # Counted: XLA makes one slow loop of `all(known)` and what else reads `known`.
    strange = ops.cast(ops.logical_not(accounted), "float32")
    wrong = ops.sum(ops.sum(strange, axis=-1)) > 0
    labels = ops.cast(ops.where(known, values, -ops.ones_like(values)), "int32")
    return Targets(labels, None, valid, False, False, wrong)


def read_dense(
    y_true: Any, kind: str, ignored: tuple[int, ...], dtype: str, ask_soft: bool = False
) -> Targets:
    """Return the targets of (B, H, W, C), one channel for each class.

    - A value that is no class (255, -1): the entries that hold it are ignored, of exclusive
      classes the whole pixel.
    - A value that names a class: the pixels are ignored whose class it is (the largest target,
      ties included, and not zero). The mask of one class: the pixels that hold it.
    - Exclusive classes: an all-zero pixel has no label, and is ignored where anything is.

    Args:
        y_true: any numeric or boolean dtype.
        kind: `"binary"`, `"exclusive"` or `"multilabel"`.
        ignored: as `ignored_classes` returns it.
        dtype: of the returned targets.
        ask_soft: whether to find out if there are soft targets, NaN among them.
    """
    classes, values, valid = y_true.shape[-1], y_true, None
    if ignored:
        if keras.backend.is_float_dtype(values.dtype):
            values = ops.cast(values, _at_least_single(values.dtype))
        else:
            values = _as_integers(values)
        binary = kind == "binary"
        inside = [] if binary else [value for value in ignored if 0 <= value < classes]
        outside = ignored if binary else [value for value in ignored if value not in inside]
        valid = _valid_entries(values, inside, outside, kind == "exclusive")
        void = _is_any_of(values, outside)
        if void is not None:
            values = ops.where(void, ops.zeros_like(values), values)
    soft: Any
    if not keras.backend.is_float_dtype(y_true.dtype):
        soft, wrong = False, _beyond_zero_to_one(values)
    elif ask_soft:  # masks of 0 and 1 are not beyond them
        soft = _has_between(values)
        wrong = ops.cond(soft, lambda: _no_targets(values), lambda: ops.convert_to_tensor(False))
    else:
        soft, wrong = None, _no_targets(values)
    dense = ops.cast(values, dtype)
    if valid is not None:
        dense = ops.where(valid, dense, ops.zeros_like(dense))
    by_entry = kind == "multilabel" and valid is not None
    return Targets(None, dense, valid, by_entry, soft, wrong)


def read_map(
    y_true: Any, classes: int, holds_labels: bool, ignored: tuple[int, ...], dtype: Any
) -> Targets:
    """Return a map of signed distances (B, H, W, C), negative inside, as dense targets.

    With `ignored` a pixel of zeros does not count, nor one inside an ignored class.

    Raises:
        ValueError: if it is no map: labels, or integers, or in eager mode a mask or not finite.
    """
    name = keras.backend.standardize_dtype(y_true.dtype)
    if holds_labels or not keras.backend.is_float_dtype(name):
        raise ValueError(_no_map(classes, f"{name} of shape {tuple(y_true.shape)}"))
    values = ops.cast(y_true, dtype)
    wrong = ops.logical_not(ops.all(ops.isfinite(values)))
    seen = host_value(values)
    if seen is not None and not np.isfinite(seen).all():
        raise ValueError(_no_map(classes, "NaN or infinity"))
    if seen is not None and (seen == 1).any() and np.isin(seen, (0, 1)).all():
        raise ValueError(_no_map(classes, "a mask of 0 and 1"))
    valid = None
    if ignored:
        valid = ops.any(values != 0, axis=-1, keepdims=True)
        for value in ignored:
            side = None
            if classes == 1 and value in (0, 1):
                side = values < 0 if value else values > 0
            elif 0 <= value < classes:
                side = values[..., value : value + 1] < 0
            if side is not None:
                valid = ops.logical_and(valid, ops.logical_not(side))
        values = ops.where(valid, values, ops.zeros_like(values))
    return Targets(None, values, valid, False, None, wrong)


def _no_map(classes: int, received: str) -> str:
    return (
        f"`y_true` must be a map of signed distances, finite floats (B, H, W, {classes}) as "
        f"`segzoo.losses.signed_distance(mask)` gives them, received {received}"
    )


def labels_of(dense: Any, valid: Any = None) -> Any:
    """Return the class of every pixel as (B, H, W) int32: the largest target, -1 where none."""
    labels = largest_class(dense, above_zero=True)
    return labels if valid is None else ops.where(ops.squeeze(valid, -1), labels, -1)


def largest_class(values: Any, above_zero: bool = False) -> Any:
    """Return the channel of the largest value as (B, H, W) int32, the first one of equals.

    With `above_zero` it is -1 where no value is above 0. For few channels a running maximum over
    them takes a quarter of the time of an argmax along the short last axis.
    """
    classes = values.shape[-1]
    if classes > _FEW_CLASSES:
        labels = ops.cast(ops.argmax(values, axis=-1), "int32")
        return ops.where(ops.any(values > 0, axis=-1), labels, -1) if above_zero else labels
    # labels in float32, whose maximum TensorFlow computes in half the time of the integers'
    largest = values[..., 0]
    labels = ops.zeros_like(largest, "float32")
    for channel in range(1, classes):
        larger = ops.cast(values[..., channel] > largest, "float32")
        labels = ops.maximum(labels, larger * channel)
        largest = ops.maximum(largest, values[..., channel])
    if above_zero:
        labels = ops.where(largest > 0, labels, -ops.ones_like(labels))
    return ops.cast(labels, "int32")


def explain(
    y_true: Any,
    classes: int,
    holds_labels: bool,
    ignored: tuple[int, ...],
    argument: str = "y_true",
) -> str:
    """Return the message for wrong labels or targets whose values are known."""
    values = np.asarray(host_value(y_true)).ravel()
    values = values.astype("float64") if values.dtype.kind not in "iu" else values
    values = values[~np.isin(values, np.array(ignored, dtype=object).astype("float64"))]
    if holds_labels:
        off = np.abs(values - np.round(values)) > TOLERANCE if values.dtype.kind == "f" else False
        wrong = values[~((values >= -TOLERANCE) & (values <= classes - 1 + TOLERANCE)) | off]
        expected = f"labels 0 to {classes - 1}"
    else:
        wrong = values[~((values >= -TOLERANCE) & (values <= 1 + TOLERANCE))]
        expected = "targets from 0 to 1"
    worst = wrong[np.argmax(np.abs(wrong.astype("float64")))] if wrong.size else float("nan")
    hint = ""
    if holds_labels and float(worst) != round(float(worst) if np.isfinite(worst) else 0.0):
        hint = "; labels are whole numbers, which scaling and bilinear resizing destroy"
    if not holds_labels and worst == 255 and np.isin(values, (0, 255)).all():
        hint = f"; if 255 is the object, `{argument} > 127`"
    shown = str(int(worst)) if np.isfinite(worst) and worst == int(worst) else f"{worst:g}"
    said = f"`{argument}` must hold {expected} for {classes} class(es)"
    if argument != "y_true":
        return f"{said}, received {shown}{hint}"
    return (
        f"{said}, or values of `ignore_class`, received {shown} "
        f"(ignore_class={list(ignored) or None}){hint}"
    )


def _valid_entries(
    values: Any, inside: Iterable[int], outside: Iterable[int], exclusive: bool
) -> Any:
    """Return where dense targets count, as `read_dense` says."""
    valid, void = None, _is_any_of(values, outside)
    if void is not None:
        values = ops.where(void, ops.zeros_like(values), values)
    if exclusive:
        valid = ops.any(values != 0, axis=-1, keepdims=True)
        if void is not None:
            untouched = ops.logical_not(ops.any(void, axis=-1, keepdims=True))
            valid = ops.logical_and(valid, untouched)
    elif void is not None:
        valid = ops.logical_not(void)
    if inside:
        largest = ops.max(values, axis=-1, keepdims=True, initial=0)  # (B, H, W, 1)
        of_class = ops.take(values, ops.convert_to_tensor(list(inside), "int32"), axis=-1)
        belongs = ops.logical_and(of_class == largest, of_class > 0)
        kept = ops.logical_not(ops.any(belongs, axis=-1, keepdims=True))
        valid = kept if valid is None else ops.logical_and(valid, kept)
    if valid is not None and not exclusive:
        valid = ops.broadcast_to(valid, ops.shape(values))
    return valid


def _no_targets(values: Any) -> Any:
    """Return whether a float is outside 0..1 or NaN, as a boolean scalar."""
    return ops.logical_or(_beyond_zero_to_one(values), has_nan(values))


def _beyond_zero_to_one(values: Any) -> Any:
    """Return whether a value is outside 0..1, as a boolean scalar."""
    dtype = keras.backend.standardize_dtype(values.dtype)
    if dtype == "bool":
        return ops.convert_to_tensor(False)
    tolerance = TOLERANCE if "float" in dtype else 0
    above = ops.max(values, initial=0) > 1 + tolerance
    if dtype.startswith("uint"):
        return above
    return ops.logical_or(above, ops.min(values, initial=0) < -tolerance)


def _has_between(values: Any) -> Any:
    """Return whether a value is neither 0 nor 1, as a boolean scalar; NaN is neither."""
    return ops.any(ops.logical_xor(ops.cast(values, "bool"), values == 1))


def _is_any_of(values: Any, candidates: Iterable[int]) -> Any:
    """Return where a value is one of the candidates that its dtype can hold; `None` for none."""
    dtype, found = keras.backend.standardize_dtype(values.dtype), None
    for candidate in candidates:
        if dtype in ("int32", "int64"):
            limits = np.iinfo(dtype)
            holds = limits.min <= candidate <= limits.max
            if not holds and wide_integer() == "int32":  # as `segzoo._inputs` narrows it
                candidate, holds = limits.min, True
        else:
            holds = abs(candidate) < 2**24 or float(np.dtype(dtype).type(candidate)) == candidate
        if not holds:
            continue
        equal = values == ops.cast(candidate, dtype)
        found = equal if found is None else ops.logical_or(found, equal)
    return found


def _held(dtype: Any, values: tuple[int, ...]) -> tuple[int, ...]:
    """Return the values that an integer of less than 32 bits can be; of other dtypes all."""
    dtype = keras.backend.standardize_dtype(dtype)
    if dtype not in ("int8", "uint8", "int16", "uint16"):
        return values
    limits = np.iinfo(dtype)
    return tuple(value for value in values if limits.min <= value <= limits.max)


def _as_integers(values: Any) -> Any:
    """Return integers or booleans as int32, or int64 where they may not fit."""
    wide = keras.backend.standardize_dtype(values.dtype) in ("uint32", "int64", "uint64")
    return ops.cast(values, wide_integer() if wide else "int32")


def _at_least_single(dtype: Any) -> str:
    dtype = keras.backend.standardize_dtype(dtype)
    return dtype if dtype == "float64" else "float32"
