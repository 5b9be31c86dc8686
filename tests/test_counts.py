"""Soft counts against exact sums."""

import numpy as np
import pytest
from keras import ops

from segzoo._counts import Counts, soft_counts
from segzoo._numerics import divide
from segzoo._reading import Reading
from tests.oracles.losses import counts

pytestmark = pytest.mark.core


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("form", ["labels", "one-hot", "float one-hot", "soft"])
def test_counts_agree_with_exact_sums(weighted, form, rng):
    labels = rng.integers(0, 3, (2, 5, 4))
    y = np.eye(3)[labels] if form != "soft" else rng.random((2, 5, 4, 3))
    p = rng.random(y.shape).astype("float32")
    w = rng.random((2, 5, 4)).astype("float32") if weighted else None
    truth = {"labels": labels, "one-hot": y.astype(bool)}.get(form, y)
    got, _ = soft_counts(Reading(for_counts=True)(truth, p, w))
    for b, c in np.ndindex(2, 3):
        w_ = w[b] if weighted else np.ones((5, 4))
        tp, fp, fn, tn = counts(*(x.ravel() for x in (y[b, ..., c], p[b, ..., c], w_)))
        expected = (tp, fp, fn, tp + fp + fn + tn, tn, tp + fp, tp + fn)
        fields = (*got, got.tn, got.predicted, got.actual)
        values = [ops.convert_to_numpy(x)[b, c] for x in fields]
        np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6)


def test_ratios_of_counts():
    tp, fp, fn, total = (
        ops.convert_to_tensor(x) for x in ([3, 0, 0], [1, 0, 2], [2, 0, 0], [9, 9, 9])
    )
    some = Counts(tp, fp, fn, total)
    for ratio, expected in (
        (some.iou(), [3 / 6, 1, 0]),
        (some.dice(), [6 / 9, 1, 0]),
        (some.f_score(2), [15 / 24, 1, 0]),
        (some.precision(), [3 / 4, 1, 0]),
        (some.recall(), [3 / 5, 1, 0]),
        (some.iou(empty_score=0.25), [3 / 6, 0.25, 0]),
    ):
        np.testing.assert_allclose(ops.convert_to_numpy(ratio), expected, rtol=1e-6)
    np.testing.assert_array_equal(ops.convert_to_numpy(some.tn), [3, 9, 7])
    assert [int(x) for x in some.sum(axis=0)] == [3, 3, 2, 27]


def test_nothing_over_nothing_is_the_default():
    quotient = divide(ops.zeros((2,)), ops.convert_to_tensor([0.0, 2.0]), default=1.0)
    np.testing.assert_array_equal(ops.convert_to_numpy(quotient), [1, 0])
    assert np.isnan(ops.convert_to_numpy(divide(ops.ones(()), ops.ones(()) * np.nan)))
