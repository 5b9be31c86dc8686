"""FPN of segmentation_models_pytorch: this library's, with other names.

Where branches are concatenated, its are deepest first.
"""

from collections.abc import Callable, Mapping
from typing import Any

from segzoo.models._features import Features, Map
from segzoo.models._style import Style
from segzoo.models.fpn import fpn
from segzoo.models.pytorch._architecture import EPSILON, Architecture, interpolation, permuted


def _four(features: Features) -> Features:
    """The four coarsest maps; the image is one where the encoder has three."""
    maps = features.maps
    if len(maps) == 3:
        maps = (Map(features.image, 1, 1), *maps)
    return Features(features.image, maps[-4:], features.rounds_up)


def _fpn(features: Features, style: Style, options: Mapping[str, Any]):
    policy = options["decoder_merge_policy"]
    if policy not in ("add", "cat"):
        raise ValueError(
            "`decoder_merge_policy` must be 'add' or 'cat', received "
            f"decoder_merge_policy={policy!r}"
        )
    return fpn(
        _four(features),
        Style("group", groups=32, epsilon=EPSILON, align_corners=True),
        pyramid_filters=options["decoder_pyramid_channels"],
        decoder_filters=options["decoder_segmentation_channels"],
        merge="add" if policy == "add" else "concat",
        dropout=options["decoder_dropout"],
        interpolation=interpolation(options),
    )


def _modules(features: Features, options: Mapping[str, Any]) -> dict[str, str]:
    modules = {}
    for rank, map in enumerate(reversed(_four(features).maps)):
        lateral = f"decoder-p{5 - rank}" + ("-skip_conv" if rank else "")
        modules[f"lateral_{map.level}/conv"] = lateral
        for step in range(max(3 - rank, 1)):
            block = f"decoder-seg_blocks-{rank}-block-{step}-block"
            modules[f"segmentation_{map.level}_{step + 1}_conv"] = block
    return modules


def _rearrange(features: Features, options: Mapping[str, Any]) -> dict[str, Callable]:
    if options["decoder_merge_policy"] == "add":
        return {}
    sizes = [options["decoder_segmentation_channels"]] * 4
    return {"logits/kernel": permuted(sizes, (3, 2, 1, 0))}


FPN = Architecture(
    {
        "decoder_pyramid_channels": 256,
        "decoder_segmentation_channels": 128,
        "decoder_merge_policy": "add",
        "decoder_dropout": 0.2,
        "decoder_interpolation": "nearest",
    },
    _fpn,
    _modules,
    head_kernel=1,
    stride=lambda depth, output_stride: 2 ** (depth - 3),
    upsampling=4,
    rearrange=_rearrange,
)
