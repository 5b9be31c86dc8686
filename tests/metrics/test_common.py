"""What holds for every streaming metric: batches, configuration, saving, bad input."""

import itertools
import json
import math

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segzoo import metrics
from tests.cases import METRICS

pytestmark = pytest.mark.core

STREAMING = [getattr(metrics, name) for name in METRICS]
REGION = [make for make in STREAMING if METRICS[make.__name__].region]
AVERAGED = [make for make in STREAMING if METRICS[make.__name__].averaged]


def as_arrays(result):
    if isinstance(result, dict):
        return {key: keras.ops.convert_to_numpy(x) for key, x in result.items()}
    return {"": keras.ops.convert_to_numpy(result)}


def assert_equal(left, right, tolerance=1e-6):
    left, right = as_arrays(left), as_arrays(right)
    assert list(left) == list(right)
    for key in left:
        np.testing.assert_allclose(left[key], right[key], rtol=tolerance, err_msg=key)


def data(rng, classes=3, images=5, size=(6, 7)):
    y_true = rng.integers(0, classes, (images, *size))
    y_pred = rng.random((images, *size, classes)).astype("float32")
    return y_true, y_pred


@pytest.mark.parametrize("make", STREAMING)
def test_every_metric_is_registered_under_its_module(make):
    assert keras.saving.get_registered_name(make) == f"segzoo.metrics>{make.__name__}"


@pytest.mark.parametrize("make", AVERAGED)
@pytest.mark.parametrize("average", ["macro", "micro", "weighted", "per_image", None])
def test_any_split_into_batches_gives_the_same_value(make, average, rng):
    y_true, y_pred = data(rng)
    whole, parts = make(average=average), make(average=average)
    whole.update_state(y_true, y_pred)
    for part in (slice(0, 1), slice(1, 4), slice(4, 5)):
        parts.update_state(y_true[part], y_pred[part])
    assert_equal(whole.result(), parts.result())


@given(
    cuts=st.sets(st.integers(1, 5)),
    absent=st.sets(st.integers(0, 2)),
    missed=st.sets(st.integers(0, 2)),
    average=st.sampled_from(["macro", "micro", "weighted", "per_image"]),
    seed=st.integers(0, 99),
)
@settings(max_examples=12, deadline=None)
def test_splits_and_absent_classes_never_change_the_value(cuts, absent, missed, average, seed):
    y_true, y_pred = data(np.random.default_rng(seed), classes=4, images=6, size=(2, 3))
    y_true[np.isin(y_true, list(absent))] = 3
    y_pred[..., list(missed)] = 0
    whole, parts = metrics.IoU(average=average), metrics.IoU(average=average)
    whole.update_state(y_true, y_pred)
    edges = [0, *sorted(cuts), 6]
    for start, stop in itertools.pairwise(edges):
        parts.update_state(y_true[start:stop], y_pred[start:stop])
    assert_equal(whole.result(), parts.result())
    assert 0 <= float(as_arrays(whole.result())[""]) <= 1


@pytest.mark.parametrize("make", STREAMING)
def test_reset_forgets_everything(make, rng):
    y_true, y_pred = data(rng)
    metric, fresh = make(), make()
    metric.reset_state()  # before the first batch too
    metric.update_state(y_true[::-1], y_pred)
    metric.reset_state()
    metric.update_state(y_true, y_pred)
    assert_equal(metric.result(), fresh(y_true, y_pred))


@pytest.mark.parametrize("make", STREAMING)
def test_without_data_the_result_is_nan(make):
    for result in as_arrays(make().result()).values():
        assert np.isnan(result).all()


@pytest.mark.parametrize("make", STREAMING)
def test_configuration_round_trips_through_json(make, rng):
    options = {
        "multilabel": True,
        "from_logits": True,
        "ignore_class": (255, -1),
        "name": "mine",
    }
    if METRICS[make.__name__].named:
        options |= {"empty_score": math.nan, "class_names": ("a", "b", "c")}
    if METRICS[make.__name__].averaged:
        options |= {"class_weights": (1, 2, 3), "average": "micro"}
    if METRICS[make.__name__].decided:
        options |= {"threshold": 0.3}
    metric = make(**options)
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(metric)))
    copy = keras.saving.deserialize_keras_object(config)
    assert type(copy) is make
    assert json.dumps(copy.get_config()) == json.dumps(metric.get_config())
    y_true, y_pred = rng.integers(0, 2, (2, 5, 7, 3)), rng.normal(size=(2, 5, 7, 3))
    assert_equal(metric(y_true, y_pred), copy(y_true, y_pred))


@pytest.mark.parametrize("make", AVERAGED)
def test_names_of_classes_are_in_the_keys(make, rng):
    y_true, y_pred = data(rng)
    metric = make(average=None, class_names=["land", "water", "sky"])
    result = metric(y_true, y_pred)
    keys = [metric.name] + [f"{metric.name}_{name}" for name in ("land", "water", "sky")]
    assert [key for key in result if not key.endswith("_threshold")] == keys


