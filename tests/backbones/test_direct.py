"""Networks that are built directly: their published sizes, and every rule on small ones."""

import pickle
import sys
import threading
from functools import partial

import keras
import numpy as np
import pytest

from segzoo import backbones
from segzoo.backbones._rows import Published, Row, Variant
from segzoo.backbones.families import _papers as papers
from segzoo.backbones.families import efficientnet
from segzoo.backbones.families.resnet import Plan, resnet
from segzoo.backbones.families.vgg import vgg
from segzoo.backbones.named import build_row
from segzoo.backbones.recursion import room_for_deep_graphs
from tests.backbones import networks
from tests.backbones.test_dilation import at_removed_stride

LEVELS = (2, 4, 8, 16, 32)
PLANS = {
    "basic": Plan((1, 2, 1, 1), bottleneck=False),
    "bottleneck": Plan((1, 1, 2, 1), width=8),
    "keras": Plan((1, 1, 1, 2), strided=1, bias=True, width=8),
    "grouped": Plan((1, 1, 2, 1), groups=4, width=16),
    "gates": Plan((1, 1, 1, 2), strided=1, gates=True, width=8),
}


def small(kind, **options):
    """A small network of a kind, as a row that no registry has."""
    if kind == "vgg":
        source, taps = (
            partial(vgg, 1),
            [f"block{block}_conv{2 if block == 2 else 1}" for block in (2, 3, 4, 5)],
        )
        taps.append("block5_pool")
    elif kind in ("b", "lite"):
        source = partial(efficientnet.efficientnet, efficientnet.Plan(0.25, 0.5, kind == "lite"))
        taps = [f"block{stage}a_expand_activation" for stage in (2, 3, 4, 6)] + ["top_activation"]
    else:
        source = partial(resnet, PLANS[kind])
        blocks = zip(range(2, 6), PLANS[kind].blocks, strict=True)
        taps = ["conv1_relu", *(f"conv{stage}_block{count}_out" for stage, count in blocks)]
    row = Row(
        name=kind,
        family=kind,
        weights=(),
        features=tuple(taps),
        strides=LEVELS,
        channels=(0,) * 5,
        parameters=0,
        normalization="torch",
        paper=papers.RESNET,
        source=source,
    )
    return build_row(row, **{"weights": None, "input_shape": (None, None, 3), **options})


KINDS = [*PLANS, "b", "lite", "vgg"]
each_kind = pytest.mark.parametrize("kind", networks.each(KINDS, quick=["gates"]))


