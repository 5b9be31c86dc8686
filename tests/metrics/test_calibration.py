"""Calibration against loops over the bins."""

import keras
import numpy as np
import pytest

from segzoo import metrics

pytestmark = pytest.mark.core


def bins_of(confidence, right, bins):
    """Returns number, mean confidence and accuracy of each bin, ((b - 1) / bins, b / bins]."""
    rows = []
    for b in range(bins):
        inside = (confidence <= (b + 1) / bins) & ((confidence > b / bins) | (b == 0))
        rows.append((inside.sum(), confidence[inside].sum(), right[inside].sum()))
    return np.array(rows, float).T


def errors(confidence, right, bins):
    amount, sure, found = bins_of(confidence.astype("float64").ravel(), right.ravel(), bins)
    some = amount > 0
    gaps = np.abs(found - sure)[some] / amount[some]
    return (gaps * amount[some]).sum() / amount.sum(), gaps.max()


def value(metric):
    return float(keras.ops.convert_to_numpy(metric.result()))


@pytest.mark.parametrize("bins", [1, 10, 15])
@pytest.mark.parametrize("kind", ["binary", "exclusive", "multilabel"])
def test_it_agrees_with_loops_in_any_batches(kind, bins, rng):
    shape = (4, 5, 7)
    if kind == "exclusive":
        y = rng.integers(0, 3, shape)
        scores = rng.normal(size=(*shape, 3)).astype("float32")
        p = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
        confidence, right = p.max(-1), p.argmax(-1) == y
    else:
        channels = 1 if kind == "binary" else 3
        y = rng.integers(0, 2, (*shape, channels))
        p = rng.random(y.shape).astype("float32")
        confidence, right = p, y == 1
    for norm, expected in zip(("l1", "max"), errors(confidence, right, bins), strict=True):
        metric = metrics.CalibrationError(bins, norm, multilabel=kind == "multilabel")
        for part in (slice(0, 1), slice(1, 4)):
            metric.update_state(y[part], p[part])
        assert value(metric) == pytest.approx(expected, rel=1e-5)


def test_void_and_weights(rng):
    y, p = rng.integers(0, 2, (3, 5, 7, 1)), rng.random((3, 5, 7, 1)).astype("float32")
    void = rng.random(y.shape) < 0.3
    metric = metrics.CalibrationError(ignore_class=255)
    metric.update_state(np.where(void, 255, y), p)
    assert value(metric) == pytest.approx(errors(p[~void], y[~void] == 1, 15)[0], rel=1e-5)
    twice, weighted = metrics.CalibrationError(), metrics.CalibrationError()
    twice.update_state(np.concatenate([y, y[:1]]), np.concatenate([p, p[:1]]))
    weighted.update_state(y, p, [2.0, 1.0, 1.0])
    assert value(weighted) == pytest.approx(value(twice), rel=1e-6)


def test_an_edge_belongs_to_the_lower_bin_and_the_curve_shows_the_bins():
    metric = metrics.CalibrationError(bins=4)
    p = np.array([0.0, 0.25, 0.2500001, 0.5, 1.0], "float32").reshape(1, 1, 5, 1)
    metric.update_state(np.array([0, 0, 1, 1, 1]).reshape(1, 1, 5, 1), p)
    curve = metric.curve()
    np.testing.assert_allclose(curve["share"], [0.4, 0.4, 0, 0.2])
    np.testing.assert_allclose(curve["accuracy"], [0, 1, np.nan, 1])
    np.testing.assert_allclose(curve["confidence"], [0.125, 0.375, np.nan, 1], rtol=1e-6)
    assert np.isnan(metrics.CalibrationError().curve()["share"]).all()


def test_bad_arguments_raise():
    with pytest.raises(ValueError, match="`bins` must be an integer >= 1"):
        metrics.CalibrationError(bins=0)
    with pytest.raises(ValueError, match="`norm` must be one of"):
        metrics.CalibrationError(norm="l2")
    with pytest.raises(TypeError, match="`CalibrationError` has no argument `average`"):
        metrics.CalibrationError(average="micro")
