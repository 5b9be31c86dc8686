"""Attention of convolutional decoders: squeeze and excitation, gates on skips, pairs of positions.

`ChannelGate` weighs channels, `SpatialChannelSqueezeExcitation` channels and pixels,
`AttentionGate` the pixels of a skip by a coarser map, `PositionAttention` all pairs of pixels.
"""

from typing import Any

import keras
from keras import ops

from segzoo.layers._arguments import positive_int
from segzoo.layers.resize import resize, size_of


def _conv(filters: int, name: str, dtype: Any, **options: Any) -> keras.layers.Conv2D:
    return keras.layers.Conv2D(
        filters,
        options.pop("kernel_size", 1),
        data_format="channels_last",
        name=name,
        dtype=dtype,
        **options,
    )


@keras.saving.register_keras_serializable(package="segzoo.layers")
class ChannelGate(keras.layers.Layer):
    """One weight in 0..1 for each channel of an image: the gate of squeeze and excitation.

    s = sigmoid(W2 relu(W1 mean(x) + b1) + b2), where W1 divides the channels by `reduction`. The
    layer returns s, so that gates can be added or multiplied into another map.

    Args:
        reduction: int >= 1; the bottleneck has max(C // reduction, 1) channels. Defaults to 16.

    Call arguments:
        x: tensor (B, H, W, C), of any size.

    Returns:
        Tensor (B, 1, 1, C), values in 0..1.

    Raises:
        ValueError: if `reduction` is not an int >= 1.

    Example:
        >>> import keras, segzoo
        >>> tuple(segzoo.layers.ChannelGate(4)(keras.ops.ones((2, 5, 7, 8))).shape)
        (2, 1, 1, 8)

    Reference:
        Hu, Shen, Sun, "Squeeze-and-Excitation Networks", CVPR 2018, arXiv 1709.01507, equation 3.
    """

    def __init__(self, reduction: int = 16, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.reduction = positive_int("reduction", reduction)

    def build(self, input_shape) -> None:
        channels = input_shape[-1]
        narrow = max(channels // self.reduction, 1)
        self.squeeze = _conv(narrow, "squeeze", self.dtype_policy, activation="relu")
        self.excite = _conv(channels, "excite", self.dtype_policy, activation="sigmoid")
        self.squeeze.build((input_shape[0], 1, 1, channels))
        self.excite.build((input_shape[0], 1, 1, narrow))

    def call(self, x):
        return self.excite(self.squeeze(ops.mean(x, axis=(1, 2), keepdims=True)))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], 1, 1, input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "reduction": self.reduction}


@keras.saving.register_keras_serializable(package="segzoo.layers")
class SpatialChannelSqueezeExcitation(keras.layers.Layer):
    """Concurrent squeeze and excitation of channels and of pixels (scSE).

    y = x * s_channel + x * s_pixel, where s_channel (B, 1, 1, C) is a `ChannelGate` and s_pixel
    (B, H, W, 1) the sigmoid of a 1x1 convolution.

    Args:
        reduction: int >= 1, divisor of the channels in the bottleneck of their gate. Defaults to
            16.

    Call arguments:
        x: tensor (B, H, W, C), of any size.

    Returns:
        Tensor (B, H, W, C).

    Raises:
        ValueError: if `reduction` is not an int >= 1.

    Example:
        >>> import keras, segzoo
        >>> layer = segzoo.layers.SpatialChannelSqueezeExcitation()
        >>> tuple(layer(keras.ops.ones((2, 5, 7, 32))).shape)
        (2, 5, 7, 32)

    Reference:
        Roy, Navab, Wachinger, "Concurrent Spatial and Channel Squeeze & Excitation in Fully
        Convolutional Networks", MICCAI 2018, arXiv 1803.02579, section 2.3.
    """

    def __init__(self, reduction: int = 16, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.reduction = positive_int("reduction", reduction)
        self.channel_gate = ChannelGate(reduction, name="channel_gate", dtype=self.dtype_policy)
        self.pixel_gate = _conv(1, "pixel_gate", self.dtype_policy, activation="sigmoid")

    def build(self, input_shape) -> None:
        self.channel_gate.build(input_shape)
        self.pixel_gate.build(input_shape)

    def call(self, x):
        return x * self.channel_gate(x) + x * self.pixel_gate(x)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "reduction": self.reduction}


