"""First convolutions for any number of channels: gray and repeated images give the RGB response."""

import numpy as np
import pytest

from segzoo import backbones
from segzoo.backbones.channels import adapt_kernel, color_shares
from tests.backbones import networks

# One network per normalization, the cheapest: caffe (BGR), torch, tf.
NETWORKS = {"vgg16": "block2_conv2", "densenet121": "pool2_relu", "mobilenetv2": "block_3_expand"}


@pytest.fixture(scope="module", params=networks.each(NETWORKS, []))
def rgb(request, tmp_path_factory):
    """An RGB backbone up to an early map, where padding still shows, and a file of its weights."""
    name, tap = request.param, NETWORKS[request.param]
    path = tmp_path_factory.mktemp(name) / f"{name}.weights.h5"
    networks.built(name).save_weights(path)
    options = {"weights": path, "features": [tap]}
    return name, options, backbones.build(name, **options)


@pytest.mark.parametrize("channels", networks.each([1, 2, 4, 6], [1]))
def test_gray_in_every_channel_gives_the_rgb_response(rgb, channels):
    name, options, reference = rgb
    adapted = backbones.build(name, input_shape=(None, None, channels), **options)
    gray = networks.image(40, 33, channels=1)
    (ours,) = networks.maps(adapted, np.repeat(gray, channels, axis=-1))
    (expected,) = networks.maps(reference, np.repeat(gray, 3, axis=-1))
    assert networks.relative_difference(ours, expected) < 1e-5


@pytest.mark.parametrize("channels", networks.each([4, 6], [4]))
def test_repeated_colors_give_the_rgb_response(rgb, channels):
    name, options, reference = rgb
    adapted = backbones.build(name, input_shape=(None, None, channels), **options)
    image = networks.image(40, 33)
    (ours,) = networks.maps(adapted, image[..., np.arange(channels) % 3])
    (expected,) = networks.maps(reference, image)
    assert networks.relative_difference(ours, expected) < 1e-5


@pytest.mark.slow
def test_without_preprocessing_the_kernel_alone_is_adapted(rgb):
    name, options, _ = rgb
    images = networks.image(40, 33, channels=1) / 128 - 1
    maps = {}
    for channels in (1, 3, 4):
        backbone = backbones.build(
            name, input_shape=(None, None, channels), preprocessing=False, **options
        )
        kernel = next(layer for layer in backbone.layers if layer.weights).kernel
        assert kernel.shape[2] == channels
        (maps[channels],) = networks.maps(backbone, np.repeat(images, channels, axis=-1))
    assert networks.relative_difference(maps[1], maps[3]) < 1e-5
    assert networks.relative_difference(maps[4], maps[3]) < 1e-5


def test_random_weights_work_for_any_number_of_channels():
    for channels in (1, 5):
        backbone = backbones.build("resnet18", weights=None, input_shape=(64, 64, channels))
        last = networks.maps(backbone, networks.image(64, 64, channels=channels))[-1]
        assert np.isfinite(last).all()


@pytest.mark.slow
def test_structure_does_not_depend_on_the_weights(rgb):
    name, options, _ = rgb
    shapes = [
        [w.shape for w in backbones.build(name, input_shape=(None, None, 4), **o).weights]
        for o in (options, options | {"weights": None})
    ]
    assert shapes[0] == shapes[1]


@pytest.mark.core
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 6, 7])
@pytest.mark.parametrize("constant", [False, True])
def test_adapted_kernel_equals_the_algebra_tap_by_tap(channels, constant, rng):
    mean, std = ((10.0, 20.0, 60.0), (2.0, 3.0, 7.0)) if constant else (5.0, 3.0)
    kernel = rng.normal(size=(3, 3, 3, 2))
    adapted = adapt_kernel(kernel, channels, mean, std, constant)
    raw = rng.uniform(0, 255, channels)  # one pixel, each channel a value of its own
    colors = color_shares(channels).T @ raw
    expected = np.einsum("hwcf,c->hwf", kernel, (colors - np.array(mean)) / np.array(std))
    own = [np.array(s) * np.ones(3) for s in (mean, std)]
    stats = [
        np.array([s[i] if channels >= 3 and i < 3 else s.mean() for i in range(channels)])
        for s in own
    ]
    seen = (raw - stats[0]) / stats[1]
    if constant:
        seen = np.append(seen, 1.0)
    np.testing.assert_allclose(np.einsum("hwcf,c->hwf", adapted, seen), expected, atol=1e-9)


@pytest.mark.core
def test_scale_of_the_kernel_is_kept(rng):
    kernel = rng.normal(size=(3, 3, 3, 4))
    for channels in (1, 2, 3, 4, 5, 9):
        np.testing.assert_allclose(color_shares(channels).sum(axis=0), 1.0)
        np.testing.assert_allclose(adapt_kernel(kernel, channels).sum(axis=2), kernel.sum(axis=2))
    np.testing.assert_array_equal(adapt_kernel(kernel, 3), kernel)


def test_file_of_an_adapted_backbone_loads_again(tmp_path):
    path = tmp_path / "five.weights.h5"
    options = {"input_shape": (None, None, 5), "features": ["conv2_block2_out"]}
    saved = backbones.build("resnet18", weights=None, **options)
    networks.enliven(saved)
    saved.save_weights(path)
    loaded = backbones.build("resnet18", weights=path, **options)
    for ours, reference in zip(loaded.get_weights(), saved.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, reference)
