"""UPerNet of segmentation_models_pytorch: this library's, after a normalization of every map."""

from collections.abc import Mapping
from typing import Any

import keras

from segzoo.models._features import Features, Map
from segzoo.models._style import Style
from segzoo.models.pytorch._architecture import EPSILON, Architecture
from segzoo.models.upernet import upernet

_BINS = (1, 2, 3, 6)


def _upernet(features: Features, style: Style, options: Mapping[str, Any]):
    maps = tuple(
        Map(_normalized(map.x, f"decoder-feature_norms-{place}"), map.level, map.stride)
        for place, map in enumerate(features.maps[1:])
    )
    return upernet(
        Features(features.image, maps, features.rounds_up),
        style,
        bin_sizes=_BINS,
        decoder_filters=options["decoder_channels"],
        dropout=0.0,
        pyramid_style=Style("batch", epsilon=EPSILON),
    )


def _normalized(x, name: str):
    return keras.layers.LayerNormalization(epsilon=1e-6, name=name)(x)


def _modules(features: Features, options: Mapping[str, Any]) -> dict[str, str]:
    modules = {f"psp_{bins}": f"decoder-psp-blocks-{place}-1" for place, bins in enumerate(_BINS)}
    modules |= {"psp_conv": "decoder-psp-out_conv", "fuse": "decoder-fusion_block"}
    for place, map in enumerate(features.maps[-2:0:-1]):
        modules[f"lateral_{map.level}"] = f"decoder-fpn_lateral_blocks-{place}-conv_norm_relu"
        modules[f"fpn_{map.level}"] = f"decoder-fpn_conv_blocks-{place}"
    return modules


UPERNET = Architecture(
    {"decoder_channels": 256, "decoder_use_norm": "batchnorm"},
    _upernet,
    _modules,
    head_kernel=1,
    stride=lambda depth, output_stride: 4,
    upsampling=4,
)
