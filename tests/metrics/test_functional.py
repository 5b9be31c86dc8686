"""The plain functions, against sums in NumPy and against the streaming classes."""

import keras
import numpy as np
import pytest

from segzoo import metrics
from tests.oracles import metrics as oracle

pytestmark = pytest.mark.core

REGION = {
    "dice": metrics.dice_coef,
    "iou": metrics.iou_score,
    "f_score": lambda *a, **k: metrics.f_score(*a, beta=2, **k),
}


def numpy(x):
    return keras.ops.convert_to_numpy(x)


def soft_score(score, truth, p, smooth):
    tp, predicted, actual = (truth * p).sum((0, 1)), p.sum((0, 1)), truth.sum((0, 1))
    if score == "iou":
        return (tp + smooth) / (predicted + actual - tp + smooth)
    b2 = 4 if score == "f_score" else 1
    return ((1 + b2) * tp + smooth) / (b2 * actual + predicted + smooth)


@pytest.mark.parametrize("score", REGION)
@pytest.mark.parametrize("smooth", [0, 1.0, 3.5])
@pytest.mark.parametrize("threshold", [None, 0.4])
def test_scores_agree_with_sums(score, smooth, threshold, rng):
    truth = rng.integers(0, 2, (2, 5, 7, 3)).astype("float64")
    p = rng.random(truth.shape)
    hard = p if threshold is None else (p > threshold) * 1.0
    flat = [x.reshape(2, -1, 3) for x in (truth, hard)]
    together = [x.reshape(1, -1, 3)[0][:, None] for x in (truth, hard)]
    by_class = soft_score(score, *together, smooth)
    options = {"threshold": threshold, "smooth": smooth}
    call = REGION[score]
    np.testing.assert_allclose(numpy(call(truth, p, average=None, **options)), by_class, 1e-5)
    np.testing.assert_allclose(numpy(call(truth, p, **options)), by_class.mean(), 1e-5)
    pairs = [soft_score(score, t[:, None], q[:, None], smooth) for t, q in zip(*flat, strict=True)]
    per_image = numpy(call(truth, p, average="per_image", **options))
    np.testing.assert_allclose(per_image, np.mean(pairs), 1e-5)
    all_classes = [x.reshape(-1, 1, 1) for x in (truth, hard)]
    micro = numpy(call(truth, p, average="micro", **options))
    np.testing.assert_allclose(micro, soft_score(score, *all_classes, smooth)[0], 1e-5)


def test_labels_are_read_as_one_hot(rng):
    labels, p = rng.integers(0, 3, (2, 5, 7)), rng.random((2, 5, 7, 3)).astype("float32")
    expected = numpy(metrics.dice_coef(oracle.masks(labels, 3), p))
    np.testing.assert_allclose(numpy(metrics.dice_coef(labels, p)), expected, 1e-6)


def test_at_a_threshold_without_smoothing_they_are_the_streaming_scores(rng):
    truth, p = rng.integers(0, 2, (2, 9, 11, 3)), rng.random((2, 9, 11, 3)).astype("float32")
    pairs = [
        (metrics.dice_coef, metrics.DiceScore),
        (metrics.iou_score, metrics.IoU),
        (metrics.f_score, metrics.FScore),
        (metrics.boundary_f1_score, metrics.BoundaryF1Score),
    ]
    for function, make in pairs:
        for average in ("macro", "micro", "per_image"):
            expected = make(threshold=0.3, multilabel=True, average=average)(truth, p)
            got = function(truth, p, threshold=0.3, smooth=0, average=average)
            assert float(numpy(got)) == pytest.approx(float(numpy(expected)), abs=1e-6)


def test_two_empty_masks_score_one():
    empty = np.zeros((2, 5, 7, 1), "float32")
    for function in (*REGION.values(), metrics.boundary_f1_score):
        for smooth in (0, 1):
            assert float(numpy(function(empty, empty, smooth=smooth))) == 1


