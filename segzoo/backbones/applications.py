"""One row for every network of `keras.applications` that gives a feature pyramid.

Taps are the last map of each resolution, after its activation where the network has one there;
in networks that expand before a stride (MobileNetV2, EfficientNet) the expanded map, which is the
widest. Pre-activation networks (ResNetV2) are tapped behind the activation that the strided
block starts with.
"""

from functools import partial

import keras

from segzoo.backbones._rows import Paper, Row

_ALL = (2, 4, 8, 16, 32)


def _source(function: str, size: int, weights: str | None) -> keras.Model:
    # A fixed size: NASNet compares sizes while it is built, and MobileNet's published weights are
    # those of one size. `rebuild` makes the network anew for any size.
    build = getattr(keras.applications, function)
    return build(include_top=False, weights=weights, input_shape=(size, size, 3))


def _rows(family, normalization, paper, sizes, features, strides=_ALL, size=224, **options):
    """Make the rows of a family: `sizes` is {Keras's function: (channels, parameters)}.

    `features` is one tuple for all, or a function of the network's name and number of blocks.
    """
    return [
        Row(
            name=function.lower(),
            family=family,
            weights=("imagenet",),
            features=features(function.lower()) if callable(features) else features,
            strides=strides,
            channels=channels,
            parameters=parameters,
            normalization=normalization,
            paper=paper,
            source=partial(_source, function, size),
            **options,
        )
        for function, (channels, parameters) in sizes.items()
    ]


def _resnet(name):
    third, fourth = {"50": (4, 6), "101": (4, 23), "152": (8, 36)}[name.removeprefix("resnet")]
    return (
        "conv1_relu",
        "conv2_block3_out",
        f"conv3_block{third}_out",
        f"conv4_block{fourth}_out",
        "conv5_block3_out",
    )


RESNET = Paper(
    "Kaiming He, Xiangyu Zhang, Shaoqing Ren, Jian Sun",
    "Deep Residual Learning for Image Recognition",
    2015,
    "1512.03385",
)
_VGG = Paper(
    "Karen Simonyan, Andrew Zisserman",
    "Very Deep Convolutional Networks for Large-Scale Image Recognition",
    2014,
    "1409.1556",
)
_MOBILENET_V2 = Paper(
    "Mark Sandler, Andrew Howard, Menglong Zhu, Andrey Zhmoginov, Liang-Chieh Chen",
    "MobileNetV2: Inverted Residuals and Linear Bottlenecks",
    2018,
    "1801.04381",
)

ROWS = [
    *_rows(
        "resnet",
        "caffe",
        RESNET,
        {"ResNet50": ((64, 256, 512, 1024, 2048), 23_587_712)},
        _resnet,
        explicit_padding=True,
    ),
    *_rows(
        "vgg",
        "caffe",
        _VGG,
        {"VGG16": ((128, 256, 512, 512, 512), 14_714_688)},
        ("block2_conv2", "block3_conv3", "block4_conv3", "block5_conv3", "block5_pool"),
    ),
    *_rows(
        "mobilenetv2",
        "tf",
        _MOBILENET_V2,
        {"MobileNetV2": ((96, 144, 192, 576, 1280), 2_257_984)},
        (
            "block_1_expand_relu",
            "block_3_expand_relu",
            "block_6_expand_relu",
            "block_13_expand_relu",
            "out_relu",
        ),
    ),
]
