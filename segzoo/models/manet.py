"""MA-Net: position attention on the last map, gates over both inputs of every decoder block.

    last map -- position attention -- 3x3 --> block --> block --> ... -> 1x1
                                                |         |
                                            skip + gate, the other half

    block:  3x3 -- 1x1 to the skip's channels -- x2 -- * (its gate + the skip's) --+
            skip --------------------------------------------------- concatenate --+-- two 3x3

Fan, Wang, Li, Wang, "MA-Net: A Multi-Scale Attention Network for Liver and Tumor Segmentation",
IEEE Access 8, 2020, figures 1 to 3.
"""

import os
from collections.abc import Sequence

import keras

from segzoo.layers import ChannelGate, PositionAttention
from segzoo.layers._arguments import positive_int
from segzoo.models._assembly import Network, check_widths
from segzoo.models._builder import builder
from segzoo.models._features import Features, Map
from segzoo.models._style import Style
from segzoo.models._upsampling import upsample


def manet(
    features: Features,
    style: Style,
    *,
    decoder_filters: Sequence[int],
    attention: keras.layers.Layer,
    reduction: int,
    upsampling: str = "nearest",
):
    """Position attention, then one block for every level; the last map, and its stride."""
    last = features.coarsest
    x = attention(last.x)
    x = style.but(normalization=None, activation=None).conv(
        x, last.channels, name="position_attention_conv"
    )
    level, stride = last.level, last.stride
    for stage, filters in enumerate(decoder_filters, 1):
        if level == 1:
            break
        level //= 2
        skip, place = features.get(level), f"decoder_{stage}"
        finer = skip.stride if skip else max(stride // 2, 1)
        if skip is not None:
            x = _fuse(x, skip, style, stride // finer, reduction, upsampling, place)
        else:
            like = features.image if finer == 1 else None
            x = upsample(x, like, upsampling, f"{place}_upsample", factor=stride // finer)
        stride = finer
        for k in (1, 2):
            x = style.conv(x, filters, name=f"{place}_conv_{k}")
    return x, stride


def _fuse(x, skip: Map, style: Style, factor: int, reduction: int, upsampling: str, place: str):
    """Multi-scale fusion attention: what came up, weighed by both gates, beside the skip."""
    x = style.conv(x, x.shape[-1], name=f"{place}_high_1")
    x = style.conv(x, skip.channels, 1, name=f"{place}_high_2")
    x = upsample(x, skip.x, upsampling, f"{place}_upsample", factor=factor)
    high = ChannelGate(reduction, name=f"{place}_gate_high")(x)
    low = ChannelGate(reduction, name=f"{place}_gate_low")(skip.x)
    gate = keras.layers.Add(name=f"{place}_gate")([high, low])
    x = keras.layers.Multiply(name=f"{place}_multiply")([x, gate])
    return keras.layers.Concatenate(name=f"{place}_merge")([x, skip.x])


@builder
def MANet(
    backbone: str | keras.Model = "resnet50",
    classes: int = 1,
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    *,
    decoder_filters: Sequence[int] = (256, 128, 64, 32, 16),
    attention_filters: int = 64,
    reduction: int = 16,
    backbone_weights: str | os.PathLike | None = "imagenet",
    backbone_features: Sequence[str] | None = None,
    weights: str | os.PathLike | None = None,
    auxiliary: int | None = None,
    activation: str | None = "auto",
    preprocessing: bool = True,
    name: str | None = None,
) -> keras.Model:
    """Build MA-Net on any backbone.

    The position attention compares all pairs of pixels of the backbone's last map: its time and
    memory grow with the fourth power of the image's side.

    Args:
        backbone: a name from `segzoo.backbones.names()`, or a `keras.Model` whose outputs are
            feature maps, finest first. Defaults to `"resnet50"`.
        classes: int >= 1, number of output channels. Defaults to 1.
        input_shape: (height, width, channels); height and width are at least 32, or None for any
            size. Defaults to (None, None, 3).
        decoder_filters: widths of the decoder's stages, coarsest first; each stage doubles the
            size. Stages beyond the input's size are left out; with fewer, the class scores are
            resized to the input. Defaults to (256, 128, 64, 32, 16).
        attention_filters: int >= 1, channels in which the position attention compares pixels.
            Defaults to 64.
        reduction: int >= 1, divisor of the channels in the gates' bottlenecks. Defaults to 16.
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
        name: name of the model. Defaults to `"manet"`.

    Returns:
        A `keras.Model` from (B, H, W, channels) to float32 (B, H, W, classes).

    Raises:
        ValueError: for an argument outside its range, an unknown backbone, a backbone without the
            maps that the decoder needs, or weights that do not fit.

    Example:
        >>> import segzoo
        >>> model = segzoo.models.MANet("resnet18", 4, backbone_weights=None)
        >>> model.output_shape
        (None, None, None, 4)

    Reference:
        Fan, Wang, Li, Wang, "MA-Net: A Multi-Scale Attention Network for Liver and Tumor
        Segmentation", IEEE Access 8, 2020, figures 1 to 3.
    """
    network = Network(
        "manet",
        classes,
        input_shape,
        activation=activation,
        weights=weights,
        auxiliary=auxiliary,
        name=name,
    )
    widths = check_widths("decoder_filters", decoder_filters)
    attention_filters = positive_int("attention_filters", attention_filters)
    reduction = positive_int("reduction", reduction)
    features = network.encode(
        backbone,
        backbone_weights=backbone_weights,
        backbone_features=backbone_features,
        preprocessing=preprocessing,
    )
    x, stride = manet(
        features,
        Style(),
        decoder_filters=widths,
        attention=PositionAttention(attention_filters, name="position_attention"),
        reduction=reduction,
    )
    return network.model(network.head(x, full_size=stride == 1))
