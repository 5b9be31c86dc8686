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
    "a small image": (lambda x, y: (x[:, :20], y[:, :20]), "at least 32 x 32"),
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
    model = models.UNet("mobilenetv2", 3, backbone_weights=None)
    model.compile("sgd", losses.Dice(ignore_class=255))
    assert segzoo.check_batch(model, x, y)
    for scaled in (x / 255, (x * 256).astype("uint16")):
        with pytest.raises(ValueError, match=r"normalizes 0\.\.255"):
            segzoo.check_batch(model, scaled, y)


def test_several_outputs_take_a_list_of_truths(batch):
    x, y = batch
    model = models.UNetPlusPlus(None, 3, (None, None, 3), filters=(3, 4, 5), deep_supervision=True)
    model.compile("sgd", [losses.Dice(ignore_class=255)] * 2)
    assert segzoo.check_batch(model, x, [y, y]).count("truth") == 2
    with pytest.raises(ValueError, match=r"`\[y\] \* 2`"):
        segzoo.check_batch(model, x, y)


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
