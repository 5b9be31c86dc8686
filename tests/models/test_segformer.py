"""SegFormer: its size to the last weight, and its decoder beside the paper's equation."""

import keras
import numpy as np
import pytest
from keras import ops

from segzoo import backbones, models
from tests.cases import tiny_backbone

NARROW, WIDE = (32, 64, 160, 256), (64, 128, 320, 512)
# Channels of the maps, width of the decoder, and trainable parameters with 150 classes.
PUBLISHED = {
    "mitb0": (NARROW, 256, 3_752_694),
    "mitb1": (WIDE, 256, 13_715_798),
    "mitb2": (WIDE, 768, 27_461_974),
    "mitb3": (WIDE, 768, 47_337_814),
    "mitb4": (WIDE, 768, 64_108_374),
    "mitb5": (WIDE, 768, 84_708_694),
}


def trainable(model):
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


def stand_in(channels):
    """Maps of strides 4 to 32 with these channels, from hardly any weights."""
    image = keras.Input((None, None, 3))
    maps = [
        keras.layers.Conv2D(width, 1, strides=4 * 2**stage, use_bias=False, name=f"map_{stage}")(
            image
        )
        for stage, width in enumerate(channels)
    ]
    return keras.Model(image, maps)


@pytest.mark.parametrize("name", PUBLISHED)
def test_encoder_and_decoder_have_the_published_number_of_parameters(name):
    channels, filters, expected = PUBLISHED[name]
    row = backbones.info(name)
    assert (row.strides, row.channels) == ((4, 8, 16, 32), channels)
    backbone = stand_in(channels)
    model = models.SegFormer(backbone, 150, decoder_filters=filters)
    assert row.parameters + trainable(model) - trainable(backbone) == expected


@pytest.mark.parametrize(
    ("name", "width"), [("mitb0", 256), pytest.param("mitb2", 768, marks=pytest.mark.slow)]
)
def test_the_width_of_the_decoder_is_the_published_one_unless_given(name, width):
    model = models.SegFormer(name, 150, backbone_weights=None)
    assert trainable(model) == PUBLISHED[name][2]
    assert model.get_layer("logits").kernel.shape[2] == width
    other = models.SegFormer(tiny_backbone(), 2, decoder_filters=24)
    assert other.get_layer("logits").kernel.shape[2] == 24
    assert models.SegFormer(tiny_backbone()).get_layer("logits").kernel.shape[2] == 256


@pytest.mark.core
def test_the_decoder_is_concatenation_and_one_convolution(rng):
    """Each map is fused at its own size; the paper resizes, concatenates, then fuses."""
    model = models.SegFormer(tiny_backbone(), 3, decoder_filters=6, activation=None)
    values = [rng.normal(size=w.shape) for w in model.get_weights()]
    for weight, value in zip(model.weights, values, strict=True):
        weight.assign(np.abs(value) if weight.name == "moving_variance" else value)
    x = rng.uniform(0, 255, (2, 75, 90, 3)).astype("float32")

    maps = [model.get_layer(f"level_{level}").output for level in (4, 8, 16, 32)]
    maps = [ops.convert_to_numpy(map) for map in keras.Model(model.input, maps)(x)]
    size = maps[0].shape[1:3]

    def weights(name):
        return [ops.convert_to_numpy(weight) for weight in model.get_layer(name).weights]

    def linear(x, kernel, bias=0.0):
        return x @ kernel[0, 0] + bias

    resized, kernels = [], []
    for level, map in zip((4, 8, 16, 32), maps, strict=True):
        y = linear(map, *weights(f"linear_{level}"))
        resized.append(ops.convert_to_numpy(ops.image.resize(y, size, "bilinear")))
        kernels.append(weights(f"fuse_{level}")[0])
    fused = linear(np.concatenate(resized, -1), np.concatenate(kernels, 2))
    gamma, beta, mean, variance = weights("fuse_norm")
    fused = np.maximum((fused - mean) / np.sqrt(variance + 1e-3) * gamma + beta, 0)
    logits = ops.image.resize(linear(fused, *weights("logits")), x.shape[1:3], "bilinear")
    expected = ops.convert_to_numpy(logits)
    atol = 1e-5 * np.abs(expected).max()
    np.testing.assert_allclose(ops.convert_to_numpy(model(x)), expected, atol=atol)


def test_a_map_of_stride_2_is_left_out():
    names = [layer.name for layer in models.SegFormer(tiny_backbone()).layers]
    assert "linear_4" in names and "linear_2" not in names
    coarse = models.SegFormer(tiny_backbone(), backbone_features=("tiny_stage_4", "tiny_stage_5"))
    assert coarse.get_layer("logits").input.shape[-1] == 256


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"decoder_filters": 0}, "`decoder_filters`.*decoder_filters=0"),
        ({"dropout": 1.0}, "`dropout`.*1.0"),
        ({"decoder_width": 8}, "no argument `decoder_width`"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        models.SegFormer(tiny_backbone(), **arguments)


def test_the_default_weights_end_in_an_error_that_offers_the_non_commercial_ones():
    with pytest.raises(ValueError, match=r"None.*'imagenet-nc'.*non-commercial"):
        models.SegFormer("mitb0")