def test_a_function_is_logged_as_the_mean_over_batches(rng):
    x = rng.random((6, 5, 7, 1)).astype("float32")
    y = rng.integers(0, 2, (6, 5, 7, 1)).astype("float32")
    model = keras.Sequential([keras.Input((5, 7, 1)), keras.layers.Activation("linear")])
    model.compile(metrics=[metrics.dice_coef, metrics.boundary_f1_score], loss="mse")
    logs = model.evaluate(x, y, batch_size=2, return_dict=True, verbose=0)
    expected = [float(numpy(metrics.dice_coef(y[i : i + 2], x[i : i + 2]))) for i in (0, 2, 4)]
    assert logs["dice_coef"] == pytest.approx(np.mean(expected), rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 1.5}, "`threshold` must be a probability from 0 to 1"),
        ({"smooth": -1}, "`smooth` must be >= 0, received smooth=-1"),
        ({"average": "weighted"}, "`average` must be one of 'macro', 'micro', 'per_image', None"),
    ],
)
def test_bad_arguments_raise(options, message):
    empty = np.zeros((2, 5, 7, 1), "float32")
    for function in (*REGION.values(), metrics.boundary_f1_score):
        with pytest.raises(ValueError, match=message):
            function(empty, empty, **options)
    with pytest.raises(ValueError, match="`beta` must be a number above 0"):
        metrics.f_score(empty, empty, beta=-1)


def test_counts_are_those_of_each_image_and_class(rng):
    y, p = rng.integers(0, 3, (4, 5, 7)), rng.random((4, 5, 7, 3)).astype("float32")
    truth, guess = oracle.masks(y, 3), oracle.decide(p)
    found = metrics.counts(y, p)
    for name, both in (("tp", truth & guess), ("fp", ~truth & guess), ("fn", truth & ~guess)):
        np.testing.assert_array_equal(numpy(getattr(found, name)), both.sum(axis=(1, 2)))
    np.testing.assert_array_equal(numpy(found.tn), (~truth & ~guess).sum(axis=(1, 2)))
    whole = found.sum(axis=0)
    for score, make in (("iou", metrics.IoU), ("dice", metrics.DiceScore)):
        streamed = make(average=None)(y, p)
        scores = numpy(getattr(whole, score)())
        expected = [float(numpy(streamed[f"{make().name}_class_{c}"])) for c in range(3)]
        np.testing.assert_allclose(scores, expected, rtol=1e-6)
        each = make(average="per_image")(y, p)
        assert float(numpy(each)) == pytest.approx(numpy(getattr(found, score)()).mean(), rel=1e-6)


def test_counts_of_decided_labels_thresholds_and_void(rng):
    y, p = rng.integers(0, 3, (2, 5, 7)), rng.random((2, 5, 7, 3)).astype("float32")
    for a, b in zip(metrics.counts(y, p), metrics.counts(y, p.argmax(-1), classes=3), strict=True):
        np.testing.assert_array_equal(numpy(a), numpy(b))
    overlapping = rng.integers(0, 2, (2, 5, 7, 3))
    found = metrics.counts(overlapping, p, threshold=[0.2, 0.5, 0.8], multilabel=True)
    np.testing.assert_array_equal(
        numpy(found.predicted), (p > np.float32([0.2, 0.5, 0.8])).sum(axis=(1, 2))
    )
    void = rng.random(y.shape) < 0.3
    found = metrics.counts(np.where(void, 255, y), p, ignore_class=255)
    np.testing.assert_array_equal(numpy(found.total), (~void).sum(axis=(1, 2))[:, None] * [1, 1, 1])
    with pytest.raises(ValueError, match="pass `classes=`"):
        metrics.counts(y, p.argmax(-1))
    with pytest.raises(ValueError, match="`y_pred` has 3 class"):
        metrics.counts(y, p, classes=4)
    with pytest.raises(ValueError, match="from_logits=True"):
        metrics.counts(y, p * 5)
