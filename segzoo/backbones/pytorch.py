"""Which files of PyTorch's libraries a backbone reads, and which network such a file is of.

The weights of a file give their numbers in the network that they were trained in alone. Its layout
says which that was, before anything is built: where a stride sits, how convolutions are padded, the
epsilon of normalizations. Two networks are published in the same names, EfficientNet as TensorFlow
has it and as PyTorch's own code pads it; there the caller says which (`said_of`).
"""

import json
import os
import pathlib
from typing import NamedTuple

from segzoo.backbones._rows import BackboneInfo, Variant
from segzoo.weights.pytorch import Layout, layout_of
from segzoo.weights.safetensors_files import SafetensorsFile

# The image sizes for which lukemelas computed the padding of EfficientNet, once for all sizes.
NOMINAL_SIZES = {
    f"efficientnetb{n}": size for n, size in enumerate((224, 240, 260, 300, 380, 456, 528, 600))
}
# Keras's ResNets have the stride in another convolution than torchvision's.
_KERAS_RESNETS = ("resnet50", "resnet101", "resnet152")
# EfficientNets padded as PyTorch does by itself, and as TensorFlow does.
SYMMETRIC = Variant(padding="symmetric", epsilon=1e-5)
_SAID = {
    "tf_efficientnet": Variant(epsilon=1e-3),
    "efficientnet_": SYMMETRIC,
    "timm-efficientnet": SYMMETRIC,
    "timm-tf_efficientnet": SYMMETRIC,
}

# By family: the layouts that are read, and what the network of each did otherwise.
_READ: dict[str, dict[str, Variant]] = {
    "resnet": {"torchvision-resnet": Variant()},
    "resnext": {"torchvision-resnet": Variant()},
    "senet": {"senet": Variant(rounds_up=False)},
    "mobilenetv2": {"torchvision-mobilenetv2": Variant(padding="symmetric", epsilon=1e-5)},
    "convnext": {
        "timm-convnext": Variant(rounds_up=False),
        "timm-convnext-features": Variant(rounds_up=False),
        "transformers-convnext": Variant(rounds_up=False),
    },
    "mit": {"smp-mit": Variant(), "transformers-mit": Variant(epsilon=1e-5)},
}


class Reading(NamedTuple):
    """A file, its layout, and what its network did otherwise than the row's."""

    file: SafetensorsFile
    layout: Layout
    variant: Variant


def reading(row: BackboneInfo, path: str | os.PathLike, *, published: bool = False) -> Reading:
    """Open a file for a backbone, and say which network it is of.

    Args:
        row: the backbone.
        path: the file.
        published: whether it is the row's own published file, whose network is the row's.

    Raises:
        ValueError: for a file that is of no layout, of a layout that the backbone does not read,
            or of one that two networks have while nothing says which.
    """
    file = SafetensorsFile(path)
    layout = layout_of(file)
    if published:
        return Reading(file, layout, Variant())
    if layout.name == "torchvision-resnet" and row.name in _KERAS_RESNETS:
        raise ValueError(
            f"{file.path} is of {layout.title}, which has the stride in the 3x3 convolution and no "
            f"biases; backbone {row.name!r} is Keras's. Build {row.name + 'v1_5'!r} for this file"
        )
    if row.family.startswith("efficientnet") and layout.name == "timm-efficientnet":
        return Reading(file, layout, _timm_efficientnet(file, layout))
    if layout.name == "lukemelas-efficientnet" and row.name in NOMINAL_SIZES:
        variant = Variant(padding=NOMINAL_SIZES[row.name], epsilon=1e-3)
        return Reading(file, layout, variant)
    variants = _READ.get(row.family, {})
    if layout.name not in variants:
        raise ValueError(
            f"{file.path} is of {layout.title}, which backbone {row.name!r} (family "
            f"{row.family!r}) does not read"
        )
    return Reading(file, layout, variants[layout.name])


def _timm_efficientnet(file: SafetensorsFile, layout: Layout) -> Variant:
    said = said_of(file.path)
    if said is None and (layout.prefix(file) or "").endswith("encoder."):
        return SYMMETRIC  # a whole network of segmentation_models_pytorch
    for start, variant in _SAID.items():
        if said and said.removeprefix("tu-").startswith(start):
            return variant
    raise ValueError(
        f"{file.path} has an EfficientNet in timm's names, in which two networks are published: "
        "`tf_efficientnet_*` of timm, padded as in TensorFlow, and `timm-efficientnet-*` of "
        "segmentation_models_pytorch and `efficientnet_*` of timm, padded alike on all sides. "
        "Say which it is in a file `config.json` beside it, as timm and "
        'segmentation_models_pytorch write it: {"architecture": "tf_efficientnet_b0"} or '
        f'{{"encoder_name": "timm-efficientnet-b0"}}; received {said!r}'
    )


def said_of(path: pathlib.Path) -> str | None:
    """What a `config.json` beside a file calls the network; None where there is none."""
    try:
        config = json.loads((path.parent / "config.json").read_bytes())
        said = config.get("encoder_name") or config.get("architecture")
    except (OSError, ValueError, AttributeError, RecursionError):
        return None
    return said if isinstance(said, str) else None
