"""`test_time_augmentation` beside NumPy's flips and turns of whole images."""

import keras
import numpy as np
import pytest

from segzoo import inference
from segzoo.inference import predict_tiles
from tests.inference.networks import (
    image,
    in_litert,
    in_onnx,
    network,
    numbers,
    served,
)

augment = inference.test_time_augmentation

# What each name does to (B, H, W, C), and what undoes it, in NumPy's words.
TRANSFORMS = {
    "identity": (lambda x: x, lambda y: y),
    "hflip": (lambda x: x[:, :, ::-1], lambda y: y[:, :, ::-1]),
    "vflip": (lambda x: x[:, ::-1], lambda y: y[:, ::-1]),
    "rot90": (lambda x: np.rot90(x, 1, (1, 2)), lambda y: np.rot90(y, -1, (1, 2))),
    "rot180": (lambda x: np.rot90(x, 2, (1, 2)), lambda y: np.rot90(y, -2, (1, 2))),
    "rot270": (lambda x: np.rot90(x, 3, (1, 2)), lambda y: np.rot90(y, -3, (1, 2))),
    "transpose": (lambda x: x.swapaxes(1, 2), lambda y: y.swapaxes(1, 2)),
    "antitranspose": (
        lambda x: np.rot90(x, 2, (1, 2)).swapaxes(1, 2),
        lambda y: np.rot90(y.swapaxes(1, 2), 2, (1, 2)),
    ),
}
FLIPS = ["identity", "hflip", "vflip", "rot180"]


def runs(model, x, names):
    """The outputs of each run, turned back: a list of arrays (names, B, H, W, classes)."""
    found = []
    for name in names:
        there, back = TRANSFORMS[name]
        outputs = numbers(model, np.ascontiguousarray(there(x)))
        found.append([back(y).astype("float64") for y in outputs])
    return [np.stack(outputs) for outputs in zip(*found, strict=True)]


@pytest.mark.core
@pytest.mark.parametrize(
    ("transforms", "names"),
    [
        ("flips", FLIPS),
        ("d4", list(TRANSFORMS)),
        *[([name], [name]) for name in TRANSFORMS],
        (["rot90", "hflip", "rot90"], ["rot90", "hflip", "rot90"]),
    ],
    ids=str,
)
def test_the_output_is_the_mean_of_the_outputs_turned_back(transforms, names):
    model, x = network(), image(21, 34)
    (found,) = numbers(augment(model, transforms=transforms), x)
    (expected,) = runs(model, x, names)
    np.testing.assert_allclose(found, expected.mean(axis=0), atol=1e-6)


@pytest.mark.core
@pytest.mark.parametrize("name", TRANSFORMS)
def test_every_transform_is_undone_exactly(name):
    x = keras.Input((None, None, 3))
    same = keras.Model(x, keras.layers.Identity()(x))
    pixels = image(5, 8)
    (found,) = numbers(augment(same, transforms=[name]), pixels)
    np.testing.assert_array_equal(found, pixels)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_on_squares_the_average_over_all_eight_turns_with_the_image(name):
    averaged, x = augment(network((32, 32, 3)), transforms="d4"), image(32, 32)
    there, back = TRANSFORMS[name]
    (plain,), (turned,) = numbers(averaged, x), numbers(averaged, there(x).copy())
    np.testing.assert_allclose(back(turned), plain, atol=1e-6)
    (single,), (single_turned,) = numbers(network(), x), numbers(network(), there(x).copy())
    if name != "identity":
        assert np.abs(back(single_turned) - single).max() > 1e-3


