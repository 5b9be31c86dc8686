"""Batches that cannot be right, in graphs: every metric is NaN, all of it. And empty batches."""

import keras
import numpy as np
import pytest

from segzoo import metrics
from tests.cases import METRICS
from tests.losses.test_hostile import EMPTY, at, fine, wrong

AVERAGES = ["macro", "micro", "weighted", "per_image", "micro_per_image", None]
FUNCTIONS = [metrics.dice_coef, metrics.iou_score, metrics.f_score, metrics.boundary_f1_score]


def every_metric(classes, **options):
    """Returns the metrics of so many classes with every average they take."""
    made = []
    for name, row in METRICS.items():
        for average in AVERAGES if row.averaged else ["macro"]:
            given = {"average": average} if row.averaged else {}
            given |= {"classes": classes, "from_logits": True, **options, **row.arguments}
            made.append(getattr(metrics, name)(**given))
    return made


def compiled(made, **options):
    """Returns a function that gives the results after one batch, from a compiled graph."""
    if keras.backend.backend() == "jax":
        import jax

        @jax.jit
        def results(y, p, w):
            values = []
            for metric in made:
                zeros = [keras.ops.zeros(v.shape, v.dtype) for v in metric.variables]
                state = metric.stateless_update_state(zeros, y, p, w)
                values.append(metric.stateless_result(state))
            return values

        return results
    import tensorflow as tf

    @tf.function(autograph=False, **options)
    def update(y, p, w):
        for metric in made:
            metric.update_state(y, p, w)

    def results(y, p, w):
        for metric in made:
            metric.reset_state()
        update(*map(tf.constant, (y, p, w)))
        return [metric.result() for metric in made]

    return results


def values(result):
    return [np.asarray(x) for x in (result.values() if isinstance(result, dict) else [result])]


def check(step, made, classes, dense):
    for metric, result in zip(made, step(*fine(classes, dense)), strict=True):
        assert not np.isnan(values(result)[0]).any(), metric.name
    for fault, batch in wrong(classes, dense):
        for metric, result in zip(made, step(*batch), strict=True):
            for value in values(result):
                assert np.isnan(value).all(), (fault, metric.get_config())


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="has no graphs, and raises")
@pytest.mark.core
@pytest.mark.slow
@pytest.mark.parametrize(("classes", "dense"), [(3, False), (1, True)])
def test_a_wrong_batch_makes_every_class_nan_in_a_graph(classes, dense):
    made = every_metric(classes)
    check(compiled(made), made, classes, dense)


@pytest.mark.slow
@pytest.mark.deep
@pytest.mark.parametrize("ignore", [None, [200, -2]])
@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("classes", [1, 3])
def test_a_wrong_batch_makes_every_class_nan_in_every_form(classes, dense, jit_compile, ignore):
    made = every_metric(classes, ignore_class=ignore)
    check(compiled(made, jit_compile=jit_compile), made, classes, dense)


def test_a_wrong_batch_is_not_forgotten_until_the_reset():
    import tensorflow as tf

    y, p, _ = fine(3, dense=False)
    metric = metrics.IoU(from_logits=True)
    update = tf.function(lambda y, p: metric.update_state(y, p))
    update(tf.constant(at(y, 9)), tf.constant(p))
    update(tf.constant(y), tf.constant(p))
    assert np.isnan(metric.result())
    metric.reset_state()
    update(tf.constant(y), tf.constant(p))
    assert np.isfinite(metric.result())


@pytest.mark.core
@pytest.mark.parametrize("shape", EMPTY)
def test_an_empty_batch_adds_nothing(shape):
    y, p, _ = fine(3, dense=False)
    averages = {"macro", "per_image", "micro_per_image"}
    for metric in every_metric(3, ignore_class=255):
        average = getattr(metric, "average", "macro")
        if average not in averages or (shape[0] and "per_image" in str(average)):
            continue  # an image without pixels is an image
        metric.update_state(y, p)
        before = values(metric.result())
        metric.update_state(np.zeros(shape, int), np.zeros((*shape, 3)), np.ones(shape[0]))
        np.testing.assert_array_equal(values(metric.result()), before, err_msg=metric.name)


@pytest.mark.core
def test_functions_of_a_wrong_or_empty_batch_are_nan():
    y, p, _ = fine(3, dense=False)
    p = np.exp(p) / np.exp(p).sum(-1, keepdims=True)
    for function in FUNCTIONS:
        assert np.isnan(float(function(np.zeros((0, 4, 6)), np.zeros((0, 4, 6, 3)))))
        with pytest.raises(ValueError, match="labels 0 to 2"):
            function(at(y, 7), p)
        with pytest.raises(ValueError, match="probabilities from 0 to 1"):
            function(y, p * 5)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        step = tf.function(lambda y, p: [f(y, p, average=None) for f in FUNCTIONS])
        for result in step(tf.constant(at(y, 7)), tf.constant(p)):
            assert np.isnan(result).all()


