"""LinkNet of segmentation_models_pytorch: a block also after the last skip, to the image's size.

Its transposed convolutions are 4x4, and have a bias in front of the normalization.
"""

from collections.abc import Mapping
from typing import Any

import keras

from segzoo.layers import CropLike
from segzoo.models._features import Features
from segzoo.models._style import Style
from segzoo.models.pytorch._architecture import Architecture

_LAST = 32


def _linknet(features: Features, style: Style, options: Mapping[str, Any]):
    x = features.coarsest.x
    skips = [*reversed(features.maps[:-1]), None]
    for stage, skip in enumerate(skips):
        place = f"decoder-blocks-{stage}"
        narrow = x.shape[-1] // 4
        # An encoder without a map of stride 2 adds nothing there.
        filters = _LAST if skip is None else skip.channels or x.shape[-1]
        x = style.conv(x, narrow, 1, name=f"{place}-block-0")
        x = style.but(use_bias=True).transposed_conv(x, narrow, 4, name=f"{place}-block-1")
        # Of 2 n + 2 rows the first is PyTorch's padding.
        x = CropLike(1, name=f"{place}_fit")(x, features.image if skip is None else skip.x)
        x = style.conv(x, filters, 1, name=f"{place}-block-2")
        if skip is not None and skip.channels > 0:
            x = keras.layers.Add(name=f"{place}_add")([x, skip.x])
    return x


def _modules(features: Features, options: Mapping[str, Any]) -> dict[str, str]:
    places = [f"decoder-blocks-{stage}-block-1" for stage in range(len(features.maps))]
    return {
        **{place: f"{place}-0" for place in places},
        **{f"{place}_norm": f"{place}-1" for place in places},
    }


LINKNET = Architecture(
    {"decoder_use_norm": "batchnorm"}, _linknet, _modules, head_kernel=1, least_depth=1
)
