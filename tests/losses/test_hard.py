"""The hard pixels against a sort in NumPy."""

import json
import math

import keras
import numpy as np
import pytest

from segzoo import losses
from tests.losses.helpers import data, gradient, run, traced

pytestmark = pytest.mark.core


def kept_pixels(loss, true_side, valid, threshold, min_kept):
    """Returns the pixels that are kept, by sorting: arrays (N,)."""
    hard = (true_side < threshold) & valid
    wanted = math.ceil(min_kept * valid.sum() - 1e-9)
    if wanted:
        hard |= valid & (loss >= np.sort(loss[valid])[-wanted])
    return hard


@pytest.mark.parametrize("void", [False, True])
@pytest.mark.parametrize(("threshold", "min_kept"), [(0.7, 0.0625), (0.0, 0.1), (0.3, 0.5), (1, 1)])
def test_exclusive_classes_agree_with_a_sort(threshold, min_kept, void, rng):
    labels, y, p = data(3)
    p = p.astype("float32")
    valid = rng.random(labels.shape) > 0.3 if void else np.ones(labels.shape, bool)
    truth = np.where(valid, labels, 255)
    weights, images = np.array([1.0, 5.0, 0.2]), np.array([0.5, 2.0])
    side = (y * p).sum(-1)
    kept = kept_pixels(-np.log(side).ravel(), side.ravel(), valid.ravel(), threshold, min_kept)
    kept = kept.reshape(labels.shape)
    inner = losses.CategoricalCrossentropy(class_weights=weights, ignore_class=255)
    loss = losses.OHEM(inner, threshold, min_kept)
    of_class = weights[labels]
    each = -np.log(side) * of_class * images[:, None, None]
    expected = (each * kept).sum() / (of_class * kept).sum()
    value, slope = gradient(loss, truth, p, images)
    assert value == pytest.approx(expected, rel=1e-5)
    assert (np.abs(slope).sum(-1) > 0).tolist() == kept.tolist()
    assert traced(loss, truth, p, images)[0] == pytest.approx(expected, rel=1e-5)
    by_pixel = losses.OHEM(inner, threshold, min_kept, reduction="none")
    np.testing.assert_allclose(run(by_pixel, truth, p, images), each * kept, rtol=1e-4, atol=1e-7)


def test_ties_are_kept_together():
    p = np.array([0.9, 0.8, 0.8, 0.8, 0.95], "float32").reshape(1, 1, 5, 1)
    y = np.ones_like(p)
    loss = losses.OHEM(losses.BinaryCrossentropy(), threshold=0.1, min_kept=0.2)
    assert float(loss(y, p)) == pytest.approx(-math.log(0.8), rel=1e-5)  # one was wanted
    none = losses.OHEM(losses.BinaryCrossentropy(), threshold=0.1, min_kept=0.0)
    assert float(none(y, p)) == 0


def test_each_channel_has_a_side_of_its_own():
    p = np.array([[0.9, 0.1], [0.9, 0.6], [0.2, 0.1]], "float32").reshape(1, 1, 3, 2)
    y = np.array([[1, 0], [1, 0], [1, 0]]).reshape(1, 1, 3, 2)
    loss = losses.OHEM(losses.BinaryFocal(gamma=0, alpha=None), 0.5, 0.0, reduction="none")
    kept = run(loss, y, p)[0, 0] > 0
    assert kept.tolist() == [False, True, True]


def test_labels_and_one_hot_and_a_file_share_the_loss(tmp_path):
    labels, y, p = data(3)
    loss = losses.OHEM(losses.CategoricalFocal(gamma=1.0, class_weights={1: 3}), 0.5, 0.25)
    expected = run(loss, labels, p)
    assert run(loss, y, p) == pytest.approx(expected, rel=1e-6)
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(loss)))
    copy = keras.saving.deserialize_keras_object(config)
    assert run(copy, labels, p) == expected
    assert repr(copy) == repr(loss)
    together = losses.Dice() + 0.5 * loss
    assert np.isclose(run(together, labels, p), run(losses.Dice(), labels, p) + 0.5 * expected)


def test_other_losses_and_shares_are_refused():
    for bad in (losses.Dice(), losses.BCEDice(), "ce", None):
        with pytest.raises(ValueError, match="`loss` must be a pixel loss"):
            losses.OHEM(bad)
    with pytest.raises(ValueError, match="`threshold` must be from 0 to 1"):
        losses.OHEM(losses.BinaryFocal(), threshold=2)
    with pytest.raises(ValueError, match="`min_kept` must be from 0 to 1"):
        losses.OHEM(losses.BinaryFocal(), min_kept=100)


def test_weights_of_heads_halve_towards_the_shallow_ones():
    weights = losses.deep_supervision_weights(4)
    np.testing.assert_allclose(np.divide(weights[1:], weights[:-1]), 2)
    assert sum(weights) == pytest.approx(1) and losses.deep_supervision_weights(1) == [1.0]
    with pytest.raises(ValueError, match="`n` must be an integer >= 1"):
        losses.deep_supervision_weights(0)
