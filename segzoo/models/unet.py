"""U-Net on any backbone or on the encoder of the paper, and its EfficientNet form.

    image -- conv -- conv ------------------------------------> concatenate -- conv -- conv -- 1x1
                      | pool                                          | up
                    conv -- conv -------------> concatenate -- conv -- conv
                              | pool                  | up
                            conv --- conv -----------+

Ronneberger, Fischer, Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation",
MICCAI 2015, arXiv 1505.04597. With a backbone, its feature maps take the place of the left side.
"""

import os
from collections.abc import Sequence
from typing import Any

import keras

from segzoo import backbones
from segzoo.layers._arguments import items
from segzoo.models._assembly import Network, check_option, check_rate, check_widths
from segzoo.models._attention import ATTENTIONS, gate_skip, recalibrate
from segzoo.models._builder import builder
from segzoo.models._features import Features
from segzoo.models._own_encoder import pooled_maps
from segzoo.models._style import Style
from segzoo.models._upsampling import UPSAMPLINGS, upsample

_EFFNET_DROPOUT = (0.5, 0.5, 0.5, 0.25, 0.25)


def paper_encoder(image, style: Style, *, filters: Sequence[int], dropout: float) -> list:
    """The left side of the U, finest first, with dropout at its end (the paper's section 3.1)."""

    def block(x, width, place):
        return _double_conv(x, width, style, f"encoder_{place}")

    maps = pooled_maps(image, block, filters=filters, pool="encoder_{}_pool")
    return [*maps[:-1], _dropout(maps[-1], dropout, "encoder")]


