"""Losses inside `compile`, `fit`, graphs, XLA, mixed precision, files, and sums of losses."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from segzoo import losses
from segzoo._arguments import parameters
from tests.cases import LOSSES, some
from tests.losses import helpers
from tests.losses.helpers import cases, data, gradient, make, run

# test_hostile.py has every loss in a graph, of fixed size.
GRAPHS = ("Dice", "CategoricalCrossentropy")


def small_model(classes, activation="auto"):
    if activation == "auto":
        activation = "sigmoid" if classes == 1 else "softmax"
    inputs = keras.Input((None, None, 2))
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(inputs)
    x = keras.layers.Conv2D(classes, 1)(x)
    return keras.Model(inputs, keras.layers.Activation(activation, dtype="float32")(x))


def images(classes, seed=0):
    labels, y, _ = data(classes, seed, shape=(4, 8, 6))
    x = np.random.default_rng(seed).normal(size=(4, 8, 6, 2)).astype("float32")
    return x, labels, y.astype("float32")


@pytest.mark.parametrize(("name", "classes"), helpers.few(cases(), *GRAPHS))
@pytest.mark.parametrize("xla", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_graph_xla_and_eager_agree(name, classes, xla):
    labels, _, p = data(classes)
    p = p.astype("float32")
    loss = make(name)

    def step(y, p):
        with tf.GradientTape() as tape:
            tape.watch(p)
            value = loss(y, p)
        return value, tape.gradient(value, p)

    expected, slope = gradient(loss, labels, p)
    y = helpers.as_read(loss, labels.astype("int32"), classes)
    dynamic = [
        tf.TensorSpec([None] * 3 + [*y.shape[3:]], y.dtype),
        tf.TensorSpec([None, None, None, classes]),
    ]
    options = {"jit_compile": True} if xla else {"input_signature": dynamic}
    value, got = tf.function(step, **options)(tf.constant(y), tf.constant(p))
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(got, slope, rtol=1e-4, atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "classes"),
    helpers.few(cases(), "Dice", rest=[pytest.mark.slow, pytest.mark.deep]),
)
def test_fit_in_mixed_precision_with_xla_then_save_and_load(name, classes, tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    x, labels, y = images(classes)
    model = small_model(classes)
    loss = make(name)
    model.compile("adam", loss=loss, jit_compile=True)
    truth = helpers.as_read(loss, labels, classes)
    history = model.fit(x, truth, epochs=2, batch_size=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert repr(loaded.loss) == repr(loss)
    assert loaded.loss.get_config() == loss.get_config()
    expected = run(loss, y, loaded.predict(x, verbose=0))
    truth = helpers.as_read(loss, y, classes)
    assert np.isclose(loaded.evaluate(x, truth, batch_size=4, verbose=0), expected, rtol=1e-4)


@pytest.mark.parametrize("name", helpers.few(helpers.CLASSES, "Dice"))
def test_weights_through_fit_and_through_a_data_set_equal_the_call(name, rng):
    x, labels, _ = images(3)
    model = small_model(3)
    pixels = name not in helpers.SHAPE
    loss = make(name) if pixels else make(name, per_image=True)
    labels = helpers.as_read(loss, labels, 3)
    model.compile("sgd", loss=loss)
    predicted = model.predict(x, verbose=0)
    forms = [rng.random(4)] + ([rng.random((4, 8, 6)), rng.random((4, 8, 6, 1))] if pixels else [])
    for w in forms:
        w = w.astype("float32")
        expected = run(loss, labels, predicted, w)
        model.compile("sgd", loss=loss)  # a traced step takes weights of one rank only
        got = model.evaluate(x, labels, sample_weight=w, batch_size=4, verbose=0)
        assert np.isclose(got, expected, rtol=1e-5)
        data_set = tf.data.Dataset.from_tensor_slices((x, labels, w)).batch(4)
        assert np.isclose(model.evaluate(data_set, verbose=0), expected, rtol=1e-5)
    first = model.fit(x, labels, sample_weight=w, batch_size=4, shuffle=False, verbose=0)
    assert np.isclose(first.history["loss"][0], expected, rtol=1e-5)


@pytest.mark.parametrize("order", some([(1, 3), (3, 1), (3, 4)], [(1, 3)]))
def test_weights_of_another_rank_on_one_compiled_model_are_named(order):
    x, labels, y = images(3)
    model = small_model(3)
    ones = {1: np.ones(4), 3: np.ones(labels.shape), 4: np.ones((*labels.shape, 1))}
    first, second = (ones[rank].astype("float32") for rank in order)
    for loss in (losses.Dice(), keras.losses.BinaryCrossentropy() + losses.Dice()):
        model.compile("sgd", loss=loss)
        model.evaluate(x, y, sample_weight=first, batch_size=4, verbose=0)
        with pytest.raises(ValueError, match=r"must have one rank.*`compile` again"):
            model.evaluate(x, y, sample_weight=second, batch_size=4, verbose=0)
        model.compile("sgd", loss=loss)
        model.evaluate(x, y, sample_weight=second, batch_size=4, verbose=0)


def test_class_weight_of_keras_is_refused_for_masks():
    x, labels, _ = images(3)
    model = small_model(3)
    model.compile("sgd", loss=losses.Dice())
    with pytest.raises((TypeError, ValueError)):
        model.fit(x, labels, class_weight={0: 1.0, 1: 2.0, 2: 1.0}, verbose=0)


@pytest.mark.slow
def test_deep_supervision_takes_a_list_of_losses(rng):
    inputs = keras.Input((None, None, 2))
    heads = [keras.layers.Conv2D(1, 1, activation="sigmoid")(inputs) for _ in range(4)]
    model = keras.Model(inputs, heads)
    x, labels, _ = images(1)
    w = rng.random(labels.shape).astype("float32")
    share = [0.1, 0.2, 0.3, 0.4]
    model.compile(
        "sgd", loss=[losses.Dice()] * 4, loss_weights=share, metrics=[None, None, None, ["mae"]]
    )
    predicted = model.predict(x, verbose=0)
    expected = sum(
        k * run(losses.Dice(), labels, p, w) for k, p in zip(share, predicted, strict=True)
    )
    history = model.fit(
        x, [labels[..., None]] * 4, sample_weight=[w] * 4, batch_size=4, verbose=0
    ).history
    assert np.isclose(history["loss"][0], expected, rtol=1e-5)


def test_losses_add_and_scale():
    _, y, p = data(1)
    dice, focal = losses.Dice(), losses.BinaryFocal(gamma=1.0)
    a, b = run(dice, y, p), run(focal, y, p)
    for loss, expected in (
        (dice + 0.5 * focal, a + 0.5 * b),
        (2 * (dice + focal * 0.5), 2 * a + b),
        (sum([dice, focal, dice]), 2 * a + b),
        ((dice + focal) + (focal + dice), 2 * a + 2 * b),
        (losses.Compound([dice, focal], [0.25, 3]), 0.25 * a + 3 * b),
    ):
        assert isinstance(loss, losses.Compound)
        assert all(not isinstance(part, losses.Compound) for part in loss.parts)
        assert np.isclose(run(loss, y, p), expected, rtol=1e-6)
    assert repr(dice + 0.5 * focal) == "Dice() + 0.5 * BinaryFocal(gamma=1.0)"
    assert (dice + 0.5 * focal).name == "dice_plus_binary_focal"


def test_keras_losses_are_parts_with_any_weights(rng):
    _, y, p = data(1)
    entropy = keras.losses.BinaryCrossentropy()
    for loss in (losses.Dice() + 2 * losses.BinaryCrossentropy(), losses.Dice() + entropy):
        assert len(loss.parts) == 2
    mixed, ours = entropy + losses.Dice(), losses.BCEDice()
    for w in (None, rng.random(2), rng.random((2, 7, 5)), rng.random((2, 7, 5, 1))):
        assert np.isclose(run(mixed, y, p, w), run(ours, y, p, w), rtol=1e-5)


@pytest.mark.slow
def test_a_compound_trains_logs_its_parts_saves_and_loads(tmp_path):
    x, _, y = images(1)
    loss = losses.Dice() + 0.5 * losses.BinaryFocal(ignore_class=[255]) + keras.losses.Huber()
    model = small_model(1)
    model.compile("adam", loss=loss, metrics=loss.parts)
    logs = model.fit(x, y, batch_size=4, verbose=0).history
    assert {"loss", "dice", "binary_focal"} <= set(logs)
    total = logs["dice"][0] + 0.5 * logs["binary_focal"][0] + logs[loss.parts[2].name][0]
    assert np.isclose(logs["loss"][0], total, rtol=1e-5)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert repr(loaded.loss) == repr(loss)
    assert np.allclose(
        loaded.evaluate(x, y, batch_size=4, verbose=0),
        model.evaluate(x, y, batch_size=4, verbose=0),
    )


@pytest.mark.parametrize("name", helpers.CLASSES)
def test_config_round_trip_keeps_every_argument(name):
    changed = {"from_logits": True, "ignore_class": [255, 0], "per_image": True, "smooth": 0.5}
    changed |= {"class_weights": [1.0, 2.0], "alpha": 0.1, "gamma": 1.5, "name": "mine"}
    known = parameters(getattr(losses, LOSSES[name].inner or name)) | parameters(
        getattr(losses, name)
    )
    loss = make(name, **{k: v for k, v in changed.items() if k in known})
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(loss)))
    assert config["registered_name"] == f"segzoo.losses>{name}"
    copy = keras.saving.deserialize_keras_object(config)
    assert copy.get_config() == loss.get_config()
    assert repr(copy) == repr(loss) != f"{name}()"


def test_functions_train_and_reload(tmp_path):
    x, _, y = images(1)
    model = small_model(1)
    model.compile("adam", loss=losses.dice_loss)
    assert np.isfinite(model.fit(x, y, verbose=0).history["loss"][0])
    model.save(tmp_path / "model.keras")
    keras.saving.load_model(tmp_path / "model.keras").evaluate(x, y, verbose=0)


def test_mirrored_gradients_equal_those_of_one_device():
    x, _, y = images(1)
    for device in tf.config.list_logical_devices("CPU")[:1]:
        strategy = tf.distribute.MirroredStrategy([device.name])
        with strategy.scope():
            keras.utils.set_random_seed(1)
            model = small_model(1)
            model.compile("sgd", loss=losses.Dice(per_image=True) + losses.BinaryFocal())
        model.fit(x, y, batch_size=4, verbose=0)
        keras.utils.set_random_seed(1)
        single = small_model(1)
        single.compile("sgd", loss=losses.Dice(per_image=True) + losses.BinaryFocal())
        single.fit(x, y, batch_size=4, verbose=0)
        for a, b in zip(model.get_weights(), single.get_weights(), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


BAD = [
    ("Dice", {"smooth": -1}, "`smooth` must be >= 0, received smooth=-1"),
    ("Dice", {"average": "mean"}, "`average` must be"),
    ("Dice", {"class_weights": [1, -1]}, "`class_weights` must be numbers >= 0"),
    ("Dice", {"class_weights": [0, 0]}, "`class_weights`"),
    ("Dice", {"ignore_class": 1.5}, "`ignore_class` must be an integer"),
    ("Dice", {"ignore_class": "void"}, "`ignore_class` must be an integer"),
    ("Tversky", {"alpha": -1}, "`alpha` must be >= 0, received alpha=-1"),
    ("Tversky", {"beta": float("nan")}, "`beta` must be >= 0"),
    ("FocalTversky", {"gamma": 0}, "`gamma` must be > 0"),
    ("BinaryFocal", {"gamma": -0.5}, "`gamma` must be >= 0"),
    ("BinaryFocal", {"alpha": 1.5}, "`alpha` must be from 0 to 1"),
    ("CategoricalCrossentropy", {"label_smoothing": 2}, "`label_smoothing` must be from 0 to 1"),
    ("BoundaryF1", {"boundary_width": 4}, "`boundary_width` must be an odd integer"),
    ("BoundaryF1", {"tolerance": -1}, "`tolerance` must be an integer >= 0"),
    ("BoundaryF1", {"pooling": "min"}, "`pooling` must be"),
    ("CenterlineDice", {"iterations": 1.5}, "`iterations` must be an integer >= 0"),
]


@pytest.mark.parametrize(("name", "arguments", "message"), BAD)
def test_bad_arguments_are_named(name, arguments, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        make(name, **arguments)


def test_bad_shapes_labels_and_weights_are_named():
    labels, y, p = data(3)
    with pytest.raises(ValueError, match=r"\(2, 7, 4\).*\(2, 7, 5, 3\).*accepted"):
        losses.Dice()(labels[:, :, :4], p)
    with pytest.raises(ValueError, match=r"\(2, 7, 5, 2\).*\(2, 7, 5, 3\)"):
        losses.Dice()(y[..., :2], p)
    with pytest.raises(ValueError, match="one weight for each of the 3"):
        losses.Dice(class_weights=[1, 2])(y, p)
    with pytest.raises(ValueError, match=r"labels 0 to 2.*received 7"):
        losses.Dice()(np.where(labels == 2, 7, labels), p)
    with pytest.raises(ValueError, match=r"targets from 0 to 1.*received 255"):
        losses.Dice()(labels[..., None] * 255 // 2, p[..., :1])
    with pytest.raises(ValueError, match=r"`sample_weight` of shape \(3,\)"):
        losses.Dice()(y, p, np.ones(3))
    for name in sorted(helpers.SEVERAL_ONLY):
        with pytest.raises(ValueError, match=f"`{LOSSES[name].inner or name}` needs several"):
            make(name)(labels > 0, p[..., :1])
    with pytest.raises(ValueError, match="`losses` must hold"):
        losses.Compound([])
    with pytest.raises(ValueError, match="`weights` must be one finite number"):
        losses.Compound([losses.Dice()], [1, 2])
    with pytest.raises(TypeError):
        losses.Dice() + 1
