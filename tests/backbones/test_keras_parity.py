"""With the same weights a backbone gives what the published network gives, on raw images."""

import importlib

import keras
import numpy as np
import pytest

from segzoo import backbones
from tests.backbones import networks

# name: Keras's function, the module of its `preprocess_input` (None: inside the network), and the
# sizes at which both pad alike. MobileNetV2 and V3 pad by the static size: also at odd ones.
EVEN, ODD = (64, 96), (97, 75)
NETWORKS = {
    "resnet50": ("ResNet50", "resnet", [ODD]),
    "resnet50v2": ("ResNet50V2", "resnet_v2", [ODD]),
    "vgg16": ("VGG16", "vgg16", [EVEN]),
    "densenet121": ("DenseNet121", "densenet", [EVEN]),
    "mobilenet": ("MobileNet", "mobilenet", [EVEN]),
    "mobilenetv2": ("MobileNetV2", "mobilenet_v2", [EVEN, ODD]),
    "mobilenetv3small": ("MobileNetV3Small", None, [ODD]),
    "efficientnetv2b0": ("EfficientNetV2B0", None, [ODD]),
    "convnexttiny": ("ConvNeXtTiny", None, [EVEN]),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_backbone_equals_the_network_of_keras(name, tmp_path):
    function, module, sizes = NETWORKS[name]
    for size in sizes:
        published = getattr(keras.applications, function)(
            include_top=False, weights=None, input_shape=(*size, 3)
        )
        networks.enliven(published)
        published.save_weights(tmp_path / "published.weights.h5")
        backbone = backbones.build(name, weights=tmp_path / "published.weights.h5")

        known = {layer.name for layer in published.layers}
        taps = backbones.info(name).features
        outputs = [published.get_layer(tap).output for tap in taps[:-1] if tap in known]
        published = keras.Model(published.input, [*outputs, published.output])
        image = networks.image(*size)
        ours = dict(zip(taps, networks.maps(backbone, image), strict=True))
        if module:
            preprocessing = importlib.import_module(f"keras.applications.{module}")
            image = preprocessing.preprocess_input(image)
        references = networks.maps(published, image)
        shared = [tap for tap in taps[:-1] if tap in known] + [taps[-1]]
        assert len(shared) >= (1 if name == "convnexttiny" else 3)  # the others are nested there
        for tap, reference in zip(shared, references, strict=True):
            assert networks.relative_difference(ours[tap], reference) < 1e-4, tap


@pytest.mark.slow
def test_backbone_equals_the_network_of_the_efficientnet_package(tmp_path):
    package = pytest.importorskip("efficientnet.model")
    tf_keras = importlib.import_module("tensorflow.keras")
    published = package.EfficientNetB0(
        include_top=False,
        weights=None,
        input_shape=(97, 75, 3),
        **{part: getattr(tf_keras, part) for part in ("backend", "layers", "models", "utils")},
    )
    networks.enliven(published)
    published.save_weights(tmp_path / "published.weights.h5")
    backbone = backbones.build("efficientnetb0", weights=tmp_path / "published.weights.h5")
    taps = backbones.info("efficientnetb0").features
    published = keras.Model(published.input, [published.get_layer(tap).output for tap in taps])
    image = networks.image(97, 75)
    normalized = keras.applications.imagenet_utils.preprocess_input(image.copy(), mode="torch")
    pairs = zip(networks.maps(backbone, image), networks.maps(published, normalized), strict=True)
    for ours, reference in pairs:
        assert networks.relative_difference(ours, reference) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "function", "place", "tap", "border"),
    [
        # A 'valid' stem starts at pixel 1 and again one map pixel later: on an even size the map
        # of Keras lies inside the one that pads, one pixel from its left and upper edge.
        ("xception", "Xception", 6, "block1_conv2_act", 1),
        ("nasnetmobile", "NASNetMobile", 2, "stem_bn1", 0),
    ],
)
def test_map_of_a_valid_stem_lies_inside_the_padded_one(
    name, function, place, tap, border, tmp_path
):
    published = getattr(keras.applications, function)(
        include_top=False, weights=None, input_shape=(96, 80, 3)
    )
    networks.enliven(published)
    published.save_weights(tmp_path / "published.weights.h5")
    backbone = backbones.build(
        name, weights=tmp_path / "published.weights.h5", features=[tap], preprocessing=False
    )
    image = networks.image(96, 80) / 255
    (ours,) = networks.maps(backbone, image)
    (reference,) = networks.maps(
        keras.Model(published.input, published.layers[place].output), image
    )
    assert published.layers[place].name == tap
    assert ours.shape[1:3] == (48, 40)
    height, width = reference.shape[1:3]
    inside = ours[:, border : border + height, border : border + width]
    np.testing.assert_allclose(inside, reference, rtol=1e-4, atol=1e-4)