def unet(
    features: Features,
    style: Style,
    *,
    decoder_filters: Sequence[int],
    decoder_dropout: Sequence[float],
    upsampling: str,
    attention: str | None = None,
):
    """The right side of the U: from level to level, as many as there are widths.

    Returns:
        The last map, and its stride: 1 where it has the image's size.
    """
    x, level, stride = features.coarsest.x, features.coarsest.level, features.coarsest.stride
    for stage, (filters, rate) in enumerate(zip(decoder_filters, decoder_dropout, strict=True), 1):
        if level == 1:
            break
        level //= 2
        skip, place = features.get(level), f"decoder_{stage}"
        finer = skip.stride if skip else max(stride // 2, 1)
        gated = skip and gate_skip(skip, x, stride, attention, place)
        x = upsample(
            x,
            skip.x if skip else features.image if finer == 1 else None,
            upsampling,
            f"{place}_upsample",
            filters=filters,
            factor=stride // finer,
            rounds_up=features.rounds_up,
            kernel_regularizer=style.kernel_regularizer,
        )
        stride = finer
        if skip is not None:
            if skip.channels:  # a map without channels gives its size alone
                x = keras.layers.Concatenate(name=f"{place}_merge")([x, gated])
            x = recalibrate(x, attention, f"{place}_merge")
        x = _dropout(x, rate, place)
        x = _double_conv(x, filters, style, place)  # (B, H/stride, W/stride, filters)
        x = recalibrate(x, attention, place)
    return x, stride


def _double_conv(x, filters: int, style: Style, place: str):
    """Two 3x3 blocks."""
    for k in (1, 2):
        x = style.conv(x, filters, name=f"{place}_conv_{k}")
    return x


def _dropout(x, rate: float, place: str):
    return keras.layers.Dropout(rate, name=f"{place}_dropout")(x) if rate else x


def _dropout_rates(rates: float | Sequence[float], count: int) -> tuple[float, ...]:
    """One checked rate for each stage."""
    several = items(rates)
    given: list[Any] = [rates] * count if several is None else several
    if len(given) != count:
        raise ValueError(
            f"`decoder_dropout` must be one rate, or one for each of the {count} "
            f"`decoder_filters`; received decoder_dropout={rates!r}"
        )
    return tuple(check_rate("decoder_dropout", rate) for rate in given)


@builder
def UNet(
    backbone: str | keras.Model | None = "resnet50",
    classes: int = 1,
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    *,
    decoder_filters: Sequence[int] = (256, 128, 64, 32, 16),
    decoder_dropout: float | Sequence[float] = 0.0,
    upsampling: str = "bilinear",
    block_activation: str = "relu",
    normalization: str | None = "batch",
    attention: str | None = None,
    kernel_regularizer: Any = None,
    backbone_weights: str | os.PathLike | None = "imagenet",
    backbone_features: Sequence[str] | None = None,
    weights: str | os.PathLike | None = None,
    auxiliary: int | None = None,
    activation: str | None = "auto",
    preprocessing: bool = True,
    name: str | None = None,
) -> keras.Model:
    """Build a U-Net on any backbone, or with the encoder of the paper.

    Each stage of the decoder enlarges its map, concatenates the encoder's map of that size, drops
    out and applies two 3x3 convolutions.

    Differs from the paper: padded convolutions, so that the output has the input's size, and
    normalization; bilinear upsampling unless `upsampling="transpose"`.

    Args:
        backbone: a name from `segzoo.backbones.names()`, or a `keras.Model` whose outputs are
            feature maps, finest first. None means the encoder of Ronneberger et al., whose widths
            are `decoder_filters` reversed. Defaults to `"resnet50"`.
        classes: int >= 1, number of output channels. Defaults to 1.
        input_shape: (height, width, channels); height and width are at least 32, or None for any
            size. Defaults to (None, None, 3).
        decoder_filters: widths of the decoder's stages, coarsest first; each stage doubles the
            size. Stages beyond the input's size are left out; with fewer, the class scores are
            resized to the input. Defaults to (256, 128, 64, 32, 16).
        decoder_dropout: rate in [0, 1) of every stage, or one rate for each. Defaults to 0.0.
        upsampling: `"bilinear"`, `"nearest"` or `"transpose"`, a learned 2x2 convolution. Defaults
            to `"bilinear"`.
        block_activation: activation of the convolution blocks, a name or a function. Defaults to
            `"relu"`.
        normalization: `"batch"`, `"group"`, `"layer"`, `"instance"` or None, in the convolution
            blocks of the decoder and of the builder's own encoder. Defaults to `"batch"`.
        attention: None; `"scse"`, concurrent squeeze and excitation (Roy et al. 2018) of each
            stage's concatenated maps and of its output; or `"gate"`, the gates of Attention U-Net
            (Oktay et al. 2018) on every skip, driven by the map that is about to be enlarged.
            Defaults to None.
        kernel_regularizer: regularizer of every convolution outside the backbone. Defaults to None.
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
        name: name of the model. Defaults to `"unet"`.

    Returns:
        A `keras.Model` from (B, H, W, channels) to float32 (B, H, W, classes).

    Raises:
        ValueError: for an argument outside its range, an unknown backbone, or weights that do
            not fit.

    Example:
        >>> import segzoo
        >>> model = segzoo.models.UNet(None, 2, (97, 131, 1), decoder_filters=(64, 32, 16))
        >>> model.output_shape
        (None, 97, 131, 2)

    Reference:
        Ronneberger, Fischer, Brox, "U-Net: Convolutional Networks for Biomedical Image
        Segmentation", MICCAI 2015, arXiv 1505.04597, figure 1.
    """
    network = Network(
        "unet",
        classes,
        input_shape,
        activation=activation,
        weights=weights,
        auxiliary=auxiliary,
        name=name,
    )
    upsampling = check_option("upsampling", upsampling, UPSAMPLINGS)
    attention = check_option("attention", attention, ATTENTIONS)
    widths = check_widths("decoder_filters", decoder_filters)
    rates = _dropout_rates(decoder_dropout, len(widths))
    # The biases stay beside the normalization, as in the notebook's network.
    style = Style(
        normalization, block_activation, kernel_regularizer=kernel_regularizer, use_bias=True
    )

    if backbone is None:
        maps = paper_encoder(network.image, style, filters=widths[::-1], dropout=rates[0])
        features = network.own_encoder(maps, [2**level for level in range(len(maps))])
        widths, rates = widths[1:], rates[1:]
    else:
        features = network.encode(
            backbone,
            backbone_weights=backbone_weights,
            backbone_features=backbone_features,
            preprocessing=preprocessing,
        )
    x, stride = unet(
        features,
        style,
        decoder_filters=widths,
        decoder_dropout=rates,
        upsampling=upsampling,
        attention=attention,
    )
    outputs = network.head(x, kernel_regularizer=kernel_regularizer, full_size=stride == 1)
    return network.model(outputs)


def _check_variant(variant: str) -> str:
    """The variant in lower case, without the network's name in front, or ValueError."""
    variants = [name.removeprefix("efficientnet") for name in backbones.names("efficientnet")]
    short = variant.lower().removeprefix("efficientnet") if isinstance(variant, str) else None
    if short not in variants:
        raise ValueError(f"`variant` must be one of {variants}, received variant={variant!r}")
    return short


@builder
def EffNetUNet(
    variant: str = "b0",
    classes: int = 1,
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    *,
    decoder_filters: Sequence[int] = (256, 128, 64, 32, 16),
    decoder_dropout: float | Sequence[float] | None = None,
    upsampling: str = "bilinear",
    block_activation: str = "relu",
    normalization: str | None = "batch",
    attention: str | None = None,
    kernel_regularizer: Any = None,
    backbone_weights: str | os.PathLike | None = "imagenet",
    backbone_features: Sequence[str] | None = None,
    weights: str | os.PathLike | None = None,
    auxiliary: int | None = None,
    activation: str | None = "auto",
    preprocessing: bool = True,
    name: str | None = None,
) -> keras.Model:
    """Build a U-Net on EfficientNet, with dropout in every stage of the decoder.

    The skips are the expand activations before the strided blocks 2a, 3a, 4a and 6a. The default
    rates of dropout are those of a notebook for the segmentation of roofs.

    Args:
        variant: `"b0"` to `"b7"` or `"l2"`. Defaults to `"b0"`.
        classes: int >= 1, number of output channels. Defaults to 1.
        input_shape: (height, width, channels); height and width are at least 32, or None for any
            size. Defaults to (None, None, 3).
        decoder_filters: widths of the decoder's stages, coarsest first; each stage doubles the
            size. Stages beyond the input's size are left out; with fewer, the class scores are
            resized to the input. Defaults to (256, 128, 64, 32, 16).
        decoder_dropout: rate in [0, 1) of every stage, or one rate for each. None means (0.5, 0.5,
            0.5, 0.25, 0.25), cut to the number of `decoder_filters`. Defaults to None.
        upsampling: `"bilinear"`, `"nearest"` or `"transpose"`, a learned 2x2 convolution. Defaults
            to `"bilinear"`.
        block_activation: activation of the convolution blocks, a name or a function. Defaults to
            `"relu"`.
        normalization: `"batch"`, `"group"`, `"layer"`, `"instance"` or None, in the convolution
            blocks of the decoder and of the builder's own encoder. Defaults to `"batch"`.
        attention: None; `"scse"`, concurrent squeeze and excitation (Roy et al. 2018) of each
            stage's concatenated maps and of its output; or `"gate"`, the gates of Attention U-Net
            (Oktay et al. 2018) on every skip, driven by the map that is about to be enlarged.
            Defaults to None.
        kernel_regularizer: regularizer of every convolution outside the backbone. Defaults to None.
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
        name: name of the model. Defaults to `"effnet_unet"`.

    Returns:
        A `keras.Model` from (B, H, W, channels) to float32 (B, H, W, classes).

    Raises:
        ValueError: as `UNet`, and for an unknown variant.

    Example:
        >>> import segzoo
        >>> model = segzoo.models.EffNetUNet("b0", backbone_weights=None)
        >>> model.output_shape
        (None, None, None, 1)

    Reference:
        Tan, Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
        ICML 2019, arXiv 1905.11946.
    """
    if decoder_dropout is None:
        decoder_dropout = _EFFNET_DROPOUT[: len(check_widths("decoder_filters", decoder_filters))]
    return UNet(
        f"efficientnet{_check_variant(variant)}",
        classes,
        input_shape,
        decoder_filters=decoder_filters,
        decoder_dropout=decoder_dropout,
        upsampling=upsampling,
        block_activation=block_activation,
        normalization=normalization,
        attention=attention,
        kernel_regularizer=kernel_regularizer,
        backbone_weights=backbone_weights,
        backbone_features=backbone_features,
        weights=weights,
        auxiliary=auxiliary,
        activation=activation,
        preprocessing=preprocessing,
        name=name or "effnet_unet",
    )
