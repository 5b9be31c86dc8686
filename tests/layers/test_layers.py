"""Every layer: shapes, serialization, and its numbers against NumPy."""

import keras
import numpy as np
import pytest
from keras import ops

from segzoo import layers
from tests.cases import LAYERS, TWO_INPUTS, make_layer

pytestmark = pytest.mark.core


def numpy(x):
    return ops.convert_to_numpy(x)


def model_around(name, sizes, channels=3):
    """A model that applies the layer; a layer of two inputs gets a smaller and a larger map."""
    image, layer = keras.Input((*sizes, channels)), make_layer(name)
    if name.startswith("CropLike"):
        return keras.Model(image, layer(image, image[:, 1:, 1:, :]))
    if name.partition("-")[0] in TWO_INPUTS:
        return keras.Model(image, layer(keras.layers.AveragePooling2D(3)(image), image))
    return keras.Model(image, layer(image))


@pytest.mark.parametrize("name", LAYERS)
def test_static_and_dynamic_shapes_agree_and_match_the_declared_ones(name, rng):
    x = rng.normal(size=(2, 9, 14, 3)).astype("float32")
    static, dynamic = model_around(name, (9, 14)), model_around(name, (None, None))
    dynamic.set_weights(static.get_weights())
    a, b = numpy(static(x)), numpy(dynamic(x))
    assert a.shape[1:] == static.output_shape[1:]
    np.testing.assert_allclose(a, b, atol=1e-5)
    np.testing.assert_allclose(dynamic.predict(x, verbose=0), a, atol=1e-5)
    np.testing.assert_allclose(dynamic.predict(x[:, :7, :8], verbose=0).shape[0], 2)


@pytest.mark.parametrize("name", LAYERS)
def test_a_saved_layer_gives_the_same_numbers(name, rng, tmp_path):
    x = rng.normal(size=(2, 9, 14, 3)).astype("float32")
    model = model_around(name, (None, None))
    model.save(tmp_path / "layer.keras")
    reloaded = keras.saving.load_model(tmp_path / "layer.keras")
    np.testing.assert_allclose(numpy(reloaded(x)), numpy(model(x)), atol=1e-6)
    layer = model.layers[-1]
    assert type(layer).from_config(layer.get_config()).get_config() == layer.get_config()


def bilinear_oracle(x, height, width, align_corners=False):
    """Bilinear interpolation of one map (H, W), one output pixel at a time."""
    rows, columns = x.shape
    out = np.zeros((height, width))

    def place(i, n_out, n_in):
        if align_corners:
            p = i * (n_in - 1) / max(n_out - 1, 1)
        else:
            p = (i + 0.5) * n_in / n_out - 0.5
        p = min(max(p, 0), n_in - 1)
        low = int(np.floor(p))
        return low, min(low + 1, n_in - 1), p - low

    for i in range(height):
        y0, y1, fy = place(i, height, rows)
        for j in range(width):
            x0, x1, fx = place(j, width, columns)
            top = (1 - fx) * x[y0, x0] + fx * x[y0, x1]
            bottom = (1 - fx) * x[y1, x0] + fx * x[y1, x1]
            out[i, j] = (1 - fy) * top + fy * bottom
    return out


@pytest.mark.parametrize("size", [(4, 5), (8, 10), (7, 13), (1, 3), (3, 2)])
@pytest.mark.parametrize("align_corners", [False, True])
def test_resize_like_is_bilinear_interpolation(size, align_corners, rng):
    x = rng.normal(size=(1, 4, 5, 2)).astype("float32")
    y = layers.ResizeLike(align_corners=align_corners)(x, np.zeros((1, *size, 1), "float32"))
    for channel in range(2):
        expected = bilinear_oracle(x[0, ..., channel], *size, align_corners)
        np.testing.assert_allclose(numpy(y)[0, ..., channel], expected, atol=1e-5)


@pytest.mark.parametrize("size", [(8, 10), (7, 13), (3, 2)])
def test_resize_like_nearest_takes_the_pixel_below_the_center(size, rng):
    x = rng.normal(size=(1, 4, 5, 2)).astype("float32")
    y = layers.ResizeLike("nearest")(x, np.zeros((1, *size, 1), "float32"))
    rows = [int(np.floor((i + 0.5) * 4 / size[0])) for i in range(size[0])]
    columns = [int(np.floor((j + 0.5) * 5 / size[1])) for j in range(size[1])]
    np.testing.assert_array_equal(numpy(y), x[:, rows][:, :, columns])


