"""Region scores against scikit-learn and against loops in NumPy."""

import keras
import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from segzoo import metrics
from tests.cases import some
from tests.oracles import metrics as oracle

pytestmark = pytest.mark.core

CLASSES = {
    "dice": metrics.DiceScore,
    "iou": metrics.IoU,
    "f_score": metrics.FScore,
    "precision": metrics.Precision,
    "recall": metrics.Recall,
}
AVERAGES = ("macro", "micro", "weighted", "per_image")
# JAX keeps 32 bits here: counts are exact, the ratio is a float32
EXACT = 1e-12 if keras.backend.backend() != "jax" else 1e-6


def batch(rng, classes=3, images=4, size=(7, 9), exclusive=True):
    """Returns truth, probabilities and labels or masks; some classes are missing in images."""
    y_pred = rng.random((images, *size, classes)).astype("float32")
    if not exclusive:
        return (rng.random(y_pred.shape) < 0.4).astype("uint8"), y_pred
    y_pred[1, ..., -1] = 0  # the last class is not predicted in the second image
    y_true = rng.integers(0, classes, (images, *size))
    y_true[:2] = np.minimum(y_true[:2], classes - 2)  # and is not in the first two
    return y_true, y_pred


def value(metric, *data):
    metric.update_state(*data)
    return as_floats(metric.result())


def as_floats(result):
    if isinstance(result, dict):
        return {key: float(keras.ops.convert_to_numpy(x)) for key, x in result.items()}
    return float(keras.ops.convert_to_numpy(result))


SKLEARN = {
    "dice": sklearn_metrics.f1_score,
    "iou": sklearn_metrics.jaccard_score,
    "f_score": lambda *a, **k: sklearn_metrics.fbeta_score(*a, beta=2, **k),
    "precision": sklearn_metrics.precision_score,
    "recall": sklearn_metrics.recall_score,
}


def make(score, **options):
    return CLASSES[score](**({"beta": 2} if score == "f_score" else {}), **options)


@pytest.mark.parametrize("score", CLASSES)
@pytest.mark.parametrize("average", ["macro", "micro", "weighted", None])
def test_exclusive_classes_agree_with_scikit_learn(score, average, rng):
    y_true, y_pred = batch(rng, classes=5)
    y_true[y_true == 3] = 0
    y_pred[..., 3] = 0  # class 3 occurs nowhere
    got = value(make(score, average=average), y_true, y_pred)
    expected = SKLEARN[score](
        y_true.ravel(), y_pred.argmax(-1).ravel(), average=average, zero_division=0
    )
    if average is None:
        name = make(score).name
        keys = [f"{name}_class_{c}" for c in (0, 1, 2, 4)]  # scikit-learn leaves 3 out
        assert [got[key] for key in keys] == pytest.approx(list(expected), abs=EXACT)
        assert np.isnan(got[f"{name}_class_3"])
        assert got[name] == pytest.approx(np.mean(expected), abs=EXACT)
    else:
        assert got == pytest.approx(expected, abs=EXACT)


@pytest.mark.parametrize("score", CLASSES)
@pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
def test_overlapping_classes_agree_with_scikit_learn(score, average, rng):
    y_true, y_pred = batch(rng, exclusive=False)
    got = value(make(score, average=average, multilabel=True, threshold=0.3), y_true, y_pred)
    flat = y_true.reshape(-1, 3), (y_pred > np.float32(0.3)).reshape(-1, 3)
    assert got == pytest.approx(SKLEARN[score](*flat, average=average), abs=EXACT)


@pytest.mark.parametrize("score", CLASSES)
def test_one_class_agrees_with_scikit_learn(score, rng):
    y_true, y_pred = batch(rng, classes=1, exclusive=False)
    expected = SKLEARN[score](y_true.ravel(), y_pred.ravel() > np.float32(0.6))
    for average in ("macro", "micro", "weighted"):
        got = value(make(score, threshold=0.6, average=average), y_true, y_pred)
        assert got == pytest.approx(expected, abs=EXACT)