@pytest.mark.core
@pytest.mark.parametrize("classes", [2, 24, 25])
def test_a_pixel_of_no_class_is_a_false_positive_where_it_is_predicted(classes):
    truth = np.zeros((1, 2, 2, classes))
    truth[0, 0, 0, 1] = 1
    guess = np.zeros(truth.shape, "float32")
    guess[..., 1] = 1
    metric = metrics.IoU(average=None)
    assert float(metric(truth, guess)["iou_class_1"]) == 0.25
    void = metrics.IoU(average=None, ignore_class=255)
    assert float(void(truth, guess)["iou_class_1"]) == 1


@pytest.mark.core
def test_mappings_thresholds_and_decided_labels():
    y, p, _ = fine(3, dense=False)
    listed = metrics.IoU(class_weights=[0.2, 1, 50], from_logits=True)
    mapped = metrics.IoU(class_weights={0: 0.2, 2: 50}, from_logits=True)
    copy = metrics.IoU.from_config(mapped.get_config())
    assert float(listed(y, p)) == float(mapped(y, p)) == float(copy(y, p))
    with pytest.raises(ValueError, match="`class_weights` must map classes 0 to 2"):
        metrics.IoU(class_weights={3: 1.0})(y, p)
    decided = metrics.IoU(classes=3, from_logits=True)
    assert float(decided(y, p.argmax(-1))) == float(metrics.IoU(classes=3)(y, p))
    assert float(metrics.IoU(classes=3)(y, p.argmax(-1)[..., None])) == float(decided.result())
    with pytest.raises(ValueError, match="pass `classes=`"):
        metrics.IoU()(y, p.argmax(-1))
    with pytest.raises(ValueError, match=r"`y_pred` must hold labels 0 to 2.*received 3"):
        metrics.IoU(classes=3)(y, p.argmax(-1) + 1)
    one = metrics.DiceScore(classes=1)
    assert float(one(np.minimum(y, 1), np.minimum(y, 1))) == 1


@pytest.mark.core
def test_a_threshold_for_each_class(rng):
    y, p = rng.integers(0, 2, (2, 5, 7, 3)), rng.random((2, 5, 7, 3)).astype("float32")
    thresholds = [0.2, 0.5, 0.7]
    options = {"multilabel": True, "average": None}
    scores = metrics.IoU(threshold=thresholds, **options)(y, p)
    for c, threshold in enumerate(thresholds):
        alone = metrics.IoU(threshold=threshold, **options)(y, p)
        assert float(scores[f"iou_class_{c}"]) == float(alone[f"iou_class_{c}"])
    with pytest.raises(ValueError, match=r"`y_pred` has 2 class\(es\)"):
        metrics.IoU(threshold=thresholds, **options)(y[..., :2], p[..., :2])
    with pytest.raises(ValueError, match="`threshold` must be a probability"):
        metrics.IoU(threshold=[0.5, 2])


@pytest.mark.core
def test_micro_per_image_is_the_mean_of_the_images_micro_scores(rng):
    y, p = rng.integers(0, 3, (4, 5, 7)), rng.random((4, 5, 7, 3)).astype("float32")
    for options in ({}, {"class_weights": [0, 1, 2]}):
        each = [
            float(metrics.IoU(average="micro", **options)(y[i : i + 1], p[i : i + 1]))
            for i in range(4)
        ]
        got = float(metrics.IoU(average="micro_per_image", **options)(y, p))
        assert got == pytest.approx(np.mean(each), rel=1e-6)
    empty = np.zeros((1, 5, 7, 1))
    assert float(metrics.IoU(average="micro_per_image")(empty, empty)) == 1


def test_a_misspelled_argument_names_the_near_ones():
    for name, row in METRICS.items():
        with pytest.raises(TypeError, match=f"`{name}` has no argument `ignore_clas`"):
            getattr(metrics, name)(ignore_clas=1, **row.arguments)


@pytest.mark.parametrize(
    ("name", "word", "ours"),
    [
        ("IoU", "ignore_index", "here it is `ignore_class`"),
        ("ConfusionMatrix", "num_classes", "here it is `classes`"),
        ("FScore", "class_indexes", "here it is `class_weights`, 0 for a class that does not"),
        ("DiceScore", "include_background", "here it is `class_weights={0: 0}`"),
        ("IoU", "per_image", 'here it is `average="per_image"`'),
        ("iou_score", "reduction", "here it is `average`"),
        ("counts", "ignore_index", "here it is `ignore_class`"),
        ("counts", "tresholds", "near: `threshold`"),
    ],
)
def test_the_words_of_other_libraries_are_translated(name, word, ours):
    with pytest.raises(TypeError) as error:
        getattr(metrics, name)(**{word: 1})
    assert str(error.value).startswith(f"`{name}` has no argument `{word}`; {ours}")
