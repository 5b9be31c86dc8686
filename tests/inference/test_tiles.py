"""`predict_tiles` beside a loop in NumPy, and the properties that large images need."""

import subprocess
import sys
import tracemalloc

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import segzoo
from segzoo.inference import predict_tiles

WINDOWS = ("constant", "hann", "gaussian")


def scale(batch):
    """Scores that depend on a pixel alone: any blending must give them back."""
    return batch[..., :2].astype("float32") / 255


def ramp(batch):
    """Scores that depend on the place in the tile, so that tiles disagree."""
    _, height, width, _ = batch.shape
    rows, columns = np.indices((height, width)) / 7
    return np.stack([batch[..., 0] + rows, batch[..., 1] * columns], axis=-1).astype("float32")


def integers(shape, dtype="uint8", seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(dtype)


def window_of(name, size):
    """The weights along one axis, written out pixel by pixel."""
    if name == "constant":
        return [1.0] * size
    if name == "hann":
        return [(1 - np.cos(2 * np.pi * (i + 0.5) / size)) / 2 for i in range(size)]
    sigma = size / 8
    return [np.exp(-((i + 0.5 - size / 2) ** 2) / (2 * sigma**2)) for i in range(size)]


def blended(predict, image, tile, overlap, window, trim):
    """Tile by tile in float64: the sum of weighted scores divided by the sum of weights."""
    (height, width), (rows, columns) = image.shape[:2], tile
    weights = np.outer(window_of(window, rows), window_of(window, columns))
    padding = [(0, max(rows - height, 0)), (0, max(columns - width, 0)), (0, 0)]
    padded = np.pad(image, padding, mode="reflect")
    total, scores = np.zeros(padded.shape[:2]), None
    starts = []
    for length, size, shared in zip(padded.shape, tile, overlap, strict=False):
        start, found = 0, []
        while start + size < length:
            found.append(start)
            start += size - shared
        starts.append([*found, length - size])
    for y in starts[0]:
        for x in starts[1]:
            part = predict(padded[None, y : y + rows, x : x + columns])[0].astype("float64")
            used = weights.copy()
            used[: trim if y else 0] = 0
            used[:, : trim if x else 0] = 0
            used[rows - (trim if y < starts[0][-1] else 0) :] = 0
            used[:, columns - (trim if x < starts[1][-1] else 0) :] = 0
            if scores is None:
                scores = np.zeros((*total.shape, part.shape[-1]))
            scores[y : y + rows, x : x + columns] += part * used[..., None]
            total[y : y + rows, x : x + columns] += used
    return (scores / total[..., None])[:height, :width]


# ---------------------------------------------------------------- blending


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize(
    ("size", "tile", "overlap", "shared", "trim"),
    [
        ((37, 50), (16, 12), 0.25, (4, 3), 0),
        ((37, 50), (16, 12), 5, (5, 5), 2),
        ((40, 33), (10, 10), 0.5, (5, 5), 1),
        ((23, 41), (8, 8), 7, (7, 7), 3),
        ((32, 24), (8, 8), 0, (0, 0), 0),
        ((9, 50), (16, 12), 4, (4, 4), 2),  # lower than a tile
        ((5, 3), (16, 12), 4, (4, 4), 0),  # smaller than its own reflection
        ((1, 1), (4, 4), 0.0, (0, 0), 0),
    ],
)
def test_scores_are_the_weighted_mean_over_the_tiles(window, size, tile, overlap, shared, trim):
    image = integers((*size, 3))
    options = {"overlap": overlap, "window": window, "trim": trim}
    found = predict_tiles(ramp, image, tile_size=tile, batch_size=3, verbose=0, **options)
    expected = blended(ramp, image, tile, shared, window, trim)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.integers(1, 17), st.integers(1, 17)),
    st.floats(0, 1, exclude_max=True),
    st.sampled_from(WINDOWS),
    st.integers(0, 8),
    st.integers(1, 5),
)
def test_a_constant_stays_constant_to_the_last_bit(size, tile, overlap, window, trim, batch_size):
    shared = min(min(round(overlap * side), side - 1) for side in tile)

    def predict(batch):
        return np.full((*batch.shape[:3], 2), 0.3, "float32")

    scores = predict_tiles(
        predict, np.zeros((*size, 1)), tile_size=tile, overlap=overlap, window=window,
        trim=min(trim, shared // 2), batch_size=batch_size, verbose=0,
    )  # fmt: skip
    assert scores.shape == (*size, 2) and (scores == np.float32(0.3)).all()


def test_a_constant_window_without_overlap_is_the_plain_tiling():
    image = integers((24, 32, 2))
    found = predict_tiles(ramp, image, tile_size=8, overlap=0, window="constant", verbose=0)
    for y in range(0, 24, 8):
        for x in range(0, 32, 8):
            tile = ramp(image[None, y : y + 8, x : x + 8])[0]
            np.testing.assert_array_equal(found[y : y + 8, x : x + 8], tile)


def test_a_window_of_ones_own_weighs_the_pixels():
    image, weights = integers((12, 20, 2)), np.random.default_rng(1).uniform(0.1, 9, (8, 8))
    found = predict_tiles(ramp, image, tile_size=8, overlap=4, window=weights, verbose=0)
    left, right = ramp(image[None, :8, 0:8])[0], ramp(image[None, :8, 4:12])[0]
    a, b = weights[:4, 4:, None], weights[:4, :4, None]
    expected = (a * left[:4, 4:] + b * right[:4, :4]) / (a + b)
    np.testing.assert_allclose(found[:4, 4:8], expected, rtol=1e-5)
    again = predict_tiles(ramp, image, tile_size=8, overlap=4, window=weights * 1e-20, verbose=0)
    np.testing.assert_allclose(again, found, rtol=1e-5)


def test_infinite_scores_stay_infinite_and_nan_stays_where_it_is():
    def without_class_one(batch):
        scores = ramp(batch)
        scores[..., 1] = -np.inf
        return scores

    image = integers((20, 20, 2))
    scores = predict_tiles(without_class_one, image, tile_size=8, overlap=4, verbose=0)
    assert (scores[..., 1] == -np.inf).all() and np.isfinite(scores[..., 0]).all()

    image = image.astype("float32")
    image[9, 9] = np.nan
    scores = predict_tiles(scale, image, tile_size=8, overlap=4, verbose=0)
    assert np.isnan(scores[9, 9]).all() and np.isnan(scores).sum() == 2


# ---------------------------------------------------------------- equal to the whole image


def network(*strides, seed=0):
    """3x3 convolutions on any size, each stride undone at the end; its reach is their number."""
    keras.utils.set_random_seed(seed)
    image = x = keras.Input((None, None, 2))
    for stride in strides:
        x = keras.layers.Conv2D(4, 3, strides=stride, padding="same", activation="elu")(x)
    for _ in range(sum(stride == 2 for stride in strides)):
        x = keras.layers.UpSampling2D(2)(x)
    return keras.Model(image, x)


@pytest.mark.core
@pytest.mark.parametrize("window", WINDOWS)
def test_with_the_reach_trimmed_the_result_is_that_of_the_whole_image(window):
    model, image = network(1, 1, 1, 1), np.random.default_rng(0).normal(size=(45, 61, 2))
    expected = keras.ops.convert_to_numpy(model(image[None]))[0]
    options = {"tile_size": (24, 32), "overlap": 8, "window": window, "verbose": 0}
    found = predict_tiles(model, image, trim=4, **options)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    seams = predict_tiles(model, image, **options)
    assert np.abs(seams - expected).max() > 1e-3


def test_a_strided_network_equals_the_whole_image_where_tiles_begin_on_its_stride():
    # Two strides of 2: a reach of 1 + 1 + 2 * 1 pixels, and as much again for the coarse pixels.
    model, image = network(1, 2, 2), np.random.default_rng(0).normal(size=(48, 64, 2))
    expected = keras.ops.convert_to_numpy(model(image[None]))[0]
    found = predict_tiles(model, image, tile_size=32, overlap=16, trim=8, verbose=0)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    off = predict_tiles(model, image, tile_size=32, overlap=18, trim=8, verbose=0)
    assert np.abs(off - expected).max() > 1e-3


# ---------------------------------------------------------------- reading, batches, memory


class Recorded:
    """An image that can only be sliced, and remembers how often each pixel was read."""

    def __init__(self, pixels):
        self.pixels, self.shape, self.reads = pixels, pixels.shape, np.zeros(pixels.shape[:2], int)

    def __getitem__(self, key):
        assert all(isinstance(part, slice) for part in key)
        self.reads[key] += 1
        return self.pixels[key]


@pytest.mark.parametrize("size", [(37, 50), (6, 50), (16, 12)])
def test_every_pixel_is_read_as_often_as_tiles_cover_it(size):
    image = Recorded(integers((*size, 3)))
    scores = predict_tiles(scale, image, tile_size=(16, 12), overlap=(4), verbose=0)
    np.testing.assert_allclose(scores, scale(image.pixels), atol=1e-6)
    covered = np.zeros(size, int)
    for y in [*range(0, max(size[0] - 16, 0), 12), max(size[0] - 16, 0)]:
        for x in [*range(0, size[1] - 12, 8), size[1] - 12]:
            covered[y : y + 16, x : x + 12] += 1
    np.testing.assert_array_equal(image.reads, covered)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", ">u2", "int16", "float16", "float32", "bool"])
def test_a_callable_gets_the_pixels_as_they_are_in_batches_of_one_shape(dtype):
    image, seen = integers((21, 17, 3), dtype), []

    def predict(batch):
        seen.append(batch)
        return scale(batch)

    scores = predict_tiles(predict, image, tile_size=8, overlap=2, batch_size=5, verbose=0)
    np.testing.assert_allclose(scores, scale(image), atol=1e-6)
    assert {batch.shape for batch in seen} == {(5, 8, 8, 3)} and len(seen) == 3
    assert {batch.dtype for batch in seen} == {np.dtype(dtype).newbyteorder("=")}
    np.testing.assert_array_equal(seen[0][0], image[:8, :8])
    np.testing.assert_array_equal(seen[-1][-1], image[-8:, -8:])


@pytest.mark.core
def test_a_model_is_traced_once():
    traces = []

    class Counting(keras.layers.Layer):
        def call(self, x):
            traces.append(tuple(x.shape))
            return x

    image = keras.Input((None, None, 2))
    model = keras.Model(image, Counting()(image))
    traces.clear()
    for size in ((30, 20), (9, 50), (5, 5)):
        pixels = integers((*size, 2))
        found = predict_tiles(model, pixels, tile_size=8, batch_size=3, verbose=0)
        np.testing.assert_allclose(found, pixels, rtol=1e-6)
    assert set(traces) <= {(3, 8, 8, 2)}
    if keras.backend.backend() != "torch":  # which traces nothing
        assert len(traces) <= 2  # JAX also asks for the shape


@pytest.mark.parametrize("labels", [False, True])
def test_the_memory_is_that_of_a_band_of_tiles(tmp_path, labels):
    height, width, tile, classes = 3000, 800, 64, 5
    image = np.lib.format.open_memmap(tmp_path / "image.npy", "w+", "uint8", (height, width, 1))
    image[::7] = 200
    shape, dtype = ((height, width), "uint8") if labels else ((height, width, classes), "float32")
    out = np.lib.format.open_memmap(tmp_path / "out.npy", "w+", dtype, shape)

    def predict(batch):
        return (batch == np.arange(classes) * 50).astype("float32")

    tracemalloc.start()
    options = {"tile_size": tile, "batch_size": 2, "labels": labels, "out": out, "verbose": 0}
    assert predict_tiles(predict, image, **options) is out
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    band = tile * width * (classes + 1) * 4
    assert peak < 2 * band < height * width * classes * 4 / 15
    expected = predict(image) if not labels else predict(image).argmax(axis=-1)
    np.testing.assert_array_equal(out, expected)


LARGE = """
import re, sys
import numpy as np
from segzoo.inference import predict_tiles

def anonymous():
    return int(re.search(r"RssAnon:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024

def predict(batch):
    return np.repeat(batch[..., :1], 4, axis=-1).astype("float32")

height, width = 1800, 20_000
image = np.lib.format.open_memmap(f"{sys.argv[1]}/i.npy", "w+", "uint8", (height, width, 3))
out = np.lib.format.open_memmap(f"{sys.argv[1]}/o.npy", "w+", "float32", (height, width, 4))
most, before = 0, anonymous()

def watched(batch):
    global most
    most = max(most, anonymous())
    return predict(batch)

predict_tiles(watched, image, out=out, verbose=0)
print(max(most, anonymous()) - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_an_image_of_20000_columns_grows_anonymous_memory_by_less_than_500_mib(tmp_path):
    """The band is as wide as the image, so that further rows need no more."""
    run = subprocess.run([sys.executable, "-c", LARGE, tmp_path], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    assert float(run.stdout) < 500


# ---------------------------------------------------------------- labels, out, models


def test_labels_are_the_argmax_of_the_blended_scores():
    image = integers((37, 50, 3))
    options = {"tile_size": 16, "overlap": 0.5, "verbose": 0}
    scores = predict_tiles(ramp, image, **options)
    labels = predict_tiles(ramp, image, labels=True, **options)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, scores.argmax(axis=-1))


@pytest.mark.parametrize("threshold", [0.5, 0.2, -3.0])
def test_labels_of_one_class_lie_above_the_threshold(threshold):
    image = integers((20, 30, 1)) / 255

    def predict(batch):
        return batch

    options = {"tile_size": 8, "labels": True, "threshold": threshold, "verbose": 0}
    labels = predict_tiles(predict, image, **options)
    assert labels.dtype == np.uint8 and labels.shape == (20, 30)
    np.testing.assert_array_equal(labels, image[..., 0].astype("float32") > threshold)


@pytest.mark.parametrize(("classes", "dtype"), [(256, "uint8"), (257, "uint16")])
def test_labels_are_uint16_from_257_classes_on(classes, dtype):
    def predict(batch):
        return batch == np.arange(classes)

    image = np.arange(100).reshape(10, 10, 1) + classes - 100
    labels = predict_tiles(predict, image, tile_size=4, labels=True, verbose=0)
    assert labels.dtype == dtype
    np.testing.assert_array_equal(labels, image[..., 0])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_scores_have_the_precision_of_a_floating_out(dtype):
    image = np.random.default_rng(0).normal(size=(20, 30, 2))
    out = np.empty(image.shape, dtype)
    found = predict_tiles(lambda batch: batch, image, tile_size=8, out=out, verbose=0)
    assert found is out
    np.testing.assert_allclose(out, image, rtol=2 * np.finfo(dtype).eps)


def test_labels_fill_an_out_of_any_integer_type():
    image, out = integers((20, 30, 3)), np.full((20, 30), -7, "int64")
    assert predict_tiles(scale, image, tile_size=8, labels=True, out=out, verbose=0) is out
    np.testing.assert_array_equal(out, scale(image).argmax(axis=-1))


@pytest.mark.core
def test_the_last_of_several_outputs_counts():
    image = keras.Input((None, None, 3))
    outputs = [keras.layers.Conv2D(k, 1)(image) for k in (5, 2)]
    pixels = integers((20, 30, 3))
    expected = keras.ops.convert_to_numpy(keras.Model(image, outputs[1])(pixels[None]))[0]
    for result in (outputs, dict(zip("ab", outputs, strict=True))):
        model = keras.Model(image, result)
        found = predict_tiles(model, pixels, tile_size=8, overlap=2, verbose=0)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)
    found = predict_tiles(lambda batch: model(batch), pixels, tile_size=8, overlap=2, verbose=0)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


def test_any_callable_predicts():
    import tensorflow as tf

    pixels = integers((20, 30, 3))

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8)])
    def graph(batch):
        return tf.cast(batch[..., :2], tf.bfloat16)

    found = predict_tiles(graph, pixels, tile_size=8, verbose=0)
    np.testing.assert_array_equal(found, pixels[..., :2])
    model = segzoo.models.UNet(None, 3, (32, 32, 3), decoder_filters=(4, 4))
    found = predict_tiles(model, pixels, tile_size=32, labels=True, verbose=0)
    padded = np.pad(pixels, ((0, 12), (0, 2), (0, 0)), mode="reflect")
    scores = model.predict(padded[None], verbose=0)[0, :20]
    np.testing.assert_array_equal(found, scores[:, :30].argmax(axis=-1))


def test_progress_counts_tiles(capsys):
    predict_tiles(scale, integers((20, 20, 3)), tile_size=8, overlap=0)
    assert "9/9" in capsys.readouterr().out
    predict_tiles(scale, integers((20, 20, 3)), tile_size=8, overlap=0, verbose=0)
    assert capsys.readouterr().out == ""


# ---------------------------------------------------------------- what cannot be right


def fixed_model(height, width, channels, batch=None):
    image = keras.Input((height, width, channels), batch_size=batch)
    return keras.Model(image, keras.layers.Conv2D(2, 1)(image))


IMAGE = np.zeros((20, 30, 3), "uint8")


@pytest.mark.parametrize(
    ("argument", "options"),
    [
        ("image", {"image": IMAGE[..., 0]}),
        ("image", {"image": IMAGE[None]}),
        ("image", {"image": IMAGE[:0]}),
        ("image", {"image": IMAGE.tolist()}),
        ("image", {"image": IMAGE[..., :1], "predict": fixed_model(None, None, 3)}),
        ("tile_size", {"tile_size": 0}),
        ("tile_size", {"tile_size": 8.0}),
        ("tile_size", {"tile_size": (8, 8, 8)}),
        ("tile_size", {"tile_size": (8, -8)}),
        ("tile_size", {"tile_size": 16, "predict": fixed_model(32, 32, 3)}),
        ("tile_size", {"tile_size": (8, 16), "predict": fixed_model(16, 8, 3)}),
        ("overlap", {"overlap": 1.0}),
        ("overlap", {"overlap": 8}),
        ("overlap", {"overlap": -1}),
        ("overlap", {"overlap": -0.1}),
        ("overlap", {"overlap": float("nan")}),
        ("overlap", {"overlap": True}),
        ("overlap", {"overlap": 8, "tile_size": (16, 8)}),
        ("trim", {"trim": 2}),
        ("trim", {"trim": -1}),
        ("trim", {"trim": 0.5}),
        ("window", {"window": "boxcar"}),
        ("window", {"window": np.ones((8, 9))}),
        ("window", {"window": np.ones(8)}),
        ("window", {"window": np.hanning}),
        ("labels", {"labels": "no"}),
        ("window", {"window": np.eye(8)}),
        ("window", {"window": np.full((8, 8), np.nan)}),
        ("window", {"window": -np.ones((8, 8))}),
        ("batch_size", {"batch_size": 0}),
        ("batch_size", {"batch_size": 2.0}),
        ("batch_size", {"batch_size": 3, "predict": fixed_model(8, 8, 3, batch=4)}),
        ("out", {"out": np.zeros((20, 30, 2), "uint8")}),
        ("out", {"out": np.zeros((20, 30, 3), "float32")}),
        ("out", {"out": np.zeros((20, 31, 2), "float32")}),
        ("out", {"out": np.zeros((20, 30), "float32")}),
        ("out", {"out": [0.0]}),
        ("out", {"out": np.zeros((20, 30), "float32"), "labels": True}),
        ("out", {"out": np.zeros((20, 30), "bool"), "labels": True}),
        ("out", {"out": np.zeros((20, 30, 2), "uint8"), "labels": True}),
        ("out", {"out": np.broadcast_to(np.uint8(0), (20, 30)), "labels": True}),
        ("threshold", {"threshold": "high", "labels": True}),
        ("threshold", {"threshold": float("nan"), "labels": True}),
        ("predict", {"predict": "model.keras"}),
        ("predict", {"predict": lambda batch: batch[..., 0]}),
        ("predict", {"predict": lambda batch: batch[:, ::2, ::2]}),
        ("predict", {"predict": lambda batch: batch[:2]}),
    ],
)
def test_what_cannot_be_right_is_an_error_that_names_the_argument(argument, options):
    options = {"predict": scale, "image": IMAGE, "tile_size": 8, "verbose": 0, **options}
    with pytest.raises(ValueError, match=f"^`{argument}`"):
        predict_tiles(**options)


def test_an_out_too_small_for_the_classes_is_an_error():
    def predict(batch):
        return np.zeros((*batch.shape[:3], 300))

    out = np.zeros((20, 30), "uint8")
    with pytest.raises(ValueError, match=r"^`out`.*300 classes"):
        predict_tiles(predict, IMAGE, tile_size=8, labels=True, out=out, verbose=0)


def test_a_model_of_two_images_is_an_error():
    images = [keras.Input((None, None, 3)) for _ in range(2)]
    model = keras.Model(images, keras.layers.Add()(images))
    with pytest.raises(ValueError, match=r"^`predict`"):
        predict_tiles(model, IMAGE, tile_size=8, verbose=0)
