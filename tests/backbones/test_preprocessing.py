"""The normalization in the graph is the one that each network's publisher prescribes."""

import importlib

import keras
import numpy as np
import pytest

from segzoo import backbones
from segzoo.backbones._rows import NORMALIZATIONS
from segzoo.layers import ImageNormalization
from tests.backbones import networks

MODULES = {
    "resnet": "resnet",
    "resnetv2": "resnet_v2",
    "vgg": "vgg16",
    "densenet": "densenet",
    "mobilenet": "mobilenet",
    "mobilenetv2": "mobilenet_v2",
    "xception": "xception",
    "inceptionv3": "inception_v3",
    "inceptionresnetv2": "inception_resnet_v2",
    "nasnet": "nasnet",
}


def layer_of(name):
    return ImageNormalization(**NORMALIZATIONS[backbones.info(name).normalization])


@pytest.mark.core
@pytest.mark.parametrize("name", backbones.names())
def test_layer_equals_preprocess_input(name):
    row = backbones.info(name)
    image = networks.image(5, 7)
    own = row.family == "resnet" and row.normalization == "torch"  # not those of Keras
    if row.family == "efficientnetlite":
        expected = image / np.float32(127.5) - 1  # mean and std of one half
    elif row.family in MODULES and not own:
        module = importlib.import_module(f"keras.applications.{MODULES[row.family]}")
        expected = module.preprocess_input(image.copy())
    elif row.family == "mobilenetv3":
        expected = image / np.float32(127.5) - 1  # a Rescaling inside the network, see below
    elif row.normalization == "tf128":
        expected = image / np.float32(128) - 1
    else:  # the ImageNet statistics of PyTorch, as the `efficientnet` package has them
        imagenet = keras.applications.imagenet_utils
        expected = imagenet.preprocess_input(image.copy(), mode="torch")
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(layer_of(name)(image)), expected, rtol=1e-6, atol=1e-6
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("mobilenetv3small", "MobileNetV3Small"),
        ("mobilenetv3large", "MobileNetV3Large"),
        ("efficientnetv2b0", "EfficientNetV2B0"),
        ("efficientnetv2s", "EfficientNetV2S"),
        ("convnexttiny", "ConvNeXtTiny"),
    ],
)
def test_layer_equals_the_normalization_inside_the_network(name, function):
    network = getattr(keras.applications, function)(
        include_top=False, weights=None, input_shape=(32, 32, 3)
    )
    x = networks.image(32, 32)
    expected = x
    for layer in network.layers[1:]:
        if not isinstance(layer, keras.layers.Rescaling | keras.layers.Normalization):
            break
        expected = layer(expected)
    assert expected is not x
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(layer_of(name)(x)),
        keras.ops.convert_to_numpy(expected),
        atol=1e-6,
    )


@pytest.mark.core
@pytest.mark.parametrize("dtype", ["uint8", "int32", "float16", "float32", "float64"])
def test_any_type_of_image_gives_the_same(dtype):
    image = np.arange(0, 252).reshape(1, 7, 12, 3)
    layer = layer_of("resnet50")
    expected = keras.ops.convert_to_numpy(layer(image.astype("float32")))
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(layer(image.astype(dtype))), expected)


@pytest.mark.core
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_rounds_the_result_alone(policy):
    image = networks.image(5, 7)
    exact = keras.ops.convert_to_numpy(layer_of("densenet121")(image))
    layer = ImageNormalization(**NORMALIZATIONS["torch"], dtype=policy)
    half = layer(image)
    assert keras.backend.standardize_dtype(half.dtype) == policy.removeprefix("mixed_")
    rounded = keras.ops.convert_to_numpy(keras.ops.cast(half, "float32"))
    np.testing.assert_allclose(rounded, exact, rtol=1e-3 if "bf" not in policy else 8e-3)


@pytest.mark.core
def test_channels_beyond_rgb_take_the_mean_of_the_statistics():
    for channels, expected in ((5, [80, 35, 5, 20, 20]), (1, [20])):
        layer = ImageNormalization(mean=(10, 20, 60), std=(1, 2, 6), reverse_channels=True)
        image = np.full((1, 1, 1, channels), 90.0, "float32")
        ours = keras.ops.convert_to_numpy(layer(image)).ravel()
        np.testing.assert_allclose(ours, expected)


@pytest.mark.core
def test_constant_channel_is_a_plane_of_ones():
    layer = ImageNormalization(mean=3.0, constant_channel=True)
    ours = keras.ops.convert_to_numpy(layer(networks.image(4, 5)))
    assert ours.shape == (2, 4, 5, 4)
    np.testing.assert_array_equal(ours[..., 3], 1.0)
    assert layer.compute_output_shape((None, None, 5, 3)) == (None, None, 5, 4)


@pytest.mark.core
def test_config_rebuilds_the_layer():
    layer = ImageNormalization((1, 2, 3), (4, 5, 6), True, True, name="normalize")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert again.get_config() == layer.get_config()
    image = networks.image(3, 4)
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(again(image)), keras.ops.convert_to_numpy(layer(image))
    )


@pytest.mark.parametrize("arguments", [{"mean": (1, 2)}, {"std": (1, 2, 3, 4)}, {"std": 0}])
def test_statistics_that_fit_no_rgb_raise(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        ImageNormalization(**arguments)


@pytest.mark.slow
def test_backbone_takes_bytes_and_floats_alike_and_can_leave_them_to_the_user():
    image = np.arange(3 * 64 * 64, dtype="int64").reshape(1, 64, 64, 3) % 256
    options = {"weights": None, "features": ["conv1_conv"]}
    backbone = backbones.build("resnet18", **options)
    from_bytes = networks.maps(backbone, image.astype("uint8"))[0]
    for dtype in ("float32", "float16"):
        np.testing.assert_array_equal(networks.maps(backbone, image.astype(dtype))[0], from_bytes)
    bare = backbones.build("resnet18", preprocessing=False, **options)
    networks.copy_weights(backbone, bare)
    normalized = keras.ops.convert_to_numpy(layer_of("resnet18")(image))
    np.testing.assert_allclose(networks.maps(bare, normalized)[0], from_bytes, atol=1e-5)
