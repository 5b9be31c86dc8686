"""Dilated pooling against loops, the phase shift against strided convolutions."""

import keras
import numpy as np
import pytest

from segzoo.layers import DilatedPooling2D, PhaseShift2D

pytestmark = pytest.mark.core


def pooled_by_loops(x, taps, rate, reduce):
    _, height, width, _ = x.shape
    out = np.zeros_like(x)
    before = [(tap - 1) // 2 * rate for tap in taps]
    for row in range(height):
        for column in range(width):
            rows = [row - before[0] + i * rate for i in range(taps[0])]
            columns = [column - before[1] + i * rate for i in range(taps[1])]
            inside = [
                x[:, r, c] for r in rows for c in columns if 0 <= r < height and 0 <= c < width
            ]
            out[:, row, column] = reduce(np.stack(inside), axis=0)
    return out


@pytest.mark.parametrize(("mode", "reduce"), [("max", np.max), ("average", np.mean)])
@pytest.mark.parametrize(("taps", "rate"), [((3, 3), 2), ((2, 2), 2), ((3, 2), 4), ((1, 3), 1)])
def test_pool_equals_loops_over_the_taps_inside(mode, reduce, taps, rate, rng):
    x = rng.normal(size=(2, 9, 12, 3)).astype("float32") - 5  # zero padding would be the maximum
    ours = keras.ops.convert_to_numpy(DilatedPooling2D(taps, rate, mode)(x))
    np.testing.assert_allclose(ours, pooled_by_loops(x, taps, rate, reduce), atol=1e-6)


@pytest.mark.parametrize("mode", ["max", "average"])
@pytest.mark.parametrize("taps", [2, 3])
def test_pool_without_dilation_is_the_one_of_keras(mode, taps, rng):
    x = rng.normal(size=(2, 7, 8, 3)).astype("float32")
    kind = keras.layers.MaxPooling2D if mode == "max" else keras.layers.AveragePooling2D
    reference = keras.ops.convert_to_numpy(kind(taps, strides=1, padding="same")(x))
    ours = keras.ops.convert_to_numpy(DilatedPooling2D(taps, 1, mode)(x))
    np.testing.assert_allclose(ours, reference, atol=1e-6)


@pytest.mark.parametrize("size", [(8, 8), (8, 7), (7, 8), (5, 7)])
def test_shift_pairs_a_pixel_with_the_window_that_stride_two_pairs_it_with(size, rng):
    x = rng.normal(size=(2, *size, 1)).astype("float32")
    centered = np.zeros((3, 3, 1, 1), "float32")
    centered[1, 1] = 1.0
    window = keras.layers.Conv2D(1, 3, strides=2, padding="same", use_bias=False)
    window.build(x.shape)
    window.set_weights([centered])
    middles = keras.ops.convert_to_numpy(window(x))  # the pixel in the middle of each window
    firsts = x[:, ::2, ::2]  # what a 1x1 convolution of stride two reads
    shifted = keras.ops.convert_to_numpy(PhaseShift2D()(x))
    for middle, first in zip(middles.ravel(), firsts.ravel(), strict=True):
        assert first in shifted[x == middle]


@pytest.mark.parametrize("size", [(9, 12), (8, 11), (10, 10)])
def test_shift_by_static_and_dynamic_size_agree(size, rng):
    x = rng.normal(size=(2, *size, 3)).astype("float32")
    static, dynamic = keras.Input((*size, 3)), keras.Input((None, None, 3))
    ours = [keras.Model(i, PhaseShift2D(2)(i)).predict(x, verbose=0) for i in (static, dynamic)]
    np.testing.assert_array_equal(*ours)
    even = [-(-side // 2) % 2 == 0 for side in size]
    expected = np.zeros_like(x)
    rows, columns = (2 * e for e in even)
    expected[:, rows:, columns:] = x[:, : size[0] - rows, : size[1] - columns]
    np.testing.assert_array_equal(ours[0], expected)


@pytest.mark.parametrize(
    "layer", [DilatedPooling2D((2, 3), 4, "average", name="pool"), PhaseShift2D(2, name="shift")]
)
def test_config_rebuilds_the_layer_and_the_shape_is_kept(layer):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert again.get_config() == layer.get_config()
    assert layer.compute_output_shape((2, None, 5, 3)) == (2, None, 5, 3)


def test_pool_of_half_precision_stays_finite(rng):
    x = rng.normal(size=(1, 4, 4, 2)).astype("float16")
    ours = keras.ops.convert_to_numpy(DilatedPooling2D(3, 2, dtype="float16")(x))
    assert ours.dtype == np.float16
    assert np.isfinite(ours).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DilatedPooling2D(0), "`pool_size` must be"),
        (lambda: DilatedPooling2D((2, 2, 2)), "`pool_size` must be"),
        (lambda: DilatedPooling2D(2, 0), "`dilation_rate` must be an int >= 1"),
        (lambda: DilatedPooling2D(2, mode="median"), "`mode` must be"),
        (lambda: PhaseShift2D(0), "`dilation_rate` must be an int >= 1"),
    ],
)
def test_arguments_out_of_range_raise(make, message):
    with pytest.raises(ValueError, match=message):
        make()
