"""The table of published whole-model checkpoints, and what tells their layouts.

A builder asks `find` before it builds anything: by name or as a file of its layout, a checkpoint is
the published architecture, which the row names. What that is, the models know.
"""

import dataclasses
import os
from collections.abc import Iterable

from segzoo.weights._download import fetch
from segzoo.weights._files import open_file


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A published file.

    Attributes:
        name: what `weights=` takes.
        builder: the builder that takes it.
        backbone: the backbone that it is published for.
        url: where it is.
        network: the published architecture that it is for, a key of `LAYOUTS`.
        classes: the number of classes.
        sha256: of the file, where its publisher tells it.
    """

    name: str
    builder: str
    backbone: str
    url: str
    network: str
    classes: int
    sha256: str | None = None


_DEEPLAB = "https://github.com/bonlime/keras-deeplab-v3-plus/releases/download"
_XCEPTION = "deeplabv3_xception_tf_dim_ordering_tf_kernels"
_MOBILENET = "deeplabv3_mobilenetv2_tf_dim_ordering_tf_kernels"

CHECKPOINTS: tuple[Checkpoint, ...] = tuple(
    Checkpoint(name, "DeepLabV3Plus", backbone, f"{_DEEPLAB}/{file}.h5", "deeplab", classes)
    for name, backbone, file, classes in (
        ("pascal_voc", "xception65", f"1.1/{_XCEPTION}", 21),
        ("pascal_voc", "mobilenetv2", f"1.1/{_MOBILENET}", 21),
        ("cityscapes", "xception65", f"1.2/{_XCEPTION}_cityscapes", 19),
        ("cityscapes", "mobilenetv2", f"1.2/{_MOBILENET}_cityscapes", 19),
    )
)

_HUB = "https://huggingface.co/{}/resolve/main/model.safetensors"
_ADE, _CITY = "smp-hub/segformer-b{}-{}-ade-160k", "smp-hub/segformer-b{}-1024x1024-city-160k"
CHECKPOINTS += tuple(
    Checkpoint(name, "SegFormer", f"mitb{n}", _HUB.format(repository), "smp-segformer", classes)
    for n in range(6)
    for name, repository, classes in (
        ("ade20k", _ADE.format(n, "640x640" if n == 5 else "512x512"), 150),
        ("cityscapes", _CITY.format(n), 19),
    )
)
CHECKPOINTS += tuple(
    Checkpoint(
        "ade20k",
        "UPerNet",
        f"convnext{size}",
        _HUB.format(f"openmmlab/upernet-convnext-{size}"),
        "transformers-upernet",
        150,
    )
    for size in ("tiny", "small", "base")
)

# Layers that only files of a published architecture have: all of the first, one of the others.
LAYOUTS: dict[str, tuple[set[str], set[str]]] = {
    "deeplab": (
        {"image_pooling", "concat_projection"},
        {"logits_semantic", "custom_logits_semantic"},
    ),
    "smp-segformer": ({"decoder/mlp_stage/0/linear"}, {"segmentation_head/0"}),
    "transformers-upernet": ({"decode_head/fpn_bottleneck/conv"}, {"decode_head/classifier"}),
}


@dataclasses.dataclass(frozen=True)
class Published:
    """Weights of a published architecture: a checkpoint by name, or a file of its layout."""

    network: str
    weights: str | os.PathLike
    checkpoint: Checkpoint | None = None

    def path(self) -> str | os.PathLike:
        """The file, downloaded where it is missing."""
        if self.checkpoint is None:
            return self.weights
        return fetch(self.checkpoint.url, "weights", sha256=self.checkpoint.sha256)


def find(builder: str, backbone: object, weights: str | os.PathLike | None) -> Published | None:
    """The published architecture that `weights` are for, None where they are the builder's own.

    Args:
        builder: the builder that is asked, for example `"DeepLabV3Plus"`.
        backbone: its argument.
        weights: its argument.

    Raises:
        ValueError: for the name of a checkpoint that the backbone does not have.

    Example:
        >>> from segzoo.weights import published
        >>> published.find("DeepLabV3Plus", "xception65", "cityscapes").checkpoint.classes
        19
        >>> published.find("DeepLabV3Plus", "xception65", "mine.weights.h5")
    """
    rows = [row for row in CHECKPOINTS if row.builder == builder]
    if weights is None or not rows:
        return None
    named = [row for row in rows if row.name == weights]
    if named:
        for row in named:
            if row.backbone == backbone:
                return Published(row.network, weights, row)
        raise ValueError(
            f"`weights={weights!r}` is published for the backbones "
            f"{tuple(row.backbone for row in named)}, received backbone={backbone!r}"
        )
    networks = {row.network for row in rows if row.backbone == backbone}
    if not networks or not os.path.isfile(weights):
        return None
    with open_file(weights) as file:
        found = layout_of(name for layer in file.layers for name in (layer.name, layer.path))
    return Published(found, weights) if found in networks else None


def layout_of(names: Iterable[str]) -> str:
    """The published architecture whose layers these are, empty where it is none."""
    found = set(names)
    for network, (every, some) in LAYOUTS.items():
        if every <= found and some & found:
            return network
    return ""
