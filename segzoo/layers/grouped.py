"""Convolution in groups, in a form that trains on a CPU.

TensorFlow has no gradient of a grouped convolution on a CPU outside XLA, and what it compiles there
is no part of an export. There the groups are taken some at a time, each time as one ordinary
convolution whose kernel has zeros between the groups: as many channels as a processor convolves
well, which costs less than 32 convolutions of 4 channels each, and less than one of all channels.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

_CHANNELS = 32  # of one convolution, where the groups have fewer


@keras.saving.register_keras_serializable(package="segzoo.layers")
class GroupedConv2D(keras.layers.Conv2D):
    """Grouped convolution that runs on every device, in graphs and in exports.

    The channels are cut into `groups` parts, each with filters of its own:
    output[..., g] = sum over the taps of x[..., g] kernel[..., g]. On TensorFlow without a GPU it
    is computed as a few ordinary convolutions; elsewhere it is Keras's. Weights and numbers are the
    same.

    Args:
        filters: int >= 1, number of output channels, a multiple of `groups`.
        kernel_size: int >= 1, or two of them, height and width.
        groups: int >= 1, a divisor of the number of input channels. Defaults to 1.
        data_format: as in `keras.layers.Conv2D`. Defaults to `"channels_last"`, whatever Keras is
            set to.
        **kwargs: further arguments of `keras.layers.Conv2D`.

    Call arguments:
        inputs: tensor (B, H, W, C).

    Returns:
        Tensor (B, H', W', filters), as `keras.layers.Conv2D`.

    Example:
        >>> import keras, segzoo
        >>> layer = segzoo.layers.GroupedConv2D(8, 3, groups=4, padding="same")
        >>> tuple(layer(keras.ops.ones((2, 5, 7, 12))).shape), tuple(layer.kernel.shape)
        ((2, 5, 7, 8), (3, 3, 3, 8))

    Reference:
        Xie, Girshick, Dollár, Tu, He, "Aggregated Residual Transformations for Deep Neural
        Networks", CVPR 2017, arXiv 1611.05431, figure 3c.
    """

    def __init__(self, *args: Any, data_format: str = "channels_last", **kwargs: Any) -> None:
        super().__init__(*args, data_format=data_format, **kwargs)

    def convolution_op(self, inputs, kernel):
        if self.groups == 1 or self.data_format != "channels_last" or not _as_ordinary():
            return super().convolution_op(inputs, kernel)
        parts = _parts(self.groups, inputs.shape[-1])
        groups = self.groups // parts
        options = {
            "strides": list(self.strides),
            "padding": self.padding,
            "dilation_rate": self.dilation_rate,
            "data_format": self.data_format,
        }
        outputs = [
            ops.conv(x, _with_zeros(k, groups), **options)
            for x, k in zip(
                ops.split(inputs, parts, axis=-1), ops.split(kernel, parts, axis=-1), strict=True
            )
        ]
        return ops.concatenate(outputs, axis=-1) if parts > 1 else outputs[0]


def _as_ordinary() -> bool:
    """Whether the backend lacks a grouped convolution that trains."""
    if keras.backend.backend() != "tensorflow":  # JAX without a GPU refuses to look for one
        return False
    return not keras.distribution.list_devices("gpu")


def _parts(groups: int, channels: int) -> int:
    """How many convolutions: a divisor of `groups` that leaves `_CHANNELS` channels to each."""
    wanted = max(1, channels // _CHANNELS)
    return max(n for n in range(1, min(groups, wanted) + 1) if groups % n == 0)


def _with_zeros(kernel, groups: int):
    """The kernel of an ordinary convolution: (h, w, C/groups, F) to (h, w, C, F)."""
    if groups == 1:
        return kernel
    height, width, channels, filters = kernel.shape
    kernel = ops.reshape(kernel, (height, width, 1, channels, groups, filters // groups))
    same = np.eye(groups).reshape(groups, 1, groups, 1)
    return ops.reshape(
        kernel * ops.cast(same, kernel.dtype), (height, width, groups * channels, filters)
    )
