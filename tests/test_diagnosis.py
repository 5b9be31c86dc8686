"""`segzoo.check_batch` finds each mistake, names it, and lists all of them at once."""

import keras
import numpy as np
import pytest

import segzoo
from segzoo import losses, metrics, models


def compiled(classes=3, loss=None, activation="auto", weighted=None, **options):
    image = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(classes, 1)(image)
    name = activation
    if activation == "auto":
        name = "sigmoid" if classes == 1 else "softmax"
    model = keras.Model(image, keras.layers.Activation(name, name="output")(x))
    given = options.get("metrics", [metrics.IoU(ignore_class=255)])
    model.compile(
        "sgd", loss or losses.Dice(ignore_class=255), metrics=given, weighted_metrics=weighted
    )
    return model


@pytest.fixture
def batch(rng):
    x = rng.uniform(0, 255, (2, 40, 36, 3)).astype("float32")
    y = rng.integers(0, 3, (2, 40, 36)).astype("uint8")
    y[:, :4] = 255
    return x, y


def one_hot(labels, classes=3):
    return np.eye(classes, dtype="float32")[labels % classes]


def overlapping(y):
    dense = one_hot(y)
    dense[0, 0, 0] = 1
    return dense


def without_a_class(y):
    dense = one_hot(y)
    dense[0, :20] = 0
    return dense


def test_a_right_batch_gets_a_summary(batch):
    summary = segzoo.check_batch(compiled(), *batch)
    assert summary.startswith("images (2, 40, 36, 3) float32, values ")
    assert "class 0" in summary and "class 2" in summary


def test_a_class_that_never_occurs_is_said(batch):
    x, y = batch
    assert "without a pixel in this batch: 2" in segzoo.check_batch(
        compiled(), x, np.where(y == 2, 0, y)
    )


WRONG = {
    "no labels of 0..2": (lambda x, y: (x, np.where(y == 1, 7, y)), "has the value 7"),
    "void that nobody ignores": (
        lambda x, y: (x, np.where(y == 255, 254, y)),
        "`ignore_class=254`",
    ),
    "labels divided by 255": (lambda x, y: (x, y / 255), "no whole numbers"),
    "a bilinear resize": (lambda x, y: (x, np.where(y == 1, 0.5, y)), "bilinear"),
    "channels first images": (lambda x, y: (x.transpose(0, 3, 1, 2), y), "channels last"),
    "a picture of a mask": (
        lambda x, y: (x, np.stack([y, y, y], -1)),
        "RGB picture of a mask",
    ),
    "channels first masks": (
        lambda x, y: (x, one_hot(y).transpose(0, 3, 1, 2)),
        "channels last",
    ),
    "overlapping classes": (lambda x, y: (x, overlapping(y)), "several classes at"),
    "NaN in the image": (lambda x, y: (np.where(x < 9, np.nan, x), y), "`x` has NaN"),
    "another size": (lambda x, y: (x, y[:, :-1]), "`y` must be"),
    "height and width exchanged": (lambda x, y: (x, y.transpose(0, 2, 1)), "are exchanged"),
    "one image without a batch": (lambda x, y: (x[0], y), "`x[None]`"),
    "classes that begin at 1": (lambda x, y: (x, np.where(y == 255, y, y + 1)), "`y - 1`"),
}


@pytest.mark.parametrize("name", WRONG)
def test_each_mistake_is_named(name, batch):
    spoil, message = WRONG[name]
    with pytest.raises(ValueError) as error:
        segzoo.check_batch(compiled(), *spoil(*batch))
    assert message in str(error.value)


def test_a_pixel_of_no_class_is_named_unless_it_is_ignored(batch):
    x, y = batch
    y = without_a_class(y)
    assert segzoo.check_batch(compiled(), x, y)
    strict = compiled(loss=losses.Dice(), metrics=[metrics.IoU()])
    with pytest.raises(ValueError, match="no class at"):
        segzoo.check_batch(strict, x, y)