def test_pixel_accuracy_agrees_with_scikit_learn(rng):
    y_true, y_pred = batch(rng)
    flat = y_true.ravel(), y_pred.argmax(-1).ravel()
    share = value(metrics.PixelAccuracy(), y_true, y_pred)
    assert share == pytest.approx(sklearn_metrics.accuracy_score(*flat), abs=EXACT)
    mean_recall = value(metrics.PixelAccuracy(average="macro"), y_true, y_pred)
    assert mean_recall == pytest.approx(sklearn_metrics.balanced_accuracy_score(*flat), abs=EXACT)


def test_pixel_accuracy_weighs_pixels_by_their_true_class(rng):
    y_true, y_pred = batch(rng)
    weights = [0.0, 2.0, 0.5]
    got = value(metrics.PixelAccuracy(class_weights=weights), y_true, y_pred)
    flat = y_true.ravel(), y_pred.argmax(-1).ravel()
    expected = sklearn_metrics.accuracy_score(*flat, sample_weight=np.take(weights, flat[0]))
    assert got == pytest.approx(expected, abs=EXACT)
    nowhere = keras.ops.convert_to_numpy(keras.ops.one_hot(y_true, 3))
    nowhere[0, 0] = 0  # pixels of no class: each of them is one mistake
    got = value(metrics.PixelAccuracy(class_weights=weights), nowhere, y_pred)
    pixels = np.take(weights, y_true)
    pixels[0, 0] = 1
    right = (y_true == y_pred.argmax(-1)) & nowhere.any(-1)
    assert got == pytest.approx((pixels * right).sum() / pixels.sum(), abs=EXACT)


def test_pixel_accuracy_of_masks_counts_true_negatives_and_empty_masks(rng):
    y_true, y_pred = batch(rng, exclusive=False)
    got = value(metrics.PixelAccuracy(multilabel=True), y_true, y_pred)
    assert got == pytest.approx(((y_pred > 0.5) == y_true).mean(), abs=EXACT)
    empty = np.zeros((2, 5, 7, 1), "float32")
    assert value(metrics.PixelAccuracy(), empty, empty) == 1.0


@pytest.mark.parametrize("score", CLASSES)
@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("weights", some([None, "images", "pixels"], [None, "pixels"]))
def test_weights_void_and_class_weights_agree_with_loops(score, average, exclusive, weights, rng):
    y_true, y_pred = batch(rng, exclusive=exclusive)
    y_true = y_true.astype("int32")
    void = rng.random(y_true.shape[:3]) < 0.2
    y_true[void] = 255
    guess = oracle.decide(y_pred, multilabel=not exclusive)
    truth = oracle.masks(y_true, 3) if exclusive else y_true == 1
    sample_weight, options = None, {}
    if weights == "images":
        sample_weight = options["image_weights"] = rng.random(4)
    elif weights == "pixels":
        sample_weight = options["pixel_weights"] = rng.random(y_true.shape[:3])
    shared = {"average": average, "class_weights": [1, 2, 0.5]}
    metric = make(score, multilabel=not exclusive, ignore_class=[255], **shared)
    got = value(metric, y_true, y_pred, sample_weight)
    expected = oracle.streaming(
        score, truth, guess, valid=~void, beta=2 if score == "f_score" else 1, **shared, **options
    )
    assert got == pytest.approx(expected, rel=3e-7)  # weights are float32


@pytest.mark.parametrize("empty_score", [None, 0.25, float("nan")])
@pytest.mark.parametrize("average", AVERAGES)
def test_empty_score_is_for_classes_without_any_pixel(average, empty_score, rng):
    y_true, y_pred = batch(rng, classes=5)
    y_true[y_true == 3] = 0
    y_pred[..., 3] = 0
    metric = metrics.IoU(average=average, empty_score=empty_score)
    got = value(metric, y_true, y_pred)
    expected = oracle.streaming(
        "iou",
        oracle.masks(y_true, 5),
        oracle.decide(y_pred),
        average=average,
        empty_score=empty_score,
    )
    assert got == pytest.approx(expected, abs=EXACT)


@pytest.mark.parametrize("average", AVERAGES)
def test_nothing_but_empty_masks(average):
    empty = np.zeros((2, 5, 7, 1), "float32")
    for empty_score, expected in [(None, None), (0.5, 0.5), (float("nan"), float("nan"))]:
        if expected is None:
            expected = 1.0 if average == "per_image" else float("nan")
        got = value(metrics.IoU(average=average, empty_score=empty_score), empty, empty)
        assert got == pytest.approx(expected, nan_ok=True)


