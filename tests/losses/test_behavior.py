"""What every loss promises: forms of labels, ignored pixels, weights, empty masks, extremes."""

import math

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segzoo import losses
from segzoo._numerics import wide_dtype
from tests.cases import some
from tests.losses import helpers
from tests.losses.helpers import cases, data, few, gradient, make, run, traced
from tests.oracles import losses as oracle

EAGER = settings(max_examples=15, deadline=None, derandomize=True)
DTYPES = ["bool", "uint8", "float16", "int64", "float64"]
# One of each way to compute: ratios, logarithms, sorting, boundaries, skeletons.
FORMULAS = ("Dice", "BCEDice", "CategoricalFocal", "LovaszSoftmax", "BoundaryF1", "CenterlineDice")
several = pytest.mark.parametrize("name", helpers.CLASSES)


@several
@pytest.mark.parametrize("dtype", some(DTYPES, DTYPES[:3]))
def test_every_form_of_labels_gives_the_same_loss(name, dtype):
    labels, y, p = data(3)
    expected = run(make(name), y, p)
    forms = [y.astype(dtype)] if dtype == "bool" else [y.astype(dtype), labels.astype(dtype)]
    for truth in [*forms, labels[..., None]]:
        np.testing.assert_allclose(run(make(name), truth, p), expected, rtol=2e-6)


@pytest.mark.core
@pytest.mark.parametrize(("name", "classes"), cases())
def test_ignored_pixels_have_no_effect_whatever_the_prediction(name, classes, rng):
    labels, _, p = data(classes)
    p = p.astype("float32")
    void = rng.random(labels.shape) < 0.3
    truth = np.where(void, 255, labels)
    loss = make(name, ignore_class=[255, -1])
    result, slope = gradient(loss, truth, p)
    other = np.where(void[..., None], rng.random(p.shape).astype("float32"), p)
    changed, other_slope = gradient(loss, truth, other)
    assert np.isclose(result, changed, rtol=1e-6)
    assert not slope[void].any() and not other_slope[void].any()
    assert np.abs(slope[~void]).max() > 0


@pytest.mark.parametrize(("name", "classes"), cases())
def test_ignored_pixels_leave_the_loss_of_the_rest(name, classes, rng):
    labels, y, p = data(classes)
    void = rng.random(labels.shape) < 0.3
    valid = (~void).astype(float)
    got = run(make(name, ignore_class=255), np.where(void, 255, labels), p)
    if name in helpers.COUNTING | helpers.RECALL:
        expected = helpers.ORACLES[name](y, p, w=valid)
    elif name in helpers.PIXEL | helpers.MAP | helpers.HARD | {"LovaszHinge", "LovaszSoftmax"}:
        expected = helpers.ORACLES[name](y, p, valid=valid)
    elif name == "BCEDice":
        expected = oracle.binary_crossentropy(y, p, valid=valid)
        expected += oracle.region(oracle.dice, y, p, w=valid)
    else:  # shapes: a void outside every structure changes nothing
        y, p = np.zeros((1, 12, 12, classes)), np.zeros((1, 12, 12, classes))
        y[:, 2:6, 2:6, -1], p[:, 3:6, 2:6, -1] = 1, 1
        truth = y.copy()
        truth[:, 9:] = 255
        options = {"multilabel": True}  # most pixels are background of every class
        got = run(make(name, ignore_class=255, **options), truth, p)
        expected = run(make(name, **options), y, p)
    np.testing.assert_allclose(got, expected, rtol=1e-5)


@pytest.mark.parametrize(("name", "classes"), cases())
def test_a_batch_with_nothing_left_has_loss_zero_and_zero_gradient(name, classes):
    _, y, p = data(classes)
    truth = np.full(y.shape[:3], 255)
    for options in ({}, {"from_logits": True}):
        result, slope = gradient(make(name, ignore_class=255, **options), truth, p)
        assert result == 0
        assert not slope.any()


@pytest.mark.core
@pytest.mark.parametrize("values", [{255, 7}, frozenset({255, 7}), {255: 0, 7: 0}.keys()], ids=repr)
@several
def test_any_collection_of_ignored_classes_is_kept_whole(name, values):
    loss = make(name, ignore_class=values)
    loaded = keras.losses.deserialize(keras.losses.serialize(loss))
    for found in (loss, loaded):
        ignoring = found.loss if name == "OHEM" else found
        assert sorted(ignoring.ignore_class) == [7, 255]


