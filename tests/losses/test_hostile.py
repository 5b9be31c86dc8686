"""Batches that cannot be right, in graphs: every loss is NaN with gradient 0, on all backends.

One compiled function computes all losses of a kind of batch, and takes every case.
"""

import keras
import numpy as np
import pytest

from tests.cases import LOSSES, some
from tests.losses.helpers import HARD, PIXEL, gradient, make, run

SHAPE = (2, 4, 6)
# No image, no row, no column.
EMPTY = some([(0, 4, 6), (2, 0, 6), (2, 4, 0)], [(0, 4, 6)])
NO_PER_IMAGE = PIXEL | HARD | {"BCEDice"}


def every_loss(classes, **options):
    """Returns the losses of so many classes that take weights of images, by name."""
    return {
        name: make(name, **options, **({} if name in NO_PER_IMAGE else {"per_image": True}))
        for name, row in LOSSES.items()
        if (classes > 1 or not row.several) and row.kind != "map"
    }


def compiled(losses, **options):
    """Returns a function of (y, p, w) that gives the value and the gradient of each loss."""
    if keras.backend.backend() == "jax":
        import jax

        steps = {
            name: jax.value_and_grad(lambda p, y, w, loss=loss: loss(y, p, w))
            for name, loss in losses.items()
        }
        return jax.jit(lambda y, p, w: {name: step(p, y, w) for name, step in steps.items()})
    import tensorflow as tf

    @tf.function(autograph=False, reduce_retracing=True, **options)
    def step(y, p, w):
        results = {}
        for name, loss in losses.items():
            with tf.GradientTape() as tape:
                tape.watch(p)
                value = loss(y, p, w)
            results[name] = value, tape.gradient(value, p)
        return results

    return lambda y, p, w: step(*map(tf.constant, (y, p, w)))


