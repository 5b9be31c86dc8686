"""Mix Transformers: any size, dilation, stochastic depth, and every decoder on their maps."""

import functools

import keras
import numpy as np
import pytest
from keras import ops

from segzoo import models
from segzoo.backbones.families.mit import mit
from tests.cases import TINY, each

pytestmark = pytest.mark.core


@functools.cache
def small(size=(None, None), output_stride=32, **options):
    """A Mix Transformer of five blocks with weights that all show."""
    image = keras.Input((*size, 3))
    options = {"depths": (1, 1, 2, 1), "widths": (4, 6, 10, 16), **options}
    maps = mit(image, **options, output_stride=output_stride)
    model = keras.Model(image, maps)
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(size=w.shape) * 0.4 for w in model.get_weights()])
    return model


def numpy(maps):
    return [ops.convert_to_numpy(map) for map in maps]


def close(a, b):
    for x, y in zip(numpy(a), numpy(b), strict=True):
        np.testing.assert_allclose(x, y, atol=2e-5 * max(np.abs(y).max(), 1))


@pytest.mark.parametrize("size", [(77, 45), (32, 33)])
def test_open_sizes_give_what_a_fixed_size_gives(size, rng):
    x = rng.normal(size=(2, *size, 3)).astype("float32")
    fixed, opened = small(size), small()
    close(opened(x), fixed(x))
    for map, stride in zip(opened(x), (4, 8, 16, 32), strict=True):
        assert tuple(map.shape[1:3]) == tuple(-(-n // stride) for n in size)


@pytest.mark.parametrize("output_stride", [16, 4])
def test_a_denser_map_contains_the_original_one(output_stride, rng):
    x = rng.normal(size=(1, 101, 70, 3)).astype("float32")
    for level, a, b in zip(
        (4, 8, 16, 32), small()(x), small(output_stride=output_stride)(x), strict=True
    ):
        step = max(level // output_stride, 1)
        close([b[:, ::step, ::step]], [a])
        assert b.shape[1] == -(-101 // min(level, output_stride))


def test_images_skip_branches_by_themselves_and_more_of_them_towards_the_end(rng):
    x = rng.normal(size=(1, 32, 32, 3)).astype("float32").repeat(64, axis=0)
    model = small(drop_path=0.8)
    rates = [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    # Two branches in each of five blocks, of which the first block is never dropped.
    np.testing.assert_allclose(rates, np.repeat([0.2, 0.4, 0.6, 0.8], 2))
    first, second, *_, last = numpy(model(x, training=True))
    assert (first == first[0]).all()
    close([first], model(x, training=False)[:1])
    spread = {round(float(map.sum()), 3) for map in second}
    assert 2 <= len(spread) <= 4  # either branch of its one block, or both, or none
    assert len({round(float(map.sum()), 3) for map in last}) > 4


def test_images_of_a_batch_do_not_meet(rng):
    x = rng.normal(size=(3, 40, 36, 3)).astype("float32")
    close([map[1:2] for map in small()(x)], small()(x[1:2]))


@pytest.mark.parametrize("case", each("MiT", {"UNet": TINY["UNet"]}, TINY))
def test_every_decoder_takes_the_maps(case, rng):
    model = getattr(models, case.builder)(small(), 2, **case.options)
    for size in ((40, 36), (65, 47)):
        y = ops.convert_to_numpy(model(rng.normal(size=(2, *size, 3)).astype("float32")))
        assert y.shape == (2, *size, 2) and np.isfinite(y).all() and y.std() > 0
