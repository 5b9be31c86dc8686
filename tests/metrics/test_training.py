"""Metrics inside `compile`, `fit` and `evaluate`, against NumPy on predictions."""

import keras
import numpy as np
import pytest

from segzoo import losses, metrics
from tests.oracles import metrics as oracle

pytestmark = pytest.mark.core

KERAS = tuple(int(part) for part in keras.__version__.split(".")[:2])
NAMES = ["land", "water", "sky"]


def every_metric():
    """Returns one of each, and some averages more."""
    return [
        metrics.IoU(average=None, class_names=NAMES),
        metrics.DiceScore(average=None, class_names=NAMES),
        metrics.DiceScore(average="per_image", name="kaggle"),
        metrics.FScore(beta=2, average="weighted"),
        metrics.Precision(),
        metrics.Recall(),
        metrics.PixelAccuracy(),
        metrics.BoundaryF1Score(),
        metrics.BoundaryIoU(),
        metrics.ThresholdSearch(11),
    ]


def small_model(classes=3, size=(6, 8), activation="softmax"):
    inputs = keras.Input((*size, 2))
    x = keras.layers.Conv2D(classes, 3, padding="same", kernel_initializer="he_normal")(inputs)
    outputs = keras.layers.Activation(activation, dtype="float32")(x)
    return keras.Model(inputs, outputs)


def compiled(model, loss=None, **options):
    model.compile("sgd", loss or losses.CategoricalCrossentropy(), **options)


def dataset(rng, images=10, classes=3, size=(6, 8)):
    x = rng.normal(size=(images, *size, 2)).astype("float32")
    return x, rng.integers(0, classes, (images, *size)).astype("int32")


def expected_logs(y_true, y_pred):
    masks = oracle.masks(y_true, 3), oracle.decide(y_pred)
    logs = {}
    for score, name in (("iou", "iou"), ("dice", "dice_score")):
        logs[name] = oracle.streaming(score, *masks)
        by_class = oracle.streaming(score, *masks, average=None)
        logs |= {f"{name}_{key}": value for key, value in zip(NAMES, by_class, strict=True)}
    f1 = [oracle.boundary_f1(masks[0][..., c], masks[1][..., c], 2) for c in range(3)]
    iou = [oracle.boundary_iou(masks[0][..., c], masks[1][..., c], 0.02) for c in range(3)]
    curve = [
        oracle.streaming("iou", masks[0], y_pred > np.float32(t)) for t in np.linspace(0, 1, 11)
    ]
    return logs | {
        "kaggle": oracle.streaming("dice", *masks, average="per_image"),
        "f_score": oracle.streaming("f_score", *masks, average="weighted", beta=2),
        "precision": oracle.streaming("precision", *masks),
        "recall": oracle.streaming("recall", *masks),
        "pixel_accuracy": (y_pred.argmax(-1) == y_true).mean(),
        "boundary_f1_score": np.mean(f1),
        "boundary_iou": np.mean(iou),
        "best_iou": np.nanmax(curve),
        "best_iou_threshold": np.linspace(0, 1, 11)[np.nanargmax(curve)],
    }


@pytest.mark.slow
def test_evaluate_agrees_with_numpy_on_predictions(rng):
    x, y = dataset(rng)
    model = small_model()
    compiled(model, metrics=every_metric())
    logs = model.evaluate(x, y, batch_size=4, return_dict=True, verbose=0)
    for key, value in expected_logs(y, model.predict(x, verbose=0)).items():
        assert logs[key] == pytest.approx(value, abs=1e-6), key


@pytest.mark.slow
def test_fit_logs_every_class_under_its_name(rng):
    x, y = dataset(rng)
    model, made = small_model(), every_metric()
    compiled(model, metrics=made)
    fit = model.fit(x, y, batch_size=4, epochs=2, validation_data=(x, y), verbose=0)
    expected = expected_logs(y, model.predict(x, verbose=0))
    for key, value in expected.items():
        assert len(fit.history[key]) == 2, key
        assert fit.history[f"val_{key}"][-1] == pytest.approx(value, abs=1e-6), key
    extra = {"loss"} | {f"best_iou_class_{c}{end}" for c in range(3) for end in ("", "_threshold")}
    assert {key for key in fit.history if not key.startswith("val_")} == set(expected) | extra
    # Names are equal to the keys of their classes: as a key, one would be a riddle to a sort.
    results = [result for metric in made if isinstance(result := metric.result(), dict)]
    assert {type(key) for result in results for key in result} == {str}


def test_weights_of_images_reach_weighted_metrics_alone(rng):
    x, y = dataset(rng)
    weights = rng.random(10).astype("float32")
    model = small_model()
    compiled(
        model,
        lambda y_true, y_pred: keras.ops.mean(y_pred, axis=(1, 2, 3)),  # takes weights (B,)
        metrics=[metrics.IoU()],
        weighted_metrics=[metrics.IoU(name="weighted_iou")],
    )
    check_weights(model, x, y, weights, image_weights=weights)


@pytest.mark.parametrize("column", [False, True])
def test_weights_of_pixels_reach_weighted_metrics_alone(column, rng):
    x, y = dataset(rng)
    weights = rng.random(y.shape).astype("float32")
    model = small_model()
    compiled(
        model,
        metrics=[metrics.IoU()],
        weighted_metrics=[metrics.IoU(name="weighted_iou")],
    )
    given = weights[..., None] if column else weights
    check_weights(model, x, y, given, pixel_weights=weights)


