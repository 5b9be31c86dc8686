"""The decoders against published parameter counts, and their parts against loops in NumPy."""

import math

import keras
import numpy as np
import pytest

from segzoo import layers, models

RESNET34 = (64, 64, 128, 256, 512)
RESNET50 = (64, 256, 512, 1024, 2048)


def maps_of(channels):
    """A backbone whose maps have these channels and nothing else of a network."""
    image = x = keras.Input((None, None, 3))
    outputs = []
    for count in channels:
        x = keras.layers.Conv2D(count, 1, strides=2, name=f"to_{len(outputs)}")(x[..., :3])
        outputs.append(x)
    return keras.Model(image, outputs)


def count(variables):
    return sum(math.prod(v.shape) for v in variables)


@pytest.mark.parametrize(
    ("builder", "options", "channels", "decoder", "head"),
    [
        # Kirillov et al. and Chen et al. as torchvision and others count them.
        ("FPN", {}, RESNET34, 1_870_592, 129),
        ("FPN", {}, RESNET50, 2_607_872, 129),
        ("DeepLabV3", {}, RESNET34, 4_722_176, 257),
        ("DeepLabV3", {}, RESNET50, 16_125_440, 257),
        ("UPerNet", {"decoder_filters": 256}, RESNET34, 8_312_832, 257),
        ("UPerNet", {"decoder_filters": 256}, RESNET50, 13_768_704, 257),
        ("MANet", {}, RESNET34, 10_498_816, 17),
        pytest.param("MANet", {}, RESNET50, 123_931_816, 17, marks=pytest.mark.slow),
    ],
)
def test_a_decoder_has_the_published_number_of_weights(builder, options, channels, decoder, head):
    model = getattr(models, builder)(maps_of(channels), 1, **options)
    outside = [layer for layer in model.layers if layer.name != "backbone"]
    heads = [layer for layer in outside if layer.name == "logits"]
    assert count(v for layer in heads for v in layer.trainable_weights) == head
    total = count(v for layer in outside for v in layer.trainable_weights)
    assert total - head == decoder


def test_unet_3_plus_has_the_papers_27_million_weights():
    assert count(models.UNet3Plus(None, 1).trainable_variables) == 26_971_777


@pytest.mark.core
@pytest.mark.parametrize(("size", "bins"), [((7, 2), 3), ((6, 12), 6), ((5, 9), 2), ((4, 3), 1)])
def test_adaptive_pooling_is_the_mean_of_windows_that_overlap(size, bins, rng):
    x = rng.normal(size=(2, *size, 3)).astype("float32")
    y = keras.ops.convert_to_numpy(layers.AdaptiveAveragePooling2D(bins)(x))

    def window(i, length):
        return slice(i * length // bins, math.ceil((i + 1) * length / bins))

    for i in range(bins):
        for j in range(bins):
            expected = x[:, window(i, size[0]), window(j, size[1])].mean((1, 2))
            np.testing.assert_allclose(y[:, i, j], expected, atol=1e-6)


@pytest.mark.core
def test_position_attention_takes_a_softmax_over_all_pixels(rng):
    layer = layers.PositionAttention(3)
    x = rng.normal(size=(2, 3, 4, 5)).astype("float32")
    y = keras.ops.convert_to_numpy(layer(x))
    query, key, value = (
        keras.ops.convert_to_numpy(part(x)).reshape(2, 12, -1)
        for part in (layer.query, layer.key, layer.value)
    )
    for b in range(2):
        for i in range(12):
            weights = np.exp([query[b, i] @ key[b, j] for j in range(12)])
            expected = (weights / weights.sum()) @ value[b]
            np.testing.assert_allclose(
                y[b].reshape(12, 5)[i], x[b].reshape(12, 5)[i] + expected, atol=1e-5
            )


@pytest.mark.core
def test_an_attention_gate_multiplies_each_pixel_by_the_papers_alpha(rng):
    layer = layers.AttentionGate(3, strides=2)
    x = rng.normal(size=(1, 4, 6, 5)).astype("float32")
    gate = rng.normal(size=(1, 2, 3, 7)).astype("float32")
    y = keras.ops.convert_to_numpy(layer(x, gate))
    w_x, (w_g, b_g), (w_s, b_s) = (
        layer.of_skip.get_weights()[0],
        layer.of_gate.get_weights(),
        layer.score.get_weights(),
    )
    alpha = np.zeros((1, 2, 3, 1), "float32")
    for i in range(2):
        for j in range(3):
            patch = x[0, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
            total = np.einsum("hwc,hwcf->f", patch, w_x) + gate[0, i, j] @ w_g[0, 0] + b_g
            alpha[0, i, j] = 1 / (1 + np.exp(-(np.maximum(total, 0) @ w_s[0, 0] + b_s)))
    wide = keras.ops.convert_to_numpy(keras.ops.image.resize(alpha, (4, 6)))
    np.testing.assert_allclose(y, x * wide, atol=1e-5)


@pytest.mark.core
def test_scse_adds_the_map_weighed_by_channels_and_by_pixels(rng):
    layer = layers.SpatialChannelSqueezeExcitation(2)
    x = rng.normal(size=(2, 3, 4, 6)).astype("float32")
    y = keras.ops.convert_to_numpy(layer(x))
    gate = layer.channel_gate
    (w1, b1), (w2, b2) = gate.squeeze.get_weights(), gate.excite.get_weights()
    w3, b3 = layer.pixel_gate.get_weights()
    channel = np.maximum(x.mean((1, 2)) @ w1[0, 0] + b1, 0) @ w2[0, 0] + b2
    sigmoid = lambda z: 1 / (1 + np.exp(-z))  # noqa: E731
    expected = x * sigmoid(channel)[:, None, None] + x * sigmoid(x @ w3[0, 0] + b3)
    np.testing.assert_allclose(y, expected, atol=1e-5)


def test_every_node_of_unet_3_plus_sees_every_scale():
    model = models.UNet3Plus(None, 1, filters=(4, 6, 8, 10), skip_filters=3)
    for level in (1, 2, 4):
        skips = [f"skip_{source}_to_{level}" for source in (1, 2, 4, 8)]
        assert [model.get_layer(name).filters for name in skips] == [3] * 4
        assert model.get_layer(f"node_{level}").conv.kernel.shape == (3, 3, 12, 12)


def test_linknet_lines_a_transposed_pixel_up_with_the_strided_one_it_came_from():
    # A strided 3x3 convolution that takes its middle, and the transposed one that gives it back.
    backbone = maps_of((1, 1))
    model = models.LinkNet(backbone, 1, (32, 32, 3), final_filters=1, activation=None)
    x = np.zeros((1, 16, 16, 1), "float32")
    x[0, 5, 7] = 1
    upsample = model.get_layer("final_1")
    upsample.set_weights(
        [
            np.eye(3, dtype="float32")[1][:, None, None, None]
            * np.array([0, 1, 0])[None, :, None, None]
        ]
    )
    wide = keras.ops.convert_to_numpy(upsample(x))
    fitted = keras.ops.convert_to_numpy(
        model.get_layer("final_1_fit")(wide, np.zeros((1, 32, 32, 3)))
    )
    assert np.argwhere(fitted[0, ..., 0]).tolist() == [[10, 14]]