@keras.saving.register_keras_serializable(package="segzoo.layers")
class AttentionGate(keras.layers.Layer):
    """The additive gate of Attention U-Net: a coarser map decides which pixels of a skip pass.

    alpha = sigmoid(w_psi . relu(W_x x + W_g g + b) + b_psi), computed on the grid of g, resized to
    x, and multiplied with x. W_x is a convolution whose kernel and stride are `strides`.

    Args:
        filters: int >= 1, channels in which the two maps are added.
        strides: int >= 1, how many pixels of x along an axis lie under one of g. Defaults to 2.

    Call arguments:
        x: tensor (B, H, W, C), the skip.
        gate: tensor (B, ceil(H / strides), ceil(W / strides), D), the coarser map g; other sizes
            are resized.

    Returns:
        Tensor (B, H, W, C).

    Raises:
        ValueError: if `filters` or `strides` is not an int >= 1.

    Example:
        >>> import keras, segzoo
        >>> x, coarse = keras.ops.ones((2, 9, 7, 8)), keras.ops.ones((2, 5, 4, 16))
        >>> tuple(segzoo.layers.AttentionGate(4)(x, coarse).shape)
        (2, 9, 7, 8)

    Reference:
        Oktay et al., "Attention U-Net: Learning Where to Look for the Pancreas", MIDL 2018,
        arXiv 1804.03999, equations 1 and 2, figure 2.
    """

    def __init__(self, filters: int, strides: int = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.filters = positive_int("filters", filters)
        self.strides = positive_int("strides", strides)
        dtype = self.dtype_policy
        self.of_skip = _conv(
            self.filters,
            "of_skip",
            dtype,
            kernel_size=self.strides,
            strides=self.strides,
            padding="same",
            use_bias=False,
        )
        self.of_gate = _conv(self.filters, "of_gate", dtype)
        self.score = _conv(1, "score", dtype, activation="sigmoid")

    def build(self, x_shape, gate_shape) -> None:
        self.of_skip.build(x_shape)
        self.of_gate.build(gate_shape)
        self.score.build((*gate_shape[:3], self.filters))

    def call(self, x, gate):
        skip = self.of_skip(x)
        alpha = self.score(ops.relu(skip + resize(self.of_gate(gate), *size_of(skip))))
        return x * resize(alpha, *size_of(x))

    def compute_output_shape(self, x_shape, gate_shape):
        return x_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "filters": self.filters, "strides": self.strides}


@keras.saving.register_keras_serializable(package="segzoo.layers")
class PositionAttention(keras.layers.Layer):
    """Self-attention of pixels: a mean of all pixels, weighted by how well their features match.

    y_i = x_i + sum_j softmax_j(q_i . k_j) v_j, where q and k are 1x1 convolutions of x to `filters`
    channels and v is a 3x3 convolution to as many channels as x has. Time and memory grow with the
    square of the number of pixels, so that it belongs on a network's last map.

    Args:
        filters: int >= 1, channels in which pixels are compared. Defaults to 64.

    Call arguments:
        x: tensor (B, H, W, C), of any size.

    Returns:
        Tensor (B, H, W, C).

    Raises:
        ValueError: if `filters` is not an int >= 1.

    Example:
        >>> import keras, segzoo
        >>> tuple(segzoo.layers.PositionAttention(4)(keras.ops.ones((2, 5, 7, 8))).shape)
        (2, 5, 7, 8)

    Reference:
        Fan, Wang, Li, Wang, "MA-Net: A Multi-Scale Attention Network for Liver and Tumor
        Segmentation", IEEE Access 8, 2020, section III-B.
    """

    def __init__(self, filters: int = 64, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.filters = positive_int("filters", filters)
        self.query = _conv(self.filters, "query", self.dtype_policy)
        self.key = _conv(self.filters, "key", self.dtype_policy)

    def build(self, input_shape) -> None:
        self.value = _conv(
            input_shape[-1], "value", self.dtype_policy, kernel_size=3, padding="same"
        )
        for layer in (self.query, self.key, self.value):
            layer.build(input_shape)

    def call(self, x):
        height, width = size_of(x)
        pixels, channels = height * width, x.shape[-1]
        query = ops.reshape(self.query(x), (-1, pixels, self.filters))
        key = ops.reshape(self.key(x), (-1, pixels, self.filters))
        value = ops.reshape(self.value(x), (-1, pixels, channels))
        # In float32: the sums are unscaled, and half precision would overflow.
        query, key = ops.cast(query, "float32"), ops.cast(key, "float32")
        scores = ops.matmul(query, ops.transpose(key, (0, 2, 1)))
        weights = ops.cast(ops.softmax(scores), value.dtype)  # (B, HW, HW)
        return x + ops.reshape(ops.matmul(weights, value), (-1, height, width, channels))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "filters": self.filters}
