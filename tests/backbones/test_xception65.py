"""The aligned Xception: its published layers, its sizes, and dilation that keeps its weights."""

import functools

import keras
import numpy as np
import pytest

import segzoo
from segzoo.backbones.families.xception65 import TAPS, xception65


def published_layers():
    """Name and kernel shape of each convolution of the published weights file, in order."""
    found = [("entry_flow_conv1_1", (3, 3, 3, 32)), ("entry_flow_conv1_2", (3, 3, 32, 64))]
    blocks = [("entry_flow_block1", 64, (128, 128, 128), True)]
    blocks += [("entry_flow_block2", 128, (256, 256, 256), True)]
    blocks += [("entry_flow_block3", 256, (728, 728, 728), True)]
    blocks += [(f"middle_flow_unit_{n + 1}", 728, (728, 728, 728), False) for n in range(16)]
    blocks += [("exit_flow_block1", 728, (728, 1024, 1024), True)]
    blocks += [("exit_flow_block2", 1024, (1536, 1536, 2048), False)]
    for name, channels, filters, shortcut in blocks:
        if shortcut:
            found.append((f"{name}_shortcut", (1, 1, channels, filters[-1])))
        for place, width in enumerate(filters):
            prefix = f"{name}_separable_conv{place + 1}"
            found.append((f"{prefix}_depthwise", (3, 3, channels, 1)))
            found.append((f"{prefix}_pointwise", (1, 1, channels, width)))
            channels = width
    return dict(found)


@functools.cache
def built(output_stride):
    return xception65(output_stride=output_stride)


@pytest.fixture
def network():
    return built(32)


def pyramid(network):
    return keras.Model(network.inputs[0], [network.get_layer(tap).output for tap in TAPS])


@pytest.mark.slow
def test_layers_have_the_published_names_and_shapes(network):
    kernels = published_layers()
    convolutions = {
        layer.name: tuple(layer.weights[0].shape)
        for layer in network.layers
        if layer.weights and not isinstance(layer, keras.layers.BatchNormalization)
    }
    assert convolutions == kernels
    assert all(len(network.get_layer(name).weights) == 1 for name in kernels)
    norms = {
        layer.name: layer
        for layer in network.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    }
    assert set(norms) == {f"{name}_BN" for name in kernels}
    assert {layer.epsilon for layer in norms.values()} == {1e-3}


def test_parameters_are_the_published_ones_without_biases(network):
    """The DeepLabV3+ that counts 41,284,844 has a bias in each convolution of its Xception."""
    stem = 896 + 128 + 18_496 + 256
    entry = 56_192 + 210_688 + 1_471_232
    middle = 16 * 1_631_448
    leave = 3_123_224 + 7_160_832
    biases = sum(
        shape[2] if name.endswith("depthwise") else shape[-1]
        for name, shape in published_layers().items()
    )
    assert network.count_params() == stem + entry + middle + leave - biases == 38_052_512


@pytest.mark.slow
def test_a_second_build_has_the_same_names(network):
    assert [layer.name for layer in xception65().layers] == [layer.name for layer in network.layers]


@pytest.mark.slow
@pytest.mark.parametrize("size", [(64, 64), (97, 131), (33, 250)])
@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_taps_have_their_strides_and_channels_at_any_size(output_stride, size):
    shapes = pyramid(built(output_stride)).compute_output_shape((2, *size, 3))
    for shape, stride, channels in zip(
        shapes, (2, 4, 8, 16, 32), (64, 256, 728, 1024, 2048), strict=True
    ):
        stride = min(stride, output_stride)
        assert shape == (2, -(-size[0] // stride), -(-size[1] // stride), channels)


def randomize(model, rng):
    """Weights that carry the image to the last map: He's scale, and statistics that differ."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            count = len(layer.get_weights()[0])
            mean, variance = rng.normal(0, 0.1, count), rng.uniform(0.5, 1.5, count)
            layer.set_weights(
                [rng.uniform(0.7, 1.1, count), rng.normal(0, 0.1, count), mean, variance]
            )
        elif layer.weights:
            height, width, channels, filters = layer.kernel.shape
            fan_in = height * width * (1 if filters == 1 else channels)
            layer.set_weights([rng.normal(0, (2 / fan_in) ** 0.5, layer.kernel.shape)])


@pytest.mark.slow
def test_dilated_maps_read_at_the_removed_stride_are_the_original_maps(network, rng):
    randomize(network, rng)
    image = rng.uniform(-1, 1, (1, 65, 101, 3)).astype("float32")
    expected = [keras.ops.convert_to_numpy(x) for x in pyramid(network)(image)]
    for x in expected:
        assert x.std(axis=(1, 2)).mean() > 0.1 * np.abs(x).mean()  # the image still shows
    assert [x.shape[1:3] for x in expected] == [(33, 51), (17, 26), (9, 13), (5, 7), (3, 4)]
    for output_stride in (8, 16):
        dilated = built(output_stride)
        dilated.set_weights(network.get_weights())
        maps = pyramid(dilated)(image)
        for stride, want, got in zip((2, 4, 8, 16, 32), expected, maps, strict=True):
            step = max(1, stride // output_stride)
            got = keras.ops.convert_to_numpy(got)[:, ::step, ::step]
            assert got.shape == want.shape
            assert np.abs(got - want).max() <= 1e-5 * np.abs(want).max()


@pytest.mark.slow
def test_the_registry_builds_the_same_network(rng):
    """Dilation of the registry and that of the network are two pieces of code."""
    backbone = segzoo.backbones.build(
        "xception65", weights=None, output_stride=8, preprocessing=False
    )
    network = built(8)
    randomize(network, rng)
    backbone.set_weights(network.get_weights())
    image = rng.uniform(-1, 1, (1, 65, 50, 3)).astype("float32")
    for got, expected in zip(backbone(image), pyramid(network)(image), strict=True):
        got, expected = map(keras.ops.convert_to_numpy, (got, expected))
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    assert segzoo.backbones.info("xception65").parameters == network.count_params()


@pytest.mark.slow
def test_both_paddings_of_the_stem_agree_on_odd_sizes_and_not_on_even_ones(network, rng):
    same = xception65(stem_padding="same")
    randomize(same, rng)
    network.set_weights(same.get_weights())
    for size, agree in ((65, True), (64, False)):
        image = rng.uniform(-1, 1, (1, size, size, 3)).astype("float32")
        a, b = (keras.ops.convert_to_numpy(model(image)) for model in (network, same))
        assert np.allclose(a, b, rtol=1e-4, atol=1e-5 * np.abs(a).max()) == agree


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"`output_stride`.*output_stride=4"):
        xception65(output_stride=4)
    with pytest.raises(ValueError, match=r"`stem_padding`.*'valid'"):
        xception65(stem_padding="valid")
