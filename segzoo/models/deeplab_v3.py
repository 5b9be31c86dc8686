"""DeepLabV3: atrous spatial pyramid pooling on a dilated backbone.

    image -> backbone --- stride 8 --> ASPP -> 3x3 -> 1x1 -> image

Chen, Papandreou, Schroff, Adam, "Rethinking Atrous Convolution for Semantic Image Segmentation",
2017, arXiv 1706.05587.
"""

import os
from collections.abc import Sequence

import keras

from segzoo._arguments import flag
from segzoo.layers._arguments import positive_int
from segzoo.models._assembly import Network, check_different, check_option, check_rate
from segzoo.models._atrous import OUTPUT_STRIDES, atrous_pyramid
from segzoo.models._builder import builder
from segzoo.models._style import Style


@builder
def DeepLabV3(
    backbone: str | keras.Model = "resnet50",
    classes: int = 1,
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    *,
    output_stride: int = 8,
    aspp_dilations: Sequence[int] | None = None,
    aspp_filters: int = 256,
    separable: bool = False,
    dropout: float = 0.5,
    backbone_weights: str | os.PathLike | None = "imagenet",
    backbone_features: Sequence[str] | None = None,
    weights: str | os.PathLike | None = None,
    auxiliary: int | None = None,
    activation: str | None = "auto",
    preprocessing: bool = True,
    name: str | None = None,
) -> keras.Model:
    """Build DeepLabV3 on any backbone.

    Differs from the paper: a 3x3 convolution follows the pyramid, as in the usual implementations;
    the pooled branch of ASPP takes the mean of the whole map, whatever its size.

    Args:
        backbone: a name from `segzoo.backbones.names()`, or a `keras.Model` whose outputs are
            feature maps, finest first. The last map feeds the pyramid. Defaults to `"resnet50"`.
        classes: int >= 1, number of output channels. Defaults to 1.
        input_shape: (height, width, channels); height and width are at least 32, or None for any
            size. Defaults to (None, None, 3).
        output_stride: 8, 16 or 32, the stride of the backbone's last map; dilation replaces the
            strides beyond it. A `keras.Model` keeps its own. Defaults to 8.
        aspp_dilations: dilation rates of the pyramid. None means (12, 24, 36) at output stride 8,
            (6, 12, 18) at 16, (3, 6, 9) at 32. Defaults to None.
        aspp_filters: int >= 1, channels of each branch of the pyramid, of its output and of the 3x3
            convolution after it. Defaults to 256.
        separable: bool, whether the 3x3 convolutions of pyramid and decoder are separable. Defaults
            to False.
        dropout: rate in [0, 1), after the pyramid. Defaults to 0.5.
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
        name: name of the model. Defaults to `"deeplab_v3"`.

    Returns:
        A `keras.Model` from (B, H, W, channels) to float32 (B, H, W, classes).

    Raises:
        ValueError: for an argument outside its range, an unknown backbone, a backbone without the
            maps that the decoder needs, or weights that do not fit.

    Example:
        >>> import segzoo
        >>> model = segzoo.models.DeepLabV3("resnet18", 4, backbone_weights=None)
        >>> model.output_shape
        (None, None, None, 4)

    Reference:
        Chen, Papandreou, Schroff, Adam, "Rethinking Atrous Convolution for Semantic Image
        Segmentation", 2017, arXiv 1706.05587, figure 5.
    """
    network = Network(
        "deeplab_v3",
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
    dropout = check_rate("dropout", dropout)
    if aspp_dilations is not None:
        aspp_dilations = check_different("aspp_dilations", aspp_dilations)
    features = network.encode(
        backbone,
        backbone_weights=backbone_weights,
        backbone_features=backbone_features,
        preprocessing=preprocessing,
        output_stride=output_stride,
        least=1,
    )
    style = Style()
    x = atrous_pyramid(
        features,
        style,
        dilations=aspp_dilations,
        filters=aspp_filters,
        separable=separable,
        dropout=dropout,
    )
    block = style.separable_conv if separable else style.conv
    x = block(x, aspp_filters, name="decoder_conv")  # (B, H/8, W/8, 256)
    return network.model(network.head(x))
