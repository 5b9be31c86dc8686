"""Every loss against its float64 oracle, its finite differences, and `keras.losses`."""

import keras
import numpy as np
import pytest

from segzoo import losses
from segzoo._arguments import parameters
from tests.cases import some
from tests.losses import helpers
from tests.losses.helpers import cases, data, gradient, make, run, value
from tests.oracles import losses as oracle


def test_every_loss_has_an_oracle():
    assert set(helpers.ORACLES) == set(helpers.CLASSES)


@pytest.mark.core
@pytest.mark.parametrize(("name", "classes"), cases())
def test_float32_agrees_with_the_float64_oracle(name, classes):
    for seed in range(2):
        _, y, p = data(classes, seed)
        expected = helpers.ORACLES[name](y, p)
        np.testing.assert_allclose(run(make(name), y, p), expected, rtol=1e-5)


@pytest.mark.parametrize(("name", "classes"), cases())
def test_logits_agree_with_their_probabilities(name, classes):
    _, y, p = data(classes)
    z = helpers.to_logits(name, p).astype("float32")
    got = run(make(name, from_logits=True), y, z)
    np.testing.assert_allclose(got, helpers.ORACLES[name](y, p), rtol=2e-5)


@pytest.mark.core
@pytest.mark.parametrize(("name", "classes"), cases())
@pytest.mark.parametrize("from_logits", [False, True])
def test_gradient_agrees_with_finite_differences(name, classes, from_logits):
    _, y, p = data(classes, seed=1, shape=(2, 4, 3))
    x = (helpers.to_logits(name, p) if from_logits else p).astype("float32")
    loss = make(name, from_logits=from_logits)
    _, slope = gradient(loss, y, x)
    assert slope.dtype == np.float32
    if from_logits:
        activation = oracle.sigmoid if classes == 1 or name in helpers.SIGMOID else oracle.softmax
    else:
        activation = np.asarray

    def f(x):
        return helpers.ORACLES[name](y, activation(x.astype("float64")))

    step = 1e-6
    for index in list(np.ndindex(*x.shape))[::7]:
        high, low = x.astype("float64"), x.astype("float64")
        high[index] += step
        low[index] -= step
        expected = (f(high) - f(low)) / (2 * step)
        np.testing.assert_allclose(slope[index], expected, rtol=2e-3, atol=2e-6)


@pytest.mark.parametrize("name", sorted(helpers.REGION))
@pytest.mark.parametrize("average", ["macro", "micro"])
@pytest.mark.parametrize("per_image", some([False, True], [False]))
def test_averages_and_pixel_weights_of_region_losses(name, average, per_image, rng):
    labels, y, p = data(3)
    w = rng.random(y.shape[:3])
    loss = make(name, average=average, per_image=per_image)
    expected = helpers.ORACLES[name](y, p, w=w, average=average, per_image=per_image)
    for truth in (y, labels, labels[..., None], y.astype(bool)):
        for weights in (w, w[..., None]):
            np.testing.assert_allclose(run(loss, truth, p, weights), expected, rtol=1e-5)


@pytest.mark.parametrize("name", sorted(helpers.REGION))
def test_class_weights_are_normalized(name):
    _, y, p = data(3)
    weights = [1.0, 0.0, 4.0]
    expected = helpers.ORACLES[name](y, p, class_weights=weights)
    np.testing.assert_allclose(run(make(name, class_weights=weights), y, p), expected, rtol=1e-5)
    twice = make(name, class_weights=np.array([2, 0, 8]))
    np.testing.assert_allclose(run(twice, y, p), expected, rtol=1e-5)


def test_micro_average_with_equal_class_weights_is_the_micro_average():
    _, y, p = data(3)
    weighted = losses.Dice(average="micro", class_weights=[3, 3, 3])(y, p)
    np.testing.assert_allclose(value(weighted), run(losses.Dice(average="micro"), y, p), rtol=1e-6)


@pytest.mark.parametrize("name", sorted(helpers.PIXEL))
def test_weights_and_smoothing_of_pixel_losses(name, rng):
    labels, y, p = data(3)
    w = rng.random(y.shape[:3])
    options = {"class_weights": [1.0, 2.0, 0.5], "label_smoothing": 0.1}
    expected = helpers.ORACLES[name](y, p, w=w, **options)
    for truth in (y, labels):
        np.testing.assert_allclose(run(make(name, **options), truth, p, w), expected, rtol=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 3.5])
