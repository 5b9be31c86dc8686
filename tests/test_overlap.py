"""Soft counts against exact sums."""

import numpy as np
import pytest
from keras import ops

from segzoo import _overlap
from tests.oracles.losses import counts

pytestmark = pytest.mark.core


@pytest.mark.parametrize("weighted", [False, True])
def test_counts_of_dense_targets_and_labels(weighted, rng):
    labels = rng.integers(-1, 3, (2, 5, 4))
    y = np.eye(4)[labels][..., :3] * (labels >= 0)[..., None]
    p = rng.random(y.shape).astype("float32")
    w = rng.random((2, 5, 4, 1)).astype("float32")
    weights = ops.convert_to_tensor(w) if weighted else None
    for truth in (y.astype("float32"), labels.astype("int32")):
        got = _overlap.overlap(*map(ops.convert_to_tensor, (truth, p)), weights)
        for b, c in np.ndindex(2, 3):
            w_ = w[b, ..., 0] if weighted else np.ones((5, 4))
            tp, fp, fn, tn = counts(*(x.ravel() for x in (y[b, ..., c], p[b, ..., c], w_)))
            expected = (tp, fp, fn, tp + fp + fn + tn)
            values = [ops.convert_to_numpy(x)[b, c] for x in got]
            np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6)


def test_nothing_over_nothing_is_the_default():
    quotient = _overlap.divide(ops.zeros((2,)), ops.convert_to_tensor([0.0, 2.0]), default=1.0)
    np.testing.assert_array_equal(ops.convert_to_numpy(quotient), [1, 0])
