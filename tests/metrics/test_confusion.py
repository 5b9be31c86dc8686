"""The confusion matrix and its report, against scikit-learn."""

import keras
import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from segzoo.metrics import ConfusionMatrix

pytestmark = pytest.mark.core


def matrix(metric, *data):
    metric.update_state(*data)
    return keras.ops.convert_to_numpy(metric.result())


@pytest.mark.parametrize("normalize", [None, "true", "pred", "all"])
def test_exclusive_classes_agree_with_scikit_learn(normalize, rng):
    y_true = rng.integers(0, 3, (3, 5, 7))
    y_pred = rng.random((3, 5, 7, 4)).astype("float32")
    y_pred[..., 2] = 0  # no pixel in row 3, none in column 2
    expected = sklearn_metrics.confusion_matrix(
        y_true.ravel(), y_pred.argmax(-1).ravel(), labels=range(4), normalize=normalize
    )
    got = matrix(ConfusionMatrix(normalize=normalize), y_true, y_pred)
    np.testing.assert_allclose(got, expected, atol=1e-7)


def test_one_class_has_the_background_first(rng):
    y_true, y_pred = rng.integers(0, 2, (3, 5, 7)), rng.random((3, 5, 7, 1)).astype("float32")
    expected = sklearn_metrics.confusion_matrix(y_true.ravel(), y_pred.ravel() > 0.7)
    got = matrix(ConfusionMatrix(threshold=0.7), y_true, y_pred)
    np.testing.assert_array_equal(got, expected)


def test_multilabel_has_a_table_for_each_class(rng):
    y_true, y_pred = rng.integers(0, 2, (3, 5, 7, 4)), rng.random((3, 5, 7, 4)).astype("float32")
    expected = sklearn_metrics.multilabel_confusion_matrix(
        y_true.reshape(-1, 4), y_pred.reshape(-1, 4) > 0.5
    )
    metric = ConfusionMatrix(multilabel=True, class_names=list("abcd"))
    np.testing.assert_array_equal(matrix(metric, y_true, y_pred), expected)
    assert metric.report()["c"]["support"] == y_true[..., 2].sum()


def test_weights_and_void_agree_with_scikit_learn(rng):
    y_true = rng.integers(0, 3, (3, 5, 7))
    y_pred = rng.random((3, 5, 7, 3)).astype("float32")
    void = rng.random(y_true.shape) < 0.2
    weights = rng.random(y_true.shape)
    expected = sklearn_metrics.confusion_matrix(
        y_true[~void], y_pred.argmax(-1)[~void], sample_weight=weights[~void]
    )
    metric = ConfusionMatrix(ignore_class=-1)
    got = matrix(metric, np.where(void, -1, y_true), y_pred, weights)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_report_holds_the_scores_of_every_class(rng):
    y_true = rng.integers(0, 3, (3, 5, 7))
    y_pred = rng.random((3, 5, 7, 4)).astype("float32")
    y_pred[..., 3] = 0
    metric = ConfusionMatrix(class_names=["road", "car", "sky", "none"], empty_score=-1)
    metric.update_state(y_true, y_pred)
    flat = y_true.ravel(), y_pred.argmax(-1).ravel()
    precision, recall, f1, support = sklearn_metrics.precision_recall_fscore_support(*flat)
    iou = sklearn_metrics.jaccard_score(*flat, average=None)
    for c, name in enumerate(["road", "car", "sky"]):
        expected = {"precision": precision[c], "recall": recall[c], "f1": f1[c], "iou": iou[c]}
        assert metric.report()[name] == pytest.approx({**expected, "support": support[c]})
    assert metric.report()["none"] == dict.fromkeys(expected, -1) | {"support": 0}


def test_report_of_one_class(rng):
    y_true, y_pred = rng.integers(0, 2, (3, 5, 7)), rng.random((3, 5, 7, 1)).astype("float32")
    metric = ConfusionMatrix()
    assert metric.report() == {}
    metric.update_state(y_true, y_pred)
    report = metric.report()
    assert list(report) == ["class_0"]
    expected = sklearn_metrics.jaccard_score(y_true.ravel(), y_pred.ravel() > 0.5)
    assert report["class_0"]["iou"] == pytest.approx(expected)


@pytest.mark.parametrize("options", [{"average": "micro"}, {"class_weights": [1, 2]}])
def test_arguments_that_do_not_apply_raise(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        ConfusionMatrix(**options)


def test_unknown_normalization_raises():
    with pytest.raises(ValueError, match="`normalize` must be"):
        ConfusionMatrix(normalize="rows")
