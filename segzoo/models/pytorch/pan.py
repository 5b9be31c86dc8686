"""PAN of segmentation_models_pytorch: this library's parts, in its own way.

Every resize has aligned corners, every convolution a bias, halving drops an odd last row, and a
gate is a sigmoid.
"""

from collections.abc import Mapping
from typing import Any

from segzoo.models._features import Features
from segzoo.models._style import Style
from segzoo.models.pan import feature_pyramid_attention, global_attention_upsample
from segzoo.models.pytorch._architecture import EPSILON, Architecture, interpolation


def _pan(features: Features, style: Style, options: Mapping[str, Any]):
    filters, method = options["decoder_channels"], interpolation(options)
    style = Style("batch", epsilon=EPSILON, use_bias=True, align_corners=True)
    maps = features.maps[1:]
    x = feature_pyramid_attention(maps[-1].x, style, filters=filters, rounds_up=False)
    for map in reversed(maps[:-1]):
        x = global_attention_upsample(
            x,
            map.x,
            style,
            filters=filters,
            gate_activation="sigmoid",
            interpolation=method,
            name=f"gau_{map.level}",
        )
    return x


def _modules(features: Features, options: Mapping[str, Any]) -> dict[str, str]:
    modules = {f"fpa_down_{step}": f"decoder.fpa.down{step}.1" for step in (1, 2, 3)}
    modules |= {f"fpa_scale_{step}": f"decoder.fpa.conv{step}" for step in (1, 2)}
    modules |= {
        "fpa_scale_3": "decoder.fpa.down3.2",
        "fpa_middle": "decoder.fpa.mid.0",
        "fpa_pooling": "decoder.fpa.branch1.1",
    }
    for number, map in enumerate(features.maps[1:-1], 1):
        modules[f"gau_{map.level}_low"] = f"decoder.gau{number}.conv2"
        modules[f"gau_{map.level}_gate"] = f"decoder.gau{number}.conv1.1"
    return modules


PAN = Architecture(
    {"decoder_channels": 32, "decoder_interpolation": "bilinear"},
    _pan,
    _modules,
    stride=lambda depth, output_stride: 4,
    upsampling=4,
    output_strides=(16, 32),
    inner=("conv", "bn"),
)
