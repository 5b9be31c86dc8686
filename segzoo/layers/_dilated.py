"""Dilated convolutions: TensorFlow's own operation, without the taps that see only padding.

On TensorFlow, `keras.ops.conv` with a dilation rate splits the map into phases and convolves those
(SpaceToBatchND, Conv2D, BatchToSpaceND). The operation of TensorFlow knows dilation itself: it is
faster, and a graph or an exported file of open size holds one dilated convolution instead of the
arithmetic of the phases. Where TensorFlow has no gradient of it (a CPU without oneDNN), the
backward pass goes the way of Keras.

TensorFlow's dilated depthwise operation is no choice: under oneDNN its gradient is wrong, without
oneDNN there is none. Depthwise convolutions go the way of Keras where the size is known, which
converters read as dilation again; at open size they are sums of shifted maps.

At rate r the outer taps of a 3x3 kernel lie r pixels from its center. On a map of at most r rows
they all fall into the zeros around it, so that only the middle row of the kernel counts: rate 18
of an atrous pyramid on the 16x16 map of a 256x256 image is a 1x1 convolution at nine times its
price. Depthwise it is worse, as Keras's way pads the map by r on every side and splits it into
r * r phases: there rate 36 trains in 300 ms, and as its one tap in 8. The sums are the same.
"""

import functools

import keras
import numpy as np
from keras import ops

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf
else:
    tf = None


@keras.saving.register_keras_serializable(package="segzoo.layers", name="DilatedConv2D")
class Conv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` with the channels last, dilated, without stride."""

    def convolution_op(self, inputs, kernel):
        rates = self.dilation_rate
        if self.padding == "same":
            kernel, rates = _seeing(kernel, inputs.shape[1:3], rates)
        if tf is None or self.groups > 1 or max(rates) == 1:
            return _by_keras(inputs, kernel, self.padding, rates)
        return _by_tensorflow(inputs, kernel, self.padding, rates)


@keras.saving.register_keras_serializable(package="segzoo.layers", name="DilatedDepthwiseConv2D")
class DepthwiseConv2D(keras.layers.DepthwiseConv2D):
    """`keras.layers.DepthwiseConv2D` with the channels last, dilated, without stride."""

    def call(self, inputs):
        kernel, rates = self.kernel, self.dilation_rate
        if self.padding == "same":
            kernel, rates = _seeing(kernel, inputs.shape[1:3], rates)
        if _by_taps_is_better(inputs, kernel, rates):
            outputs = _by_taps(inputs, kernel, self.padding, rates)
        else:
            outputs = ops.depthwise_conv(
                inputs,
                kernel,
                padding=self.padding,
                dilation_rate=rates,
                data_format="channels_last",
            )
        outputs = ops.add(outputs, self.bias) if self.use_bias else outputs
        return outputs if self.activation is None else self.activation(outputs)


# The layers of Keras that dilate, and ours in their place.
KINDS: dict[type, type] = {
    keras.layers.Conv2D: Conv2D,
    keras.layers.DepthwiseConv2D: DepthwiseConv2D,
}


def _by_keras(inputs, kernel, padding, rates):
    return ops.conv(
        inputs, kernel, padding=padding, dilation_rate=rates, data_format="channels_last"
    )


def _by_tensorflow(inputs, kernel, padding, rates):
    # A variable is read here: a gradient of one's own takes tensors alone.
    inputs, kernel = ops.convert_to_tensor(inputs), tf.identity(ops.convert_to_tensor(kernel))

    # The margins in numbers: ONNX Runtime refuses dilation beside the word "same".
    margins = _margins(kernel, padding, rates)

    def forward(x, weights):
        return tf.nn.conv2d(x, weights, strides=1, padding=margins, dilations=list(rates))

    if _has_gradient(keras.backend.standardize_dtype(inputs.dtype)):
        return forward(inputs, kernel)

    @tf.custom_gradient
    def convolve(x, weights):
        def backward(upstream):
            with tf.GradientTape() as tape:
                tape.watch([x, weights])
                y = _by_keras(x, weights, padding, rates)
            return tape.gradient(y, [x, weights], upstream)

        return forward(x, weights), backward

    return convolve(inputs, kernel)


def _by_taps_is_better(inputs, kernel, rates) -> bool:
    is_open = not all(isinstance(size, int) for size in inputs.shape[1:3])
    height, width, _, multiplier = kernel.shape
    return tf is not None and is_open and max(rates) > 1 and height * width <= 9 and multiplier == 1


def _by_taps(inputs, kernel, padding, rates):
    """A depthwise convolution as the sum of shifted maps, each times its weight.

    For few taps and a size that is known only at run time: the phases of Keras's way hang on it, in
    an export a hundred operations that OpenVINO refuses. All numbers of the shifts are constants.
    """
    kernel = ops.cast(kernel, inputs.dtype)
    padded = ops.pad(inputs, _margins(kernel, padding, rates))
    total = None
    for taps in np.ndindex(*kernel.shape[:2]):
        window = [
            slice(tap * rate, (tap + 1 - count) * rate or None)
            for tap, rate, count in zip(taps, rates, kernel.shape, strict=False)
        ]
        part = padded[:, window[0], window[1]] * kernel[taps][:, 0]
        total = part if total is None else total + part
    return total


def _margins(kernel, padding, rates):
    """How many zeros padding "same" puts around a map."""
    reach = [(taps - 1) * rate for taps, rate in zip(kernel.shape, rates, strict=False)]
    sides = [(n // 2, n - n // 2) if padding == "same" else (0, 0) for n in reach]
    return [(0, 0), *sides, (0, 0)]


@functools.cache
def _has_gradient(dtype: str) -> bool:
    """Whether TensorFlow differentiates its dilated convolution on this CPU, found by trying.

    With oneDNN, the default on x86, it does; without, it says so and refuses.
    """
    options = {"strides": [1] * 4, "padding": "SAME", "dilations": [1, 2, 2, 1]}
    # The operations themselves: no tape records within this scope.
    with tf.init_scope(), tf.device("/CPU:0"):
        x, kernel = tf.ones((1, 5, 5, 1), dtype), tf.ones((3, 3, 1, 1), dtype)
        try:
            tf.raw_ops.Conv2DBackpropInput(
                input_sizes=[1, 5, 5, 1], filter=kernel, out_backprop=x, **options
            )
            tf.raw_ops.Conv2DBackpropFilter(
                input=x, filter_sizes=[3, 3, 1, 1], out_backprop=x, **options
            )
        except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
            return False
    return True


def _seeing(kernel, sizes, rates):
    """The taps that reach into a map of these sizes (None: unknown), and the rates they need."""
    kept = []
    for taps, size, rate in zip(kernel.shape, sizes, rates, strict=False):
        outer = 0  # how many taps to leave out on either side
        # Sizes may also be symbols, where a model of open size is exported.
        if isinstance(size, int) and taps % 2:
            outer = max(taps // 2 - (size - 1) // rate, 0)
        kept.append(slice(outer, taps - outer))
    if any(part.start for part in kept):
        kernel = ops.convert_to_tensor(kernel)[tuple(kept)]
    return kernel, tuple(
        rate if taps > 1 else 1 for taps, rate in zip(kernel.shape, rates, strict=False)
    )
