"""Small numerics that losses and metrics share: quotients, written gradients, long sums."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops


def divide(numerator: Any, denominator: Any, default: Any = 0.0) -> Any:
    """Return the quotient, or `default` where the denominator is 0, with a finite gradient."""
    nonzero = denominator != 0
    quotient = numerator / ops.where(nonzero, denominator, ops.ones_like(denominator))
    return ops.where(nonzero, quotient, ops.cast(default, quotient.dtype))


def mean_of_last(x: Any) -> Any:
    """Return the mean over the last axis, (..., C) to (...), in the precision of `x`.

    `keras.ops.mean` goes through float32 on JAX and PyTorch.
    """
    return ops.sum(x, axis=-1) / x.shape[-1]


def with_gradient(function: Callable[..., Any], gradient: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function(x, *constants)`, differentiated by x as `gradient` says.

    `gradient(upstream, x, *constants)` is itself differentiated for second derivatives, so it
    computes from its arguments. Tensors come in as arguments too, never through a closure: JAX
    forbids that to a function with a gradient of its own inside `jit`, `scan` or `checkpoint`.
    """

    @ops.custom_gradient
    def wrapped(x: Any, *constants: Any) -> Any:
        def grad(*args: Any, upstream: Any = None) -> Any:
            # PyTorch passes the saved inputs and the keyword, the others one argument.
            inputs = (x, *constants) if upstream is None else args
            slope = gradient(args[0] if upstream is None else upstream, *inputs)
            return (slope, *(None for _ in constants)) if constants else slope

        return function(x, *constants), grad

    return wrapped


def settled(x: Any, *values: Any) -> Any:
    """Return `x`, with gradient 0 where one of the values is NaN."""
    fine = ops.cast(1, x.dtype)
    for value in values:
        nan = ops.any(ops.isnan(ops.stop_gradient(value)))
        fine = fine * ops.cast(ops.logical_not(nan), x.dtype)
    return settled_by(x, fine)


def settled_by(x: Any, fine: Any) -> Any:
    """Return `x`, with gradient 0 where `fine` is 0, whatever came of NaN behind it."""
    # 0 / 0 is 0 here, NaN / 0 too; a selection would take more than twice the time
    return with_gradient(_same, lambda upstream, _, fine: ops.divide_no_nan(upstream, fine))(
        x, ops.stop_gradient(fine)
    )


def _same(x: Any, _: Any) -> Any:
    return x


def segment_sum(values: Any, segments: Any, count: Any) -> Any:
    """Return `keras.ops.segment_sum` of any shape, to (count,), 0 where there are no values.

    Of those PyTorch makes no segments.
    """
    if 0 in values.shape:
        return ops.zeros((count,), values.dtype)
    return ops.segment_sum(ops.reshape(values, (-1,)), ops.reshape(segments, (-1,)), count)


def sum_columns(x: Any) -> Any:
    """Return (B, H, W, C) summed over H: (B, W, C).

    Whole lines are added, which is the fastest way round, and no partial sum has more than H terms,
    nor more than W afterwards: float32 keeps its digits past 2**24 pixels. Not a product with ones,
    which a GPU may compute with the 11 bits of TF32.
    """
    batch, height, width, channels = ops.shape(x)
    lines = ops.sum(ops.reshape(x, (batch, height, width * channels)), axis=1)
    return ops.reshape(lines, (batch, width, channels))


def has_nan(x: Any) -> Any:
    """Return whether (B, H, W, C) holds NaN, or infinities of both signs, as a boolean scalar.

    The mean of each line has NaN if one of its values has, and costs a third of looking at them.
    """
    batch, height, width, channels = ops.shape(x)
    length = width * channels
    share = ops.cast(1, x.dtype) / ops.cast(length, x.dtype)
    lines = ops.reshape(x, (batch * height, length))
    return ops.any(ops.isnan(ops.matmul(lines, ops.full((length, 1), share, x.dtype))))


def at_least_float32(*dtypes: Any) -> str:
    """Return float64 if one of the dtypes is, and the backend has it; otherwise float32."""
    names = {keras.backend.standardize_dtype(dtype) for dtype in dtypes}
    return wide_dtype() if "float64" in names else "float32"


@functools.cache
def wide_dtype() -> str:
    """Return "float64" where backend and device have it, otherwise "float32".

    JAX without 64 bit truncates, PyTorch on Apple's MPS refuses.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # JAX warns that it truncates, which is the question
        try:
            probe = ops.convert_to_tensor(np.zeros((), "float64"))
        except (TypeError, RuntimeError):
            return "float32"
    return keras.backend.standardize_dtype(probe.dtype)


def wide_integer() -> str:
    """Return "int64" where the backend has it, otherwise "int32"."""
    return "int64" if wide_dtype() == "float64" else "int32"


def host_value(x: Any) -> np.ndarray | None:
    """Return the value of a tensor as NumPy, or `None` in a compiled graph, where it has none."""
    try:
        return ops.convert_to_numpy(x)
    except Exception:  # each backend has its own error for a tensor without a value
        return None
