"""Soft boundaries against plain loops."""

import numpy as np
import pytest
from keras import ops

from segzoo import _boundary
from tests.oracles.losses import window

pytestmark = pytest.mark.core


@pytest.mark.parametrize("pooling", ["max", "average"])
def test_counts_agree_with_loops(pooling, rng):
    y = (rng.random((2, 6, 7, 3)) > 0.5).astype("float32")
    p = rng.random(y.shape).astype("float32")
    got = _boundary.boundary_counts(*map(ops.convert_to_tensor, (y, p)), pooling=pooling)
    reduce = np.max if pooling == "max" else np.mean
    for b, c in np.ndindex(2, 3):
        truth, pred = (x[b, ..., c] - window(x[b, ..., c], 3, np.min) for x in (y, p))
        expected = [
            (pred * window(truth, 5, reduce)).sum(),
            pred.sum(),
            (truth * window(pred, 5, reduce)).sum(),
            truth.sum(),
        ]
        np.testing.assert_allclose(
            [ops.convert_to_numpy(x)[b, c] for x in got], expected, rtol=1e-5
        )
    missed = _boundary.boundary_misses(*map(ops.convert_to_tensor, (y, p)), pooling=pooling)
    np.testing.assert_allclose(
        ops.convert_to_numpy(missed[0]),
        ops.convert_to_numpy(got.pred - got.matched_pred),
        rtol=1e-4,
        atol=1e-5,
    )


def test_void_pixels_make_no_boundary():
    mask = np.ones((1, 5, 5, 1), "float32")
    mask[:, 2, 2] = 0
    valid = np.ones(mask.shape, bool)
    valid[:, 2, 2] = False
    counts = _boundary.boundary_counts(*map(ops.convert_to_tensor, (mask, mask, valid)))
    assert float(ops.sum(counts.true)) == 0
