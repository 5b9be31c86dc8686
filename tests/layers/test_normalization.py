"""Batch normalization: the same numbers as Keras's layer, whichever kernel computes them."""

import keras
import numpy as np
import pytest
from keras import ops

from segzoo.layers import AtrousSpatialPyramidPooling, BatchNormalization, ConvBlock


def pair(shape, rng, **options):
    """Our layer and Keras's, with the same random weights."""
    both = [
        kind(momentum=0.8, **options)
        for kind in (BatchNormalization, keras.layers.BatchNormalization)
    ]
    for layer in both:
        layer.build(shape)
    values = [rng.uniform(0.5, 2.0, w.shape) for w in both[0].weights]
    for layer in both:
        layer.set_weights(values)
    return both


@pytest.mark.core
@pytest.mark.parametrize(
    "options",
    [{}, {"center": False}, {"scale": False}, {"epsilon": 0.1}, {"axis": 1}],
    ids=lambda o: next(iter(o), "defaults"),
)
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("shape", [(2, 5, 7, 3), (1, 1, 1, 3), (4, 6, 3)], ids=str)
def test_outputs_and_running_averages_are_those_of_keras(shape, training, options, rng):
    ours, theirs = pair(shape, rng, **options)
    x = rng.normal(3.0, 5.0, shape).astype("float32")
    y, expected = (ops.convert_to_numpy(layer(x, training=training)) for layer in (ours, theirs))
    np.testing.assert_allclose(y, expected, atol=1e-5, rtol=1e-5)
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


@pytest.mark.core
def test_the_running_variance_is_the_biased_one(rng):
    x = rng.normal(size=(2, 3, 2, 4)).astype("float32")
    layer = BatchNormalization(momentum=0.0)
    layer(x, training=True)
    np.testing.assert_allclose(layer.moving_mean, x.mean((0, 1, 2)), atol=1e-6)
    np.testing.assert_allclose(layer.moving_variance, x.var((0, 1, 2)), rtol=1e-5)


@pytest.mark.core
def test_a_frozen_layer_keeps_its_averages(rng):
    ours, theirs = pair((2, 5, 7, 3), rng, trainable=False)
    before = ours.get_weights()
    x = rng.normal(size=(2, 5, 7, 3)).astype("float32")
    y, expected = (ops.convert_to_numpy(layer(x, training=True)) for layer in (ours, theirs))
    np.testing.assert_allclose(y, expected, atol=1e-5)
    for a, b in zip(before, ours.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.core
def test_a_masked_map_is_normalized_by_its_unmasked_pixels(rng):
    ours, theirs = pair((2, 5, 7, 3), rng)
    x = rng.normal(size=(2, 5, 7, 3)).astype("float32")
    mask = rng.uniform(size=(2, 5, 7)) > 0.5
    y, expected = (
        ops.convert_to_numpy(layer(x, training=True, mask=mask)) for layer in (ours, theirs)
    )
    np.testing.assert_allclose(y, expected, atol=1e-5)


@pytest.mark.core
@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16", "float64"])
@pytest.mark.parametrize("training", [False, True])
def test_other_precisions_agree_with_keras(dtype, training, rng):
    if dtype == "float64" and keras.backend.backend() == "jax":
        dtype = "float32"  # JAX has no 64 bit unless told
    ours, theirs = pair((2, 5, 7, 3), rng, dtype=dtype)
    x = rng.normal(size=(2, 5, 7, 3)).astype("float32")
    y, expected = (layer(x, training=training) for layer in (ours, theirs))
    assert y.dtype == expected.dtype
    y, expected = (ops.convert_to_numpy(ops.cast(v, "float32")) for v in (y, expected))
    np.testing.assert_allclose(y, expected, atol=0.04 if "16" in dtype else 1e-5)


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_gradients_are_those_of_keras(training, jit, rng):
    import tensorflow as tf

    x = tf.constant(rng.normal(size=(2, 5, 7, 3)).astype("float32"))
    upstream = rng.normal(size=x.shape).astype("float32")
    gradients = []
    for layer in pair(x.shape, rng):

        @tf.function(jit_compile=jit)
        def gradient(layer=layer):
            with tf.GradientTape() as tape:
                tape.watch(x)
                loss = tf.reduce_sum(layer(x, training=training) * upstream)
            return tape.gradient(loss, [x, *(v.value for v in layer.trainable_variables)])

        gradients.append(gradient())
    for a, b in zip(*gradients, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"axis": 1}, {"center": False}, {"scale": False}], ids=str)
