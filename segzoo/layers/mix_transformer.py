"""The three parts of a Mix Transformer block, on maps instead of token lists.

Xie, Wang, Yu, Anandkumar, Alvarez, Luo, "SegFormer: Simple and Efficient Design for Semantic
Segmentation with Transformers", NeurIPS 2021, arXiv 2105.15203, section 3.1.

None of them knows positions or sizes: the zero padding of the convolutions tells a pixel where it
is, so one set of weights serves maps of any height and width.

With a `dilation_rate` they compute on a denser map, at every pixel, what they would at the pixels
0, r, 2r, ... of each axis, which are the pixels of the map that the network was trained on.
"""

import math
from typing import Any

import keras
from keras import ops

from segzoo.layers import _dilated
from segzoo.layers._arguments import positive_int
from segzoo.layers.activations import gelu


def _linear(filters: int, name: str, **kwargs: Any) -> keras.layers.Layer:
    """A linear map of each pixel's channels.

    As a convolution: a dense layer on a map of open size is a product between two reshapes, which
    is slower, and which tf2onnx merges with the reshapes of attention into wrong ones.
    """
    return keras.layers.Conv2D(filters, 1, data_format="channels_last", name=name, **kwargs)


def attend(query, key, value):
    """Scaled dot-product attention of (B, N, heads, D) with keys and values (B, M, heads, D)."""
    scale = query.shape[-1] ** -0.5
    if keras.backend.backend() != "tensorflow":
        return ops.dot_product_attention(query, key, value, scale=scale)
    # On TensorFlow Keras has no flash attention, and its einsum takes up to half as long again in
    # training. Scaled before the product, float16 does not overflow.
    query, key, value = (ops.transpose(x, (0, 2, 1, 3)) for x in (query * scale, key, value))
    scores = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2)))  # (B, heads, N, M)
    scores = ops.cast(scores, keras.backend.result_type(scores.dtype, "float32"))
    # Keras warns of a softmax over one entry, and the last maps of a small image have one key.
    shares = ops.exp(scores - scores) if scores.shape[-1] == 1 else ops.softmax(scores)
    return ops.transpose(ops.matmul(ops.cast(shares, value.dtype), value), (0, 2, 1, 3))


