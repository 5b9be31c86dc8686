"""One row for every network of `keras.applications` that gives a feature pyramid.

Taps are the last map of each resolution, after its activation where the network has one there;
MobileNetV2 is tapped where it expands before a stride, which is its widest map, pre-activation
networks (ResNetV2, DenseNet, ConvNeXt) after the normalization that the strided block starts
with. ResNet, VGG and EfficientNet B0 to B7 are built directly, in files of their own.
"""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import keras

from segzoo.backbones._rows import Paper, Published, Row, every_stays
from segzoo.backbones.families import _papers as papers

_Sizes = dict[str, tuple[tuple[int, ...], int]]


def _network(function: str, size: int, weights: str | None) -> keras.Model:
    # A fixed size: NASNet compares sizes while it is built, and MobileNet's published weights are
    # those of one size. `rebuild` makes the network anew for any size.
    build = getattr(keras.applications, function)
    return build(include_top=False, weights=weights, input_shape=(size, size, 3))


def _rows(
    family: str,
    normalization: str,
    paper: Paper,
    sizes: _Sizes,
    features: tuple[str, ...] | Callable[[str], tuple[str, ...]],
    size: int = 224,
    published: Mapping[str, Any] = MappingProxyType({}),
    **options,
) -> list[Row]:
    """Make the rows of a family.

    Args:
        family: name of the family.
        normalization: key of `NORMALIZATIONS`.
        paper: where it was published.
        sizes: (channels of the taps, parameters) by the name of Keras's function.
        features: the taps, finest first, or a function from a network's name to them.
        size: of the image that Keras builds the network for.
        published: what else `Published` says of the network.
        **options: further fields of the row.
    """
    return [
        Row(
            name=function.lower(),
            family=family,
            weights=("imagenet",),
            features=features(function.lower()) if callable(features) else features,
            strides=(2, 4, 8, 16, 32)[-len(channels) :],
            channels=channels,
            parameters=parameters,
            normalization=normalization,
            paper=paper,
            source=Published(partial(_network, function, size), **published),
            **options,
        )
        for function, (channels, parameters) in sizes.items()
    ]


def _resnetv2(name: str) -> tuple[str, ...]:
    third, fourth = {"50": (4, 6), "101": (4, 23), "152": (8, 36)}[name[6:-2]]
    stages = (2, 3), (3, third), (4, fourth)  # which end with their stride, not begin
    before = (f"conv{stage}_block{last}_preact_relu" for stage, last in stages)
    return ("conv1_conv", *before, "post_relu")


def _efficientnetv2(name: str) -> tuple[str, ...]:
    # The first three stages are fused: what they expand is strided already.
    variant = name.removeprefix("efficientnetv2")
    first, second = {
        "b0": ("a_project_activation", "b"),
        "b1": ("b_add", "c"),
        "b2": ("b_add", "c"),
        "b3": ("b_add", "c"),
        "s": ("b_add", "d"),
        "m": ("c_add", "e"),
        "l": ("d_add", "g"),
    }[variant]
    return (
        f"block1{first}",
        f"block2{second}_add",
        "block4a_expand_activation",
        "block6a_expand_activation",
        "top_activation",
    )


def _convnext(name: str) -> tuple[str, ...]:
    prefix = name.replace("convnext", "convnext_")
    normalized = (f"{prefix}_downsampling_layernorm_{i}" for i in range(3))
    return (*normalized, "top_layernorm")


def _nasnet_shifts(layer: keras.layers.ZeroPadding2D) -> bool:
    # NASNet shifts a map by a pixel: it pads one side, in a layer without a name of its own, and
    # crops the other. Its named layers pad by the static size.
    return layer.name.startswith("zero_padding2d")


def _nasnet_file(name: str) -> str:
    # The one family that Keras stores under another name than that of the address.
    return name.lower().replace("-", "_")


