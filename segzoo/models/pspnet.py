"""PSPNet: pyramid pooling on a dilated backbone.

    image -> backbone --- stride 8 --> pyramid pooling -> 3x3 -> dropout -> 1x1 -> image

Zhao, Shi, Qi, Wang, Jia, "Pyramid Scene Parsing Network", CVPR 2017, arXiv 1612.01105. The paper's
auxiliary loss is `auxiliary=16`, on the output of stage 4.
"""

import os
from collections.abc import Sequence

import keras

from segzoo.layers._arguments import positive_int
from segzoo.models._assembly import Network, check_different, check_option, check_rate
from segzoo.models._builder import builder
from segzoo.models._features import Features
from segzoo.models._pyramid_pooling import pyramid_pooling
from segzoo.models._style import Style

OUTPUT_STRIDES = (8, 16, 32)


def pspnet(
    features: Features,
    style: Style,
    *,
    bin_sizes: Sequence[int],
    decoder_filters: int,
    dropout: float,
):
    """Pyramid pooling of the last map; its channels are shared out among the bins."""
    last = features.coarsest
    share = max(last.channels // len(bin_sizes), 1)
    x = pyramid_pooling(last.x, style, bin_sizes=bin_sizes, filters=share)
    x = style.conv(x, decoder_filters, name="decoder_conv")  # (B, H/8, W/8, 512)
    return keras.layers.Dropout(dropout, name="decoder_dropout")(x)


@builder
def PSPNet(
    backbone: str | keras.Model = "resnet50",
    classes: int = 1,
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    *,
    output_stride: int = 8,
    bin_sizes: Sequence[int] = (1, 2, 3, 6),
    decoder_filters: int = 512,
    dropout: float = 0.1,
    backbone_weights: str | os.PathLike | None = "imagenet",
    backbone_features: Sequence[str] | None = None,
    weights: str | os.PathLike | None = None,
    auxiliary: int | None = None,
    activation: str | None = "auto",
    preprocessing: bool = True,
    name: str | None = None,
) -> keras.Model:
    """Build PSPNet on any backbone.

    Args:
        backbone: a name from `segzoo.backbones.names()`, or a `keras.Model` whose outputs are
            feature maps, finest first. The last map feeds the pyramid. Defaults to `"resnet50"`.
        classes: int >= 1, number of output channels. Defaults to 1.
        input_shape: (height, width, channels); height and width are at least 32, or None for any
            size. Defaults to (None, None, 3).
        output_stride: 8, 16 or 32, the stride of the backbone's last map; dilation replaces the
            strides beyond it. A `keras.Model` keeps its own. Defaults to 8.
        bin_sizes: ints >= 1, numbers of regions along each axis in the pyramid pooling. The regions
            overlap where the map's size is not a multiple of their number. Defaults to (1, 2, 3,
            6).
        decoder_filters: int >= 1, channels of the 3x3 convolution after the pyramid. Defaults to
            512.
        dropout: rate in [0, 1), before the classifier. Defaults to 0.1.
        backbone_weights: weights of a named backbone: None for random ones, `"imagenet"`,
            `"noisy-student"` (EfficientNet), `"imagenet-nc"` (Mix Transformers) or the path of a
            weights file. Defaults to `"imagenet"`.
        backbone_features: names of the layers whose outputs replace the backbone's feature maps,
            finest first. Defaults to None.
        weights: path of weights of the whole model, which replace `backbone_weights`. Defaults to
            None.
        auxiliary: None, or the level (8, 16 or 32) of a backbone map that gets an auxiliary fully
            convolutional head; the outputs are then a list, the auxiliary output first. Defaults to
            None.
        activation: activation of the output. `"auto"` is sigmoid for one class and softmax for
            several; `"sigmoid"` is for multi-label segmentation; None gives logits. Defaults to
            `"auto"`.
        preprocessing: bool, whether a model on a named backbone takes RGB in 0..255 and normalizes
            it itself. Defaults to True.
        name: name of the model. Defaults to `"pspnet"`.

    Returns:
        A `keras.Model` from (B, H, W, channels) to float32 (B, H, W, classes).

    Raises:
        ValueError: for an argument outside its range, an unknown backbone, a backbone without the
            maps that the decoder needs, or weights that do not fit.

    Example:
        >>> import segzoo
        >>> model = segzoo.models.PSPNet("resnet18", 4, backbone_weights=None)
        >>> model.output_shape
        (None, None, None, 4)

    Reference:
        Zhao, Shi, Qi, Wang, Jia, "Pyramid Scene Parsing Network", CVPR 2017, arXiv 1612.01105,
        figure 3.
    """
    network = Network(
        "pspnet",
        classes,
        input_shape,
        activation=activation,
        weights=weights,
        auxiliary=auxiliary,
        name=name,
    )
    output_stride = check_option("output_stride", output_stride, OUTPUT_STRIDES)
    bin_sizes = check_different("bin_sizes", bin_sizes)
    decoder_filters = positive_int("decoder_filters", decoder_filters)
    dropout = check_rate("dropout", dropout)
    features = network.encode(
        backbone,
        backbone_weights=backbone_weights,
        backbone_features=backbone_features,
        preprocessing=preprocessing,
        output_stride=output_stride,
        least=1,
    )
    x = pspnet(
        features, Style(), bin_sizes=bin_sizes, decoder_filters=decoder_filters, dropout=dropout
    )
    return network.model(network.head(x))
