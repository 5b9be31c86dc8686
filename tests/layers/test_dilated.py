"""Dilated convolutions on maps smaller than their reach: Keras's numbers, fewer products."""

import keras
import numpy as np
import pytest
from keras import ops

from segzoo.layers import ConvBlock, SeparableConvBlock, _dilated

pytestmark = pytest.mark.core


@pytest.mark.parametrize("kernel", [2, 3, 5])
@pytest.mark.parametrize("rate", [2, 3, 6, 7, 9])
@pytest.mark.parametrize("kind", ["Conv2D", "DepthwiseConv2D"])
def test_a_dilated_convolution_is_that_of_keras(kind, rate, kernel, rng):
    x = rng.normal(size=(2, 6, 9, 3)).astype("float32")
    filters = (4,) if kind == "Conv2D" else ()
    options = {"padding": "same", "dilation_rate": rate, "bias_initializer": "normal"}
    ours = getattr(_dilated, kind)(*filters, kernel, **options)
    theirs = getattr(keras.layers, kind)(*filters, kernel, **options)
    ours.build(x.shape)
    theirs.build(x.shape)
    theirs.set_weights(ours.get_weights())
    y, expected = (ops.convert_to_numpy(layer(x)) for layer in (ours, theirs))
    np.testing.assert_allclose(y, expected, atol=1e-5)


@pytest.mark.parametrize("rate, taps", [(5, (3, 3)), (6, (1, 3)), (8, (1, 3)), (9, (1, 1))])
def test_taps_that_see_only_padding_are_left_out(rate, taps):
    kernel = np.zeros((3, 3, 2, 1), "float32")
    seeing, rates = _dilated._seeing(kernel, (6, 9), (rate, rate))
    assert tuple(seeing.shape[:2]) == taps
    assert rates == tuple(rate if n > 1 else 1 for n in taps)


def test_taps_stay_while_the_size_is_unknown():
    seeing, _ = _dilated._seeing(np.zeros((3, 3, 2, 1), "float32"), (None, 9), (40, 40))
    assert tuple(seeing.shape[:2]) == (3, 1)


@pytest.mark.parametrize("block", [ConvBlock, SeparableConvBlock])
def test_blocks_of_fixed_and_of_open_size_agree(block, rng):
    x = rng.normal(size=(2, 6, 9, 3)).astype("float32")
    fixed, free = keras.Input((6, 9, 3)), keras.Input((None, None, 3))
    layer = block(4, dilation_rate=7)
    models = [keras.Model(image, layer(image)) for image in (fixed, free)]
    y, expected = (model.predict(x, verbose=0) for model in models)
    np.testing.assert_allclose(y, expected, atol=1e-5)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("rate, kernel", [(2, 3), (3, (3, 2)), (6, 3), ((4, 1), (3, 1))])
def test_the_gradient_is_that_of_keras(rate, kernel, padding, rng):
    if keras.backend.backend() != "tensorflow":
        return  # other backends have one way only
    import tensorflow as tf

    x = tf.constant(rng.normal(size=(2, 15, 17, 3)).astype("float32"))
    options = {"padding": padding, "dilation_rate": rate}
    ours, theirs = _dilated.Conv2D(4, kernel, **options), keras.layers.Conv2D(4, kernel, **options)
    ours.build(x.shape)
    theirs.build(x.shape)
    theirs.set_weights(ours.get_weights())
    found = []
    for layer in (ours, theirs):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(tf.square(layer(x)))
        found.append(tape.gradient(loss, [x, layer.kernel.value]))
    for ours_, theirs_ in zip(*found, strict=True):
        np.testing.assert_allclose(ours_, theirs_, rtol=1e-4, atol=1e-4 * np.abs(theirs_).max())