@pytest.mark.parametrize("shape", [(2, 5, 7, 3), (4, 6, 3), (9, 3)], ids=str)
def test_shared_statistics_keep_their_digits_where_the_mean_is_large(shape, options, rng):
    x = rng.normal(300.0, 0.1, shape).astype("float32")
    layer = BatchNormalization(momentum=0.0, epsilon=1e-6, synchronized=True, **options)
    y = ops.convert_to_numpy(layer(x, training=True))
    axes = tuple(a for a in range(x.ndim) if a != layer.axis % x.ndim)
    wide = x.astype("float64")
    mean, variance = wide.mean(axes, keepdims=True), wide.var(axes, keepdims=True)
    np.testing.assert_allclose(layer.moving_mean, mean.ravel(), rtol=1e-6)
    np.testing.assert_allclose(layer.moving_variance, variance.ravel(), rtol=1e-3)
    np.testing.assert_allclose(y, (wide - mean) / np.sqrt(variance + 1e-6), atol=2e-3)


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16", "float64"])
def test_shared_statistics_of_one_device_give_the_outputs_and_gradients_of_keras(dtype, rng):
    import tensorflow as tf

    ours, theirs = pair((2, 5, 7, 3), rng, dtype=dtype)
    ours.synchronized = True
    x = tf.constant(rng.normal(3.0, 5.0, size=(2, 5, 7, 3)), ours.compute_dtype)
    upstream = tf.constant(rng.normal(size=x.shape), ours.compute_dtype)
    found = []
    for layer in (ours, theirs):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
            loss = tf.reduce_sum(tf.cast(y * upstream, "float32"))
        variables = [v.value for v in layer.trainable_variables]
        found.append([y, *tape.gradient(loss, [x, *variables]), *layer.get_weights()])
    for a, b in zip(*found, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, atol=0.03 if "16" in dtype else 2e-5, rtol=1e-3)


def test_synchronized_layers_without_training_take_the_running_statistics(rng):
    ours, theirs = pair((2, 5, 7, 3), rng, synchronized=True)
    x = rng.normal(size=(2, 5, 7, 3)).astype("float32")
    np.testing.assert_allclose(ours(x), theirs(x), atol=1e-5)


@pytest.mark.core
def test_checks_and_idioms_for_keras_layers_see_one():
    layer = BatchNormalization()
    assert isinstance(layer, keras.layers.BatchNormalization)
    assert type(layer).__name__ == "BatchNormalization"


@pytest.mark.core
@pytest.mark.parametrize("dtype", ["float32", "float64"])  # the fused kernel, and Keras's way
def test_an_empty_batch_leaves_the_statistics_as_they_are(dtype, rng):
    layer = BatchNormalization(momentum=0.9, dtype=dtype)
    layer.build((None, 5, 7, 3))
    layer(rng.normal(size=(2, 5, 7, 3)).astype(dtype), training=True)
    before = [np.array(w) for w in layer.get_weights()]
    y = layer(np.zeros((0, 5, 7, 3), dtype), training=True)
    assert tuple(y.shape) == (0, 5, 7, 3)
    for a, b in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_empty_batch_in_a_graph_leaves_the_statistics_as_they_are(rng):
    import tensorflow as tf

    for dtype in ("float32", "float64"):
        layer = BatchNormalization(dtype=dtype)
        layer.build((None, 5, 7, 3))
        signature = [tf.TensorSpec((None, 5, 7, 3), dtype)]
        step = tf.function(lambda x, layer=layer: layer(x, training=True), signature)
        step(rng.normal(size=(2, 5, 7, 3)).astype(dtype))
        before = [np.array(w) for w in layer.get_weights()]
        step(np.zeros((0, 5, 7, 3), dtype))
        for a, b in zip(before, layer.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.core
def test_a_file_keeps_which_blocks_share_their_statistics(tmp_path):
    image = keras.Input((None, None, 3))
    x = AtrousSpatialPyramidPooling(4, (1,), name="pyramid")(ConvBlock(4, name="shared")(image))
    model = keras.Model(image, ConvBlock(2, name="alone")(x))
    pyramid = model.get_layer("pyramid")
    for block in (model.get_layer("shared"), pyramid.project, pyramid.pooling, *pyramid.branches):
        block.norm.synchronized = True
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    pyramid = loaded.get_layer("pyramid")
    assert loaded.get_layer("shared").norm.synchronized
    assert pyramid.project.norm.synchronized and pyramid.branches[1].norm.synchronized
    assert not loaded.get_layer("alone").norm.synchronized
    assert "synchronized" not in (loaded.get_layer("alone").get_build_config() or {})
