"""DeepLabV3 and DeepLabV3+ of segmentation_models_pytorch.

The rates are 12, 24 and 36 at every stride; a separable convolution has nothing between its halves;
DeepLabV3+ has a separable convolution after the pyramid and one after the merge.
"""

from collections.abc import Mapping
from typing import Any

import keras

from segzoo.layers import _dilated
from segzoo.models._features import Features
from segzoo.models._style import Style
from segzoo.models.pytorch._architecture import Architecture

_LOW = 48


def _separable(x, filters: int, style: Style, place: str, rate: int = 1):
    """3x3 on each channel, 1x1, normalization, ReLU."""
    kind = _dilated.DepthwiseConv2D if rate > 1 else keras.layers.DepthwiseConv2D
    x = kind(
        3,
        padding="same",
        dilation_rate=rate,
        use_bias=False,
        data_format="channels_last",
        name=f"{place}_depthwise",
    )(x)
    return style.conv(x, filters, 1, name=place)


def _aspp(features: Features, style: Style, options: Mapping[str, Any], place: str):
    x, filters = features.coarsest.x, options["decoder_channels"]
    branches = [style.conv(x, filters, 1, name=f"{place}-convs-0")]
    for number, rate in enumerate(_rates(options), 1):
        name = f"{place}-convs-{number}"
        if options["decoder_aspp_separable"]:
            branches.append(_separable(x, filters, style, name, rate))
        else:
            branches.append(style.conv(x, filters, dilation_rate=rate, name=name))
    name = f"{place}-convs-4"
    mean = keras.layers.GlobalAveragePooling2D(
        keepdims=True, data_format="channels_last", name=f"{name}_mean"
    )(x)
    mean = style.conv(mean, filters, 1, name=name)
    branches.append(style.resize(mean, x, name=f"{name}_resize"))
    x = keras.layers.Concatenate(name=f"{place}_merge")(branches)
    x = style.conv(x, filters, 1, name=f"{place}-project")
    return keras.layers.Dropout(options["decoder_aspp_dropout"], name=f"{place}_dropout")(x)


def _rates(options: Mapping[str, Any]) -> list[int]:
    rates = options["decoder_atrous_rates"]
    if (
        not isinstance(rates, list | tuple)
        or len(rates) != 3
        or not all(type(rate) is int and rate > 0 for rate in rates)
    ):
        raise ValueError(
            "`decoder_atrous_rates` must be three ints >= 1, received "
            f"decoder_atrous_rates={rates!r}"
        )
    return list(rates)


def _deeplab_v3(features: Features, style: Style, options: Mapping[str, Any]):
    x = _aspp(features, style, options, "decoder-aspp")
    return style.conv(x, options["decoder_channels"], name="decoder")


def _deeplab_v3_plus(features: Features, style: Style, options: Mapping[str, Any]):
    filters = options["decoder_channels"]
    x = _aspp(features, style, options, "decoder-aspp-0")
    x = _separable(x, filters, style, "decoder-aspp")
    fine = features.at(4).x
    x = style.but(align_corners=True).resize(x, fine, name="decoder-up")
    low = style.conv(fine, _LOW, 1, name="decoder-block1")
    x = keras.layers.Concatenate(name="decoder_merge")([x, low])
    return _separable(x, filters, style, "decoder-block2")


def _separable_modules(path: str, module: str, first: int = 0) -> dict[str, str]:
    """What the parts of a separable convolution are called: two in one, then the normalization."""
    return {
        f"{path}_depthwise": f"{module}-{first}-0",
        f"{path}/conv": f"{module}-{first}-1",
        f"{path}/norm": f"{module}-{first + 1}",
    }


def _pyramid_modules(options: Mapping[str, Any], place: str) -> dict[str, str]:
    # The mean comes first in its branch.
    modules = {f"{place}-convs-4/conv": f"{place}-convs-4-1"}
    modules |= {f"{place}-convs-4/norm": f"{place}-convs-4-2"}
    if options["decoder_aspp_separable"]:
        for number in (1, 2, 3):
            modules |= _separable_modules(f"{place}-convs-{number}", f"{place}-convs-{number}")
    return modules


def _v3_modules(features: Features, options: Mapping[str, Any]) -> dict[str, str]:
    ends = {"decoder/conv": "decoder-conv", "decoder/norm": "decoder-bn"}
    return {**_pyramid_modules(options, "decoder-aspp"), **ends}


def _plus_modules(features: Features, options: Mapping[str, Any]) -> dict[str, str]:
    return {
        **_pyramid_modules(options, "decoder-aspp-0"),
        **_separable_modules("decoder-aspp", "decoder-aspp", 1),
        **_separable_modules("decoder-block2", "decoder-block2"),
    }


_OPTIONS = {
    "decoder_channels": 256,
    "decoder_atrous_rates": (12, 24, 36),
    "decoder_aspp_dropout": 0.5,
}
DEEPLAB_V3 = Architecture(
    {**_OPTIONS, "decoder_aspp_separable": False},
    _deeplab_v3,
    _v3_modules,
    head_kernel=1,
    least_depth=1,
    stride=lambda depth, output_stride: min(2**depth, output_stride),
    output_strides=(8, 16),
)
DEEPLAB_V3_PLUS = Architecture(
    {**_OPTIONS, "decoder_aspp_separable": True},
    _deeplab_v3_plus,
    _plus_modules,
    head_kernel=1,
    stride=lambda depth, output_stride: 4,
    upsampling=4,
    output_strides=(16, 8),
)