def fine(classes, dense):
    """Returns a batch that is right: targets, logits and weights of images."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, max(classes, 2), SHAPE).astype("int32")
    y = labels
    if dense:
        y = (labels[..., None] if classes == 1 else np.eye(classes)[labels]).astype("float32")
    p = rng.normal(size=(*SHAPE, classes)).astype("float32")
    return y, p, np.ones(SHAPE[0], "float32")


def at(x, value, index=(0, 1, 2)):
    x = x.copy()
    x[index] = value
    return x


def wrong(classes, dense):
    """Yields the name of a fault and the batch that has it."""
    y, p, w = fine(classes, dense)
    if dense:
        for value in (255.0, -1.0, 1.5, np.nan):
            yield f"a target of {value}", (at(y, value), p, w)
    else:
        for value in (7, -1, 255, 2**31 - 1):
            yield f"a label of {value}", (at(y, value), p, w)
    yield "NaN among the predictions", (y, at(p, np.nan), w)
    yield "only NaN predicted", (y, p * np.nan, w)
    for value in (np.nan, np.inf, -1.0):
        yield f"a weight of {value}", (y, p, at(w, value, 1))


def check(step, classes, dense):
    batch = fine(classes, dense)
    for name, (value, slope) in step(*batch).items():
        assert np.isfinite(value) and np.isfinite(slope).all() and np.any(slope), name
    for fault, batch in wrong(classes, dense):
        for name, (value, slope) in step(*batch).items():
            assert np.isnan(value), (fault, name, value)
            assert not np.any(slope), (fault, name)


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="has no graphs, and raises")
@pytest.mark.core
@pytest.mark.slow
@pytest.mark.parametrize(("classes", "dense"), [(3, False), (1, True)])
def test_a_wrong_batch_is_nan_with_gradient_zero_in_a_graph(classes, dense):
    step = compiled(every_loss(classes, from_logits=True))
    check(step, classes, dense)
    if not dense:
        check_extremes(step, classes)


@pytest.mark.slow
@pytest.mark.deep
@pytest.mark.parametrize("ignore", [None, [200, -2]])
@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("classes", [1, 3])
def test_a_wrong_batch_is_nan_in_every_form(classes, dense, jit_compile, ignore):
    losses = every_loss(classes, from_logits=True, ignore_class=ignore)
    step = compiled(losses, jit_compile=jit_compile)
    check(step, classes, dense)
    if not dense:
        check_extremes(step, classes)


@pytest.mark.slow
def test_probabilities_and_float_labels_that_cannot_be_right_are_nan_with_gradient_zero():
    y, p, w = fine(3, dense=False)
    y, p = y.astype("float32"), np.exp(p) / np.exp(p).sum(-1, keepdims=True)
    step = compiled(every_loss(3))
    for name, (value, _) in step(y + np.float32(1e-5), p, w).items():
        assert np.isfinite(value), name
    bad = [(at(y, off), p, w) for off in (0.5, 1 / 255, np.nan)]
    for batch in (*bad, (y, at(p, np.nan), w), (y, p * np.nan, w)):
        for name, (value, slope) in step(*batch).items():
            assert np.isnan(value) and not np.any(slope), name


@pytest.mark.core
@pytest.mark.parametrize("shape", EMPTY)
def test_an_empty_batch_has_loss_zero(shape):
    for classes in (1, 3):
        options = {"from_logits": True, "ignore_class": 255} if classes > 1 else {}
        labels, p = np.zeros(shape, "int32"), np.zeros((*shape, classes), "float32")
        for name, loss in every_loss(classes, **options).items():
            value, slope = gradient(loss, labels, p, np.ones(shape[:1], "float32"))
            assert value == 0, name
            assert slope.shape == p.shape


def check_extremes(step, classes):
    rng = np.random.default_rng(0)
    y, _, w = fine(classes, dense=False)
    for truth in (y, np.zeros_like(y), np.full_like(y, max(classes - 1, 1))):
        for size in (0.0, 1e-38, 1e4, 3e38):
            logits = (size * rng.choice([-1.0, 1.0], (*SHAPE, classes))).astype("float32")
            for name, (value, slope) in step(truth, logits, w).items():
                assert np.isfinite(value), (name, size)
                assert np.isfinite(slope).all(), (name, size)


def test_an_all_zero_row_is_void_with_ignore_class_and_no_class_without():
    y, p, _ = fine(3, dense=True)
    void = np.random.default_rng(1).random(SHAPE) < 0.3
    rows = np.where(void[..., None], 0, y)
    for name, row in LOSSES.items():
        if row.sigmoid or row.kind == "map":  # channels by themselves: it is background there
            continue
        options = {"from_logits": True, "ignore_class": 255}
        loss = make(name, **options)
        marked = np.where(void, 255, y.argmax(-1))
        expected, slope = gradient(loss, marked, p)
        value, got = gradient(loss, rows, p)
        assert value == pytest.approx(expected, rel=1e-5), name
        assert not got[void].any(), name
        np.testing.assert_allclose(got, slope, rtol=1e-4, atol=1e-8, err_msg=name)


def test_class_weights_as_a_mapping_are_those_of_a_list():
    y, p, _ = fine(3, dense=False)
    for name in LOSSES:
        try:
            listed = make(name, from_logits=True, class_weights=[0.2, 1.0, 50.0])
        except TypeError:
            continue
        mapped = make(name, from_logits=True, class_weights={0: 0.2, 2: 50})
        copy = type(mapped).from_config(mapped.get_config())
        values = [float(run(loss, y, p)) for loss in (listed, mapped, copy)]
        assert values[0] == values[1] == values[2], name
        with pytest.raises(ValueError, match="`class_weights` must map classes 0 to 2"):
            run(make(name, class_weights={3: 1.0}), y, np.zeros(p.shape))


def test_parts_of_a_sum_that_read_logits_in_two_ways_are_named():
    y, p, _ = fine(3, dense=False)
    both = make("Dice", from_logits=True) + make("BinaryFocal", from_logits=True)
    with pytest.raises(ValueError, match=r"`Dice\(.*softmax.*`BinaryFocal\(.*sigmoid.*multilabel="):
        both(y, p)
    assert np.isfinite(float(both(np.minimum(y, 1), p[..., :1])))  # one class: a sigmoid in both
    right = make("Dice", from_logits=True, multilabel=True) + make("BinaryFocal", from_logits=True)
    assert np.isfinite(float(right(np.eye(3)[y], p)))
    mixed = make("Dice") + make("BCEDice", from_logits=True)
    with pytest.raises(ValueError, match="no activation"):
        mixed(y, np.zeros(p.shape))


@pytest.mark.parametrize("bad", ["yes", 1, None])
def test_flags_are_true_or_false(bad):
    for name in LOSSES:
        with pytest.raises(ValueError, match="`from_logits` must be True or False"):
            make(name, from_logits=bad)


def test_a_misspelled_argument_names_the_near_ones():
    for name in LOSSES:
        owner = "CategoricalCrossentropy" if name == "OHEM" else name  # its inner loss takes them
        with pytest.raises(
            TypeError, match=f"`{owner}` has no argument `ignore_clas`; near: `ignore_class`"
        ):
            make(name, ignore_clas=1)
    with pytest.raises(TypeError, match="`Dice` has no argument `smoth`; near: `smooth`"):
        make("Dice", smoth=1)
    with pytest.raises(TypeError, match="`LovaszSoftmax` has no argument `class_weights`"):
        make("LovaszSoftmax", class_weights=[1, 2])


@pytest.mark.parametrize(
    ("name", "word", "ours"),
    [
        ("Dice", "ignore_index", "`ignore_class`"),
        ("LovaszSoftmax", "ignore_index", "`ignore_class`"),
        ("Dice", "num_classes", "the number of channels of `y_pred`"),
        ("Dice", "class_indexes", "`class_weights`, 0 for a class that does not count"),
        ("BCEDice", "include_background", "`class_weights={0: 0}`, a background of no weight"),
    ],
)
def test_the_words_of_other_libraries_are_translated(name, word, ours):
    with pytest.raises(TypeError) as error:
        make(name, **{word: 1})
    assert str(error.value) == f"`{name}` has no argument `{word}`; here it is {ours}"


def test_soft_targets_have_their_minimum_where_they_are():
    y = np.array([0.0, 0.3, 0.3, 0.8, 1.0], "float32").reshape(1, 1, -1, 1)
    for name in ("Dice", "Jaccard", "Tversky", "FocalTversky", "MCC", "GeneralizedDice"):
        loss = make(name)
        at_truth = float(loss(y, y))
        assert at_truth == pytest.approx(0, abs=1e-6), name
        for move in (0.05, -0.05):
            assert float(loss(y, np.clip(y + move, 0, 1))) > at_truth, (name, move)
        _, slope = gradient(loss, y, np.clip(y + np.float32(0.1), 0, 1))
        assert (slope[0, 0, :4] > 0).all(), name
        _, slope = gradient(loss, y, np.clip(y - np.float32(0.1), 0, 1))
        assert (slope[0, 0, 1:] < 0).all(), name


def test_masks_of_floats_and_of_booleans_share_every_bit():
    """Masks of 0 and 1 as floats may be soft, as booleans not: the two forms are the same there."""
    rng = np.random.default_rng(0)
    mask = rng.random((2, 5, 7, 3)) < 0.5
    p = rng.choice([0.0, 1.0, 0.25, 0.7], mask.shape).astype("float32")
    w = rng.random((2, 5, 7)).astype("float32")
    for name in ("Dice", "Jaccard", "Tversky", "MCC", "GeneralizedDice"):
        for weights in (None, w):
            soft = gradient(make(name), mask.astype("float32"), p, weights)
            hard = gradient(make(name), mask, p, weights)
            assert soft[0] == hard[0], name
            np.testing.assert_array_equal(soft[1], hard[1])