ROWS = [
    *_rows(
        "resnetv2",
        "tf",
        papers.RESNET_V2,
        {
            "ResNet50V2": ((64, 256, 512, 1024, 2048), 23_564_800),
            "ResNet101V2": ((64, 256, 512, 1024, 2048), 42_626_560),
            "ResNet152V2": ((64, 256, 512, 1024, 2048), 58_331_648),
        },
        _resnetv2,
        published={"stays": every_stays},
    ),
    *_rows(
        "densenet",
        "torch",
        papers.DENSENET,
        {
            "DenseNet121": ((64, 256, 512, 1024, 1024), 7_037_504),
            "DenseNet169": ((64, 256, 512, 1280, 1664), 12_642_880),
            "DenseNet201": ((64, 256, 512, 1792, 1920), 18_321_984),
        },
        ("conv1_relu", "pool2_relu", "pool3_relu", "pool4_relu", "relu"),
        published={"stays": every_stays},
    ),
    *_rows(
        "mobilenet",
        "tf",
        papers.MOBILENET,
        {"MobileNet": ((64, 128, 256, 512, 1024), 3_228_864)},
        (
            "conv_pw_1_relu",
            "conv_pw_3_relu",
            "conv_pw_5_relu",
            "conv_pw_11_relu",
            "conv_pw_13_relu",
        ),
    ),
    *_rows(
        "mobilenetv2",
        "tf",
        papers.MOBILENET_V2,
        {"MobileNetV2": ((96, 144, 192, 576, 1280), 2_257_984)},
        (
            "block_1_expand_relu",
            "block_3_expand_relu",
            "block_6_expand_relu",
            "block_13_expand_relu",
            "out_relu",
        ),
    ),
    *_rows(
        "mobilenetv3",
        "tf",
        papers.MOBILENET_V3,
        {"MobileNetV3Small": ((16, 16, 24, 48, 576), 939_120)},
        (
            "conv_activation",
            "expanded_conv_project_bn",
            "expanded_conv_2_add",
            "expanded_conv_7_add",
            "conv_1_activation",
        ),
        squeeze_excite=True,
        published={
            "rename": {"activation": "conv_activation", "activation_17": "conv_1_activation"}
        },
    ),
    *_rows(
        "mobilenetv3",
        "tf",
        papers.MOBILENET_V3,
        {"MobileNetV3Large": ((16, 24, 40, 112, 960), 2_996_352)},
        (
            "expanded_conv_add",
            "expanded_conv_2_add",
            "expanded_conv_5_add",
            "expanded_conv_11_add",
            "conv_1_activation",
        ),
        squeeze_excite=True,
        published={
            "rename": {"activation": "conv_activation", "activation_19": "conv_1_activation"}
        },
    ),
    *_rows(
        "efficientnetv2",
        "torch",
        papers.EFFICIENTNET_V2,
        {
            "EfficientNetV2B0": ((16, 32, 192, 672, 1280), 5_919_312),
            "EfficientNetV2B1": ((16, 32, 192, 672, 1280), 6_931_124),
            "EfficientNetV2B2": ((16, 32, 224, 720, 1408), 8_769_374),
            "EfficientNetV2B3": ((16, 40, 224, 816, 1536), 12_930_622),
        },
        _efficientnetv2,
        squeeze_excite=True,
    ),
    *_rows(
        "efficientnetv2",
        "tf128",
        papers.EFFICIENTNET_V2,
        {
            "EfficientNetV2S": ((24, 48, 256, 960, 1280), 20_331_360),
            "EfficientNetV2M": ((24, 48, 320, 1056, 1280), 53_150_388),
            "EfficientNetV2L": ((32, 64, 384, 1344, 1280), 117_746_848),
        },
        _efficientnetv2,
        squeeze_excite=True,
    ),
    *_rows(
        "convnext",
        "torch",
        papers.CONVNEXT,
        {
            "ConvNeXtTiny": ((96, 192, 384, 768), 27_820_128),
            "ConvNeXtSmall": ((96, 192, 384, 768), 49_454_688),
            "ConvNeXtBase": ((128, 256, 512, 1024), 87_566_464),
            "ConvNeXtLarge": ((192, 384, 768, 1536), 196_230_336),
            "ConvNeXtXLarge": ((256, 512, 1024, 2048), 348_147_968),
        },
        _convnext,
        published={"rename": {"layer_normalization": "top_layernorm"}},
    ),
    *_rows(
        "xception",
        "tf",
        papers.XCEPTION,
        {"Xception": ((64, 256, 728, 1024, 2048), 20_861_480)},
        (
            "block1_conv2_act",
            "block3_sepconv2_bn",
            "block4_sepconv2_bn",
            "block13_sepconv2_bn",
            "block14_sepconv2_act",
        ),
    ),
    *_rows(
        "inceptionv3",
        "tf",
        papers.INCEPTION_V3,
        {"InceptionV3": ((64, 192, 288, 768, 2048), 21_802_784)},
        ("stem_relu_3", "stem_relu_5", "mixed2", "mixed7", "mixed10"),
        published={"rename": {"activation_2": "stem_relu_3", "activation_4": "stem_relu_5"}},
    ),
    *_rows(
        "inceptionresnetv2",
        "tf",
        papers.INCEPTION_RESNET_V2,
        {"InceptionResNetV2": ((64, 192, 320, 1088, 1536), 54_336_736)},
        ("stem_relu_3", "stem_relu_5", "block35_10_ac", "block17_20_ac", "conv_7b_ac"),
        published={"rename": {"activation_2": "stem_relu_3", "activation_4": "stem_relu_5"}},
    ),
    *_rows(
        "nasnet",
        "tf",
        papers.NASNET,
        {"NASNetMobile": ((32, 44, 264, 528, 1056), 4_269_716)},
        (
            "stem_bn1",
            "reduction_concat_stem_1",
            "normal_concat_3",
            "normal_concat_8",
            "normal_concat_12",
        ),
        published={"stays": _nasnet_shifts, "cached": _nasnet_file},
        output_strides=(32,),
    ),
    *_rows(
        "nasnet",
        "tf",
        papers.NASNET,
        {"NASNetLarge": ((96, 168, 1008, 2016, 4032), 84_916_818)},
        (
            "stem_bn1",
            "reduction_concat_stem_1",
            "normal_concat_5",
            "normal_concat_12",
            "normal_concat_18",
        ),
        size=331,
        published={"stays": _nasnet_shifts, "cached": _nasnet_file},
        output_strides=(32,),
    ),
]
