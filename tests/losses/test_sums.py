"""Sums of losses, some of them Keras's own: wrong batches, forms of labels, weights, dtypes."""

import keras
import numpy as np
import pytest

from segzoo import losses, models


def of_one_class():
    return losses.Dice() + keras.losses.BinaryCrossentropy()


def with_keras_first():
    return keras.losses.BinaryCrossentropy() + 0.5 * losses.BinaryFocal()


def with_one_that_ignores():
    return losses.Dice(ignore_class=255) + losses.BinaryFocal()


def of_labels():
    return losses.Dice() + keras.losses.SparseCategoricalCrossentropy()


# Outside of XLA the last one ends in an error of TensorFlow's.
@pytest.mark.parametrize(
    ("classes", "build", "jit"),
    [
        (1, of_one_class, False),
        (1, of_one_class, True),
        (1, with_keras_first, False),
        (1, with_one_that_ignores, False),
        (3, of_labels, True),
    ],
)
def test_a_wrong_batch_is_nan_and_spares_the_weights(classes, build, jit, rng):
    model = models.UNet(None, classes, decoder_filters=(4, 4), normalization=None)
    model.compile(keras.optimizers.SGD(0.1), build(), jit_compile=jit)
    x = rng.random((2, 32, 40, 3)).astype("float32")
    before = model.get_weights()
    wrong = 255 * rng.integers(0, 2, (2, 32, 40, 1))
    assert np.isnan(model.fit(x, wrong, verbose=0).history["loss"][0])
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    right = rng.integers(0, 2, (2, 32, 40, 1))
    assert np.isfinite(model.fit(x, right, verbose=0).history["loss"][0])
    assert any((a != b).any() for a, b in zip(before, model.get_weights(), strict=True))


@pytest.mark.core
@pytest.mark.parametrize("weights", [None, "images", "pixels", "pixels with an axis"])
@pytest.mark.parametrize("axis", [False, True])
def test_one_class_takes_every_form_of_labels_and_weights(axis, weights, rng):
    # A square, so that an axis in another's place would fit.
    y_true, y_pred = rng.integers(0, 2, (3, 6, 6)), rng.random((3, 6, 6, 1)).astype("float32")
    shapes = {"images": 3, "pixels": (3, 6, 6), "pixels with an axis": (3, 6, 6, 1)}
    sample_weight = None if weights is None else rng.random(shapes[weights]).astype("float32")
    ours = losses.Dice() + losses.BinaryCrossentropy()
    mixed = losses.Dice() + keras.losses.BinaryCrossentropy()
    truth = y_true[..., None] if axis else y_true
    expected = float(ours(truth, y_pred, sample_weight))
    assert float(mixed(truth, y_pred, sample_weight)) == pytest.approx(expected, rel=1e-5)


def test_parts_of_different_dtypes_are_added_in_the_widest(rng):
    truth = np.eye(3)[rng.integers(0, 3, (2, 5, 7))]
    scores = rng.dirichlet(np.ones(3), (2, 5, 7))  # float64
    mixed = losses.Dice() + keras.losses.CategoricalCrossentropy()
    ours = losses.Dice() + losses.CategoricalCrossentropy()
    assert float(mixed(truth, scores)) == pytest.approx(float(ours(truth, scores)), rel=1e-5)
    wide = losses.Dice(dtype="float64") + losses.CategoricalFocal()
    found = wide(truth, scores.astype("float32"))
    assert keras.backend.standardize_dtype(found.dtype) == "float64"


@pytest.mark.core
def test_an_images_loss_is_added_to_its_own_pixels(rng):
    # As wide as there are images, so that an image's loss would fit a column.
    truth, scores = rng.integers(0, 2, (5, 3, 5, 1)), rng.random((5, 3, 5, 1)).astype("float32")
    found = losses.BCEDice(per_image=True, reduction="none")(truth, scores)
    pixels = losses.BinaryCrossentropy(reduction="none")(truth, scores)
    images = losses.Dice(per_image=True, reduction="none")(truth, scores)
    pixels, images, found = map(keras.ops.convert_to_numpy, (pixels, images, found))
    np.testing.assert_allclose(found, pixels + images[:, None, None], rtol=1e-6)


def test_bce_dice_keeps_its_dtype():
    loss = losses.BCEDice(dtype="float64")
    assert loss.get_config()["dtype"] == "float64"
    assert losses.BCEDice.from_config(loss.get_config()).dtype == "float64"