@pytest.mark.parametrize("name", ["BinaryFocal", "CategoricalFocal"])
def test_focal_losses_for_any_gamma(name, gamma):
    _, y, p = data(3)
    expected = helpers.ORACLES[name](y, p, gamma=gamma)
    np.testing.assert_allclose(run(make(name, gamma=gamma), y, p), expected, rtol=1e-5)
    z = helpers.to_logits(name, p)
    got = make(name, gamma=gamma, from_logits=True)(y, z.astype("float32"))
    np.testing.assert_allclose(value(got), expected, rtol=2e-5)
    _, of_p = gradient(make(name, gamma=gamma), y, p.astype("float32"))
    step = 1e-6
    for index in np.argwhere((p > 0.05) & (p < 0.95))[::9]:
        index = tuple(index)
        high, low = p.copy(), p.copy()
        high[index] += step
        low[index] -= step
        f = [helpers.ORACLES[name](y, q, gamma=gamma) for q in (high, low)]
        np.testing.assert_allclose(of_p[index], (f[0] - f[1]) / (2 * step), rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("pooling", ["max", "average"])
@pytest.mark.parametrize(("width", "tolerance"), [(3, 0), (5, 1), (3, 3)])
@pytest.mark.parametrize("per_image", [False, True])
def test_boundary_loss_options(pooling, width, tolerance, per_image):
    _, y, p = data(3, shape=(2, 9, 11))
    loss = losses.BoundaryF1(width, tolerance, pooling, per_image=per_image)
    expected = oracle.boundary_f1(y, p, width, tolerance, pooling, per_image)
    np.testing.assert_allclose(run(loss, y, p), expected, rtol=1e-5)


@pytest.mark.parametrize("iterations", [0, 1, 4])
def test_centerline_dice_iterations(iterations):
    _, y, p = data(1, shape=(2, 12, 10))
    loss = losses.CenterlineDice(iterations, per_image=True)
    expected = oracle.centerline_dice(y, p, iterations, per_image=True)
    np.testing.assert_allclose(run(loss, y, p), expected, rtol=1e-5)


@pytest.mark.parametrize("per_image", [False, True])
def test_per_image_of_generalized_dice_and_lovasz(per_image):
    _, y, p = data(3)
    for name in ("GeneralizedDice", "LovaszHinge", "LovaszSoftmax"):
        expected = helpers.ORACLES[name](y, p, per_image=per_image)
        got = run(make(name, per_image=per_image), y, p)
        np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_lovasz_of_hard_predictions_is_the_jaccard_loss_of_sets():
    labels, y, _ = data(3, seed=4)
    wrong, hard, _ = data(3, seed=5)
    expected = np.mean(
        [oracle.jaccard_of_errors((labels == c) != (wrong == c), labels == c) for c in range(3)]
    )
    np.testing.assert_allclose(run(losses.LovaszSoftmax(), y, hard), expected, rtol=1e-5)


def test_agreement_with_keras_where_both_define_the_same():
    labels, y, p = data(3)
    y, p = y.astype("float32"), p.astype("float32")
    pairs = [
        (losses.BinaryCrossentropy(), keras.losses.BinaryCrossentropy()),
        (
            losses.BinaryFocal(),
            keras.losses.BinaryFocalCrossentropy(apply_class_balancing=True),
        ),
        (losses.CategoricalCrossentropy(), keras.losses.CategoricalCrossentropy()),
        (
            losses.CategoricalCrossentropy(label_smoothing=0.2),
            keras.losses.CategoricalCrossentropy(label_smoothing=0.2),
        ),
        (losses.CategoricalFocal(alpha=0.25), keras.losses.CategoricalFocalCrossentropy()),
        (losses.Dice(smooth=0, average="micro"), keras.losses.Dice()),
        (losses.Dice(smooth=0), keras.losses.Dice(axis=(0, 1, 2))),
    ]
    for ours, theirs in pairs:
        expected = np.mean(run(theirs, y, p))
        np.testing.assert_allclose(run(ours, y, p), expected, rtol=1e-4, err_msg=repr(ours))
    sparse = keras.losses.SparseCategoricalCrossentropy()
    np.testing.assert_allclose(
        run(losses.CategoricalCrossentropy(), labels, p), value(sparse(labels, p)), rtol=1e-5
    )


@pytest.mark.parametrize("name", helpers.CLASSES)
def test_function_equals_class(name):
    function = getattr(losses, losses._declare.snake_case(name) + "_loss")
    labels, y, p = data(3)
    loss = make(name)
    labels, y = (helpers.as_read(loss, truth, 3) for truth in (labels, y))
    known = {k: getattr(loss, k) for k in parameters(type(loss)) if k != "name"}
    assert run(lambda *a: function(*a, **known), y, p) == run(loss, y, p)
    if not helpers.LOSSES[name].inner:
        ignoring = run(make(name, ignore_class=1), labels, p)
        assert value(function(labels, p.astype("float32"), ignore_class=1)) == ignoring


@pytest.mark.core
@pytest.mark.parametrize("pos_weight", [3.0, [0.5, 2.0, 1.0]])
def test_the_weight_of_the_foreground(pos_weight):
    _, y, p = data(3)
    p = p.astype("float32")
    w = np.asarray(pos_weight)
    expected = np.mean(-w * y * np.log(p) - (1 - y) * np.log(1 - p))
    z = (np.log(p) - np.log1p(-p)).astype("float32")
    slope_of_logits = (p * (1 - y) - w * y * (1 - p)) / y.size
    for x, options, by_logit in ((p, {}, 1 / (p * (1 - p))), (z, {"from_logits": True}, 1)):
        loss = losses.BinaryCrossentropy(pos_weight=pos_weight, **options)
        result, slope = gradient(loss, y, x)
        assert result == pytest.approx(expected, rel=1e-5)
        np.testing.assert_allclose(slope, slope_of_logits * by_logit, rtol=1e-4, atol=1e-8)
    with pytest.raises(ValueError, match="one for each of the 3"):
        losses.BinaryCrossentropy(pos_weight=[1, 2])(y, p)