@pytest.mark.core
@pytest.mark.parametrize(("activation", "exclusive"), [("softmax", True), ("sigmoid", False)])
def test_the_geometric_mean_is_exp_of_the_mean_log(activation, exclusive):
    model, x = network(activation=activation), image(21, 34)
    (found,) = numbers(augment(model, transforms="d4", average="geometric"), x)
    (outputs,) = runs(model, x, TRANSFORMS)
    expected = np.exp(np.log(outputs).mean(axis=0))
    if exclusive:
        expected /= expected.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_geometric_mean_of_contradicting_certainties_is_finite():
    x = keras.Input((None, None, 2))
    beside = keras.layers.Conv2D(2, (1, 3), padding="same", use_bias=False)
    model = keras.Model(x, keras.layers.Softmax()(beside(x)))
    kernel = np.zeros((1, 3, 2, 2))
    kernel[0, 0] = np.eye(2)  # the score of a pixel is its left neighbor's; in a mirror, the right
    beside.set_weights([kernel])
    stripes = 1e4 * np.eye(2)[np.arange(16) // 2 % 2] * np.ones((1, 4, 1, 1))
    averaged = augment(model, transforms=["identity", "hflip"], average="geometric")
    (found,) = numbers(averaged, stripes.astype("float32"))
    np.testing.assert_allclose(found[:, :, 1:-1], 0.5, atol=1e-6)


@pytest.mark.core
@pytest.mark.parametrize("average", ["mean", "geometric"])
def test_spread_adds_the_variance_of_every_output(average):
    model, x = network(outputs=2), image(21, 34)
    averaged = augment(model, transforms="d4", average=average, spread=True)
    *means, first, last = numbers(averaged, x)
    assert len(means) == 2 and len(averaged.outputs) == 4
    for found, outputs in zip((first, last), runs(model, x, TRANSFORMS), strict=True):
        np.testing.assert_allclose(found, outputs.var(axis=0), rtol=1e-3, atol=1e-8)
    plain = numbers(augment(model, transforms="d4", average=average), x)
    for mean, other in zip(means, plain, strict=True):
        np.testing.assert_array_equal(mean, other)


@pytest.mark.core
def test_scales_resize_the_image_and_the_scores_back():
    model, x = network(), image(20, 34)
    (found,) = numbers(augment(model, transforms=["hflip"], scales=(1, 0.5, 1.25)), x)
    outputs = []
    for size in ((20, 34), (10, 17), (25, 43)):  # 42.5 is rounded up
        scaled = keras.ops.convert_to_numpy(keras.ops.image.resize(x, size))
        (y,) = runs(model, scaled, ["hflip"])
        outputs.append(keras.ops.convert_to_numpy(keras.ops.image.resize(y[0], (20, 34))))
    np.testing.assert_allclose(found, np.mean(outputs, axis=0), atol=1e-5)


def test_scales_of_integer_pixels_are_rounded():
    x = keras.Input((None, None, 3), dtype="uint8")
    model = keras.Model(x, keras.layers.Rescaling(1.0)(x))
    pixels = np.random.default_rng(0).integers(0, 256, (1, 20, 34, 3), "uint8")
    (found,) = numbers(augment(model, transforms=["identity"], scales=(0.5,)), pixels)
    half = keras.ops.image.resize(pixels.astype("float32"), (10, 17))
    expected = keras.ops.image.resize(keras.ops.round(half), (20, 34))
    np.testing.assert_allclose(found, keras.ops.convert_to_numpy(expected), atol=1e-3)


@pytest.mark.core
def test_one_predict_takes_images_of_any_shape():
    averaged = augment(network(), transforms=["rot90", "vflip"], scales=(0.75, 1))
    for size in ((21, 34), (34, 21), (40, 17)):
        found = averaged.predict(image(*size), verbose=0)
        (expected,) = numbers(averaged, image(*size))
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_weights_are_those_of_the_model():
    model = network()
    averaged = augment(model, transforms="d4")
    assert [w.path for w in averaged.weights] == [w.path for w in model.weights]
    assert all(a is b for a, b in zip(averaged.weights, model.weights, strict=True))
    assert averaged.name == "small_augmented" and averaged.input.name == "image"
    assert averaged.get_layer("small") is model


def test_outputs_of_16_bits_are_averaged_in_32():
    keras.config.set_dtype_policy("mixed_float16")
    averaged = augment(network(), transforms="d4", average="geometric", spread=True)
    assert [y.dtype for y in averaged.outputs] == ["float32", "float32"]
    keras.config.set_dtype_policy("float32")
    exact = augment(network(), transforms="d4", average="geometric")
    found, expected = numbers(averaged, image(21, 34)), numbers(exact, image(21, 34))
    np.testing.assert_allclose(found[0], expected[0], atol=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("run", [served, in_onnx, in_litert])
def test_it_exports(run, tmp_path):
    options = {"transforms": ["rot180", "rot90"], "scales": (0.75, 1)}
    averaged = augment(network(), average="geometric", spread=True, **options)
    exported(run, averaged, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("run", [served, in_onnx, in_litert])
@pytest.mark.parametrize("transforms", ["flips", "d4"])
def test_all_transforms_export(run, transforms, tmp_path):
    exported(run, augment(network(), transforms=transforms), tmp_path)


def exported(run, averaged, folder):
    """Assert that a runtime gives the averages, and the variances, which are smaller."""
    found, expected = run(averaged, image(21, 34), folder), numbers(averaged, image(21, 34))
    assert len(found) == len(expected)
    for y, other in zip(sorted(found, key=np.mean), sorted(expected, key=np.mean), strict=True):
        np.testing.assert_allclose(y, other, atol=1e-5)


def test_it_composes_with_tiles():
    averaged, pixels = augment(network(), transforms="d4"), image(50, 70)[0]
    found = predict_tiles(averaged, pixels, tile_size=(80, 80), verbose=0)
    padded = np.pad(pixels, ((0, 30), (0, 10), (0, 0)), mode="reflect")
    np.testing.assert_allclose(found, numbers(averaged, padded[None])[0][0, :50, :70], atol=1e-6)
    tiled = predict_tiles(averaged, pixels, tile_size=32, verbose=0)
    assert tiled.shape == found.shape and np.abs(tiled - found).mean() < 0.01


@pytest.mark.parametrize(
    ("argument", "options"),
    [
        ("transforms", {"transforms": "hflip"}),
        ("transforms", {"transforms": []}),
        ("transforms", {"transforms": ["hflip", "rot45"]}),
        ("transforms", {"transforms": None}),
        ("transforms", {"transforms": [["hflip"]]}),
        ("spread", {"spread": "no"}),
        ("scales", {"scales": [True]}),
        ("transforms", {"transforms": "d4", "model": network((21, 34, 3))}),
        ("transforms", {"transforms": ["transpose"], "model": network((None, 34, 3))}),
        ("scales", {"scales": ()}),
        ("scales", {"scales": 2.0}),
        ("scales", {"scales": (1, 0)}),
        ("scales", {"scales": (1, -2)}),
        ("scales", {"scales": (float("nan"),)}),
        ("scales", {"scales": (0.5, 1), "model": network((32, 32, 3))}),
        ("average", {"average": "median"}),
        ("average", {"average": "geometric", "model": network(activation=None)}),
        ("average", {"average": "geometric", "model": network(activation="tanh")}),
        ("model", {"model": "model.keras"}),
        ("model", {"model": keras.Sequential([keras.layers.Conv2D(1, 1)])}),
    ],
)
def test_what_cannot_be_right_is_an_error_that_names_the_argument(argument, options):
    with pytest.raises(ValueError, match=f"^`{argument}`"):
        augment(**{"model": network(), **options})


@pytest.mark.parametrize("scales", [[np.float32(0.5)], [np.int64(2)], np.array([0.5, 1])], ids=repr)
def test_scales_may_be_numpys(scales):
    averaged = augment(network(), transforms=["identity"], scales=scales)
    plain = augment(network(), transforms=["identity"], scales=[float(s) for s in scales])
    x = image(21, 34)
    np.testing.assert_array_equal(numbers(averaged, x)[0], numbers(plain, x)[0])


def test_fixed_sizes_take_what_keeps_them():
    assert augment(network((21, 34, 3)), transforms="flips").output_shape == (None, 21, 34, 4)
    assert augment(network((32, 32, 3)), transforms="d4").output_shape == (None, 32, 32, 4)