@each_kind
def test_a_dense_map_at_the_removed_stride_is_the_original_map_at_any_size(kind):
    original = small(kind)
    assert [tuple(scale) for scale in original.scales] == [(level, level) for level in LEVELS]
    networks.enliven(original.model)
    for output_stride in (16, 8):
        dense = small(kind, output_stride=output_stride)
        networks.copy_weights(original.model, dense.model)
        assert [tuple(scale) for scale in dense.scales] == [
            (level, min(level, output_stride)) for level in LEVELS
        ]
        for size in ((97, 64), (65, 70)):
            image = networks.image(*size, batch=1)
            maps = networks.maps(dense.model, image), networks.maps(original.model, image)
            for ours, reference, level in zip(*maps, LEVELS, strict=True):
                stride = min(level, output_stride)
                assert ours.shape[1:3] == tuple(-(-side // stride) for side in size)
                difference, _ = at_removed_stride(ours, reference, level // stride)
                assert difference < 1e-5


@each_kind
def test_static_and_open_builds_agree_in_names_and_numbers(kind):
    opened, static = small(kind), small(kind, input_shape=np.array([45, 66, 3]))
    first, second = ([layer.name for layer in built.model.layers] for built in (opened, static))
    assert first == second
    networks.enliven(opened.model)
    networks.copy_weights(opened.model, static.model)
    image = networks.image(45, 66)
    maps = networks.maps(opened.model, image), networks.maps(static.model, image)
    for ours, reference in zip(*maps, strict=True):
        np.testing.assert_allclose(ours, reference, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", networks.each(["grouped", "gates", "lite"], ["grouped"]))
def test_every_weight_is_trained(kind):
    built = small(kind)
    model = keras.Model(built.model.inputs, built.model.outputs[-1])
    model.compile(keras.optimizers.SGD(0.01), "mse")
    before = [keras.ops.convert_to_numpy(weight) for weight in model.trainable_weights]
    images = networks.image(64, 64, batch=3)
    model.optimizer.build(model.trainable_variables)  # otherwise the step is traced twice
    model.fit(images, np.ones(model(images).shape, "float32"), epochs=2, verbose=0)
    for weight, value in zip(model.trainable_weights, before, strict=True):
        moved = np.abs(keras.ops.convert_to_numpy(weight) - value).max()
        assert np.isfinite(moved) and moved > 0, weight.path


def test_layers_that_a_row_does_not_name_are_measured():
    taps = ["conv2_block1_1_relu", "conv4_block1_1_relu", "conv5_block1_2_relu"]
    built = small("bottleneck", features=taps, output_stride=8)
    assert [tuple(scale) for scale in built.scales] == [(4, 4), (8, 8), (32, 8)]
    with pytest.raises(ValueError, match="near names: conv4_block1_1_relu"):
        small("bottleneck", features=["conv4_block1_1_rel"])


@pytest.mark.slow
def test_a_variant_is_what_another_library_built():
    first = small("bottleneck", variant=Variant(dilation="stage", epsilon=0.5), output_stride=8)
    rates = [
        first.model.get_layer(f"conv{stage}_block1_2_conv").dilation_rate for stage in (3, 4, 5)
    ]
    assert rates == [(1, 1), (2, 2), (4, 4)]  # the whole stage's, in the first block too
    exact = small("bottleneck", output_stride=8).model
    assert exact.get_layer("conv4_block1_2_conv").dilation_rate == (1, 1)
    assert exact.get_layer("conv5_block1_2_conv").dilation_rate == (2, 2)
    assert first.model.get_layer("conv1_bn").epsilon == 0.5
    shallow = small("lite", variant=Variant(depth=3))
    assert [tuple(scale) for scale in shallow.scales] == [(2, 2), (4, 4), (8, 8)]
    assert all("block5" not in layer.name for layer in shallow.model.layers)
    # SENet's pool drops the odd last row of 33: 16, where a map of every size needs 17.
    dropping = small("gates", variant=Variant(rounds_up=False), input_shape=(65, 65, 3))
    assert dropping.model.outputs[1].shape[1:3] == (16, 16) and not dropping.rounds_up
    assert small("gates", input_shape=(65, 65, 3)).model.outputs[1].shape[1:3] == (17, 17)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "own"), [("mobilenetv2", 0.999), ("resnet50", 0.99)])
def test_random_weights_come_with_a_momentum_that_short_trainings_need(name, own):
    def momenta(name, **options):
        built = build_row(backbones.info(name), input_shape=(None, None, 3), **options)
        norms = [layer for layer in built.model.layers if hasattr(layer, "moving_mean")]
        return {norm.momentum for norm in norms}

    assert momenta(name, weights=None) == {0.9}
    assert momenta(name, weights=None, pretrained=True) == {own}


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 2])  # two and a plane of ones are not taken for RGB
def test_a_file_of_rgb_is_adapted_to_other_channels(tmp_path, channels):
    saved = small("keras")
    networks.enliven(saved.model)
    saved.model.save_weights(tmp_path / "rgb.weights.h5")
    shape = (None, None, channels)
    gray = small("keras", weights=tmp_path / "rgb.weights.h5", input_shape=shape)
    image = networks.image(40, 33, channels=1)
    got = networks.maps(gray.model, image.repeat(channels, axis=-1))
    expected = networks.maps(saved.model, image.repeat(3, axis=-1))
    for ours, reference in zip(got, expected, strict=True):
        np.testing.assert_allclose(ours, reference, rtol=1e-3, atol=1e-4)
    gray.model.save_weights(tmp_path / "gray.weights.h5")
    again = small("keras", weights=tmp_path / "gray.weights.h5", input_shape=shape)
    for ours, reference in zip(again.model.weights, gray.model.weights, strict=True):
        np.testing.assert_array_equal(ours, reference)
    with pytest.raises(ValueError, match=r"As weights of a backbone that segzoo saved: "):
        small("basic", weights=tmp_path / "gray.weights.h5", input_shape=(None, None, 5))


@pytest.fixture
def channels_first():
    keras.config.set_image_data_format("channels_first")
    yield
    keras.config.set_image_data_format("channels_last")


@pytest.mark.slow
def test_an_old_setting_of_keras_changes_nothing(channels_first, tmp_path):
    for kind in ("keras", "lite"):
        keras.config.set_image_data_format("channels_last")
        expected = small(kind, output_stride=8).model
        networks.enliven(expected)
        keras.config.set_image_data_format("channels_first")
        model = small(kind, output_stride=8).model
        networks.copy_weights(expected, model)
        image = networks.image(40, 64)
        for ours, reference in zip(
            networks.maps(model, image), networks.maps(expected, image), strict=True
        ):
            np.testing.assert_allclose(ours, reference, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"set_image_data_format\('channels_last'\)"):
        backbones.build("mobilenetv2", weights=None)


def test_two_threads_leave_the_recursion_limit_as_it_was():
    limit, inside = sys.getrecursionlimit(), threading.Event()
    done = threading.Event()

    def other():
        with room_for_deep_graphs():
            inside.set()
            done.wait(10)

    thread = threading.Thread(target=other)
    with room_for_deep_graphs():
        thread.start()
        inside.wait(10)
    assert sys.getrecursionlimit() > limit  # the other one still needs it
    done.set()
    thread.join()
    assert sys.getrecursionlimit() == limit


def test_every_row_can_be_sent_to_another_process():
    for name in backbones.names():
        assert pickle.loads(pickle.dumps(backbones.info(name))) == backbones.info(name)


@pytest.mark.slow
def test_every_family_that_is_built_directly_is_channels_last(channels_first):
    rows = map(backbones.info, backbones.names())
    families = {row.family: row for row in rows if not isinstance(row.source, Published)}
    assert {"resnet", "vgg", "senet", "efficientnet", "mit"} <= families.keys()
    for family in families:
        name = backbones.names(family)[-1 if family == "xception" else 0]  # the smallest
        backbone = backbones.build(name, weights=None, input_shape=(64, 96, 3))
        row = backbones.info(name)
        assert [tuple(output.shape[1:]) for output in backbone.outputs] == [
            (64 // stride, 96 // stride, channels)
            for stride, channels in zip(row.strides, row.channels, strict=True)
        ]
        formats = {getattr(layer, "data_format", None) for layer in backbone._flatten_layers()}
        assert formats == {None, "channels_last"}
