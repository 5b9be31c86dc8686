"""Boundary scores against erosions and distances in plain loops."""

import keras
import numpy as np
import pytest
from scipy import ndimage

from segzoo import metrics
from tests.oracles import metrics as oracle

pytestmark = pytest.mark.core

CLOSE = 1e-12 if keras.backend.backend() != "jax" else 1e-6


def value(metric, *data):
    metric.update_state(*data)
    return float(keras.ops.convert_to_numpy(metric.result()))


def blobs(rng, shape, threshold=0.5):
    """Returns masks with smooth outlines, some across the edge."""
    noise = ndimage.gaussian_filter(rng.random(shape), (0, 2, 2, 0), mode="nearest")
    return noise > np.quantile(noise, threshold)


def shifted(mask, rng):
    return np.roll(mask, (1, 2), (1, 2)) ^ (rng.random(mask.shape) < 0.02)


@pytest.mark.parametrize("tolerance", [0, 1, 3])
def test_boundary_f1_agrees_with_loops(tolerance, rng):
    truth = blobs(rng, (3, 14, 17, 2))
    guess = shifted(truth, rng)
    expected = [oracle.boundary_f1(truth[..., c], guess[..., c], tolerance) for c in (0, 1)]
    options = {"tolerance": tolerance, "multilabel": True}
    assert value(metrics.BoundaryF1Score(**options), truth, guess.astype("float32")) == (
        pytest.approx(np.mean(expected), abs=CLOSE)
    )
    pairs = [
        oracle.boundary_f1(truth[b : b + 1, ..., c], guess[b : b + 1, ..., c], tolerance)
        for b in range(3)
        for c in (0, 1)
    ]
    metric = metrics.BoundaryF1Score(average="per_image", **options)
    assert value(metric, truth, guess.astype("float32")) == pytest.approx(np.mean(pairs), abs=CLOSE)


@pytest.mark.parametrize("ratio", [0.02, 0.1, 0.3])
@pytest.mark.parametrize("size", [(14, 17), (33, 9)])
def test_boundary_iou_agrees_with_erosions(ratio, size, rng):
    truth = blobs(rng, (3, *size, 2), 0.3)
    guess = shifted(truth, rng)
    expected = [oracle.boundary_iou(truth[..., c], guess[..., c], ratio) for c in (0, 1)]
    metric = metrics.BoundaryIoU(ratio, multilabel=True)
    got = value(metric, truth, guess.astype("float32"))
    assert got == pytest.approx(np.mean(expected), abs=CLOSE)


def test_exclusive_classes_are_decided_by_the_largest(rng):
    y_true, y_pred = rng.integers(0, 3, (2, 9, 11)), rng.random((2, 9, 11, 3)).astype("float32")
    truth, guess = oracle.masks(y_true, 3), oracle.decide(y_pred)
    f1 = [oracle.boundary_f1(truth[..., c], guess[..., c], 2) for c in range(3)]
    assert value(metrics.BoundaryF1Score(), y_true, y_pred) == pytest.approx(np.mean(f1), abs=CLOSE)
    iou = [oracle.boundary_iou(truth[..., c], guess[..., c], 0.02) for c in range(3)]
    assert value(metrics.BoundaryIoU(), y_true, y_pred) == pytest.approx(np.mean(iou), abs=CLOSE)


@pytest.mark.parametrize("ratio", [0.02, 0.2])
def test_boundary_iou_agrees_with_scipys_erosion(ratio, rng):
    truth = blobs(rng, (1, 40, 30, 1))
    guess = shifted(truth, rng)
    distance = max(1, round(ratio * 50))  # 40, 30, 50
    regions = [
        mask[0, ..., 0]
        & ~ndimage.binary_erosion(mask[0, ..., 0], np.ones((3, 3)), iterations=distance)
        for mask in (truth, guess)
    ]
    expected = (regions[0] & regions[1]).sum() / (regions[0] | regions[1]).sum()
    got = value(metrics.BoundaryIoU(ratio), truth, guess.astype("float32"))
    assert got == pytest.approx(expected, abs=CLOSE)


def test_void_pixels_make_no_boundary(rng):
    truth = blobs(rng, (2, 14, 17, 1))
    guess = shifted(truth, rng)
    void = ndimage.binary_dilation(rng.random((2, 14, 17)) < 0.02, np.ones((1, 3, 3)))
    labels = np.where(void[..., None], 255, truth)
    metric = metrics.BoundaryF1Score(tolerance=1, ignore_class=255)
    expected = oracle.boundary_f1(truth[..., 0], guess[..., 0], 1, ~void)
    assert value(metric, labels, guess.astype("float32")) == pytest.approx(expected, abs=CLOSE)
    # the value of a prediction on void pixels has no effect
    for make in (metrics.BoundaryF1Score, metrics.BoundaryIoU):
        scores = [
            value(make(ignore_class=255), labels, np.where(void[..., None], p, guess * 1.0))
            for p in (0.0, 1.0)
        ]
        assert scores[0] == scores[1]
    # void has no outline of its own: a full mask with a hole of void pixels is one without a hole
    labels = np.ones((1, 15, 15, 1))
    labels[:, 7, 7] = 255
    full = np.ones((1, 15, 15, 1))
    metric = metrics.BoundaryF1Score(ignore_class=255, average="per_image", empty_score=0.5)
    assert value(metric, labels, full) == 0.5


def test_masks_without_a_boundary():
    full, empty = np.ones((1, 5, 7, 1)), np.zeros((1, 5, 7, 1))
    for make in (metrics.BoundaryF1Score, metrics.BoundaryIoU):
        assert value(make(average="per_image"), empty, empty) == 1
        assert value(make(average="per_image"), full, full) == 1
        assert np.isnan(value(make(), empty, empty))
        for average in ("macro", "micro", "per_image"):
            assert value(make(average=average), full, empty) == 0
            assert value(make(average=average), empty, full) == 0


def test_weights_of_images_weigh_and_those_of_pixels_raise(rng):
    truth = blobs(rng, (2, 14, 17, 1))
    guess = shifted(truth, rng).astype("float32")
    for make in (metrics.BoundaryF1Score, metrics.BoundaryIoU):
        assert value(make(), truth, guess, [0.0, 2.0]) == value(make(), truth[1:], guess[1:])
        with pytest.raises(ValueError, match=r"`sample_weight` must be None or \(B,\)"):
            make().update_state(truth, guess, np.ones((2, 14, 17)))


@pytest.mark.parametrize("tolerance", [-1, 1.5, True])
def test_a_bad_tolerance_raises(tolerance):
    with pytest.raises(ValueError, match="`tolerance` must be an integer >= 0"):
        metrics.BoundaryF1Score(tolerance)


@pytest.mark.parametrize("ratio", [0, -0.1, 1.5, "small"])
def test_a_bad_dilation_ratio_raises(ratio):
    with pytest.raises(ValueError, match="`dilation_ratio` must be above 0"):
        metrics.BoundaryIoU(ratio)