def test_classes_stand_for_losses_and_metrics_as_in_compile(batch):
    x, y = batch
    y = y % 3
    assert segzoo.check_batch(compiled(loss=losses.Dice, metrics=[metrics.IoU]), x, y)


def test_a_loss_of_several_classes_is_refused_for_one(batch):
    x, y = batch
    model = compiled(1, loss="sparse_categorical_crossentropy", metrics=[])
    with pytest.raises(ValueError, match=r"the model has one: take `segzoo.losses.BinaryCross"):
        segzoo.check_batch(model, x, y % 2)


def test_an_error_of_another_library_is_cut_short(batch):
    x, y = batch

    def loud(y_true, y_pred):
        raise TypeError(f"no, not this: {'1 ' * 9999}")

    with pytest.raises(ValueError, match="no, not this") as error:
        segzoo.check_batch(compiled(loss=loud, metrics=[]), x, y % 3)
    assert len(str(error.value)) < 1500


def test_nothing_but_void_is_said(batch):
    x, y = batch
    assert "no pixel counts" in segzoo.check_batch(compiled(), x, np.full_like(y, 255))


def test_all_faults_stand_in_one_message(batch):
    x, y = batch
    with pytest.raises(ValueError, match="3 faults") as error:
        segzoo.check_batch(compiled(), x[..., :2], y / 255, np.ones((2, 3)))
    text = str(error.value)
    assert "2 channels" in text and "no whole numbers" in text and "`sample_weight`" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activation": None}, "from_logits=True"),
        ({"loss": losses.Dice(from_logits=True, ignore_class=255)}, "leave it out"),
        ({"loss": losses.Dice(multilabel=True, ignore_class=255)}, "exclude one another"),
        ({"activation": "sigmoid"}, "multilabel=True"),
    ],
)
def test_activation_and_losses_have_to_agree(options, message, batch):
    with pytest.raises(ValueError, match=message):
        segzoo.check_batch(compiled(**options), *batch)


def test_two_metrics_of_one_key_are_named(batch):
    twice = [
        metrics.IoU(average=None, ignore_class=255),
        metrics.IoU(average=None, ignore_class=255),
    ]
    with pytest.raises(ValueError, match=r"keys .*iou"):
        segzoo.check_batch(compiled(metrics=twice), *batch)
    with pytest.raises(ValueError, match=r"keys .*iou"):
        segzoo.check_batch(compiled(metrics=twice[:1], weighted=twice[:1]), *batch)


def test_images_in_0_to_1_are_named_where_the_model_normalizes_0_to_255(batch):
    x, y = batch
    image = keras.Input((None, None, 3))
    normal = segzoo.layers.ImageNormalization(127.5, 127.5)
    inner = keras.Model(image, normal(image), name="backbone")  # as in a builder
    model = keras.Model(image, keras.layers.Conv2D(3, 1, activation="softmax")(inner(image)))
    model.compile("sgd", losses.Dice(ignore_class=255))
    assert segzoo.check_batch(model, x, y)
    assert segzoo.check_batch(model, np.zeros_like(x), y)
    for scaled in (x / 255, (x * 256).astype("uint16")):
        with pytest.raises(ValueError, match=r"normalizes 0\.\.255"):
            segzoo.check_batch(model, scaled, y)
    normal.mean, normal.std = 0.5, 0.2  # of images in 0..1
    assert segzoo.check_batch(model, x / 255, y)
    normal.mean, normal.std = 1200.0, 600.0  # of a satellite's
    assert segzoo.check_batch(model, (x * 30).astype("uint16"), y)