def test_other_zero_by_zero_is_zero():
    truth, guess = np.zeros((2, 5, 7, 1)), np.zeros((2, 5, 7, 1))
    truth[0] = 1
    for average in AVERAGES[:3]:
        assert value(metrics.Precision(average=average), truth, guess) == 0
        assert value(metrics.Recall(average=average), guess, truth) == 0
    # one image has pixels of the class (0 / 0), the other has none (1)
    assert value(metrics.Precision(average="per_image"), truth, guess) == 0.5


@pytest.mark.parametrize("form", ["labels", "column", "one_hot", "float", "bool"])
def test_every_form_of_truth_counts_the_same(form, rng):
    y_true, y_pred = batch(rng)
    expected = value(metrics.IoU(), y_true, y_pred)
    forms = {
        "labels": y_true.astype("uint8"),
        "column": y_true[..., None].astype("int16"),
        "one_hot": oracle.masks(y_true, 3).astype("int64"),
        "float": 0.8 * oracle.masks(y_true, 3).astype("float32") + 0.1,
        "bool": oracle.masks(y_true, 3),
    }
    assert value(metrics.IoU(), forms[form], y_pred) == expected


def test_logits_decide_as_probabilities(rng):
    y_true, y_pred = batch(rng)
    logits = rng.normal(size=y_pred.shape).astype("float32")
    softmax = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    got = value(metrics.IoU(from_logits=True), y_true, logits)
    assert got == value(metrics.IoU(), y_true, softmax)
    mask = y_true == 1
    sigmoid = 1 / (1 + np.exp(-logits[..., :1]))
    options = {"threshold": 0.7}
    got = value(metrics.IoU(from_logits=True, **options), mask, logits[..., :1])
    assert got == value(metrics.IoU(**options), mask, sigmoid)
    dense = oracle.masks(y_true, 3)
    got = value(metrics.IoU(from_logits=True, multilabel=True, **options), dense, logits)
    independent = 1 / (1 + np.exp(-logits))
    assert got == value(metrics.IoU(multilabel=True, **options), dense, independent)


def test_a_probability_equal_to_the_threshold_is_negative():
    y_pred = np.full((1, 3, 5, 1), np.float32(0.3))
    assert value(metrics.Recall(threshold=0.3), np.ones_like(y_pred), y_pred) == 0
    assert value(metrics.Recall(threshold=0.29), np.ones_like(y_pred), y_pred) == 1


def test_equal_scores_go_to_the_first_class():
    y_pred = np.full((1, 3, 5, 4), 0.25, "float32")
    assert value(metrics.PixelAccuracy(), np.zeros((1, 3, 5)), y_pred) == 1


def test_more_classes_than_a_running_maximum_is_for(rng):
    y_pred = rng.random((2, 9, 11, 30)).astype("float32")
    y_true = rng.integers(0, 30, (2, 9, 11))
    expected = sklearn_metrics.jaccard_score(
        y_true.ravel(), y_pred.argmax(-1).ravel(), average="macro"
    )
    assert value(metrics.IoU(), y_true, y_pred) == pytest.approx(expected, abs=EXACT)


def test_an_ignored_class_of_the_model_counts_nowhere(rng):
    y_true, y_pred = batch(rng)
    got = value(metrics.IoU(ignore_class=0, average=None), y_true, y_pred)
    kept = y_true > 0
    expected = sklearn_metrics.jaccard_score(
        y_true[kept], y_pred.argmax(-1)[kept], labels=[0, 1, 2], average=None
    )
    assert [got[f"iou_class_{c}"] for c in range(3)] == pytest.approx(list(expected), abs=EXACT)
    dense = value(metrics.IoU(ignore_class=0, average=None), oracle.masks(y_true, 3), y_pred)
    assert dense == got


def test_half_precision_predictions(rng):
    y_true, y_pred = batch(rng, classes=1, exclusive=False)
    y_pred = y_pred.astype("float16")
    expected = value(metrics.IoU(threshold=0.3), y_true, y_pred.astype("float32"))
    assert value(metrics.IoU(threshold=0.3), y_true, y_pred) == expected
