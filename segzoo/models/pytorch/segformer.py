"""SegFormer of segmentation_models_pytorch: this library's, at a quarter of the size rounded down.

Maps of stride 2 are projected too, and made smaller; in the file the deepest map stands first.
"""

from collections.abc import Mapping
from typing import Any

from segzoo.models._features import Features, Map
from segzoo.models._style import Style
from segzoo.models.pytorch._architecture import EPSILON, Architecture, SizeOver
from segzoo.models.segformer import segformer
from segzoo.weights.pytorch import Part


def _maps(features: Features) -> list[Map]:
    return [map for map in features.maps if map.channels]


def _segformer(features: Features, style: Style, options: Mapping[str, Any]):
    return segformer(
        _maps(features),
        SizeOver(4, name="quarter")(features.image),
        Style("batch", epsilon=EPSILON),
        filters=options["decoder_segmentation_channels"],
        dropout=options["decoder_dropout"],
    )


def _modules(features: Features, options: Mapping[str, Any]) -> dict[str, str | Part]:
    modules: dict[str, str | Part] = {"fuse_norm": "decoder.fuse_stage.1"}
    maps = _maps(features)[::-1]
    for place, map in enumerate(maps):
        modules[f"linear_{map.level}"] = f"decoder.mlp_stage.{place}.linear"
        # One layer over all maps.
        modules[f"fuse_{map.level}"] = Part("decoder.fuse_stage.0", place, len(maps), axis=1)
    return modules


SEGFORMER = Architecture(
    {"decoder_segmentation_channels": 256, "decoder_dropout": 0.0},
    _segformer,
    _modules,
    head_kernel=1,
    stride=lambda depth, output_stride: 4,
    upsampling=4,
)
