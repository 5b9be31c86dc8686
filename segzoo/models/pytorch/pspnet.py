"""PSPNet of segmentation_models_pytorch: no dilation, a shallow encoder, no 3x3 after the pyramid.

The mean of the whole map has a bias in place of a normalization, and the means stand first.
"""

from collections.abc import Mapping
from typing import Any

import keras

from segzoo.layers import AdaptiveAveragePooling2D
from segzoo.models._features import Features
from segzoo.models._style import Style
from segzoo.models.pytorch._architecture import Architecture

_BINS = (1, 2, 3, 6)


def _pspnet(features: Features, style: Style, options: Mapping[str, Any]):
    x, style = features.coarsest.x, style.but(align_corners=True)
    maps = []
    for place, bins in enumerate(_BINS):
        name = f"decoder-psp-blocks-{place}"
        pooled = AdaptiveAveragePooling2D(bins, name=f"{name}_mean")(x)
        own = style.but(normalization=None) if bins == 1 else style
        pooled = own.conv(pooled, x.shape[-1] // len(_BINS), 1, name=f"{name}-pool-1")
        maps.append(style.resize(pooled, x, name=f"{name}_resize"))
    x = keras.layers.Concatenate(name="decoder-psp_merge")([*maps, x])
    x = style.conv(x, options["psp_out_channels"], 1, name="decoder-conv")
    return keras.layers.SpatialDropout2D(
        options["psp_dropout"], data_format="channels_last", name="decoder-dropout"
    )(x)


PSPNET = Architecture(
    {"psp_out_channels": 512, "decoder_use_norm": "batchnorm", "psp_dropout": 0.2},
    _pspnet,
    depth=3,
    stride=lambda depth, output_stride: 2**depth,
    upsampling=8,
)