@pytest.mark.core
@pytest.mark.parametrize(("name", "classes"), [c for c in cases() if c[0] not in helpers.MAP])
def test_a_dense_target_of_nan_is_an_error(name, classes, rng):
    y_pred = np.full((2, 5, 7, classes), 1 / classes, "float32")
    y_true = np.zeros_like(y_pred)
    y_true[0, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match=r"`y_true` must hold targets from 0 to 1.* received nan"):
        make(name)(y_true, y_pred)


def test_a_variable_of_tensorflow_is_its_value(rng):
    import tensorflow as tf

    labels = rng.integers(0, 3, (2, 5, 7))
    scores = rng.dirichlet(np.ones(3), (2, 5, 7)).astype("float32")
    loss = losses.Dice()
    assert float(loss(labels, tf.Variable(scores))) == float(loss(labels, scores))


@pytest.mark.parametrize("name", sorted(helpers.COUNTING | {"BCEDice"}))
def test_ignored_class_of_one_hot_and_entries_of_multilabel(name):
    labels, y, p = data(3)
    assert np.isclose(
        run(make(name, ignore_class=0), y, p), run(make(name, ignore_class=0), labels, p)
    )
    painted = y.copy()
    painted[labels == 2] = 255
    by_label = run(make(name, ignore_class=255), np.where(labels == 2, 255, labels), p)
    assert np.isclose(run(make(name, ignore_class=255), painted, p), by_label)


# The loss of a map is lowest for the truth, but not zero: tests/losses/test_maps.py
@pytest.mark.parametrize(("name", "classes"), [c for c in cases() if c[0] not in helpers.MAP])
def test_perfect_predictions_have_loss_zero(name, classes):
    for seed in range(2):
        _, y, _ = data(classes, seed)
        assert abs(run(make(name), y, y)) < 1e-6
        logits = np.where(y > 0, 1e4, -1e4)
        assert abs(run(make(name, from_logits=True), y, logits)) < 1e-6


@pytest.mark.parametrize("name", sorted(set(helpers.CLASSES) - helpers.SEVERAL_ONLY))
@pytest.mark.parametrize("per_image", [False, True])
def test_an_empty_mask_predicted_empty_has_loss_zero(name, per_image):
    whole = helpers.PIXEL | helpers.MAP | helpers.HARD
    options = {} if name in whole else {"per_image": per_image}
    empty = np.zeros((2, 6, 5, 1))
    assert abs(run(make(name, **options), empty, empty)) < 1e-6
    full = np.ones((2, 6, 5, 1))
    assert abs(run(make(name, **options), full, full)) < 1e-6


@pytest.mark.parametrize("name", sorted(helpers.COUNTING))
@pytest.mark.parametrize("average", ["macro", "micro"])
def test_a_false_positive_in_an_absent_class_has_a_gradient(name, average):
    options = {} if name == "GeneralizedDice" else {"average": average}
    labels = np.zeros((2, 4, 5), int)
    labels[:, :2] = 1  # class 2 never occurs
    p = np.full((2, 4, 5, 3), 1 / 3, "float32")
    _, slope = gradient(make(name, **options), labels, p)
    assert (slope[..., 2] > 0).all()


def test_the_gradient_of_focal_tversky_at_zero_is_zero():
    _, y, _ = data(1)
    result, slope = gradient(losses.FocalTversky(), y, y.astype("float32"))
    assert result == 0
    assert not slope.any()


@pytest.mark.parametrize(("name", "classes"), few(cases(), *FORMULAS))
@pytest.mark.parametrize("dtype", ["float32", pytest.param("float16", marks=pytest.mark.slow)])
def test_extreme_predictions_give_finite_values_and_gradients(name, classes, dtype, rng):
    shape = (2, 5, 4, classes)
    labels = rng.integers(0, max(classes, 2), shape[:3])
    truths = [labels, np.zeros_like(labels), np.full_like(labels, max(classes - 1, 1))]
    for truth in truths:
        for scale, from_logits in ((1, False), (1e4, True), (1e-4, True), (1e4, False)):
            hard = rng.integers(0, 2, shape)
            x = hard if scale == 1 else (2.0 * hard - 1) * scale
            loss = make(name, from_logits=from_logits)
            impossible = scale > 1 and not from_logits  # which an eager call refuses
            if impossible and truth is not labels:
                continue
            step = traced if impossible else gradient
            result, slope = step(loss, truth, x.astype(dtype))
            assert math.isfinite(result), (scale, from_logits)
            assert np.isfinite(slope.astype("float32")).all(), (scale, from_logits)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.5])
