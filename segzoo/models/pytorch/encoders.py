"""The encoders of segmentation_models_pytorch, by its names, as backbones of the registry.

What its networks do otherwise is a `Variant`: every convolution of a dilated stage has the stage's
whole rate, EfficientNet pads in ways of its own, and the maps are the outputs of stages.
"""

import itertools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from segzoo.backbones._rows import Variant
from segzoo.backbones.pytorch import NOMINAL_SIZES

_IMAGENET = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}
_HALF = {"mean": 127.5, "std": 127.5}  # -1..1


@dataclass(frozen=True)
class Encoder:
    """An encoder of a checkpoint.

    Attributes:
        backbone: its name in the registry.
        variant: what its network does otherwise.
        features: the layers of its maps, finest first; None for the registry's own.
        layouts: of its weights, by the name of the layout.
        normalization: the arguments of `ImageNormalization`.
        prefix: stands before the names of its tensors.
        halves: whether it has a map of stride 2.
        dilates: whether it can be dilated.
    """

    backbone: str
    variant: Variant
    layout: str
    features: tuple[str, ...] | None = None
    normalization: dict[str, Any] = field(default_factory=lambda: _IMAGENET)
    prefix: str = "encoder."
    halves: bool = True
    dilates: bool = True


def encoder(name: str, weights: str | None) -> Encoder:
    """An encoder by the name that segmentation_models_pytorch has for it.

    Args:
        name: `encoder_name` of a configuration.
        weights: `encoder_weights`, which for some says how images were normalized.

    Raises:
        ValueError: for an encoder that is not read; lists those that are.
    """
    for pattern, make in _ENCODERS.items():
        match = re.fullmatch(pattern, name)
        if match:
            found = make(match)
            # Adversarial training of EfficientNet took images in -1..1.
            return replace(found, normalization=_HALF) if weights == "advprop" else found
    raise ValueError(
        f"`encoder_name` must be one of {', '.join(_NAMES)}; received encoder_name={name!r}"
    )


_STAGE = Variant(dilation="stage")


def _resnet(backbone: str, layout: str = "torchvision-resnet"):
    # SENet's first pool drops an odd last row.
    return Encoder(backbone, replace(_STAGE, rounds_up=layout != "senet"), layout)


def _mobilenet() -> Encoder:
    blocks = ("expanded_conv_project_BN", "block_2_add", "block_5_add", "block_12_add", "out_relu")
    variant = replace(_STAGE, padding="symmetric", epsilon=1e-5)
    return Encoder("mobilenetv2", variant, "torchvision-mobilenetv2", blocks)


# EfficientNet: blocks in each stage of b0, and how many times as many the others have.
_BLOCKS = (1, 2, 2, 3, 3, 4, 1)
_DEPTHS = (1.0, 1.1, 1.2, 1.4, 1.8, 2.2, 2.6, 3.1)


def _stage_ends(number: int, lite: bool = False) -> tuple[str, ...]:
    """The stem and the last blocks of the stages 2, 3, 5 and 7."""
    ends = []
    for stage in (2, 3, 5, 7):
        depth = 1.0 if lite and stage == 7 else _DEPTHS[number]
        count = math.ceil(depth * _BLOCKS[stage - 1])
        # A block that changes the number of channels has no shortcut.
        last = "add" if count > 1 else "project_bn"
        ends.append(f"block{stage}{chr(ord('a') + count - 1)}_{last}")
    return ("stem_activation", *ends)


def _lukemelas(number: int) -> Encoder:
    backbone = f"efficientnetb{number}"
    features = _stage_ends(number)
    variant = replace(_STAGE, padding=NOMINAL_SIZES[backbone], epsilon=1e-3)
    if number == 0:  # its map of stride 16 is that of the first block of stage 5, not of the last
        features = (*features[:3], "block5a_project_bn", features[4])
        variant = replace(variant, early=("block5b_", "block5c_"))
    return Encoder(backbone, variant, "lukemelas-efficientnet", features)


def _timm_efficientnet(number: int, lite: bool) -> Encoder:
    return Encoder(
        f"efficientnet{'lite' if lite else 'b'}{number}",
        replace(_STAGE, padding="symmetric", epsilon=1e-5),
        "timm-efficientnet",
        _stage_ends(number, lite),
        _HALF if lite else _IMAGENET,
    )


def convnext(size: str) -> Encoder:
    """ConvNeXt as timm has it, whose maps lose what does not fill a patch."""
    depths = (3, 3, 9, 3) if size == "tiny" else (3, 3, 27, 3)
    return Encoder(
        f"convnext{size}",
        Variant(rounds_up=False),
        "timm-convnext-features",
        # A block ends with a sum that has a number for a name.
        tuple(f"add_{blocks - 1}" for blocks in itertools.accumulate(depths)),
        prefix="encoder.model.",
        halves=False,
        dilates=False,
    )


_ENCODERS: dict[str, Callable[[re.Match], Encoder]] = {
    r"resnet(18|34)": lambda m: _resnet(m[0]),
    r"resnet(50|101|152)": lambda m: _resnet(f"{m[0]}v1_5"),
    r"resnext50_32x4d": lambda m: _resnet("resnext50"),
    r"resnext101_32x8d": lambda m: _resnet("resnext101"),
    r"se_resnet(50|101)": lambda m: _resnet(f"seresnet{m[1]}", "senet"),
    r"se_resnext(50|101)_32x4d": lambda m: _resnet(f"seresnext{m[1]}", "senet"),
    r"mobilenet_v2": lambda m: _mobilenet(),
    r"efficientnet-b([0-7])": lambda m: _lukemelas(int(m[1])),
    r"timm-efficientnet-b([0-7])": lambda m: _timm_efficientnet(int(m[1]), lite=False),
    r"timm-tf_efficientnet_lite([0-4])": lambda m: _timm_efficientnet(int(m[1]), lite=True),
    r"mit_b([0-5])": lambda m: Encoder(
        f"mitb{m[1]}", Variant(), "smp-mit", halves=False, dilates=False
    ),
    r"tu-convnext_(tiny|small|base|large|xlarge)(\..*)?": lambda m: convnext(m[1]),
}
_NAMES = (
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    *("resnext50_32x4d", "resnext101_32x8d", "se_resnet50", "se_resnet101"),
    *("se_resnext50_32x4d", "se_resnext101_32x4d", "mobilenet_v2"),
    *("efficientnet-b0 to -b7", "timm-efficientnet-b0 to -b7"),
    *("timm-tf_efficientnet_lite0 to lite4", "mit_b0 to mit_b5"),
    "tu-convnext_tiny, _small, _base, _large and _xlarge",
)
