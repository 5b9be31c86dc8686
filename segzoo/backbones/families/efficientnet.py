"""EfficientNet B0 to B7 and L2, and EfficientNet-Lite, built directly.

    stem     3x3/2, 32                         stride 2
    block1   depthwise 3x3, 16                 stride 2
    block2   3x3/2, 24                         stride 4
    block3   5x5/2, 40                         stride 8
    block4   3x3/2, 80; block5 5x5, 112        stride 16
    block6   5x5/2, 192; block7 3x3, 320       stride 32
    top      1x1, 1280

A block expands its channels six times, convolves each of them, gates them, projects, and adds its
input where the shapes agree. Width and depth of B0 grow by two factors. The Lite networks, made for
8-bit integers, have no gates and ReLU6 in place of SiLU, and neither stem and top nor the depth of
the first and the last stage grow. Padding is TensorFlow's.

Layers have the names of the `efficientnet` package, whose weights files are the published ones. In
timm's `tf_efficientnet_*`, `block3b_dwconv` is `blocks.2.1.conv_dw`, `stem_conv` is `conv_stem` and
`top_conv` is `conv_head`.

Differs from the package: residual blocks are dropped in training at the paper's rate, which grows
to 0.2 at the last block. The package counts a scaled network's blocks, but divides by the number
of B0's, so that B7 drops up to two thirds and L2's rate exceeds 1.

Tan, Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019,
arXiv 1905.11946, table 1; Lite is that of the authors' repository (2020).
"""

import math
from dataclasses import dataclass
from functools import partial

from keras import layers

from segzoo.backbones._rows import Row, Variant
from segzoo.backbones.construct import LAST, Layers
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
# Where a stage expands before its stride: the widest maps of the finer resolution, the taps of
# the usual EfficientNet U-Net.
_FEATURES = (
    "block2a_expand_activation",
    "block3a_expand_activation",
    "block4a_expand_activation",
    "block6a_expand_activation",
    "top_activation",
)
_INITIALIZER = {
    "class_name": "VarianceScaling",
    "config": {"scale": 2.0, "mode": "fan_out", "distribution": "truncated_normal"},
}