@pytest.mark.parametrize("name", ["BinaryFocal", "CategoricalFocal"])
def test_focal_gradients_are_finite_at_zero_and_one(name, gamma):
    _, y, _ = data(3)
    for x in (y, 1 - y):
        for options in ({}, {"from_logits": True}):
            scaled = 1e4 * (2 * x - 1) if options else x
            result, slope = gradient(make(name, gamma=gamma, **options), y, np.float32(scaled))
            assert math.isfinite(result) and np.isfinite(slope).all()


@pytest.mark.parametrize("name", sorted(helpers.COUNTING))
def test_without_smoothing_nothing_divides_by_zero(name):
    for truth, guess, expected in ((0, 0, 0), (1, 1, 0), (0, 1, 1), (1, 0, 1)):
        y, p = np.full((1, 3, 4, 1), float(truth)), np.full((1, 3, 4, 1), guess, "float32")
        result, slope = gradient(make(name, smooth=0), y, p)
        worst = math.log(math.cosh(1)) if name == "LogCoshDice" else 1
        assert np.isclose(result, expected * worst)
        assert np.isfinite(slope).all()


@several
def test_half_precision_input_is_computed_in_float32(name):
    _, y, p = data(3)
    half = p.astype("float16")
    for dtype in ("float16", "bfloat16"):
        x = keras.ops.cast(half, dtype)
        y = helpers.as_read(make(name), y, 3)
        result = make(name)(y, x)
        assert keras.backend.standardize_dtype(result.dtype) == "float32"
        expected = run(make(name), y, keras.ops.convert_to_numpy(keras.ops.cast(x, "float32")))
        assert np.isclose(float(result), expected, rtol=1e-6)
    assert make(name)(y, p).dtype == "float64"
    assert make(name, dtype="float64")(y, half).dtype == "float64"


@several
def test_reduction_none_has_the_documented_shape(name):
    _, y, p = data(3)
    if name in helpers.PIXEL | helpers.MAP:
        each = run(make(name, reduction="none"), y, p)
        assert each.shape == (2, 7, 5)
        assert np.isclose(each.mean(), run(make(name), y, p), rtol=1e-6)
        assert np.isclose(each.sum(), run(make(name, reduction="sum"), y, p), rtol=1e-6)
    elif name in helpers.HARD:
        assert run(make(name, reduction="none"), y, p).shape == (2, 7, 5)
    elif name != "BCEDice":
        assert run(make(name, reduction=None), y, p).shape == ()
        each = run(make(name, reduction="none", per_image=True), y, p)
        assert each.shape == (2,)
        assert np.isclose(each.mean(), run(make(name, per_image=True), y, p), rtol=1e-6)
        single = [run(make(name), y[i : i + 1], p[i : i + 1]) for i in range(2)]
        np.testing.assert_allclose(each, single, rtol=1e-5)


