"""What builders are told of their maps: known of a name, measured of a model."""

import keras
import pytest

from segzoo import backbones
from segzoo.backbones.encoder import encoder

LEVELS = (2, 4, 8, 16, 32)


def of_model(backbone, input_shape=(None, None, 3), **options):
    return encoder(backbone, weights=None, input_shape=input_shape, **options)


def strided(size, padding, stages=5, kernel=3):
    """Strided convolutions alone: 'same' rounds up, 'valid' cuts a border."""
    x = image = keras.Input((*size, 3))
    maps = []
    for _ in range(stages):
        x = keras.layers.Conv2D(2, kernel, strides=2, padding=padding)(x)
        maps.append(x)
    return keras.Model(image, maps)


@pytest.mark.core
@pytest.mark.parametrize("size", [*range(32, 71), 97, 131])
def test_a_model_of_fixed_size_has_the_strides_of_the_open_one(size):
    for sides in ((size, size), (size, 64), (65, size)):
        found = of_model(strided(sides, "same"), (*sides, 3))
        assert (found.levels, found.strides, found.rounds_up) == (LEVELS, LEVELS, True)
        rows = [(output.shape[1], output.shape[2]) for output in found.model.outputs]
        assert rows == [tuple(-(-side // stride) for side in sides) for stride in LEVELS]


@pytest.mark.parametrize("size", [45, 65])
def test_a_named_backbone_of_fixed_size_has_the_strides_of_the_open_one(size):
    for output_stride, strides in ((32, LEVELS), (8, (2, 4, 8, 8, 8))):
        found = of_model("resnet18", (size, 66, 3), output_stride=output_stride)
        again = of_model(found.model, (size, 66, 3))
        for one in (found, again):
            assert (one.levels, one.strides, one.rounds_up) == (LEVELS, strides, True)


@pytest.mark.core
def test_maps_that_lose_a_border_are_measured_by_what_they_gain():
    # 1024 rows become 511, 255, 127, 63 and 31: no quotient is a power of two.
    for size, shape in (((None, None), (None, None, 3)), ((224, 224), (224, 224, 3))):
        found = of_model(strided(size, "valid"), shape)
        assert (found.strides, found.rounds_up) == (LEVELS, False)
    found = of_model(strided((None, None), "valid", stages=3, kernel=2))
    assert (found.strides, found.rounds_up) == ((2, 4, 8), False)  # exact on even sizes alone
    assert of_model(strided((64, 96), "valid", 3, kernel=2), (64, 96, 3)).rounds_up


@pytest.mark.core
def test_maps_of_one_stride_keep_their_order_and_their_levels_double():
    x = image = keras.Input((None, None, 3))
    maps = []
    for stride, dilation in ((2, 1), (2, 1), (2, 1), (1, 2), (1, 4)):
        x = keras.layers.Conv2D(2, 3, stride, "same", dilation_rate=dilation)(x)
        maps.append(x)
    found = of_model(keras.Model(image, maps))
    assert found.strides == (2, 4, 8, 8, 8)
    assert found.levels == LEVELS
    assert [a is b for a, b in zip(found.model.outputs, maps, strict=True)] == [True] * 5


@pytest.mark.core
def test_a_model_that_cannot_be_opened_is_measured_at_its_own_size_if_that_divides():
    def network(size):
        x = image = keras.Input((size, size, 3))
        fine = keras.layers.Conv2D(2, 3, 2, "same")(x)
        x = keras.layers.Flatten()(fine)  # the size is part of the graph
        x = keras.layers.Reshape(fine.shape[1:])(x)
        return keras.Model(image, [fine, keras.layers.Conv2D(2, 3, 2, "same")(x)])

    found = of_model(network(36), (36, 36, 3))
    assert (found.strides, found.rounds_up) == ((2, 4), True)
    with pytest.raises(ValueError, match=r"own size \(38, 38\).*Build it for \(None, None"):
        of_model(network(38), (38, 38, 3))


class Subclassed(keras.Model):
    def call(self, image):
        return image


def of_stride(strides):
    image = keras.Input((None, None, 3))
    return keras.Model(image, keras.layers.Conv2D(2, 3, strides, "same")(image))


@pytest.mark.core
@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Subclassed, r"must be a functional keras.Model.*Subclassed.*Wrap it"),
        (lambda: of_stride(3), "must have one stride, a power of two"),
        (lambda: of_stride((2, 4)), "along height and width alike"),
        (lambda: 3, "must be a name .* or a keras.Model .*received backbone=3"),
        (lambda: strided((64, 64), "same"), "must fit the backbone's input"),
    ],
)
def test_a_model_that_is_no_encoder_raises_and_says_what_would_do(network, message):
    with pytest.raises(ValueError, match=message):
        of_model(network())


def test_measuring_leaves_the_model_as_it_was():
    backbone = strided((None, None), "same")
    layers, weights = list(backbone.layers), [w.shape for w in backbone.weights]
    assert of_model(backbone).model.layers == layers
    assert [w.shape for w in backbone.weights] == weights
    fixed = backbones.build("resnet18", weights=None, input_shape=(65, 65, 3))
    tap = fixed.get_layer("conv4_block2_out").output
    of_model(fixed, (65, 65, 3))
    assert fixed.get_layer("conv4_block2_out").output is tap