@dataclass(frozen=True)
class Plan:
    """What tells the networks apart.

    Attributes:
        width: factor of the channels.
        depth: factor of the blocks of a stage.
        lite: whether it is EfficientNet-Lite.
    """

    width: float
    depth: float
    lite: bool = False

    def channels(self, base: int) -> int:
        """A number of channels, scaled: the nearest multiple of 8, at most a tenth below."""
        scaled = base * self.width
        rounded = max(8, int(scaled + 4) // 8 * 8)
        return rounded + 8 if rounded < 0.9 * scaled else rounded

    def ends(self, base: int) -> int:
        """The channels of stem and top."""
        return base if self.lite else self.channels(base)

    def blocks(self) -> list[int]:
        """The number of blocks of each stage."""
        blocks = [math.ceil(count * self.depth) for *_, count in _STAGES]
        return [1, *blocks[1:-1], 1] if self.lite else blocks


def efficientnet(plan: Plan, x, variant: Variant, output_stride: int) -> list:
    """The maps of an EfficientNet: where it expands before a stride, and the last one.

    Args:
        plan: which network.
        x: normalized image (B, H, W, C).
        variant: what another library did otherwise.
        output_stride: strides beyond it become dilation.

    Returns:
        Maps of levels 2, 4, 8, 16 and 32.
    """
    make = Layers(
        variant,
        output_stride,
        padding="same",
        epsilon=1e-3,
        momentum=0.99,
        kernel_initializer=_INITIALIZER,
    )
    x = make.conv(x, plan.ends(32), 3, "stem_conv", stride=make.stage(2).stride)
    x = _norm(make, plan, x, "stem")  # (B, H/2, W/2, 32)
    maps: list = []
    counts = plan.blocks()
    done = 0  # blocks so far
    for number, (stage, count) in enumerate(zip(_STAGES, counts, strict=True), 1):
        kernel, stride, expansion, channels, _ = stage
        for block in range(count):
            name = f"block{number}{chr(ord('a') + block)}"
            inputs = x
            if expansion > 1:
                x = make.conv(x, x.shape[-1] * expansion, 1, f"{name}_expand_conv")
                x = _norm(make, plan, x, f"{name}_expand")
            if stride > 1 and block == 0:
                maps.append(x)
                if len(maps) == variant.depth:
                    return maps
            built = make.stage(stride if block == 0 else 1)
            x = make.depthwise(
                x, kernel, f"{name}_dwconv", stride=built.stride, dilation=built.first
            )
            x = _norm(make, plan, x, name)
            if not plan.lite:
                x = _gate(make, x, inputs.shape[-1], name)
            x = make.conv(x, plan.channels(channels), 1, f"{name}_project_conv")
            x = make.norm(x, f"{name}_project_bn")
            if block > 0:
                if not plan.lite:
                    rate = 0.2 * done / sum(counts)
                    x = layers.Dropout(rate, noise_shape=(None, 1, 1, 1), name=f"{name}_drop")(x)
                x = layers.Add(name=f"{name}_add")([x, inputs])
            done += 1
    x = make.conv(x, plan.ends(1280), 1, "top_conv")
    return [*maps, _norm(make, plan, x, "top")]


def _norm(make: Layers, plan: Plan, x, name: str):
    x = make.norm(x, f"{name}_bn")
    if plan.lite:
        return layers.ReLU(6.0, name=f"{name}_activation")(x)
    return layers.Activation("silu", name=f"{name}_activation")(x)


def _gate(make: Layers, x, channels: int, name: str):
    """Each channel times a number between 0 and 1, from the means of all channels."""
    gate = layers.GlobalAveragePooling2D(
        data_format=LAST, keepdims=True, name=f"{name}_se_squeeze"
    )(x)
    gate = make.conv(gate, max(1, channels // 4), 1, f"{name}_se_reduce", use_bias=True)
    gate = layers.Activation("silu", name=f"{name}_se_activation")(gate)
    gate = make.conv(gate, x.shape[-1], 1, f"{name}_se_expand", use_bias=True)
    gate = layers.Activation("sigmoid", name=f"{name}_se_gate")(gate)
    return layers.Multiply(name=f"{name}_se_excite")([x, gate])


_AUTOAUGMENT = (
    "https://github.com/Callidior/keras-applications/releases/download/efficientnet/"
    "efficientnet-{}_weights_tf_dim_ordering_tf_kernels_autoaugment_notop.h5"
)
_NOISY_STUDENT = (
    "https://github.com/qubvel/efficientnet/releases/download/v0.0.1/"
    "efficientnet-{}_noisy-student_notop.h5"
)
_LITE = "https://huggingface.co/timm/tf_efficientnet_{}.in1k/resolve/main/model.safetensors"

# Width and depth factor; channels of the taps; parameters up to the last one.
_VARIANTS: dict[str, tuple[tuple[float, float], tuple[int, ...], int]] = {
    "b0": ((1.0, 1.0), (96, 144, 240, 672, 1280), 4_049_564),
    "b1": ((1.0, 1.1), (96, 144, 240, 672, 1280), 6_575_232),
    "b2": ((1.1, 1.2), (96, 144, 288, 720, 1408), 7_768_562),
    "b3": ((1.2, 1.4), (144, 192, 288, 816, 1536), 10_783_528),
    "b4": ((1.4, 1.8), (144, 192, 336, 960, 1792), 17_673_816),
    "b5": ((1.6, 2.2), (144, 240, 384, 1056, 2048), 28_513_520),
    "b6": ((1.8, 2.6), (192, 240, 432, 1200, 2304), 40_960_136),
    "b7": ((2.0, 3.1), (192, 288, 480, 1344, 2560), 64_097_680),
    "l2": ((4.3, 5.3), (432, 624, 1056, 2880, 5504), 475_894_996),
    "lite0": ((1.0, 1.0), (96, 144, 240, 672, 1280), 3_413_024),
    "lite1": ((1.0, 1.1), (96, 144, 240, 672, 1280), 4_189_344),
    "lite2": ((1.1, 1.2), (96, 144, 288, 720, 1280), 4_869_168),
    "lite3": ((1.2, 1.4), (144, 192, 288, 816, 1280), 6_992_768),
    "lite4": ((1.4, 1.8), (144, 192, 336, 960, 1280), 11_837_936),
}


def _row(variant: str) -> Row:
    factors, channels, parameters = _VARIANTS[variant]
    lite = variant.startswith("lite")
    files = {"imagenet": _AUTOAUGMENT, "noisy-student": _NOISY_STUDENT}
    if lite:
        files = {"imagenet": _LITE}
    elif variant == "l2":
        files = {}
    return Row(
        name=f"efficientnet{variant}",
        family="efficientnetlite" if lite else "efficientnet",
        weights=tuple(files),
        features=_FEATURES,
        strides=(2, 4, 8, 16, 32),
        channels=channels,
        parameters=parameters,
        normalization="tf" if lite else "torch",
        paper=papers.NOISY_STUDENT if variant == "l2" else papers.EFFICIENTNET,
        squeeze_excite=not lite,
        source=partial(efficientnet, Plan(*factors, lite=lite)),
        files={name: address.format(variant) for name, address in files.items()},
    )


ROWS = [_row(variant) for variant in _VARIANTS]
