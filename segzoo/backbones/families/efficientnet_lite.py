"""EfficientNet-Lite, made for 8-bit integers: EfficientNet without gates, with ReLU6.

    stem     3x3/2, 32                         stride 2
    block1   depthwise 3x3, 16                 stride 2
    block2   3x3/2, 24                         stride 4
    block3   5x5/2, 40                         stride 8
    block4   3x3/2, 80; block5 5x5, 112        stride 16
    block6   5x5/2, 192; block7 3x3, 320       stride 32
    top      1x1, 1280

A block expands six times, convolves each channel, projects, and adds its input where the shapes
agree. Width and depth grow by the factors of EfficientNet B0 to B4, but not those of stem and top,
nor the depth of the first and the last stage. Padding is TensorFlow's.

Layers are named like those of EfficientNet; in timm's `tf_efficientnet_lite*`, `block3b_dwconv` is
`blocks.2.1.conv_dw`, `stem_conv` is `conv_stem` and `top_conv` is `conv_head`.

Tan, Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019,
arXiv 1905.11946; the form for devices is that of the authors' repository (2020).
"""

import math
from functools import partial

from keras import layers

from segzoo.backbones._rows import Row, Variant
from segzoo.backbones.construct import Layers
from segzoo.backbones.families import _papers as papers

# Of each stage: kernel, stride, expansion, channels, blocks.
_STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
_FEATURES = (
    "block2a_expand_activation",
    "block3a_expand_activation",
    "block4a_expand_activation",
    "block6a_expand_activation",
    "top_activation",
)


def efficientnet_lite(width: float, depth: float, x, variant: Variant, output_stride: int) -> list:
    """The maps of an EfficientNet-Lite: where it expands before a stride, and the last one.

    Args:
        width: factor of the channels.
        depth: factor of the blocks of a stage.
        x: normalized image (B, H, W, C).
        variant: what another library did otherwise.
        output_stride: strides beyond it become dilation.

    Returns:
        Maps of levels 2, 4, 8, 16 and 32.
    """
    make = Layers(
        variant, output_stride, padding="same", epsilon=1e-3, kernel_initializer="he_normal"
    )
    x = make.conv(x, 32, 3, "stem_conv", stride=make.stage(2).stride)
    x = _norm(make, x, "stem")  # (B, H/2, W/2, 32)
    maps = []
    for number, (kernel, stride, expansion, channels, blocks) in enumerate(_STAGES, 1):
        filters = _round(channels * width)
        if number not in (1, len(_STAGES)):
            blocks = math.ceil(blocks * depth)
        for block in range(blocks):
            name = f"block{number}{chr(ord('a') + block)}"
            inputs = x
            if expansion > 1:
                x = make.conv(x, x.shape[-1] * expansion, 1, f"{name}_expand_conv")
                x = _norm(make, x, f"{name}_expand")
            if stride > 1 and block == 0:
                maps.append(x)
                if len(maps) == variant.depth:
                    return maps
            stage = make.stage(stride if block == 0 else 1)
            x = make.depthwise(
                x, kernel, f"{name}_dwconv", stride=stage.stride, dilation=stage.first
            )
            x = _norm(make, x, name)
            x = make.conv(x, filters, 1, f"{name}_project_conv")
            x = make.norm(x, f"{name}_project_bn")
            if block > 0:
                x = layers.Add(name=f"{name}_add")([x, inputs])
    x = make.conv(x, 1280, 1, "top_conv")
    return [*maps, _norm(make, x, "top")]


def _norm(make: Layers, x, name: str):
    return layers.ReLU(6.0, name=f"{name}_activation")(make.norm(x, f"{name}_bn"))


def _round(channels: float) -> int:
    """The multiple of 8 nearest to a number of channels, at most a tenth below it."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


# Width and depth factor; channels of the taps; parameters up to the last one.
_VARIANTS: dict[int, tuple[tuple[float, float], tuple[int, ...], int]] = {
    0: ((1.0, 1.0), (96, 144, 240, 672, 1280), 3_413_024),
    1: ((1.0, 1.1), (96, 144, 240, 672, 1280), 4_189_344),
    2: ((1.1, 1.2), (96, 144, 288, 720, 1280), 4_869_168),
    3: ((1.2, 1.4), (144, 192, 288, 816, 1280), 6_992_768),
    4: ((1.4, 1.8), (144, 192, 336, 960, 1280), 11_837_936),
}

ROWS = [
    Row(
        name=f"efficientnetlite{number}",
        family="efficientnetlite",
        weights=("imagenet",),
        features=_FEATURES,
        strides=(2, 4, 8, 16, 32),
        channels=channels,
        parameters=parameters,
        normalization="tf",
        paper=papers.EFFICIENTNET,
        source=partial(efficientnet_lite, *factors),
        files={
            "imagenet": f"https://huggingface.co/timm/tf_efficientnet_lite{number}.in1k/"
            "resolve/main/model.safetensors"
        },
    )
    for number, (factors, channels, parameters) in _VARIANTS.items()
]