def check_weights(model, x, y, sample_weight, **options):
    logs = model.evaluate(
        x, y, sample_weight=sample_weight, batch_size=4, return_dict=True, verbose=0
    )
    masks = oracle.masks(y, 3), oracle.decide(model.predict(x, verbose=0))
    expected = oracle.streaming("iou", *masks, **options)
    assert logs["weighted_iou"] == pytest.approx(expected, rel=1e-5)
    assert logs["iou"] == pytest.approx(oracle.streaming("iou", *masks), rel=1e-6)


def test_one_class_with_void_pixels(rng):
    x, y = dataset(rng, classes=2)
    void = rng.random(y.shape) < 0.2
    model = small_model(classes=1, activation="sigmoid")
    metric = metrics.DiceScore(ignore_class=255, average="per_image")
    compiled(model, "mse", metrics=[metric])
    labels = np.where(void, 255, y).astype("uint8")
    logs = model.evaluate(x, labels, batch_size=4, return_dict=True, verbose=0)
    guess = model.predict(x, verbose=0) > 0.5
    expected = oracle.streaming("dice", y[..., None] == 1, guess, valid=~void, average="per_image")
    assert logs["dice_score"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
def test_callbacks_know_that_scores_rise(rng, tmp_path):
    x, y = dataset(rng, images=4)
    model = small_model()
    iou = metrics.IoU(average=None, class_names=NAMES)
    compiled(model, metrics=[metrics.ThresholdSearch(), iou, metrics.BoundaryIoU(average=None)])
    keys = ["best_iou", "best_iou_class_1", "iou", "iou_water", "boundary_iou_class_2"]
    paths = {key: tmp_path / f"{key}.keras" for key in keys}
    callbacks = [
        keras.callbacks.ModelCheckpoint(path, monitor=f"val_{key}", save_best_only=True)
        for key, path in paths.items()
    ]
    stopping = keras.callbacks.EarlyStopping(monitor="val_iou_water")
    plateau = keras.callbacks.ReduceLROnPlateau(monitor="val_iou")
    model.fit(x, y, validation_data=(x, y), callbacks=[*callbacks, stopping, plateau], verbose=0)
    assert all(path.exists() for path in paths.values())
    # Before Keras 3.11 one callback asked the metric, as docs/troubleshooting.md says.
    asking = [*callbacks, stopping, plateau] if KERAS >= (3, 11) else [stopping]
    assert all(callback.monitor_op == keras.ops.greater for callback in asking)
    assert iou.name == "iou" and {iou.name: 1} == {"iou": 1} and iou.name != "iou_class_7"


def test_a_compiled_model_reloads_with_its_metrics(rng, tmp_path):
    x, y = dataset(rng)
    model = small_model()
    search = metrics.ThresholdSearch(5, empty_score=float("nan"), name="search")
    compiled(model, metrics=[*every_metric(), search, metrics.dice_coef], run_eagerly=True)
    before = model.evaluate(x, y, batch_size=4, return_dict=True, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    after = again.evaluate(x, y, batch_size=4, return_dict=True, verbose=0)
    assert after == pytest.approx(before, rel=1e-6)


def test_a_confusion_matrix_in_compile_reports_afterwards(rng):
    x, y = dataset(rng)
    matrix = metrics.ConfusionMatrix(class_names=NAMES)
    model = small_model()
    compiled(model, metrics=[matrix])
    logs = model.evaluate(x, y, batch_size=4, return_dict=True, verbose=0)
    guess = model.predict(x, verbose=0).argmax(-1)
    expected = [[((y == t) & (guess == p)).sum() for p in range(3)] for t in range(3)]
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(logs["confusion_matrix"]), expected)
    assert matrix.report()["sky"]["support"] == (y == 2).sum()


def test_metrics_of_several_outputs_have_names_of_their_own(rng):
    x, y = dataset(rng)
    inputs = keras.Input((6, 8, 2))
    heads = [keras.layers.Conv2D(3, 1, activation="softmax")(inputs) for _ in range(2)]
    model = keras.Model(inputs, heads)
    model.compile(
        loss=[losses.CategoricalCrossentropy()] * 2,
        metrics=[None, [metrics.IoU(average=None), metrics.BoundaryIoU()]],
    )
    logs = model.evaluate(x, [y, y], batch_size=4, return_dict=True, verbose=0)
    masks = oracle.masks(y, 3), oracle.decide(model.predict(x, verbose=0)[1])
    assert logs["iou"] == pytest.approx(oracle.streaming("iou", *masks), rel=1e-6)


def test_mixed_precision_changes_nothing_but_the_predictions(rng):
    keras.config.set_dtype_policy("mixed_bfloat16")
    x, y = dataset(rng)
    model = small_model()
    compiled(model, metrics=every_metric(), run_eagerly=True)
    logs = model.evaluate(x, y, batch_size=4, return_dict=True, verbose=0)
    for key, value in expected_logs(y, model.predict(x, batch_size=4, verbose=0)).items():
        assert logs[key] == pytest.approx(value, abs=1e-6), key


def test_a_loop_without_compile_state(rng):
    """JAX loops pass the state along; `classes` makes it exist before the first batch."""
    y, p = rng.integers(0, 3, (4, 5, 7)), rng.random((4, 5, 7, 3)).astype("float32")
    metric = metrics.IoU(classes=3)
    state = metric.variables
    for part in (slice(0, 1), slice(1, 4)):
        state = metric.stateless_update_state(state, y[part], p[part])
    got = float(keras.ops.convert_to_numpy(metric.stateless_result(state)))
    expected = oracle.streaming("iou", oracle.masks(y, 3), oracle.decide(p))
    assert got == pytest.approx(expected, rel=1e-6)
