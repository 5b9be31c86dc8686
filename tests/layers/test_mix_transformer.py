"""The parts of a Mix Transformer block against loops in NumPy that know nothing of them."""

import math

import keras
import numpy as np
import pytest
from keras import ops

from segzoo import layers

pytestmark = pytest.mark.core


def numpy(x):
    return ops.convert_to_numpy(x)


def randomize(layer, rng):
    """Give a built layer weights that are neither 0 nor 1, so that each of them shows."""
    layer.set_weights([rng.normal(size=w.shape) * 0.5 for w in layer.get_weights()])
    weights = [w.astype("float64") for w in layer.get_weights()]
    # A linear map of channels is a 1x1 convolution.
    return [w[0, 0] if w.shape[:2] == (1, 1) else w for w in weights]


def normalize(x, gamma, beta, epsilon):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + epsilon) * gamma + beta


def convolve(x, kernel, bias, stride, padding):
    """Correlation of one map (H, W, C), an output pixel at a time."""
    x = np.pad(x, ((padding, padding), (padding, padding), (0, 0)))
    size = kernel.shape[0]
    rows, columns = ((n - size) // stride + 1 for n in x.shape[:2])
    out = np.empty((rows, columns, kernel.shape[-1]))
    for i in range(rows):
        for j in range(columns):
            window = x[i * stride : i * stride + size, j * stride : j * stride + size]
            out[i, j] = np.einsum("hwc,hwcd->d", window, kernel) + bias
    return out


def attention_oracle(x, layer, weights):
    """Efficient self-attention of one map (H, W, C), a pixel and a head at a time."""
    weights = iter(weights)
    query = x @ next(weights) + next(weights)
    z = x
    if layer.reduction > 1:
        z = convolve(x, next(weights), next(weights), layer.reduction, 0)
        z = normalize(z, next(weights), next(weights), layer.epsilon)
    key = (z @ next(weights) + next(weights)).reshape(-1, layer.filters)
    value = (z @ next(weights) + next(weights)).reshape(-1, layer.filters)
    out = np.empty((*x.shape[:2], layer.filters))
    width = layer.filters // layer.heads
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            for head in range(layer.heads):
                mine = slice(head * width, (head + 1) * width)
                scores = [query[i, j, mine] @ k[mine] / math.sqrt(width) for k in key]
                shares = np.exp(np.array(scores) - max(scores))
                shares /= shares.sum()
                out[i, j, mine] = sum(s * v[mine] for s, v in zip(shares, value, strict=True))
    return out @ next(weights) + next(weights)


@pytest.mark.parametrize(
    ("heads", "reduction", "size"), [(1, 1, (5, 4)), (3, 2, (7, 9)), (2, 4, (9, 6))]
)
def test_attention_is_the_loop_over_pixels_and_heads(heads, reduction, size, rng):
    layer = layers.EfficientSelfAttention(6, heads, reduction, epsilon=1e-2)
    x = rng.normal(size=(2, *size, 6)).astype("float32")
    layer.build(x.shape)
    # In the order in which they are used: query, reduction and its norm, key, value, projection.
    parts = ["query", *(["reduce", "norm"] if reduction > 1 else []), "key", "value", "project"]
    weights = [w for part in parts for w in randomize(getattr(layer, part), rng)]
    expected = [attention_oracle(image.astype("float64"), layer, weights) for image in x]
    np.testing.assert_allclose(numpy(layer(x)), expected, atol=2e-5)


def test_the_feed_forward_network_mixes_with_a_zero_padded_3x3_and_exact_gelu(rng):
    layer = layers.MixFeedForward(3, expansion=2)
    x = rng.normal(size=(2, 5, 4, 3)).astype("float32")
    layer.build(x.shape)
    expand, expand_bias = randomize(layer.expand, rng)
    kernel, bias = randomize(layer.mix, rng)
    shrink, shrink_bias = randomize(layer.shrink, rng)
    wide = x.astype("float64") @ expand + expand_bias
    channels = [
        [
            convolve(image[..., [c]], kernel[:, :, [c]], bias[c], 1, 1)[..., 0]
            for c in range(wide.shape[-1])
        ]
        for image in wide
    ]
    mixed = np.moveaxis(np.array(channels), 1, -1)
    curve = np.vectorize(lambda v: v * 0.5 * math.erfc(-v / math.sqrt(2)))
    expected = curve(mixed) @ shrink + shrink_bias
    np.testing.assert_allclose(numpy(layer(x)), expected, atol=2e-5)


@pytest.mark.parametrize(("patch", "stride"), [(7, 4), (3, 2)])
@pytest.mark.parametrize("size", [(16, 8), (13, 10), (5, 7)])
def test_a_patch_embedding_pads_alike_on_all_sides(patch, stride, size, rng):
    layer = layers.OverlapPatchEmbedding(4, patch, stride, epsilon=1e-2)
    x = rng.normal(size=(1, *size, 3)).astype("float32")
    layer.build(x.shape)
    kernel, bias = randomize(layer.conv, rng)
    gamma, beta = randomize(layer.norm, rng)
    expected = convolve(x[0].astype("float64"), kernel, bias, stride, patch // 2)
    assert expected.shape[:2] == tuple(-(-n // stride) for n in size)
    expected = normalize(expected, gamma, beta, 1e-2)
    np.testing.assert_allclose(numpy(layer(x))[0], expected, atol=2e-5)


@pytest.mark.parametrize("rate", [2, 4])
@pytest.mark.parametrize("size", [(11, 16), (9, 5)])
def test_on_a_denser_map_the_pixels_of_the_sparse_one_keep_their_values(rate, size, rng):
    dense = rng.normal(size=(2, size[0] * rate - 1, size[1] * rate, 6)).astype("float32")
    sparse = dense[:, ::rate, ::rate]
    for make in (
        lambda r: layers.EfficientSelfAttention(6, 2, 2, dilation_rate=r),
        lambda r: layers.EfficientSelfAttention(6, dilation_rate=r),
        lambda r: layers.MixFeedForward(6, dilation_rate=r),
        lambda r: layers.OverlapPatchEmbedding(6, strides=1, dilation_rate=r),
    ):
        plain, dilated = make(1), make(rate)
        plain.build(sparse.shape)
        dilated.build(dense.shape)
        randomize(plain, rng)
        dilated.set_weights(plain.get_weights())
        y = numpy(dilated(dense))[:, ::rate, ::rate]
        np.testing.assert_allclose(y, numpy(plain(sparse)), atol=2e-5)


def test_gelu_is_exact_at_both_ends():
    x = np.array([-9.0, -3.0, -1.0, -1e-3, 0.0, 0.5, 2.0, 9.0], "float32")
    expected = [v * 0.5 * math.erfc(-v / math.sqrt(2)) for v in x]
    np.testing.assert_allclose(numpy(layers.gelu(ops.convert_to_tensor(x))), expected, atol=3e-7)


def test_large_scores_do_not_overflow_in_16_bits(rng):
    # 64 * 40 * 40 is beyond what float16 holds, a score of it over sqrt(64) is not.
    x = np.full((1, 3, 4, 64), 40.0, "float16")
    layer = layers.EfficientSelfAttention(64, dtype="mixed_float16")
    layer.build(x.shape)
    for part in (layer.query, layer.key, layer.value, layer.project):
        part.set_weights([np.eye(64)[None, None], np.zeros(64)])
    np.testing.assert_allclose(numpy(layer(x)), x, rtol=1e-3)


def test_an_empty_batch_stays_empty():
    x = np.ones((0, 9, 8, 4), "float32")
    assert tuple(layers.EfficientSelfAttention(4, 2, 2)(x).shape) == x.shape


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.EfficientSelfAttention(8, 3), "multiple of `heads`.*filters=8, heads=3"),
        (lambda: layers.EfficientSelfAttention(8, 0), "`heads`.*heads=0"),
        (lambda: layers.EfficientSelfAttention(8, 2, 1.5), "`reduction`.*1.5"),
        (
            lambda: layers.EfficientSelfAttention(8, reduction=4)(keras.Input((3, 8, 8))),
            r"reduces its map by 4.*at least 4 rows.*\(None, 3, 8, 8\)",
        ),
        (lambda: layers.MixFeedForward(8, 0), "`expansion`.*expansion=0"),
        (lambda: layers.OverlapPatchEmbedding(8, 4, 2), "`patch_size` must be odd.*patch_size=4"),
        (lambda: layers.OverlapPatchEmbedding(8, 3, 3), "`patch_size`.*strides=3"),
        (
            lambda: layers.OverlapPatchEmbedding(8, dilation_rate=2),
            "strides=2, dilation_rate=2",
        ),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_checkpoint_of_tensorflow_restores_every_weight(tmp_path, rng):
    if keras.backend.backend() != "tensorflow":
        return
    import tensorflow as tf

    def build():
        image = keras.Input((16, 16, 4))
        x = layers.OverlapPatchEmbedding(8)(image)
        x = layers.EfficientSelfAttention(8, 2, 2)(x)
        return keras.Model(image, layers.MixFeedForward(8)(x))

    trained, fresh = build(), build()
    for layer in trained.layers:
        randomize(layer, rng)
    path = tf.train.Checkpoint(trained).write(str(tmp_path / "checkpoint"))
    tf.train.Checkpoint(fresh).read(path).assert_consumed()
    for a, b in zip(trained.get_weights(), fresh.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
