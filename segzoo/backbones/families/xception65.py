"""The aligned Xception of DeepLabV3+, with dilation built in.

    entry flow    3x3/2, 3x3            stride 2
                  block1, block2        strides 4, 8
                  block3                stride 16
    middle flow   16 units              stride 16
    exit flow     block1, block2        stride 32

A block is three separable convolutions, the last one with the stride, beside a shortcut: a strided
1x1 convolution, the input itself (middle flow), or none (the last block).

Chen, Zhu, Papandreou, Schroff, Adam, "Encoder-Decoder with Atrous Separable Convolution for
Semantic Image Segmentation", ECCV 2018, arXiv 1802.02611, figure 4; after Chollet, "Xception: Deep
Learning with Depthwise Separable Convolutions", CVPR 2017, arXiv 1610.02357, and the aligned
version of Qi et al., "Deformable Convolutional Networks: COCO Detection and Segmentation
Challenge 2017 Entry".
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import keras

from segzoo.backbones._rows import Row, Variant
from segzoo.backbones.construct import LAST
from segzoo.backbones.families import _papers as papers
from segzoo.layers import _dilated
from segzoo.layers.normalization import BatchNormalization

# name, filters of its three separable convolutions, stride, shortcut
_BLOCKS: tuple[tuple[str, tuple[int, int, int], int, str | None], ...] = (
    ("entry_flow_block1", (128, 128, 128), 2, "conv"),
    ("entry_flow_block2", (256, 256, 256), 2, "conv"),
    ("entry_flow_block3", (728, 728, 728), 2, "conv"),
    *((f"middle_flow_unit_{n}", (728, 728, 728), 1, "sum") for n in range(1, 17)),
    ("exit_flow_block1", (728, 1024, 1024), 2, "conv"),
    ("exit_flow_block2", (1536, 1536, 2048), 1, None),
)

# The finest map, then the last one before each stride: what a decoder can use of each level.
# DeepLabV3+'s low-level features are the second.
TAPS = (
    "entry_flow_conv1_2_relu",  # stride 2, 64 channels
    "entry_flow_block2_separable_conv2_pointwise_BN",  # 4, 256
    "entry_flow_block3_separable_conv2_pointwise_BN",  # 8, 728
    "exit_flow_block1_separable_conv2_pointwise_BN",  # 16, 1024
    "exit_flow_block2_separable_conv3_pointwise_relu",  # 32, 2048
)


def xception65(
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    output_stride: int = 32,
    *,
    stem_padding: str = "symmetric",
    momentum: float = 0.9,
    preprocessing: keras.layers.Layer | None = None,
) -> keras.Model:
    """Aligned Xception with 65 layers and random weights, no classifier.

    Its layers have the names of the Keras weights files that DeepLab's users know, so that those
    load by name. `TAPS` are the maps for a decoder, of strides 2, 4, 8, 16 and 32.

    Differs from the paper: the momentum of batch normalization is 0.9 by default, not 0.9997,
    which needs hundreds of thousands of steps.

    Args:
        input_shape: (height, width, channels); height and width may be None. The network expects
            values in -1..1.
        output_stride: 8, 16 or 32. Strides beyond it become dilation.
        stem_padding: of the first, strided convolution. `"symmetric"` adds one row on each side,
            as all other strided convolutions do. `"same"` is Keras's, which on an even size adds
            one row behind alone; the published Keras network has that.
        momentum: of batch normalization.
        preprocessing: a layer between the input and the first convolution.

    Returns:
        A `keras.Model` from (B, H, W, channels) to (B, H / output_stride, W / output_stride, 2048),
        sizes rounded up.

    Raises:
        ValueError: when `output_stride` or `stem_padding` is none of the above.

    Example:
        >>> from segzoo.backbones.families.xception65 import xception65
        >>> xception65(output_stride=16).output_shape
        (None, None, None, 2048)

    Reference:
        Chen, Zhu, Papandreou, Schroff, Adam, "Encoder-Decoder with Atrous Separable Convolution
        for Semantic Image Segmentation", ECCV 2018, arXiv 1802.02611, figure 4.
    """
    if output_stride not in (8, 16, 32):
        raise ValueError(
            f"`output_stride` must be 8, 16 or 32, received output_stride={output_stride}"
        )
    if stem_padding not in ("symmetric", "same"):
        raise ValueError(
            f"`stem_padding` must be 'symmetric' or 'same', received stem_padding={stem_padding!r}"
        )
    image = keras.Input(input_shape, name="image")
    x = image if preprocessing is None else preprocessing(image)
    numbers = {"momentum": momentum}
    *_, last = _maps(x, Variant(), output_stride, numbers=numbers, stem_padding=stem_padding)
    return keras.Model(image, last, name="xception65")  # (B, H/32, W/32, 2048)


def _maps(
    x,
    variant: Variant,
    output_stride: int,
    *,
    numbers: Mapping[str, float] = MappingProxyType({"momentum": 0.9}),
    stem_padding: str = "symmetric",
) -> list:
    """The maps at `TAPS`; `numbers` are those of batch normalization."""
    own = {"momentum": variant.momentum, "epsilon": variant.epsilon}
    numbers = {**numbers, **{key: number for key, number in own.items() if number is not None}}
    x = _conv(x, 32, 3, "entry_flow_conv1_1", numbers, strides=2, padding=stem_padding)
    x = _relu(x, "entry_flow_conv1_1")
    x = _conv(x, 64, 3, "entry_flow_conv1_2", numbers)
    x = _relu(x, "entry_flow_conv1_2")  # (B, H/2, W/2, 64)

    maps, reached, rate = [x], 2, 1
    for name, filters, stride, shortcut in _BLOCKS:
        # A removed stride leaves the map denser, so what follows takes steps as much wider.
        kept = stride if reached < output_stride else 1
        rates = (rate, rate, rate * stride // kept if variant.dilation == "stage" else rate)
        before, x = _block(x, filters, name, kept, rates, shortcut, numbers)
        if stride > 1 and name != "entry_flow_block1":
            maps.append(before)
        reached *= kept
        rate *= stride // kept
    return [*maps, x][: variant.depth]


def _block(x, filters, name: str, stride: int, rates, shortcut: str | None, numbers):
    """Three separable convolutions and a shortcut; the map in front of the third, and the sum."""
    inputs, before = x, x
    for place, (width, rate) in enumerate(zip(filters, rates, strict=True), 1):
        before = x
        x = separable_conv(
            x,
            width,
            f"{name}_separable_conv{place}",
            strides=stride if place == 3 else 1,
            dilation_rate=rate,
            # Only the block without a shortcut activates behind each convolution, the others in
            # front of each pair, so that what is added to the shortcut keeps its sign.
            activate_first=shortcut is not None,
            **numbers,
        )
    if shortcut == "conv":
        inputs = _conv(inputs, filters[-1], 1, f"{name}_shortcut", numbers, strides=stride)
    if shortcut is not None:
        x = keras.layers.Add(name=f"{name}_add")([x, inputs])
    return before, x


def separable_conv(
    x,
    filters: int,
    name: str,
    *,
    strides: int = 1,
    dilation_rate: int = 1,
    activate_first: bool = False,
    **normalization: Any,
):
    """Depthwise 3x3 and pointwise convolution, each with batch normalization, and ReLU.

    Args:
        x: tensor (B, H, W, C).
        filters: int >= 1, output channels.
        name: prefix of the layers' names.
        strides: int >= 1, of the depthwise convolution.
        dilation_rate: int >= 1, of the depthwise convolution.
        activate_first: bool, one ReLU in front instead of one behind each convolution.
        **normalization: of the two `BatchNormalization`.

    Returns:
        Tensor (B, ceil(H / strides), ceil(W / strides), filters).
    """
    if activate_first:
        x = _relu(x, name)
    if strides > 1:
        x = keras.layers.ZeroPadding2D(dilation_rate, data_format=LAST, name=f"{name}_pad")(x)
    dilated = strides == 1 and dilation_rate > 1
    kind = _dilated.DepthwiseConv2D if dilated else keras.layers.DepthwiseConv2D
    x = kind(
        3,
        strides=strides,
        padding="same" if strides == 1 else "valid",
        dilation_rate=dilation_rate,
        use_bias=False,
        data_format=LAST,
        name=f"{name}_depthwise",
    )(x)
    x = BatchNormalization(name=f"{name}_depthwise_BN", **normalization)(x)
    if not activate_first:
        x = _relu(x, f"{name}_depthwise")
    x = keras.layers.Conv2D(filters, 1, use_bias=False, data_format=LAST, name=f"{name}_pointwise")(
        x
    )
    x = BatchNormalization(name=f"{name}_pointwise_BN", **normalization)(x)
    return x if activate_first else _relu(x, f"{name}_pointwise")


def _conv(x, filters: int, size: int, name: str, numbers, strides=1, padding="symmetric"):
    """Convolution, padded alike on all sides unless told otherwise, and batch normalization."""
    # Without a stride "same" is symmetric; a 1x1 convolution reads the even rows and columns.
    symmetric = strides > 1 and size > 1 and padding == "symmetric"
    if symmetric:
        x = keras.layers.ZeroPadding2D(size // 2, data_format=LAST, name=f"{name}_pad")(x)
    x = keras.layers.Conv2D(
        filters,
        size,
        strides=strides,
        padding="valid" if symmetric or size == 1 else "same",
        use_bias=False,
        data_format=LAST,
        name=name,
    )(x)
    return BatchNormalization(name=f"{name}_BN", **numbers)(x)


def _relu(x, name: str):
    return keras.layers.ReLU(name=f"{name}_relu")(x)


ROWS = [
    Row(
        name="xception65",
        family="xception",
        weights=(),
        features=TAPS,
        strides=(2, 4, 8, 16, 32),
        channels=(64, 256, 728, 1024, 2048),
        parameters=38_052_512,
        normalization="tf",
        paper=papers.ALIGNED_XCEPTION,
        source=_maps,
    )
]