def test_resize_like_agrees_with_keras_resize(rng):
    x = rng.normal(size=(2, 6, 9, 4)).astype("float32")
    expected = ops.image.resize(x, (17, 31), interpolation="bilinear")
    image = keras.Input((None, None, 4))
    reference = keras.Input((None, None, 1))
    model = keras.Model([image, reference], layers.ResizeLike()(image, reference))
    y = model.predict([x, np.zeros((2, 17, 31, 1), "float32")], verbose=0)
    np.testing.assert_allclose(y, numpy(expected), atol=1e-5)


def test_a_conv_block_is_convolution_then_normalization_then_activation(rng):
    x = rng.normal(size=(2, 5, 6, 3)).astype("float32")
    block = layers.ConvBlock(4, 1, activation="relu")
    block.build(x.shape)
    kernel = rng.normal(size=(1, 1, 3, 4))
    gamma, beta, mean = rng.normal(size=(3, 4))
    variance = rng.uniform(0.5, 2, 4)
    block.set_weights([kernel, gamma, beta, mean, variance])
    expected = (x @ kernel[0, 0] - mean) / np.sqrt(variance + 1e-3) * gamma + beta
    np.testing.assert_allclose(numpy(block(x, training=False)), np.maximum(expected, 0), atol=1e-5)


@pytest.mark.parametrize(
    ("channels", "groups"), [(256, 32), (64, 8), (48, 6), (16, 2), (7, 1), (1, 1)]
)
def test_group_normalization_leaves_eight_channels_to_a_group(channels, groups):
    block = layers.ConvBlock(channels, normalization="group")
    assert block.norm.groups == groups


def test_aspp_sees_as_far_as_its_largest_rate(rng):
    aspp = layers.AtrousSpatialPyramidPooling(4, dilations=(1, 3), normalization=None)
    x = rng.normal(size=(1, 21, 21, 2)).astype("float32")
    aspp(x)
    aspp.pooling.set_weights([np.zeros_like(w) for w in aspp.pooling.get_weights()])
    aspp.activation = keras.activations.linear
    base = numpy(aspp(x))
    moved = x.copy()
    moved[0, 10, 10] += 100.0
    touched = np.argwhere(np.abs(numpy(aspp(moved)) - base).max(-1)[0] > 1e-6) - 10
    assert np.abs(touched).max() == 3
    assert {tuple(np.abs(offset)) for offset in touched} <= {
        (a, b) for r in (0, 1, 3) for a in (0, r) for b in (0, r)
    }


def test_aspp_pools_over_the_whole_image(rng):
    aspp = layers.AtrousSpatialPyramidPooling(4, dilations=(1,), normalization="layer")
    x = rng.normal(size=(1, 9, 12, 2)).astype("float32")
    a, b = numpy(aspp.pooling(aspp.mean(x))), numpy(aspp.pooling(x.mean((1, 2), keepdims=True)))
    np.testing.assert_allclose(a, b, atol=1e-5)
    spread = numpy(aspp.spread(a, x))
    np.testing.assert_allclose(spread, np.broadcast_to(a, spread.shape), atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.ConvBlock(0), "`filters`.*filters=0"),
        (lambda: layers.ConvBlock(4, 2.5), "`kernel_size`.*2.5"),
        (lambda: layers.ConvBlock(4, strides=2, dilation_rate=2), "strides=2, dilation_rate=2"),
        (lambda: layers.ConvBlock(4, normalization="bach"), "`normalization`.*'bach'"),
        (lambda: layers.ResizeLike("cubic"), "`interpolation`.*'cubic'"),
        (lambda: layers.Upsample(0), "`factor`.*factor=0"),
        (lambda: layers.AtrousSpatialPyramidPooling(4, ()), "`dilations`"),
        (lambda: layers.AtrousSpatialPyramidPooling(4, 6), "`dilations`.*6"),
        (lambda: layers.AtrousSpatialPyramidPooling(4, dropout=1.5), "`dropout`.*1.5"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
