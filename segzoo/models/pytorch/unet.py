"""U-Net and U-Net++ of segmentation_models_pytorch.

U-Net     this library's, with other names
U-Net++   the nodes below the first row have the widths of the encoder's maps, and one more
          stage enlarges the last node to the image's size
"""

from collections.abc import Mapping
from typing import Any

import keras

from segzoo.models._attention import recalibrate
from segzoo.models._features import Features
from segzoo.models._style import Style
from segzoo.models.pytorch._architecture import Architecture, interpolation, widths
from segzoo.models.unet import unet


def _attention(options: Mapping[str, Any]) -> str | None:
    kind = options["decoder_attention_type"]
    if kind not in (None, "scse"):
        raise ValueError(
            "`decoder_attention_type` must be None or 'scse', received "
            f"decoder_attention_type={kind!r}"
        )
    return kind


def _unet(features: Features, style: Style, options: Mapping[str, Any]):
    filters = widths(options, len(features.maps))
    x, _ = unet(
        features,
        style,
        decoder_filters=filters,
        decoder_dropout=[0.0] * len(filters),
        upsampling=interpolation(options),
        attention=_attention(options),
    )
    return x


def _unet_modules(features: Features, options: Mapping[str, Any]) -> dict[str, str]:
    modules: dict[str, str] = {}
    for stage in range(len(features.maps)):
        ours, theirs = f"decoder_{stage + 1}", f"decoder.blocks.{stage}"
        modules |= {f"{ours}_conv_{k}": f"{theirs}.conv{k}" for k in (1, 2)}
        modules[f"{ours}_merge_scse"] = f"{theirs}.attention1.attention"
        modules[f"{ours}_scse"] = f"{theirs}.attention2.attention"
    return modules


def _unet_plus_plus(features: Features, style: Style, options: Mapping[str, Any]):
    """The grid, diagonal by diagonal; node x_i_j is the i-th of layer j.

    Layer j has the resolution of the encoder's map j + 1, counted from the coarsest.
    """
    encoder = [map.x for map in reversed(features.maps)]
    depth, method, attention = len(encoder) - 1, interpolation(options), _attention(options)
    filters = widths(options, depth + 1)

    def node(x, like, maps, width: int, place: str):
        x = style.resize(x, like, interpolation=method, name=f"{place}-up")
        if maps:
            x = keras.layers.Concatenate(name=f"{place}-merge")([x, *maps])
            x = recalibrate(x, attention, f"{place}-merge")
        for k in (1, 2):
            x = style.conv(x, width, name=f"{place}-conv{k}")
        return recalibrate(x, attention, place)

    nodes: dict[tuple[int, int], Any] = {}
    for step in range(depth):  # how far a node is from the encoder
        for i in range(depth - step):
            j = i + step
            below, skip = nodes[i, j - 1] if step else encoder[i], encoder[j + 1]
            width = skip.shape[-1] if i else filters[j]
            # An encoder without a map of stride 2 gives one without channels in its place.
            maps = [*(nodes[k, j] for k in range(i + 1, j + 1)), skip]
            maps = [map for map in maps if map.shape[-1]]
            place = f"decoder-blocks-x_{i}_{j}"
            nodes[i, j] = node(below, skip, maps, width, place) if width else skip
    x = nodes[0, depth - 1] if depth else encoder[0]
    return node(x, features.image, [], filters[depth], f"decoder-blocks-x_0_{depth}")


def _unet_plus_plus_modules(features: Features, options: Mapping[str, Any]) -> dict[str, str]:
    modules = {}
    for j in range(len(features.maps)):
        for i in range(j + 1):
            place = f"decoder-blocks-x_{i}_{j}"
            modules[f"{place}-merge_scse"] = f"{place}-attention1-attention"
            modules[f"{place}_scse"] = f"{place}-attention2-attention"
    return modules


_OPTIONS = {
    "decoder_use_norm": "batchnorm",
    "decoder_channels": (256, 128, 64, 32, 16),
    "decoder_attention_type": None,
    "decoder_interpolation": "nearest",
}
# The gate in front of the last stage's convolutions, which joins nothing, is never used.
_UNUSED = r"decoder\.blocks\.\w+\.attention1\..*"
UNET = Architecture(_OPTIONS, _unet, _unet_modules, least_depth=1, unused=_UNUSED)
UNET_PLUS_PLUS = Architecture(
    _OPTIONS, _unet_plus_plus, _unet_plus_plus_modules, least_depth=1, unused=_UNUSED
)