@pytest.mark.parametrize(
    ("scale", "offset", "most", "takes"),
    [
        (1 / 255, 0, 255, True),
        (1 / 127.5, -1, 255, True),
        (1 / 255, 0, 1, False),
        (1 / 10_000, 0, 10_000, True),
        (1 / 65_535, 0, 65_535, True),
    ],
)
def test_a_rescaling_of_more_than_8_bits_takes_more(scale, offset, most, takes, batch):
    x, y = batch
    image = keras.Input((None, None, 3))
    rescaled = keras.layers.Rescaling(scale, offset)(image)
    model = keras.Model(image, keras.layers.Conv2D(3, 1, activation="softmax")(rescaled))
    model.compile("sgd", losses.Dice(ignore_class=255))
    said = message(model, most * (x / 255), y)
    assert (said == "") == takes, said


def test_several_outputs_take_a_list_of_truths(batch):
    x, y = batch
    model = models.UNetPlusPlus(None, 3, (None, None, 3), filters=(3, 4, 5), deep_supervision=True)
    model.compile("sgd", [losses.Dice(ignore_class=255)] * 2)
    assert segzoo.check_batch(model, x, [y, y]).count("truth") == 2
    with pytest.raises(ValueError, match=r"`\[y\] \* 2`"):
        segzoo.check_batch(model, x, y)


def test_what_is_no_batch_is_refused(batch):
    data = keras.utils.PyDataset()
    for argument, arrays in (("x", (5, batch[1])), ("x", (data, batch[1])), ("y", (batch[0], 5))):
        with pytest.raises(ValueError, match=f"`{argument}` must be an array.*next\\(iter"):
            segzoo.check_batch(compiled(), *arrays)


def test_a_model_that_was_not_compiled_is_refused(batch):
    model = models.UNet(None, 3, decoder_filters=(4, 4))
    with pytest.raises(ValueError, match="compiled"):
        segzoo.check_batch(model, *batch)


def test_a_binary_mask_of_0_and_255_is_named(batch):
    x, y = batch
    model = compiled(1, losses.BCEDice(), metrics=[metrics.IoU()])
    with pytest.raises(ValueError, match="the value 255"):
        segzoo.check_batch(model, x, np.where(y == 1, 255, 0))
    assert segzoo.check_batch(model, x, (y == 1).astype("uint8")[..., None])


def small(outputs, *names):
    """A model of 3 channels with a convolution for each (classes, activation)."""
    image = keras.Input((None, None, 3), name="image")
    maps = [
        keras.layers.Conv2D(classes, 1, activation=activation, name=name)(image)
        for (classes, activation), name in zip(outputs, names, strict=True)
    ]
    return keras.Model(image, maps if len(maps) > 1 else maps[0])


def message(model, *batch):
    """What is wrong with a batch; empty where nothing is."""
    try:
        segzoo.check_batch(model, *batch)
    except ValueError as error:
        return str(error)
    return ""


