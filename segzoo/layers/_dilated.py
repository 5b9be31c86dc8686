"""Keras's convolutions without the taps that see nothing but padding.

At rate r the outer taps of a 3x3 kernel lie r pixels from its center. On a map of at most r rows
they all fall into the zeros around it, so that only the middle row of the kernel counts: rate 18
of an atrous pyramid on the 16x16 map of a 256x256 image is a 1x1 convolution at nine times its
price. Depthwise it is worse, as TensorFlow pads the map by r on every side and splits it into r * r
phases: there rate 36 trains in 300 ms, and as its one tap in 8. The sums are the same.
"""

import keras
from keras import ops


class Conv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` with padding "same" and no stride."""

    def convolution_op(self, inputs, kernel):
        kernel, rates = _seeing(kernel, inputs.shape[1:3], self.dilation_rate)
        return ops.conv(inputs, kernel, padding="same", dilation_rate=rates)


class DepthwiseConv2D(keras.layers.DepthwiseConv2D):
    """`keras.layers.DepthwiseConv2D` with padding "same", no stride and no activation."""

    def call(self, inputs):
        kernel, rates = _seeing(self.kernel, inputs.shape[1:3], self.dilation_rate)
        outputs = ops.depthwise_conv(inputs, kernel, padding="same", dilation_rate=rates)
        return ops.add(outputs, self.bias) if self.use_bias else outputs


def _seeing(kernel, sizes, rates):
    """The taps that reach into a map of these sizes (None: unknown), and the rates they need."""
    kept = []
    for taps, size, rate in zip(kernel.shape, sizes, rates, strict=False):
        outer = 0  # how many taps to leave out on either side
        if size is not None and taps % 2:
            outer = max(taps // 2 - (size - 1) // rate, 0)
        kept.append(slice(outer, taps - outer))
    kernel = ops.convert_to_tensor(kernel)[tuple(kept)]
    return kernel, tuple(
        rate if taps > 1 else 1 for taps, rate in zip(kernel.shape, rates, strict=False)
    )