@several
def test_image_weights(name):
    _, y, p = data(3)
    w = np.array([0.5, 3.0])
    if name in helpers.PIXEL | helpers.MAP:
        each = run(make(name, reduction="none"), y, p)
        expected = np.mean(each * w[:, None, None])
        assert np.isclose(run(make(name), y, p, w), expected, rtol=1e-6)
        ratio = np.sum(each * w[:, None, None]) / (w.sum() * each[0].size)
        weighted = make(name, reduction="mean_with_sample_weight")
        assert np.isclose(run(weighted, y, p, w), ratio, rtol=1e-6)
        return
    if name in helpers.HARD:
        each = run(make(name, reduction="none"), y, p)
        kept = (each > 0).sum()
        expected = np.sum(each * w[:, None, None]) / kept
        assert np.isclose(run(make(name), y, p, w), expected, rtol=1e-6)
        return
    if name != "BCEDice":
        each = run(make(name, reduction="none", per_image=True), y, p)
        assert np.isclose(run(make(name, per_image=True), y, p, w), np.mean(each * w), rtol=1e-6)
    if name in helpers.COUNTING | helpers.RECALL:
        expected = helpers.ORACLES[name](y, p, w=np.broadcast_to(w[:, None, None], y.shape[:3]))
        assert np.isclose(run(make(name), y, p, w), expected, rtol=1e-5)
    if name in helpers.SHAPE:
        with pytest.raises(ValueError, match="per_image=True"):
            make(name)(y, p, w)
        with pytest.raises(ValueError, match="pixel weights"):
            make(name, per_image=True)(y, p, np.ones(y.shape[:3]))


@several
def test_class_permutation_leaves_the_loss(name):
    _, y, p = data(3)
    order = [2, 0, 1]
    np.testing.assert_allclose(
        run(make(name), y[..., order], p[..., order]), run(make(name), y, p), rtol=1e-5
    )


@EAGER
@given(st.integers(0, 10**6), st.floats(0, 100))
def test_tversky_at_one_half_is_dice(seed, smooth):
    _, y, p = data(3, seed, shape=(1, 4, 3))
    tversky = losses.Tversky(0.5, 0.5, smooth=smooth / 2)
    assert np.isclose(run(tversky, y, p), run(losses.Dice(smooth=smooth), y, p), rtol=1e-5)
    tversky = losses.Tversky(1.0, 1.0, smooth=smooth)
    assert np.isclose(run(tversky, y, p), run(losses.Jaccard(smooth=smooth), y, p), rtol=1e-5)


@EAGER
@given(st.integers(0, 10**6), st.sampled_from(sorted(set(helpers.CLASSES) - helpers.MAP)))
def test_losses_stay_within_their_bounds(seed, name):
    _, y, p = data(3, seed, shape=(1, 4, 3))
    top = {"MCC": 2, "LogCoshDice": math.log(math.cosh(1))}
    free = helpers.PIXEL | helpers.HARD | {"BCEDice", "LovaszHinge"}
    for guess in (p, y, np.roll(y, 1, axis=-1)):
        result = run(make(name), y, guess)
        assert -1e-6 <= result <= (np.inf if name in free else top.get(name, 1) + 1e-6)


@EAGER
@given(st.integers(0, 10**6))
def test_lovasz_softmax_is_never_below_half_the_jaccard_loss_of_the_decision(seed):
    _, y, p = data(2, seed, shape=(1, 4, 3))
    wrong = np.eye(2)[p.argmax(axis=-1)]
    jaccard = run(losses.LovaszSoftmax(), y, wrong)
    assert run(losses.LovaszSoftmax(), y, p) >= 0.5 * jaccard - 1e-6


@EAGER
@given(st.integers(0, 10**6))
def test_lovasz_hinge_bounds_the_jaccard_loss_of_the_decision(seed):
    _, y, p = data(1, seed, shape=(1, 4, 3))
    logits = helpers.to_logits("LovaszHinge", p)
    wrong = (logits > 0) != (y > 0)
    jaccard = oracle.jaccard_of_errors(wrong, y > 0)
    assert run(losses.LovaszHinge(from_logits=True), y, logits) >= jaccard - 1e-6


def test_soft_labels_keep_their_value(rng):
    _, y, p = data(1)
    soft = np.clip(y * 0.8 + 0.1, 0, 1)
    for name in sorted(helpers.REGION | {"BinaryCrossentropy", "BinaryFocal"}):
        expected = helpers.ORACLES[name](soft, p)
        np.testing.assert_allclose(run(make(name), soft, p), expected, rtol=1e-5)


def test_multilabel_logits_take_a_sigmoid():
    rng = np.random.default_rng(3)
    y, z = rng.integers(0, 2, (2, 5, 7, 3)), rng.normal(size=(2, 5, 7, 3)) * 3
    for name in sorted(helpers.COUNTING | {"BoundaryF1", "CenterlineDice"}):
        got = run(make(name, from_logits=True, multilabel=True), y, z)
        expected = run(make(name), y, oracle.sigmoid(z))
        np.testing.assert_allclose(got, expected, rtol=1e-5)
    softmax = run(losses.BinaryCrossentropy(from_logits=True, multilabel=False), y, z)
    np.testing.assert_allclose(
        softmax, run(losses.BinaryCrossentropy(), y, oracle.softmax(z)), rtol=1e-5
    )


