"""The written gradients of the binary losses: where a logarithm is cut off, and once more."""

import keras
import numpy as np
import pytest

from tests.losses.helpers import data, gradient, make, to_logits, traced

NAMES = ["BinaryCrossentropy", "BinaryFocal"]


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="has no graphs, and raises")
@pytest.mark.core
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("reduction", ["sum", "sum_over_batch_size"])
def test_the_gradient_is_zero_where_a_logarithm_is_cut_off(name, reduction):
    outside = [0.0, 1.0, 5e-8, 1 - 6e-8, -0.5, 1.5, 1e9, -1e9, 1e-38, 1e-42]
    inside = [2e-7, 1 - 2e-7, 0.5]
    p = np.array(outside + inside, "float32").reshape(1, 1, -1, 1)
    for y in (np.zeros_like(p), np.ones_like(p), np.full_like(p, 0.3)):
        _, slope = traced(make(name, reduction=reduction), y, p)
        assert np.isfinite(slope).all()
        assert not slope.ravel()[: len(outside)].any()
    _, slope = traced(make(name, reduction=reduction), np.full_like(p, 0.3), p)
    assert slope.ravel()[len(outside) :].all()


@pytest.mark.core
@pytest.mark.parametrize("name", NAMES)
def test_weights_ignored_pixels_and_classes_reach_the_gradient(name, rng):
    labels, y, p = data(3)
    p, w = p.astype("float32"), rng.random(labels.shape).astype("float32")
    void = rng.random(labels.shape) < 0.3
    share = np.array([1.0, 2.0, 0.5])
    truth = np.where(void[..., None], 255, y)
    loss = make(name, ignore_class=255, class_weights=share, reduction="sum")
    value, slope = gradient(loss, truth, p, w)
    # one class and one pixel at a time, without any option
    alone = [
        gradient(make(name, reduction="sum"), y[..., c : c + 1], p[..., c : c + 1])
        for c in range(3)
    ]
    factor = np.where(void, 0, w)[..., None] * share / share.sum()
    expected = np.concatenate([part for _, part in alone], axis=-1) * factor
    np.testing.assert_allclose(slope, expected, rtol=1e-5, atol=1e-9)
    assert np.isfinite(value)


@pytest.mark.parametrize("name", [*NAMES, "Dice", "BCEDice"])
@pytest.mark.parametrize("from_logits", [False, True])
@pytest.mark.parametrize("in_graph", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_second_derivatives_agree_with_differences_of_gradients(name, from_logits, in_graph, rng):
    import tensorflow as tf

    _, y, p = data(3, shape=(1, 3, 4))
    p = 0.1 + 0.8 * p
    x = to_logits("BinaryFocal", p) if from_logits else p
    loss, direction = make(name, from_logits=from_logits, dtype="float64"), rng.normal(size=x.shape)

    def curvature(x):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                value = loss(y, x)
            along = tf.reduce_sum(inner.gradient(value, x) * direction)
        return outer.gradient(along, x)

    curvature = tf.function(curvature) if in_graph else curvature
    step = 1e-6
    high, low = (gradient(loss, y, x + sign * step * direction)[1] for sign in (1, -1))
    expected = (high - low) / (2 * step)
    got = curvature(tf.constant(x)).numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-7 * np.abs(expected).max())
