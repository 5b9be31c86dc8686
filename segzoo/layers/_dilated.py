"""Dilated convolutions: TensorFlow's own operation, without the taps that see only padding.

On TensorFlow, `keras.ops.conv` with a dilation rate splits the map into phases and convolves those
(SpaceToBatchND, Conv2D, BatchToSpaceND). The operation of TensorFlow knows dilation itself: it is
faster, and a graph or an exported file of open size holds one dilated convolution instead of the
arithmetic of the phases. A CPU has no gradient of it without oneDNN, which TensorFlow switches on
where it knows the CPU's vector instructions, and even then not for every convolution of a graph.
So the gradient is written here: that of the map is a dilated convolution again, that of the kernel
one matrix product for each tap. A GPU has its own.

TensorFlow's dilated depthwise operation is no choice: under oneDNN its gradient is wrong, without
oneDNN there is none. Depthwise convolutions go the way of Keras where the size is known, which
converters read as dilation again; at open size they are sums of shifted maps.

At rate r the outer taps of a 3x3 kernel lie r pixels from its center. On a map of at most r rows
they all fall into the zeros around it, so that only the middle row of the kernel counts: rate 18
of an atrous pyramid on the 16x16 map of a 256x256 image is a 1x1 convolution at nine times its
price. Depthwise it is worse, as Keras's way pads the map by r on every side and splits it into
r * r phases: there rate 36 trains in 300 ms, and as its one tap in 8. The sums are the same.
"""

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
    if tf.config.get_visible_devices("GPU"):
        return tf.nn.conv2d(inputs, kernel, 1, margins, dilations=list(rates))
    return _convolve(inputs, kernel, margins, rates)


def _convolve(x, kernel, margins, rates):
    """A dilated convolution with gradients of any order, of operations that every CPU has."""

    @tf.custom_gradient
    def convolve(x, kernel):
        def backward(upstream):
            # What a pixel gave to its neighbors comes back from them: the mirrored kernel.
            mirrored = tf.transpose(tf.reverse(kernel, [0, 1]), [0, 1, 3, 2])
            reach = [0, *_reach(kernel, rates), 0]
            back = [(n - low, n - high) for n, (low, high) in zip(reach, margins, strict=True)]
            return (
                _convolve(upstream, mirrored, back, rates),
                _gradient_of_kernel(x, upstream, kernel, margins, rates),
            )

        return tf.nn.conv2d(x, kernel, 1, margins, dilations=list(rates)), backward

    return convolve(x, kernel)


def _gradient_of_kernel(x, upstream, kernel, margins, rates):
    """For each tap the products of what it saw with what comes back, summed over the pixels."""
    wide = tf.float32 if kernel.dtype.size < 4 else kernel.dtype
    x, upstream = tf.cast(tf.pad(x, margins), wide), tf.cast(upstream, wide)
    height, width = ops.shape(upstream)[1:3]
    flat = tf.reshape(upstream, (-1, kernel.shape[3]))
    products = []
    for row, column in np.ndindex(*kernel.shape[:2]):
        top, left = row * rates[0], column * rates[1]
        seen = x[:, top : top + height, left : left + width]
        seen = tf.reshape(seen, (-1, kernel.shape[2]))
        products.append(tf.matmul(seen, flat, transpose_a=True))
    return tf.cast(tf.reshape(tf.stack(products), kernel.shape), kernel.dtype)


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
    sides = [(n // 2, n - n // 2) if padding == "same" else (0, 0) for n in _reach(kernel, rates)]
    return [(0, 0), *sides, (0, 0)]


def _reach(kernel, rates):
    """From the first tap to the last, in pixels, down and across."""
    return [(taps - 1) * rate for taps, rate in zip(kernel.shape, rates, strict=False)]


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
