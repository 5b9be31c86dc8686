"""Sums that stay exact however many pixels are counted.

A float32 sum of ones stops growing at 2**24, one 4096x4096 image. The sums here are float64
variables where the backend has them. JAX stores 32 bits unless told otherwise, so there each sum is
a pair, units and multiples of 2**23, both whole numbers that float32 holds exactly.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from segzoo._numerics import wide_dtype
from segzoo._reading import Batch

_BLOCK = 2**23


class Counter:
    """An array of sums, kept in one or two variables of a metric.

    Args:
        metric: the `keras.metrics.Metric` that owns the variables.
        shape: of the array.
        name: of the variables.
    """

    def __init__(self, metric: keras.metrics.Metric, shape: tuple[int, ...], name: str) -> None:
        dtype = wide_dtype()
        self._units = metric.add_variable(shape, "zeros", dtype=dtype, name=name)
        self._blocks = None
        if dtype == "float32":
            self._blocks = metric.add_variable(shape, "zeros", dtype=dtype, name=f"{name}_blocks")

    def add(self, sums: Any, batch: Batch | None = None) -> None:
        """Add a batch's own sums: an array of the counter's shape, integers or floats.

        A bad batch makes all of them NaN for good.
        """
        if self._blocks is None:
            units = self._units + ops.cast(sums, self._units.dtype)
        else:
            blocks = ops.cast(sums // _BLOCK, "float32")
            units = self._units + ops.cast(sums % _BLOCK, "float32")  # below 2**24: exact
            carry = ops.floor(units / _BLOCK)
            units = units - carry * _BLOCK
            self._blocks.assign(self._blocks + blocks + carry)
        self._units.assign(units if batch is None else batch.guard(units))

    def spoiled(self) -> Any:
        """Return whether a bad batch was added, as a boolean scalar."""
        return ops.any(ops.isnan(self._units))

    def total(self) -> Any:
        """Return the sums as a tensor of `wide_dtype()`; in float32 it may round past 2**24."""
        if self._blocks is None:
            return ops.convert_to_tensor(self._units)
        return self._units + self._blocks * _BLOCK

    def numpy(self) -> np.ndarray:
        """Return the sums as float64, exact on every backend."""
        total = _to_float64(self._units)
        return total if self._blocks is None else total + _to_float64(self._blocks) * _BLOCK


def _to_float64(variable: keras.Variable) -> np.ndarray:
    return variable.numpy().astype("float64")
