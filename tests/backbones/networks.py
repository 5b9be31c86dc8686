"""Backbones that several test files share, built once, and weights that make their maps lively."""

import functools

import keras
import numpy as np

from segzoo import backbones
from tests.cases import some

# One network per construction, the smallest: every rule of the rewriting is met by one of them.
REPRESENTATIVES = [
    "resnet18",
    "resnet50",
    "resnet50v2",
    "vgg16",
    "densenet121",
    "mobilenet",
    "mobilenetv2",
    "mobilenetv3small",
    "efficientnetb0",
    "efficientnetv2b0",
    "convnexttiny",
    "mitb0",
    "xception",
    "xception65",
    "inceptionv3",
    "inceptionresnetv2",
    "nasnetmobile",
]
# Of these every check is made by default, of the others in the slow tests.
QUICK = ("resnet18", "mobilenetv2")


def each(names=REPRESENTATIVES, quick=QUICK):
    """Parameters for pytest: names of backbones, or other values."""
    return some(names, quick)


@functools.cache
def built(name):
    """A representative with lively weights and held gates; tests leave it as it is."""
    backbone = backbones.build(name, weights=None)
    enliven(backbone)
    return backbone


def enliven(model, seed=0):
    """Draw what is 0 or 1 in a new network: statistics, scales, biases. Gates become constants.

    A squeeze-and-excite gate is a mean over the map, not a local operator; with its last kernel
    at zero it is the sigmoid of its bias.
    """
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        values = []
        for weight in layer.weights:
            value = keras.ops.convert_to_numpy(weight)
            is_scale = weight.name == "gamma" or type(layer).__name__ == "LayerScale"
            if is_scale or weight.name == "moving_variance":
                value = rng.uniform(0.5, 1.5, value.shape)
            elif weight.name in ("beta", "bias", "moving_mean"):
                value = rng.normal(0.0, 0.02, value.shape)
            elif layer.name.endswith(("se_expand", "squeeze_excite_conv_1")):
                value = np.zeros_like(value)
            values.append(value)
        if values:
            layer.set_weights(values)


def copy_weights(source, target):
    """Copy by the layers' names, every layer of the target."""
    for layer in target.layers:
        if layer.weights:
            layer.set_weights(source.get_layer(layer.name).get_weights())


def maps(model, image):
    """Feature maps as NumPy arrays."""
    outputs = model(image)
    outputs = outputs if isinstance(outputs, list) else [outputs]
    return [keras.ops.convert_to_numpy(output) for output in outputs]


def image(*size, batch=2, channels=3, seed=0):
    """A random picture in 0..255 with edges and slopes, float32."""
    rng = np.random.default_rng(seed)
    return rng.uniform(0, 255, (batch, *size, channels)).astype("float32")


def relative_difference(ours, reference):
    """Largest difference, in units of the reference's largest value."""
    largest = np.abs(reference).max()
    # A map that hardly varies over its positions would agree at any phase.
    assert np.abs(reference - reference.mean(axis=(1, 2), keepdims=True)).max() > 1e-3 * largest
    return float(np.abs(ours - reference).max() / largest)
