"""Counts past 2**24, on variables of 64 and of 32 bits."""

import keras
import numpy as np
import pytest

from segzoo import _numerics, metrics
from segzoo._numerics import wide_dtype
from segzoo.metrics import _counters
from segzoo.metrics._counters import Counter

pytestmark = pytest.mark.core


@pytest.fixture(params=["wide", "pair"])
def width(request, monkeypatch):
    """Runs a test on the backend's own variables and on the pair that JAX needs."""
    if request.param == "pair":
        monkeypatch.setattr(_counters, "wide_dtype", lambda: "float32")


def test_counts_are_exact_past_the_end_of_float32(width, rng):
    counter = Counter(keras.metrics.Mean(), (3,), "counts")
    expected = np.zeros(3, "int64")
    for _ in range(40):
        batch = rng.integers(0, 2**25, 3).astype("int32")
        counter.add(keras.ops.convert_to_tensor(batch))
        expected += batch
    counter.add(keras.ops.ones(3, "int32"))
    np.testing.assert_array_equal(counter.numpy(), expected + 1)
    total = keras.ops.convert_to_numpy(counter.total())
    np.testing.assert_allclose(total, expected + 1, rtol=1e-7)


def test_fractions_keep_their_precision(width, rng):
    counter = Counter(keras.metrics.Mean(), (), "counts")
    batches = (rng.random(30) * 2**22).astype("float32")
    for batch in batches:
        counter.add(keras.ops.convert_to_tensor(batch))
    assert counter.numpy() == pytest.approx(batches.astype("float64").sum(), rel=1e-6)


def test_one_pixel_after_two_to_the_24_is_counted():
    side = 1024
    full = np.ones((1, side, side, 1), "float32")
    matrix = metrics.ConfusionMatrix()
    iou = metrics.IoU()
    for _ in range(16):
        matrix.update_state(full, full)
        iou.update_state(full, full)
    for metric in (matrix, iou):
        metric.update_state(np.ones((1, 1, 1, 1)), np.zeros((1, 1, 1, 1), "float32"))
    assert matrix.report()["class_0"]["support"] == 2**24 + 1
    assert matrix.report()["class_0"]["recall"] == 2**24 / (2**24 + 1)
    expected = 2**24 / (2**24 + 1)
    assert float(keras.ops.convert_to_numpy(iou.result())) == pytest.approx(expected, abs=1e-7)
    if wide_dtype() == "float64":
        assert float(keras.ops.convert_to_numpy(iou.result())) == expected
        table = keras.ops.convert_to_numpy(matrix.result())
        np.testing.assert_array_equal(table, [[0, 0], [1, 2**24]])


def test_a_device_that_refuses_float64_counts_in_float32(monkeypatch):
    def refuse(*_):
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype")  # PyTorch on Apple's MPS

    monkeypatch.setattr(keras.ops, "convert_to_tensor", refuse)
    assert _numerics.wide_dtype.__wrapped__() == "float32"