@keras.saving.register_keras_serializable(package="segzoo.layers")
class OverlapPatchEmbedding(keras.layers.Layer):
    """Convolution with a kernel wider than its stride, followed by layer normalization.

    The image is padded by `patch_size // 2` zeros on every side, so that a map has
    ceil(size / strides) rows.

    Args:
        filters: int >= 1, number of output channels.
        patch_size: odd int > `strides`, height and width of the kernel. Defaults to 3.
        strides: int >= 1, along height and width. Defaults to 2.
        dilation_rate: int >= 1, pixels between the taps of the kernel; not together with strides
            above 1. Defaults to 1.
        epsilon: epsilon of the layer normalization. Defaults to 1e-5.
        **kwargs: further arguments of `keras.layers.Layer`.

    Call arguments:
        x: tensor (B, H, W, C).

    Returns:
        Tensor (B, ceil(H / strides), ceil(W / strides), filters).

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> import keras, segzoo
        >>> embed = segzoo.layers.OverlapPatchEmbedding(32, patch_size=7, strides=4)
        >>> tuple(embed(keras.ops.ones((1, 65, 48, 3))).shape)
        (1, 17, 12, 32)

    Reference:
        Xie, Wang, Yu, Anandkumar, Alvarez, Luo, "SegFormer: Simple and Efficient Design for
        Semantic Segmentation with Transformers", NeurIPS 2021, arXiv 2105.15203, section 3.1,
        "Overlapped patch merging".
    """

    def __init__(
        self,
        filters: int,
        patch_size: int = 3,
        strides: int = 2,
        *,
        dilation_rate: int = 1,
        epsilon: float = 1e-5,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filters = positive_int("filters", filters)
        self.patch_size = positive_int("patch_size", patch_size)
        self.strides = positive_int("strides", strides)
        self.dilation_rate = positive_int("dilation_rate", dilation_rate)
        self.epsilon = epsilon
        if self.patch_size % 2 == 0 or self.patch_size <= self.strides:
            raise ValueError(
                "`patch_size` must be odd and larger than `strides`, so that patches overlap; "
                f"received patch_size={patch_size}, strides={strides}"
            )
        if self.strides > 1 and self.dilation_rate > 1:
            raise ValueError(
                "`strides` and `dilation_rate` cannot both be above 1, received "
                f"strides={strides}, dilation_rate={dilation_rate}"
            )
        style = {"dtype": self.dtype_policy}
        self.pad = keras.layers.ZeroPadding2D(
            self.patch_size // 2 * self.dilation_rate,
            data_format="channels_last",
            name="pad",
            **style,
        )
        self.conv = keras.layers.Conv2D(
            self.filters,
            self.patch_size,
            self.strides,
            dilation_rate=self.dilation_rate,
            data_format="channels_last",
            name="conv",
            **style,
        )
        self.norm = keras.layers.LayerNormalization(epsilon=epsilon, name="norm", **style)

    def build(self, input_shape) -> None:
        self.conv.build(self.pad.compute_output_shape(input_shape))
        self.norm.build((*input_shape[:-1], self.filters))

    def call(self, x):
        return self.norm(self.conv(self.pad(x)))

    def compute_output_shape(self, input_shape):
        sizes = [None if n is None else -(-n // self.strides) for n in input_shape[1:3]]
        return (input_shape[0], *sizes, self.filters)

    def get_config(self) -> dict[str, Any]:
        config = {
            "filters": self.filters,
            "patch_size": self.patch_size,
            "strides": self.strides,
            "dilation_rate": self.dilation_rate,
            "epsilon": self.epsilon,
        }
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable(package="segzoo.layers")
class EfficientSelfAttention(keras.layers.Layer):
    """Self-attention of all pixels, with keys and values from a map reduced in size.

    `softmax(Q K' / sqrt(filters / heads)) V` for each head, with `Q = query(x)`,
    `K = key(z)`, `V = value(z)` and `z = norm(reduce(x))`, where `reduce` is a convolution whose
    kernel is its stride `reduction`. N pixels cost N * N / reduction ** 2. The last rows
    and columns, where they do not fill a window of the reduction, are queries without being keys.

    The softmax is computed in float32 under mixed precision too. On a GPU, JAX and PyTorch use
    their flash attention where its conditions are met.

    Args:
        filters: int >= 1, number of output channels, a multiple of `heads`.
        heads: int >= 1, number of attention heads. Defaults to 1.
        reduction: int >= 1, the factor along height and width; 1 leaves out the convolution and
            its normalization. Defaults to 1.
        dilation_rate: int >= 1, distance between the rows and columns that keys and values are
            taken from, while all pixels are queries. Defaults to 1.
        epsilon: epsilon of the layer normalization. Defaults to 1e-5.
        **kwargs: further arguments of `keras.layers.Layer`.

    Call arguments:
        x: tensor (B, H, W, C). Divided by `dilation_rate` and rounded up, its height and width
            are at least `reduction`.

    Returns:
        Tensor (B, H, W, filters).

    Raises:
        ValueError: if an argument is out of range, or the map is smaller than `reduction`.

    Example:
        >>> import keras, segzoo
        >>> attention = segzoo.layers.EfficientSelfAttention(32, heads=2, reduction=4)
        >>> tuple(attention(keras.ops.ones((1, 9, 14, 32))).shape)
        (1, 9, 14, 32)

    Reference:
        Xie, Wang, Yu, Anandkumar, Alvarez, Luo, "SegFormer: Simple and Efficient Design for
        Semantic Segmentation with Transformers", NeurIPS 2021, arXiv 2105.15203, equations 1
        and 2; the reduction is the convolution of Wang et al., "Pyramid Vision Transformer",
        ICCV 2021, arXiv 2102.12122.
    """

    def __init__(
        self,
        filters: int,
        heads: int = 1,
        reduction: int = 1,
        *,
        dilation_rate: int = 1,
        epsilon: float = 1e-5,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filters = positive_int("filters", filters)
        self.heads = positive_int("heads", heads)
        self.reduction = positive_int("reduction", reduction)
        self.dilation_rate = positive_int("dilation_rate", dilation_rate)
        self.epsilon = epsilon
        if self.filters % self.heads:
            raise ValueError(
                "`filters` must be a multiple of `heads`, received "
                f"filters={filters}, heads={heads}"
            )
        style = {"dtype": self.dtype_policy}
        self.query = _linear(self.filters, "query", **style)
        self.key = _linear(self.filters, "key", **style)
        self.value = _linear(self.filters, "value", **style)
        self.project = _linear(self.filters, "project", **style)
        if self.reduction > 1:
            self.reduce = keras.layers.Conv2D(
                self.filters,
                self.reduction,
                self.reduction,
                data_format="channels_last",
                name="reduce",
                **style,
            )
            self.norm = keras.layers.LayerNormalization(epsilon=epsilon, name="norm", **style)

    def build(self, input_shape) -> None:
        inner = (*input_shape[:-1], self.filters)
        reduced = inner if self.reduction > 1 else input_shape
        self._check_size(input_shape)
        self.query.build(input_shape)
        if self.reduction > 1:
            self.reduce.build(input_shape)
            self.norm.build(inner)
        self.key.build(reduced)
        self.value.build(reduced)
        self.project.build(inner)

    def call(self, x):
        self._check_size(x.shape)
        query = self.query(x)
        if self.dilation_rate > 1:
            x = x[:, :: self.dilation_rate, :: self.dilation_rate]
        if self.reduction > 1:
            x = self.norm(self.reduce(x))  # (B, H/R, W/R, C)
        y = attend(
            self._split(query), self._split(self.key(x)), self._split(self.value(x))
        )  # (B, H W, heads, C / heads)
        return self.project(ops.reshape(y, ops.shape(query)))

    def _split(self, x):
        """Pixels in a row, channels by head: (B, H W, heads, C / heads)."""
        batch, height, width, channels = ops.shape(x)
        return ops.reshape(x, (batch, height * width, self.heads, channels // self.heads))

    def _check_size(self, shape) -> None:
        least = (self.reduction - 1) * self.dilation_rate + 1
        # Sizes may also be symbols, where a model of open size is exported.
        if any(isinstance(size, int) and size < least for size in shape[1:3]):
            raise ValueError(
                f"{self.name!r} reduces its map by {self.reduction}, so the map must have at least "
                f"{least} rows and columns; received a map of shape {tuple(shape)}"
            )

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.filters)

    def get_config(self) -> dict[str, Any]:
        config = {
            "filters": self.filters,
            "heads": self.heads,
            "reduction": self.reduction,
            "dilation_rate": self.dilation_rate,
            "epsilon": self.epsilon,
        }
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable(package="segzoo.layers")
class MixFeedForward(keras.layers.Layer):
    """Two linear layers on each pixel, with a depthwise 3x3 convolution and GELU in between.

    `shrink(gelu(mix(expand(x))))`. The zero padding of the 3x3 convolution `mix` tells the network
    where a pixel lies, instead of a positional encoding.

    Args:
        filters: int >= 1, number of output channels.
        expansion: int >= 1, width between the two linear layers, in units of `filters`. Defaults to
            4.
        dilation_rate: int >= 1, dilation of the 3x3 convolution. Defaults to 1.
        **kwargs: further arguments of `keras.layers.Layer`.

    Call arguments:
        x: tensor (B, H, W, C).

    Returns:
        Tensor (B, H, W, filters).

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> import keras, segzoo
        >>> tuple(segzoo.layers.MixFeedForward(32)(keras.ops.ones((1, 9, 14, 32))).shape)
        (1, 9, 14, 32)

    Reference:
        Xie, Wang, Yu, Anandkumar, Alvarez, Luo, "SegFormer: Simple and Efficient Design for
        Semantic Segmentation with Transformers", NeurIPS 2021, arXiv 2105.15203, equation 3.
    """

    def __init__(
        self, filters: int, expansion: int = 4, *, dilation_rate: int = 1, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.filters = positive_int("filters", filters)
        self.expansion = positive_int("expansion", expansion)
        self.dilation_rate = positive_int("dilation_rate", dilation_rate)
        style = {"dtype": self.dtype_policy}
        self.expand = _linear(self.filters * self.expansion, "expand", **style)
        dilated = self.dilation_rate > 1
        kind = _dilated.DepthwiseConv2D if dilated else keras.layers.DepthwiseConv2D
        self.mix = kind(
            3,
            padding="same",
            dilation_rate=self.dilation_rate,
            # He's, of the nine pixels that a channel sees. Keras's own count all channels, which
            # would leave next to nothing of a wide map.
            depthwise_initializer=keras.initializers.RandomNormal(stddev=math.sqrt(2 / 9)),
            data_format="channels_last",
            name="mix",
            **style,
        )
        self.shrink = _linear(self.filters, "shrink", **style)

    def build(self, input_shape) -> None:
        wide = (*input_shape[:-1], self.filters * self.expansion)
        self.expand.build(input_shape)
        self.mix.build(wide)
        self.shrink.build(wide)

    def call(self, x):
        return self.shrink(gelu(self.mix(self.expand(x))))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.filters)

    def get_config(self) -> dict[str, Any]:
        config = {
            "filters": self.filters,
            "expansion": self.expansion,
            "dilation_rate": self.dilation_rate,
        }
        return {**super().get_config(), **config}
