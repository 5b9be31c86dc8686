"""DeepLabV3+: atrous spatial pyramid pooling, refined by one map of low-level features.

    image -> backbone --- stride 16 --> ASPP --> resize --+
                   |                                      +-> concatenate -> 3x3 -> 3x3 -> 1x1
                   +----- stride 4 ---> 1x1, 48 channels -+               -> resize to the image

Chen, Zhu, Papandreou, Schroff, Adam, "Encoder-Decoder with Atrous Separable Convolution for
Semantic Image Segmentation", ECCV 2018, arXiv 1802.02611.
"""

import os
from collections.abc import Sequence

import keras

from segzoo._arguments import flag
from segzoo.layers._arguments import positive_int
from segzoo.models import _published
from segzoo.models._assembly import Network, check_different, check_option, check_rate
from segzoo.models._atrous import OUTPUT_STRIDES, atrous_pyramid
from segzoo.models._builder import builder
from segzoo.models._features import Features
from segzoo.models._style import Style
from segzoo.weights import published


def deeplab_v3_plus(
    x,
    features: Features,
    style: Style,
    *,
    low_level_filters: int,
    decoder_filters: int,
    separable: bool,
):
    """The pyramid's output refined by the map nearest stride 4."""
    block = style.separable_conv if separable else style.conv
    low = features.nearest(4).x
    low = style.conv(low, low_level_filters, 1, name="low_level")  # (B, H/4, W/4, 48)
    x = style.resize(x, low, name="decoder_resize")
    x = keras.layers.Concatenate(name="decoder_merge")([x, low])
    x = block(x, decoder_filters, name="decoder_conv_1")
    return block(x, decoder_filters, name="decoder_conv_2")  # (B, H/4, W/4, 256)


