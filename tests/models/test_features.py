"""What builders make of an encoder: strides that do not depend on sizes, maps that have names."""

import keras
import numpy as np
import pytest

from segzoo import backbones, models
from segzoo.backbones.encoder import encoder
from tests.backbones.networks import REPRESENTATIVES
from tests.cases import FIRST, SMALL, TINY, some, tiny_backbone

ON_BACKBONE = {name: case for name, case in TINY.items() if case.backbone is not None}
# ResNet18 under a U-Net of one class, whatever the size and the output stride.
PARAMETERS = 14_340_657


def numpy(x):
    return keras.ops.convert_to_numpy(x)


def structure(model):
    """Names of the layers, and names and shapes of the weights."""
    layers = [layer.name for layer in model.layers]
    return layers, [(weight.path, tuple(weight.shape)) for weight in model.weights]


def test_no_fixed_size_loses_a_map_of_resnet():
    for size in ((65, 65, 3), (None, 45, 3)):
        model = models.UNet("resnet18", 1, size, backbone_weights=None)
        assert model.count_params() == PARAMETERS, size


def test_a_dilated_backbone_is_a_backbone_like_any_other_and_loses_no_map():
    for output_stride in (8, 16):
        dilated = backbones.build("resnet18", weights=None, output_stride=output_stride)
        assert models.UNet(dilated, 1).count_params() == PARAMETERS


@pytest.mark.parametrize("name", some(REPRESENTATIVES[:3], REPRESENTATIVES[:1]))
def test_a_dilated_backbone_measures_as_its_name_says(name):
    check_dilated(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", REPRESENTATIVES[3:])
def test_every_dilated_backbone_measures_as_its_name_says(name):
    check_dilated(name)


def check_dilated(name):
    shape = (None, None, 3)
    least = min(backbones.info(name).output_strides)  # 32 of NASNet alone
    said = encoder(name, weights=None, input_shape=shape, output_stride=least)
    found = encoder(said.model, weights=None, input_shape=shape)
    assert (found.levels, found.strides) == (said.levels, said.strides)
    assert found.rounds_up == said.rounds_up


def test_every_fixed_size_of_a_backbone_has_the_levels_of_the_open_one():
    tiny = tiny_backbone()
    for size in range(32, 71):
        found = encoder(tiny, weights=None, input_shape=(size, 102 - size, 3))
        assert found.levels == found.strides == (2, 4, 8, 16, 32) and found.rounds_up


ODD = [(33, 67), (66, 45), (65, None)]
# Between them every height and width of 32 to 70, the odd pairs among them.
PAIRS = [(size, 102 - size) for size in range(32, 71) if size not in (35, 51)]


@pytest.mark.parametrize("name", some(ON_BACKBONE, ("UNet", "FPN", "SegFormer")))
def test_a_builder_is_the_same_network_at_odd_fixed_sizes(name):
    check_sizes(ON_BACKBONE[name], ODD[:1])


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in SMALL if SMALL[name].backbone != "tiny"])
def test_a_variant_is_the_same_network_at_odd_fixed_sizes(name):
    check_sizes(SMALL[name], ODD)


@pytest.mark.slow
@pytest.mark.parametrize("name", ON_BACKBONE)
def test_a_builder_is_the_same_network_at_every_fixed_size(name):
    check_sizes(ON_BACKBONE[name], PAIRS[::3])


@pytest.mark.slow
@pytest.mark.deep
@pytest.mark.parametrize("backbone", ["resnet18", "mobilenetv2"])
@pytest.mark.parametrize("name", ON_BACKBONE)
def test_a_builder_on_a_published_backbone_is_the_same_network_at_odd_sizes(name, backbone):
    check_sizes(FIRST[name].on(backbone), ODD[:1])


def check_sizes(case, sizes):
    network = structure(case(2))
    for size in sizes:
        assert structure(case(2, (*size, 3))) == network, size


@pytest.mark.parametrize("name", some(ON_BACKBONE, ["FCN", "UNet"]))
def test_every_map_has_a_name_and_an_auxiliary_head_changes_nothing_else(name, rng):
    import tensorflow as tf

    case = ON_BACKBONE[name]
    x = case.images(rng, 1, 47, 63, 3)
    keras.utils.set_random_seed(3)
    plain = case(2)
    keras.utils.set_random_seed(3)
    model = case(2, auxiliary=16)
    # Every map is reachable, also those that the decoder does not use.
    for level in (2, 4, 8, 16, 32):
        for built in (plain, model):
            found = keras.Model(built.input, built.get_layer(f"level_{level}").output)
            assert found.output_shape[3] == tiny_backbone().output_shape[level.bit_length() - 2][3]
    # Without the head, the network that was never given one: weight for weight, bit for bit.
    main = keras.Model(model.input, model.outputs[-1])
    assert [w.path for w in main.weights] == [w.path for w in plain.weights]
    for a, b in zip(main.weights, plain.weights, strict=True):
        np.testing.assert_array_equal(numpy(a), numpy(b), err_msg=a.path)
    np.testing.assert_array_equal(numpy(main(x)), numpy(plain(x)))
    # Its gradient reaches its own layers, and the backbone up to its map.
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(model(x)[0] ** 2)
    variables = model.trainable_variables
    gradients = tape.gradient(loss, [v.value for v in variables])
    reached = {v.path for v, g in zip(variables, gradients, strict=True) if g is not None}
    assert {path.split("/")[0] for path in reached} == {
        *(f"tiny_stage_{stage}" for stage in (1, 2, 3, 4)),
        "auxiliary_conv",
        "logits_auxiliary",
    }


@pytest.mark.parametrize("name", some(["UNet", "UNet3Plus", "UNetPlusPlus"], ["UNet3Plus"]))
def test_maps_of_a_builders_own_encoder_and_of_a_dilated_backbone_have_names_too(name):
    own = SMALL[f"{name}-own"](2, (64, 64, 3))
    assert own.get_layer("level_1").output.shape[1:3] == (64, 64)
    assert own.get_layer("level_4").output.shape[1:3] == (16, 16)
    dilated = SMALL[name].on("tiny-dilated")(2, (64, 64, 3))
    rows = [dilated.get_layer(f"level_{2**k}").output.shape[1] for k in (1, 2, 3, 4, 5)]
    assert rows == [32, 16, 8, 8, 8]


def test_a_dilated_backbone_keeps_level_16_for_the_auxiliary_head():
    model = models.PSPNet(
        "resnet18", 2, (64, 64, 3), auxiliary=16, backbone_weights=None, decoder_filters=8
    )
    stage_4 = model.get_layer("backbone").output[3]
    assert model.get_layer("level_16").output.shape == stage_4.shape == (None, 8, 8, 256)
    assert [tuple(output.shape) for output in model.outputs] == [(None, 64, 64, 2)] * 2


@pytest.mark.parametrize("name", ["FPN", "UPerNet", "LinkNet", "PAN", "FCN", "MANet"])
def test_a_backbone_without_the_maps_a_decoder_needs_says_what_would_do(name):
    tiny = tiny_backbone()
    last = keras.Model(tiny.input, tiny.outputs[-1:])
    with pytest.raises(ValueError, match="`backbone` must"):
        getattr(models, name)(last, 2, **FIRST[name].options)