RIGHT = {
    "labels with a last axis of one": lambda x, y: (x, y[..., None]),
    "one-hot rows with void entries": lambda x, y: (
        x,
        np.where((y == 255)[..., None], 255, one_hot(y)),
    ),
    "weights of images": lambda x, y: (x, y, np.ones(2)),
    "weights of pixels": lambda x, y: (x, y, np.ones((2, 40, 36, 1))),
    "backend tensors": lambda x, y: tuple(map(keras.ops.convert_to_tensor, (x, y))),
    "a tuple of one": lambda x, y: ((x,), (y,)),
    "a mapping": lambda x, y: ({"image": x}, y),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_batch_in_any_form_passes(name, batch):
    model = small([(3, "softmax")], "out")
    loss = losses.Dice(ignore_class=255) + losses.CategoricalCrossentropy(ignore_class=255)
    model.compile("sgd", loss, metrics=[metrics.IoU(ignore_class=255), *loss.parts])
    assert message(model, *RIGHT[name](*batch)) == ""


def test_right_models_pass(batch, rng):
    x, y = batch
    y = np.where(y == 255, 0, y)
    dense = rng.integers(0, 2, (2, 40, 36, 3))
    for activation, loss, metric, truth in (
        # overlapping classes, of logits and of probabilities
        (None, losses.BCEDice(from_logits=True), metrics.IoU(from_logits=True, multilabel=True), 0),
        ("sigmoid", losses.BCEDice(), metrics.IoU(multilabel=True), 0),
        ("sigmoid", "binary_crossentropy", "accuracy", 0),
        # each class by itself, of exclusive classes
        ("softmax", losses.BCEDice(), metrics.IoU(), 1),
        ("softmax", "sparse_categorical_crossentropy", "acc", 1),
        (None, keras.losses.SparseCategoricalCrossentropy(from_logits=True), None, 1),
        # numbers that are no classes
        (None, "mse", "mae", 2),
        (None, lambda a, b: keras.ops.mean(keras.ops.abs(a - b)), None, 2),
    ):
        model = small([(3, activation)], "out")
        model.compile("sgd", loss, metrics=None if metric is None else [metric])
        target = (dense, y, rng.normal(size=dense.shape))[truth]
        assert message(model, x, target) == "", (activation, loss)
    soft = small([(1, "sigmoid")], "out")
    soft.compile("sgd", losses.BCEDice(), metrics=[metrics.IoU()])
    assert message(soft, x, rng.uniform(size=(2, 40, 36))) == ""
    assert message(soft, np.zeros_like(x), np.zeros((2, 40, 36), bool)) == ""


def test_a_mistake_of_keras_s_own_losses_and_metrics_is_named(batch):
    x, y = batch
    y = np.where(y == 255, 0, y)
    for activation, loss, metric, said in (
        (None, "sparse_categorical_crossentropy", None, "`from_logits=True`"),
        (None, losses.dice_loss, None, "`dice_loss` takes probabilities"),
        ("sigmoid", "sparse_categorical_crossentropy", None, "takes them as exclusive"),
        ("softmax", losses.Dice(), keras.metrics.MeanIoU(3), "cuts scores to integers"),
        ("softmax", losses.Dice(), metrics.IoU(class_names=["a", "b"]), "`iou`: `y_pred` has 3"),
    ):
        model = small([(3, activation)], "out")
        model.compile("sgd", loss, metrics=None if metric is None else [metric])
        assert said in message(model, x, y), said


def test_who_does_not_ignore_a_value_is_named(batch):
    model = compiled(metrics=[metrics.IoU(), metrics.DiceScore(ignore_class=255)])
    assert "and not ignored by `iou`: give it `ignore_class=255` too" in message(model, *batch)


def test_masks_of_one_class(batch):
    x, y = batch
    model = small([(1, "sigmoid")], "out")
    model.compile("sgd", losses.BCEDice())
    assert "if 255 is the object, `y > 127`" in message(model, x, np.where(y == 1, 255, 0))
    assert "`y > 127`, or `y / 255` for a soft" in message(model, x, 85 * np.minimum(y, 3))
    assert "`y > 127`" not in message(model, x, np.where(y == 2, 255, y))  # 0, 1 and void
    assert "divided by 255?" in message(model, x, (y == 1) / 255)
    assert "has 3 channels, the model 1 class; an RGB" in message(model, x, one_hot(y))


def test_overlapping_classes_of_logits_need_metrics_that_take_them(batch):
    x, y = batch
    model = small([(3, None)], "out")
    loss = losses.BinaryCrossentropy(from_logits=True)
    model.compile("sgd", loss, metrics=[metrics.IoU(from_logits=True)])
    dense = overlapping(np.where(y == 255, 0, y))
    assert "but `iou` takes them as exclusive" in message(model, x, dense)


def test_each_output_by_its_name(batch, rng):
    x, y = batch
    y = np.where(y == 255, 0, y)
    lands = small([(3, "softmax"), (1, "sigmoid")], "land", "road")
    heads = {"land": lands.outputs[0], "road": lands.outputs[1]}
    pooled = keras.layers.GlobalAveragePooling2D()(lands.inputs[0])
    present = keras.layers.Dense(3, "sigmoid", name="present")(pooled)
    named = keras.Model(lands.inputs[0], {**heads, "present": present})
    loss = {"land": losses.Dice(), "road": losses.BCEDice(), "present": "binary_crossentropy"}
    named.compile("sgd", loss, metrics={"land": [metrics.IoU()], "road": [metrics.IoU(name="r")]})
    truth = {"land": y, "road": y == 1, "present": rng.integers(0, 2, (2, 3))}
    summary = segzoo.check_batch(named, x, truth)
    assert "land: truth (2, 40, 36)" in summary and "present: truth (2, 3)" in summary
    assert "road: `y` has the value 2" in message(named, x, {**truth, "road": y})
    assert "nothing for the output 'road'" in message(named, x, {"land": y, "present": y[:, 0]})
    lands.compile("sgd", [losses.Dice(), losses.BCEDice()], metrics=[[metrics.IoU()]] * 2)
    weights = [np.ones(2), np.ones((2, 40, 36))]
    assert message(lands, x, [y, y == 1], weights) == ""
    assert "`y` must be a list of 2" in message(lands, x, y)
    # Both would write the same keys.
    classes = [metrics.IoU(average=None)]
    lands.compile("sgd", [losses.Dice(), losses.BCEDice()], metrics=[classes, classes])
    assert "keys iou" in message(lands, x, [y, y == 1])


def test_two_images_into_one_encoder(batch):
    x, y = batch
    before, after = (keras.Input((None, None, 3), name=name) for name in ("before", "after"))
    both = keras.layers.Concatenate()([before, after])
    model = keras.Model([before, after], keras.layers.Conv2D(1, 1, activation="sigmoid")(both))
    model.compile("sgd", losses.BCEDice())
    assert segzoo.check_batch(model, [x, x], y == 1).count("images") == 2
    assert message(model, {"before": x, "after": x}, y == 1) == ""
    assert "after: `x` has 2 channels" in message(model, [x, x[..., :2]], y == 1)
    assert "`x` must be a list of 2, one for each input" in message(model, x, y == 1)


def test_what_stands_in_the_place_of_something_else(batch):
    x, y = batch
    y = np.where(y == 255, 0, y)
    model = small([(3, "softmax")], "out")
    model.compile("sgd", losses.Dice(), [metrics.IoU()])  # as older programs call it
    assert "third argument of `compile` is `loss_weights`" in message(model, x, y)
    loss = losses.Dice() + losses.CategoricalCrossentropy()
    model.compile("sgd", loss, weighted_metrics=[metrics.iou_score, *loss.parts])
    said = message(model, x, y, np.ones((2, 40, 36)))
    for title in ("`iou_score`", "`dice`", "`categorical_crossentropy`"):
        assert f"{title} cannot stand in `weighted_metrics`" in said
    kept = losses.CategoricalCrossentropy(reduction="none")
    model.compile("sgd", loss, weighted_metrics=[kept, metrics.IoU()])
    assert message(model, x, y, np.ones((2, 40, 36))) == ""
    # A loss that matches pixels has no use for their weights.
    model.compile("sgd", losses.LovaszSoftmax())
    assert "which have no weights of their own" in message(model, x, y, np.ones((2, 40, 36)))


def test_the_model_in_use_is_left_as_it_is(batch):
    model = compiled()
    model.evaluate(*batch, verbose=0)
    segzoo.check_batch(model, *batch)
    assert all(not keras.ops.any(v) for m in model.metrics for v in m.variables)


def test_an_image_below_32_is_named_for_builders_alone(batch):
    x, y = batch[0][:, :20, :20], batch[1][:, :20, :20]
    assert message(compiled(), x, y) == ""
    model = models.UNet(None, 3, (None, None, 3), decoder_filters=(4, 4))
    model.compile("sgd", losses.Dice(ignore_class=255))
    assert "at least 32 x 32" in message(model, x, y)