@builder
def DeepLabV3Plus(
    backbone: str | keras.Model = "resnet50",
    classes: int = 1,
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    *,
    output_stride: int = 16,
    aspp_dilations: Sequence[int] | None = None,
    aspp_filters: int = 256,
    low_level_filters: int = 48,
    decoder_filters: int = 256,
    separable: bool = False,
    dropout: float = 0.1,
    backbone_weights: str | os.PathLike | None = "imagenet",
    backbone_features: Sequence[str] | None = None,
    weights: str | os.PathLike | None = None,
    auxiliary: int | None = None,
    activation: str | None = "auto",
    preprocessing: bool = True,
    name: str | None = None,
) -> keras.Model:
    """Build DeepLabV3+ on any backbone.

    Differs from the paper: the 3x3 convolutions are separable only with `separable=True`; the
    pooled branch of ASPP takes the mean of the whole map, whatever its size.

    Args:
        backbone: a name from `segzoo.backbones.names()`, or a `keras.Model` whose outputs are
            feature maps, finest first. The map nearest stride 4 feeds the low-level branch, the
            last map feeds the pyramid. Defaults to `"resnet50"`.
        classes: int >= 1, number of output channels. Defaults to 1.
        input_shape: (height, width, channels); height and width are at least 32, or None for any
            size. Defaults to (None, None, 3).
        output_stride: 8, 16 or 32, the stride of the backbone's last map; dilation replaces the
            strides beyond it. A `keras.Model` keeps its own. Defaults to 16.
        aspp_dilations: dilation rates of the pyramid. None means (12, 24, 36) at output stride 8,
            (6, 12, 18) at 16, (3, 6, 9) at 32. Defaults to None.
        aspp_filters: int >= 1, channels of each branch of the pyramid and of its output. Defaults
            to 256.
        low_level_filters: int >= 1, channels of the low-level branch. Defaults to 48.
        decoder_filters: int >= 1, channels of the two 3x3 convolutions. Defaults to 256.
        separable: bool, whether the 3x3 convolutions of pyramid and decoder are separable. Defaults
            to False.
        dropout: rate in [0, 1), after the pyramid. Defaults to 0.1.
        backbone_weights: weights of a named backbone: None for random ones, `"imagenet"`,
            `"noisy-student"` (EfficientNet), `"imagenet-nc"` (Mix Transformers) or the path of a
            weights file. Defaults to `"imagenet"`.
        backbone_features: names of the layers whose outputs replace the backbone's feature maps,
            finest first. Two are enough, the low-level map and the last one. Defaults to None.
        weights: path of weights of the whole model, which replace `backbone_weights`. Or the name
            of a published checkpoint, `"pascal_voc"` or `"cityscapes"`, for `"xception65"` and
            `"mobilenetv2"`: by name, or as a file of that layout, it is the published network,
            which is separable and resized with aligned corners; on MobileNetV2 at output stride 8,
            without low-level branch and without 3x3 branches. With other `classes` than the file's
            its classifier starts fresh. Defaults to None.
        auxiliary: None, or the level (8, 16 or 32) of a backbone map that gets an auxiliary fully
            convolutional head; the outputs are then a list, the auxiliary output first. Defaults to
            None.
        activation: activation of the output. `"auto"` is sigmoid for one class and softmax for
            several; `"sigmoid"` is for multi-label segmentation; None gives logits. Defaults to
            `"auto"`.
        preprocessing: bool, whether a model on a named backbone takes RGB in 0..255 and normalizes
            it itself. Defaults to True.
        name: name of the model. Defaults to `"deeplab_v3_plus"`.

    Returns:
        A `keras.Model` from (B, H, W, channels) to float32 (B, H, W, classes).

    Raises:
        ValueError: for an argument outside its range, an unknown backbone, or weights that do
            not fit.

    Example:
        >>> import segzoo
        >>> model = segzoo.models.DeepLabV3Plus("mobilenetv2", 3, backbone_weights=None)
        >>> model.output_shape
        (None, None, None, 3)

    Reference:
        Chen, Zhu, Papandreou, Schroff, Adam, "Encoder-Decoder with Atrous Separable Convolution
        for Semantic Image Segmentation", ECCV 2018, arXiv 1802.02611, figure 2.
    """
    network = Network(
        "deeplab_v3_plus",
        classes,
        input_shape,
        activation=activation,
        weights=weights,
        auxiliary=auxiliary,
        name=name,
    )
    output_stride = check_option("output_stride", output_stride, OUTPUT_STRIDES)
    aspp_filters = positive_int("aspp_filters", aspp_filters)
    flag("separable", separable)
    low_level_filters = positive_int("low_level_filters", low_level_filters)
    decoder_filters = positive_int("decoder_filters", decoder_filters)
    dropout = check_rate("dropout", dropout)
    if aspp_dilations is not None:
        aspp_dilations = check_different("aspp_dilations", aspp_dilations)
    known = published.find("DeepLabV3Plus", backbone, weights)
    if known is not None:
        return _published.build(
            backbone,
            network.classes,
            network.shape,
            weights=known,
            output_stride=output_stride,
            aspp_dilations=aspp_dilations,
            aspp_filters=aspp_filters,
            low_level_filters=low_level_filters,
            decoder_filters=decoder_filters,
            dropout=dropout,
            separable=separable,
            backbone_features=backbone_features,
            auxiliary=auxiliary,
            activation=activation,
            preprocessing=preprocessing,
            name=name,
        )
    style = Style()

    features = network.encode(
        backbone,
        backbone_weights=backbone_weights,
        backbone_features=backbone_features,
        preprocessing=preprocessing,
        output_stride=output_stride,
    )
    x = atrous_pyramid(
        features,
        style,
        dilations=aspp_dilations,
        filters=aspp_filters,
        separable=separable,
        dropout=dropout,
    )
    x = deeplab_v3_plus(
        x,
        features,
        style,
        low_level_filters=low_level_filters,
        decoder_filters=decoder_filters,
        separable=separable,
    )
    return network.model(network.head(x))
