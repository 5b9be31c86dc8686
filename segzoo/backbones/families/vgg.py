"""VGG16 and VGG19, built directly: five blocks of 3x3 convolutions, each with a pool after it.

    block1 64, block2 128, block3 256, block4 512, block5 512; 2x2/2 pools: strides 2 to 32

The taps are the last convolution of each resolution, and the last pool. Layers are named like
those of Keras. A pool keeps an odd last row, which Keras's drop.

Simonyan, Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR
2015, arXiv 1409.1556, table 1, columns D and E.
"""

from functools import partial

from keras import layers

from segzoo.backbones._rows import Row, Variant
from segzoo.backbones.construct import LAST, Layers
from segzoo.backbones.families import _papers as papers
from segzoo.layers.pooling import DilatedPooling2D

_WIDTHS = (64, 128, 256, 512, 512)


def vgg(deep: int, x, variant: Variant, output_stride: int) -> list:
    """The maps of a VGG network.

    Args:
        deep: convolutions of each of the last three blocks.
        x: normalized image (B, H, W, C).
        variant: what another library did otherwise.
        output_stride: strides beyond it become dilation.

    Returns:
        Maps of levels 2, 4, 8, 16 and 32.
    """
    make = Layers(variant, output_stride, activation="relu")
    maps, stage = [], make.stage()
    for block, width in enumerate(_WIDTHS, 1):
        for place in range(1, 1 + (2 if block < 3 else deep)):
            name = f"block{block}_conv{place}"
            x = make.conv(x, width, 3, name, dilation=stage.rate, use_bias=True)
        if block > 1:
            maps.append(x)  # (B, H/2, W/2, 128), (B, H/4, W/4, 256), ...
        if len(maps) == variant.depth:
            return maps
        stage, name = make.stage(2), f"block{block}_pool"
        if stage.first > 1:
            x = DilatedPooling2D(2, stage.first, name=name)(x)
        else:
            padding = "same" if variant.rounds_up or stage.stride == 1 else "valid"
            x = layers.MaxPooling2D(2, stage.stride, padding, data_format=LAST, name=name)(x)
    return [*maps, x]


_FILE = (
    "https://storage.googleapis.com/tensorflow/keras-applications/{0}/"
    "{0}_weights_tf_dim_ordering_tf_kernels_notop.h5"
)

ROWS = [
    Row(
        name=name,
        family="vgg",
        weights=("imagenet",),
        features=(
            "block2_conv2",
            *(f"block{block}_conv{deep}" for block in (3, 4, 5)),
            "block5_pool",
        ),
        strides=(2, 4, 8, 16, 32),
        channels=(128, 256, 512, 512, 512),
        parameters=parameters,
        normalization="caffe",
        paper=papers.VGG,
        source=partial(vgg, deep),
        files={"imagenet": _FILE.format(name)},
    )
    for name, deep, parameters in (("vgg16", 3, 14_714_688), ("vgg19", 4, 20_024_384))
]