@pytest.mark.parametrize("make", REGION)
def test_none_holds_the_macro_mean_of_what_occurs(make, rng):
    y_true, y_pred = data(rng, classes=4)
    y_true[y_true == 2] = 0
    y_pred[..., 2] = 0
    scores = as_arrays(make(average=None)(y_true, y_pred))
    name = make().name
    assert np.isnan(scores[f"{name}_class_2"])
    kept = [scores[f"{name}_class_{c}"] for c in (0, 1, 3)]
    assert scores[name] == pytest.approx(np.mean(kept))
    assert scores[name] == pytest.approx(as_arrays(make()(y_true, y_pred))[""])


@pytest.mark.parametrize("make", STREAMING)
def test_the_order_of_classes_does_not_matter(make, rng):
    y_true, y_pred = data(rng)
    order = np.array([2, 0, 1])
    permuted = make()(np.argsort(order)[y_true], y_pred[..., order])
    if make is metrics.ConfusionMatrix:
        expected = keras.ops.convert_to_numpy(make()(y_true, y_pred))[order][:, order]
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(permuted), expected)
    elif make is metrics.ThresholdSearch:
        assert float(permuted["best_iou"]) == pytest.approx(
            float(make()(y_true, y_pred)["best_iou"])
        )
    else:
        assert_equal(permuted, make()(y_true, y_pred))


@pytest.mark.parametrize("make", STREAMING)
@pytest.mark.parametrize("pixels", [(1, 1), (1, 9)])
def test_the_smallest_images(make, pixels):
    perfect = np.zeros((2, *pixels, 2), "float32")
    perfect[..., 1] = 1
    row = METRICS[make.__name__]
    options = {"average": None} if row.averaged else {}
    result = as_arrays(make(**options)(np.ones((2, *pixels)), perfect))
    for key, score in result.items():
        if not key.endswith("_threshold") and row.averaged:
            assert np.isnan(score) or score == 1, key


@pytest.mark.parametrize("make", STREAMING)
def test_the_dtype_of_the_result(make, rng):
    wide = "float32" if keras.backend.backend() == "jax" else "float64"
    for dtype, expected in ((None, wide), ("float32", "float32")):
        result = make(dtype=dtype)(*data(rng))
        for value in result.values() if isinstance(result, dict) else [result]:
            assert keras.backend.standardize_dtype(value.dtype) == expected


BAD = [
    ({"average": "mean"}, "`average` must be one of 'macro', 'micro', 'weighted', 'per_image'"),
    ({"threshold": 1.5}, r"`threshold` must be a probability from 0 to 1 .* threshold=1.5"),
    ({"threshold": -0.1}, "received threshold=-0.1"),
    ({"threshold": math.nan}, "received threshold=nan"),
    ({"class_weights": [1, -1]}, "`class_weights` must be numbers >= 0"),
    ({"class_weights": [0, 0]}, "`class_weights` must be numbers >= 0"),
    ({"class_names": ["a", "a"]}, "`class_names` must be different, non-empty strings"),
    ({"class_names": []}, "`class_names` must be different, non-empty strings"),
    ({"class_names": ["a", "b"], "classes": 3}, "received `classes` of 3, `class_names` of 2"),
    (
        {"class_names": ["a", "b"], "class_weights": [1, 2, 3]},
        "`class_names` of 2, `class_weights` of 3",
    ),
    ({"classes": 0}, "`classes` must be an integer >= 1, received classes=0"),
    ({"classes": 2.5}, "`classes` must be an integer >= 1"),
    ({"ignore_class": "void"}, "`ignore_class` must be an integer"),
    ({"empty_score": "one"}, "`empty_score` must be a number, NaN"),
]


@pytest.mark.parametrize("make", [metrics.IoU, metrics.BoundaryIoU])
@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_arguments_raise_at_construction(make, options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


@pytest.mark.parametrize("make", STREAMING)
def test_another_number_of_classes_raises(make, rng):
    metric = make(class_names=["a", "b"]) if METRICS[make.__name__].named else make(classes=2)
    with pytest.raises(ValueError, match=r"`y_pred` has 3 class\(es\)"):
        metric.update_state(*data(rng))


@pytest.mark.parametrize("make", STREAMING)
def test_shapes_that_do_not_fit_raise(make):
    with pytest.raises(ValueError, match=r"`y_true` of shape \(2, 5, 6\) does not fit"):
        make().update_state(np.zeros((2, 5, 6)), np.zeros((2, 5, 7, 3)))
    with pytest.raises(ValueError, match=r"`sample_weight` of shape \(3,\) does not fit"):
        make().update_state(np.zeros((2, 5, 7)), np.zeros((2, 5, 7, 3)), np.ones(3))


def test_labels_outside_the_classes_raise_in_eager_mode():
    with pytest.raises(ValueError, match=r"labels 0 to 2 .* received 3"):
        metrics.IoU().update_state(np.full((2, 5, 7), 3), np.zeros((2, 5, 7, 3)))


def test_every_default_name_is_its_own():
    names = [make().name for make in STREAMING] + [
        metrics.ThresholdSearch(score=score).name for score in ("dice", "f_score")
    ]
    assert len(set(names)) == len(names)
    assert {"iou", "dice_score", "f_score", "best_iou", "best_dice", "best_f_score"} < set(names)
