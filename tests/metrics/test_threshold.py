"""ThresholdSearch against loops over thresholds, with the metrics of one threshold as oracle."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segzoo import metrics
from segzoo.metrics.threshold import count_below
from tests.oracles import metrics as oracle

pytestmark = pytest.mark.core

EXACT = 1e-12 if keras.backend.backend() != "jax" else 1e-6


def as_floats(result):
    return {key: float(keras.ops.convert_to_numpy(x)) for key, x in result.items()}


def on_grid(rng, shape):
    """Returns probabilities, most of them equal to a threshold or its neighbors in float32."""
    grid = np.linspace(0, 1, 101).astype("float32")
    values = rng.choice(grid, shape)
    beside = np.nextafter(values, rng.choice([-1, 2], shape).astype("float32"))
    return np.where(rng.random(shape) < 0.5, values, beside)


@pytest.mark.parametrize("thresholds", [2, 101, 1001, [0.5], [0.1, 0.1 + 1e-9, 0.7, 1 - 1e-7]])
def test_every_count_is_that_of_a_comparison(thresholds, rng):
    search = metrics.ThresholdSearch(thresholds)
    values = np.concatenate(
        [
            on_grid(rng, (300,)),
            rng.random(300).astype("float32"),
            np.float32(search.thresholds),
            np.nextafter(np.float32(search.thresholds), np.float32(2)),
            np.float32([-0.5, -1e-30, 0.0, -0.0, 1e-40, 1.0, 1 + 1e-6, 7.0, np.inf, -np.inf]),
        ]
    )
    expected = (values[:, None] > np.float32(search.thresholds)).sum(axis=1)
    # subnormal numbers are flushed to zero by XLA, in either comparison
    got = keras.ops.convert_to_numpy(
        count_below(keras.ops.convert_to_tensor(values), search.thresholds)
    )
    usual = np.abs(values) > 1e-37
    np.testing.assert_array_equal(got[usual], expected[usual])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.lists(st.floats(0, 1, width=32)))
@settings(max_examples=20, deadline=None)
def test_any_thresholds_count_as_comparisons(thresholds, values):
    thresholds = metrics.ThresholdSearch(thresholds).thresholds
    values = np.float32(values + list(thresholds))
    values[np.abs(values) < 1e-37] = 0
    edges = np.float32(thresholds)
    edges[np.abs(edges) < 1e-37] = 0
    got = keras.ops.convert_to_numpy(
        count_below(keras.ops.convert_to_tensor(values), tuple(edges.tolist()))
    )
    np.testing.assert_array_equal(got, (values[:, None] > edges).sum(axis=1))


@pytest.mark.parametrize(
    ("score", "average"),
    [("iou", "macro"), ("dice", "micro"), ("f_score", "weighted"), ("iou", "per_image")],
)
def test_one_pass_finds_what_a_loop_of_passes_finds(average, score, rng):
    y_true = rng.integers(0, 2, (4, 6, 7, 3))
    y_true[0] = 0
    y_pred = on_grid(rng, y_true.shape) * 0.5 + np.float32(0.25) * y_true
    weights = None if average == "macro" else rng.random(4)
    shared = {"multilabel": True, "average": average, "class_weights": [1, 2, 3]}
    one = {"iou": metrics.IoU, "dice": metrics.DiceScore}.get(score)
    loop = []
    search = metrics.ThresholdSearch(33, score=score, beta=2, **shared)
    for threshold in search.thresholds:
        options = {"threshold": threshold, **shared}
        metric = one(**options) if one else metrics.FScore(beta=2, **options)
        metric.update_state(y_true, y_pred, weights)
        loop.append(float(keras.ops.convert_to_numpy(metric.result())))
    for image in range(4):
        part = slice(image, image + 1)
        search.update_state(y_true[part], y_pred[part], None if weights is None else weights[part])
    curve = search.curve()
    np.testing.assert_allclose(curve["scores"], loop, rtol=0, atol=max(EXACT, 2e-7))
    result = as_floats(search.result())
    name = f"best_{score}"
    assert result[name] == pytest.approx(np.nanmax(loop), abs=max(EXACT, 2e-7))
    assert result[f"{name}_threshold"] == pytest.approx(
        search.thresholds[int(np.nanargmax(curve["scores"]))], abs=1e-7
    )
    for c in range(3):
        scores = curve["classes"][f"class_{c}"]
        assert result[f"{name}_class_{c}"] == pytest.approx(np.nanmax(scores), abs=1e-7)
        assert result[f"{name}_class_{c}_threshold"] == pytest.approx(
            search.thresholds[int(np.nanargmax(scores))], abs=1e-7
        )


def test_void_and_pixel_weights_agree_with_loops(rng):
    y_true, y_pred = rng.integers(0, 2, (3, 5, 7, 1)), on_grid(rng, (3, 5, 7, 1))
    void = rng.random((3, 5, 7)) < 0.2
    weights = rng.random((3, 5, 7))
    search = metrics.ThresholdSearch(11, ignore_class=255)
    search.update_state(np.where(void[..., None], 255, y_true), y_pred, weights)
    expected = [
        oracle.streaming(
            "iou", y_true == 1, y_pred > np.float32(t), valid=~void, pixel_weights=weights
        )
        for t in search.thresholds
    ]
    np.testing.assert_allclose(search.curve()["scores"], expected, rtol=1e-6)


def test_exclusive_classes_are_each_compared_with_the_rest(rng):
    y_true = rng.integers(0, 3, (2, 5, 7))
    logits = rng.normal(size=(2, 5, 7, 3)).astype("float32")
    search = metrics.ThresholdSearch([0.2, 0.4], from_logits=True, class_names=["a", "b", "c"])
    search.update_state(y_true, logits)
    softmax = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    for t, threshold in enumerate([0.2, 0.4]):
        scores = oracle.streaming("iou", oracle.masks(y_true, 3), softmax > threshold, average=None)
        got = [search.curve()["classes"][name][t] for name in "abc"]
        assert got == pytest.approx(scores, abs=1e-6)


def test_without_any_foreground_there_is_no_best_threshold():
    search = metrics.ThresholdSearch(5)
    assert all(np.isnan(x) for x in as_floats(search.result()).values())
    empty = np.zeros((2, 5, 7, 1), "float32")
    search.update_state(empty, empty)
    assert list(search.result()) == ["best_iou", "best_iou_threshold"]
    assert all(np.isnan(x) for x in as_floats(search.result()).values())


def test_scores_of_images_have_a_curve_and_no_classes(rng):
    search = metrics.ThresholdSearch(5, average="micro_per_image", multilabel=True)
    search.update_state(rng.integers(0, 2, (2, 4, 6, 3)), rng.random((2, 4, 6, 3)))
    curve = search.curve()
    assert curve["scores"].shape == (5,) and curve["classes"] == {}
    assert curve["scores"].max() == pytest.approx(float(search.result()["best_iou"]))


def test_the_threshold_that_is_found_is_taken_as_it_is(rng):
    search = metrics.ThresholdSearch(5)
    search.update_state(rng.integers(0, 2, (2, 4, 6, 1)), rng.random((2, 4, 6, 1)))
    found = search.result()["best_iou_threshold"]
    assert metrics.IoU(threshold=found).threshold == float(found)
    assert metrics.IoU(threshold=np.array(0.25)).threshold == 0.25
    assert metrics.ThresholdSearch([found, 1.0]).thresholds == (float(found), 1.0)


def test_of_equal_scores_the_lowest_threshold_wins():
    search = metrics.ThresholdSearch(11)
    truth = np.ones((1, 3, 5, 1), "float32")
    search.update_state(truth, np.full_like(truth, 0.75))
    assert as_floats(search.result()) == {"best_iou": 1.0, "best_iou_threshold": 0.0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"thresholds": 1}, "`thresholds` must be at least 2"),
        ({"thresholds": []}, "`thresholds` must hold at least one"),
        ({"thresholds": 0.5}, "`thresholds` must be an integer or a list .* thresholds=0.5"),
        ({"thresholds": [0.2, 1.5]}, r"`thresholds` must be a probability .* thresholds=1.5"),
        ({"thresholds": [-0.1], "from_logits": True}, "`thresholds` must be a probability"),
        ({"score": "accuracy"}, "`score` must be one of 'iou', 'dice', 'f_score'"),
        ({"beta": 0}, "`beta` must be a number above 0"),
    ],
)
def test_bad_arguments_raise(options, message):
    with pytest.raises(ValueError, match=message):
        metrics.ThresholdSearch(**options)
    with pytest.raises(TypeError, match="no argument `threshold`; near: `thresholds`"):
        metrics.ThresholdSearch(threshold=0.3)
