"""What a user passes, as tensors of numbers whose shapes fit, or a ValueError that says why not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from segzoo._numerics import host_value, wide_dtype

_ACCEPTED = (
    "accepted are (B, H, W, C) one-hot or multi-label targets and labels (B, H, W) or "
    "(B, H, W, 1), where (B, H, W, C) is the shape of `y_pred`"
)


def static_shape(argument: str, x: Any, advice: str) -> tuple[int | None, ...]:
    """Return the static shape, or raise ValueError where not even the rank is known."""
    try:
        return tuple(x.shape)
    except ValueError:
        raise ValueError(f"`{argument}` must have a known rank, received {x}: {advice}") from None


def tensor_of(argument: str, values: Any, ignored: tuple[int, ...] = ()) -> Any:
    """Return `values` as a tensor of numbers or booleans."""
    if isinstance(values, np.ma.MaskedArray):
        raise ValueError(
            f"`{argument}` must not be a NumPy masked array, whose mask would be lost: fill it, as "
            f"in `{argument}.filled(255)`, and pass `ignore_class=255`"
        )
    try:
        if isinstance(values, np.ndarray) and values.dtype in (np.int64, np.uint64):
            values = _narrow(values, ignored)
        elif isinstance(values, np.ndarray) and values.dtype == np.float64:
            values = values.astype(wide_dtype(), copy=False)  # some devices refuse the wider
        tensor = ops.convert_to_tensor(values)
        dtype = keras.backend.standardize_dtype(tensor.dtype)
    except (TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise ValueError(
            f"`{argument}` must be an array or tensor of numbers, received {_described(values)}"
        ) from error
    if dtype == "string" or dtype.startswith("complex"):
        raise ValueError(
            f"`{argument}` must hold real numbers or booleans, received {_described(values)}"
        )
    if hasattr(tensor, "read_value"):  # a variable of TensorFlow
        tensor = tensor.read_value()
    return ops.cast(tensor, dtype)


def _narrow(values: np.ndarray, ignored: tuple[int, ...]) -> np.ndarray:
    """Return 64-bit integers for a backend that keeps 32 bits: those past them stay past them.

    A value in `ignored` becomes one that is ignored, any other the largest integer, which is wrong.
    """
    limits = np.iinfo("int32")
    far = (values < limits.min) | (values > limits.max)
    if wide_dtype() == "float64" or not far.any():
        return values
    void = far & np.isin(
        values, [value for value in ignored if not limits.min <= value <= limits.max]
    )
    return np.where(void, limits.min, np.where(far, limits.max, values)).astype("int32")


def _described(values: Any) -> str:
    shape = f" of shape {tuple(values.shape)}" if isinstance(values, np.ndarray) else ""
    dtype = f" and dtype {values.dtype}" if hasattr(values, "dtype") else f": {values!r:.60}"
    return f"{type(values).__name__}{shape}{dtype}"


def fitted_truth(y_true: Any, scores: Any) -> tuple[bool, Any]:
    """Return whether `y_true` holds labels, and it as (B, H, W) labels or (B, H, W, C)."""
    pred = static_shape("y_pred", scores, "accepted is (B, H, W, C)")
    if len(pred) != 4 or pred[-1] is None or pred[-1] == 0:
        hint = "; in `compile` Keras squeezes it for a loss function: pass the class of the loss"
        raise ValueError(
            "`y_pred` must be (B, H, W, C) with a static number of classes C, "
            f"received y_pred of shape {pred}{hint if len(pred) == 3 else ''}"
        )
    classes = pred[-1]
    true = static_shape("y_true", y_true, _unknown("labels (B, H, W)"))
    if len(true) == 4 and true[3] is None:
        raise ValueError(
            f"`y_true` must have a known last axis, received y_true of shape {true}: "
            + _unknown("(B, H, W, 1) for labels")
        )
    fits = (
        len(true) in (3, 4)
        and all(a is None or b is None or a == b for a, b in zip(true[:3], pred[:3], strict=True))
        and (len(true) == 3 or true[3] in (1, classes))
    )
    if not fits:
        raise ValueError(
            f"`y_true` of shape {true} does not fit `y_pred` of shape {pred}: " + _ACCEPTED
        )
    if len(true) == 3:
        return classes > 1, y_true if classes > 1 else ops.expand_dims(y_true, -1)
    if true[3] == 1 and classes > 1:
        return True, ops.squeeze(y_true, -1)
    _refuse_channels_first(pred)
    return False, y_true


def _unknown(wanted: str) -> str:
    return (
        f"give it its shape, {wanted}, as in `tf.io.decode_png(file, channels=1)` or "
        "`tf.ensure_shape(mask, (None, None, 1))` before batching. After calls with another rank, "
        "call `compile` again"
    )


def _refuse_channels_first(shape: tuple[int | None, ...]) -> None:
    """Raise ValueError for dense (B, 1, H, W): rows of one pixel with as many classes as columns.

    A row of pixels with one-hot classes has that shape too, so the sizes must be an image's.
    """
    _, height, width, classes = shape
    if height != 1 or width is None or classes is None:
        return
    if min(width, classes) >= 5 and max(width, classes) <= 4 * min(width, classes):
        raise ValueError(
            "`y_true` and `y_pred` must be channels last, (B, H, W, C): both are of shape "
            f"{shape}, which would be images of height 1 with {classes} classes. Move the axis, "
            "as in `np.moveaxis(mask, 1, -1)`, or give labels (B, H, W)"
        )


def weights_of(sample_weight: Any, scores: Any, dtype: str | None) -> tuple[Any, bool]:
    """Return (B,) or (B, H, W, 1), and whether they are weights of images."""
    if sample_weight is None:
        return None, False
    weights = tensor_of("sample_weight", sample_weight)
    weights = ops.cast(weights, dtype or scores.dtype)
    shape = weights_shape(weights)
    expected = (*tuple(scores.shape)[:3], 1)
    if len(shape) not in (0, 1, 3, 4) or any(
        a is not None and b is not None and a != b
        for a, b in zip(shape, expected, strict=False)  # weights may have fewer axes
    ):
        raise ValueError(
            f"`sample_weight` of shape {shape} does not fit `y_pred` of shape "
            f"{tuple(scores.shape)}: accepted are (B,), (B, H, W) and (B, H, W, 1)"
        )
    if len(shape) < 2:
        return ops.broadcast_to(weights, (ops.shape(scores)[0],)), True
    return (weights if len(shape) == 4 else ops.expand_dims(weights, -1)), False


def weights_shape(sample_weight: Any) -> tuple[int | None, ...]:
    """Return the static shape of weights, or raise ValueError where not even the rank is known.

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


def checked_values(weights: Any) -> tuple[Any, Any]:
    """Return the weights, 0 where they are none, and whether one of them is no weight."""
    fine = ops.logical_and(weights >= 0, weights < float("inf"))
    wrong = ops.logical_not(ops.all(fine))
    refuse(
        wrong, lambda: "`sample_weight` must be finite numbers >= 0, received " + _worst(weights)
    )
    return ops.where(fine, weights, ops.zeros_like(weights)), wrong


def _worst(weights: Any) -> str:
    values = np.ravel(ops.convert_to_numpy(weights))
    return f"{values[~((values >= 0) & (values < np.inf))][0]:g}"


def refuse(wrong: Any, message: Callable[[], str]) -> None:
    """Raise ValueError where `wrong` is known to be true."""
    known = host_value(wrong)
    if known is not None and bool(known):
        raise ValueError(message())