def test_labels_and_dense_targets_share_value_and_gradient(rng):
    labels, y, p = data(3)
    void = rng.random(labels.shape) < 0.2
    truth, dense = np.where(void, 255, labels), np.where(void[..., None], 255, y)
    for options in ({}, {"ignore_class": 255}):
        pair = (truth, dense) if options else (labels, y)
        for w in (None, rng.random(labels.shape).astype("float32")):
            of_labels, of_dense = (
                gradient(losses.Dice(**options), t, p.astype("float32"), w) for t in pair
            )
            assert np.isclose(of_labels[0], of_dense[0], rtol=1e-6)
            np.testing.assert_allclose(of_labels[1], of_dense[1], rtol=1e-5, atol=1e-9)


@pytest.mark.slow
def test_counts_beyond_two_to_the_24_keep_their_digits():
    import tensorflow as tf

    from segzoo._counts import soft_counts
    from segzoo._reading import Reading

    def overlap(y, p):
        return soft_counts(Reading(for_counts=True)(y, p))[0]

    y = np.zeros((2, 4096, 4096, 1), "uint8")
    y[:, :, ::4] = 1
    p = tf.fill(y.shape, tf.constant(0.3))
    exact = 0.3 * y.astype("int64").sum()
    eager = overlap(tf.cast(y, "float32"), p)
    compiled = tf.function(overlap, jit_compile=True)(tf.cast(y, "float32"), p)
    for counts in (eager, compiled):
        np.testing.assert_allclose(float(np.sum(counts.tp)), exact, rtol=1e-5)
        np.testing.assert_allclose(float(np.sum(counts.fp)), 3 * exact, rtol=1e-5)
        np.testing.assert_allclose(float(np.sum(counts.fn)), exact * 7 / 3, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(helpers.CLASSES) - helpers.SEVERAL_ONLY - helpers.MAP))
def test_big_images(name):
    rng = np.random.default_rng(0)
    y = np.zeros((1, 2048, 2048, 1), "uint8")
    y[:, 300:1500, 500:1700] = 1
    p = np.clip(y * 0.8 + rng.random(y.shape) * 0.2, 0, 1).astype("float32")
    result, slope = gradient(make(name), y, p)
    assert math.isfinite(result) and np.isfinite(slope).all()
    if name in helpers.COUNTING | helpers.PIXEL | {"BCEDice"}:
        np.testing.assert_allclose(result, helpers.ORACLES[name](y, p.astype(float)), rtol=1e-5)


@pytest.mark.core
def test_a_loss_in_float64_keeps_its_digits(rng):
    if wide_dtype() == "float32":
        return
    p = rng.uniform(0.05, 0.95, (2, 6, 7, 3))
    y = (rng.uniform(size=p.shape) > 0.5).astype("float64")
    tp, wrong = (p * y).sum((0, 1, 2)), np.abs(p - y).sum((0, 1, 2))
    expected = (1 - (2 * tp + 1) / (2 * tp + wrong + 1)).mean()
    loss = losses.Dice(dtype="float64", multilabel=True)(y, p)
    assert float(loss) == pytest.approx(expected, rel=1e-12)


def test_centerline_dice_says_what_is_too_wide_for_its_skeleton(caplog):
    road = np.zeros((1, 20, 24, 1))
    road[:, 3:17] = 1  # 14 pixels wide, the default reaches 12
    cut = road * (np.abs(np.arange(24) - 12) > 3)[:, None]
    assert run(losses.CenterlineDice(), road, cut) == 0
    assert "class(es) [0] of the truth have no skeleton at iterations=5" in caplog.text
    assert "up to 12 pixels" in caplog.text
    caplog.clear()
    assert run(losses.CenterlineDice(iterations=6), road, cut) > 0.05
    run(losses.CenterlineDice(), 0 * road, cut)  # nothing there is nothing too wide
    assert not caplog.text
