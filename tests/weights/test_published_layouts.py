"""Files as keras.applications and the efficientnet package publish them, read by name and value."""

import re

import keras
import numpy as np
import pytest

import segzoo
from segzoo.weights import load_weights
from tests.weights.test_keras_files import write_keras2


def publish(network, path, rng, rename=lambda name: name, top=None):
    """Write new values in the published layout of a network; return them by layer."""
    layers = {}
    for layer in network.layers:
        name = rename(layer.name)
        layers[name] = {}
        for weight in layer.weights:
            kind = weight.name
            if isinstance(layer, keras.layers.DepthwiseConv2D):
                kind = f"depthwise_{kind}"  # Keras 3 dropped the prefix
            value = rng.uniform(0.5, 1.5, weight.shape).astype("float32")
            layers[name][f"{name}/{kind}:0"] = value
    layers |= top or {}
    write_keras2(path, layers)
    return layers


def assert_took(backbone, layers, rename=lambda name: name):
    loaded = [layer for layer in backbone.layers if layer.weights]
    assert len(loaded) > 50
    for layer in loaded:
        values = list(layers[rename(layer.name)].values())
        for got, expected in zip(layer.get_weights(), values, strict=True):
            np.testing.assert_array_equal(got, expected)


@pytest.mark.slow
def test_resnet50_with_and_without_its_classifier(tmp_path, rng):
    network = keras.applications.ResNet50(weights=None, include_top=False)
    head = {"predictions/kernel:0": np.zeros((2048, 10)), "predictions/bias:0": np.zeros(10)}
    for ending, top in (("_notop", {}), ("", {"predictions": head})):
        path = tmp_path / f"resnet50_weights_tf_dim_ordering_tf_kernels{ending}.h5"
        layers = publish(network, path, rng, top=top)
        assert_took(segzoo.backbones.build("resnet50", weights=path), layers)

    # ResNet101 has every layer of ResNet50, and others in between.
    layers = list(layers.items())
    place = [name for name, _ in layers].index("conv5_block1_1_conv")
    layers[place:place] = [("conv4_block7_1_conv", {"kernel:0": np.zeros((1, 1, 1024, 256))})]
    path = write_keras2(tmp_path / "resnet101.h5", dict(layers))
    with pytest.raises(ValueError, match=r"`conv4_block7_1_conv`.*no such layer at that place"):
        load_weights(network, path)


@pytest.mark.slow
def test_efficientnet_b0(tmp_path, rng):
    network = segzoo.backbones.build("efficientnetb0", weights=None)
    path = tmp_path / "efficientnet-b0_weights_tf_dim_ordering_tf_kernels_autoaugment_notop.h5"
    layers = publish(network, path, rng)
    assert {"stem_conv", "block1a_dwconv", "block2a_se_reduce", "block7a_project_bn"} <= set(layers)
    assert_took(segzoo.backbones.build("efficientnetb0", weights=path), layers)


@pytest.mark.slow
def test_inception_v3_whose_layers_are_numbered(tmp_path, rng):
    """Published by an old Keras, which counted from 1; here the process counts from anywhere."""
    network = keras.applications.InceptionV3(weights=None, include_top=False)
    numbers = {}
    for layer in network.layers:
        if match := re.fullmatch(r"(conv2d|batch_normalization)(?:_(\d+))?", layer.name):
            numbers.setdefault(match[1], []).append(int(match[2] or 0))

    def published(name):
        match = re.fullmatch(r"(conv2d|batch_normalization)(?:_(\d+))?", name)
        first = min(numbers[match[1]]) if match else 0
        return f"{match[1]}_{int(match[2] or 0) - first + 1}" if match else name

    path = tmp_path / "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5"
    layers = publish(network, path, rng, rename=published)
    assert {"conv2d_1", "conv2d_94", "batch_normalization_94"} <= set(layers)
    backbone = segzoo.backbones.build("inceptionv3", weights=path)
    stable = re.compile(r"(conv2d|batch_normalization)(?:_(\d+))?")

    def in_file(name):
        match = stable.fullmatch(name)
        return f"{match[1]}_{int(match[2] or 0) + 1}" if match else name

    assert_took(backbone, layers, in_file)