def test_the_gradient_of_the_gradient_is_that_of_keras(rng):
    if keras.backend.backend() != "tensorflow":
        return
    import tensorflow as tf

    x, kernel = (rng.normal(size=size).astype("float32") for size in ((2, 7, 9, 2), (3, 3, 2, 4)))
    tensors, found = [tf.constant(x), tf.constant(kernel)], []
    for convolve in (_dilated._by_tensorflow, _dilated._by_keras):
        with tf.GradientTape() as outer:
            outer.watch(tensors)
            with tf.GradientTape() as inner:
                inner.watch(tensors)
                value = tf.reduce_sum(convolve(*tensors, "same", (2, 3)) ** 3)
            slopes = inner.gradient(value, tensors)
            length = sum(tf.reduce_sum(slope**2) for slope in slopes)
        found.append(outer.gradient(length, tensors))
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4 * np.abs(theirs).max())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("xla", [False, True])
def test_a_graph_of_the_gradient_has_no_phases_and_agrees_with_float32(xla, dtype, rng):
    if keras.backend.backend() != "tensorflow":
        return
    import tensorflow as tf

    x, kernel = (rng.normal(size=size) for size in ((2, 9, 12, 3), (3, 3, 3, 4)))

    def slopes(x, kernel):
        y = tf.cast(_dilated._by_tensorflow(x, kernel, "same", (4, 4)), tf.float32)
        return tf.gradients(tf.reduce_sum(y * y) / 2, [x, kernel])

    step = tf.function(slopes, jit_compile=xla)
    expected = step(tf.cast(x, "float32"), tf.cast(kernel, "float32"))
    tensors = tf.cast(x, dtype), tf.cast(kernel, dtype)
    if not xla:
        graph = step.get_concrete_function(*tensors).graph
        kinds = [op.type for op in graph.get_operations()]
        assert kinds.count("Conv2D") == 2 and kinds.count("MatMul") == 9
        assert not any("Space" in kind or "Backprop" in kind for kind in kinds)
    tolerance = {"float32": 1e-6, "bfloat16": 2e-2, "float16": 4e-3}[dtype]
    for got, exact in zip(step(*tensors), expected, strict=True):
        assert got.dtype == dtype
        got, exact = np.asarray(tf.cast(got, "float32")), np.asarray(exact)
        np.testing.assert_allclose(got, exact, atol=tolerance * np.abs(exact).max())


def test_a_graph_of_open_size_holds_one_dilated_convolution():
    if keras.backend.backend() != "tensorflow":
        return
    import tensorflow as tf

    layer = _dilated.Conv2D(4, 3, padding="same", dilation_rate=6)
    layer.build((None, None, None, 3))
    graph = tf.function(layer).get_concrete_function(tf.TensorSpec((None, None, None, 3)))
    kinds = [op.type for op in graph.graph.get_operations()]
    assert kinds.count("Conv2D") == 1 and "SpaceToBatchND" not in kinds


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("rate, kernel", [(2, 3), (3, 2), (5, 3), (2, 5)])
def test_a_depthwise_convolution_of_open_size_is_that_of_keras(rate, kernel, padding, rng):
    if keras.backend.backend() != "tensorflow":
        return
    import tensorflow as tf

    x = tf.constant(rng.normal(size=(2, 15, 17, 3)).astype("float32"))
    options = {"padding": padding, "dilation_rate": rate, "activation": "tanh"}
    kinds = (_dilated.DepthwiseConv2D, keras.layers.DepthwiseConv2D)
    layers = [kind(kernel, bias_initializer="ones", **options) for kind in kinds]
    for layer in layers:
        layer.build(x.shape)
        layer.set_weights(layers[0].get_weights())
    found = []
    for layer in layers:
        call = tf.function(layer, input_signature=[tf.TensorSpec((None, None, None, 3))])
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = call(x)
        found.append([y, *tape.gradient(y, [x, layer.kernel.value])])
        graph = call.get_concrete_function().graph
        in_phases = any(op.type == "SpaceToBatchND" for op in graph.get_operations())
        assert in_phases == (layer is layers[1] or kernel == 5)
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-4)
