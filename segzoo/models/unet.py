"""U-Net on any backbone or on the encoder of the paper, and its EfficientNet form.

    image -- conv -- conv ------------------------------------> concatenate -- conv -- conv -- 1x1
                      | pool                                          | up
                    conv -- conv -------------> concatenate -- conv -- conv
                              | pool                  | up
                            conv --- conv -----------+

Ronneberger, Fischer, Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation",
MICCAI 2015, arXiv 1505.04597. With a backbone, its feature maps take the place of the left side.
"""

import functools
from collections.abc import Sequence
from typing import Any

import keras

from segzoo import backbones
from segzoo.layers import ConvBlock
from segzoo.models import _assembly

_EFFNET_DROPOUT = (0.5, 0.5, 0.5, 0.25, 0.25)


def _dropout_rates(rates: float | Sequence[float], count: int) -> tuple[float, ...]:
    """One checked rate for each stage."""
    rates = tuple(rates) if isinstance(rates, Sequence) else (rates,) * count
    if len(rates) != count:
        raise ValueError(
            f"`decoder_dropout` must be one rate, or one for each of the {count} "
            f"`decoder_filters`; received decoder_dropout={rates}"
        )
    for rate in rates:
        _assembly.check_rate("decoder_dropout", rate)
    return rates


def _dropout(x, rate: float, place: str):
    return keras.layers.Dropout(rate, name=f"{place}_dropout")(x) if rate else x


def _double_conv(x, filters: int, place: str, **style: Any):
    """Two 3x3 blocks; their biases stay beside the normalization, as in the notebook's network."""
    for k in (1, 2):
        x = ConvBlock(filters, **style, use_bias=True, name=f"{place}_conv_{k}")(x)
    return x


def _paper_encoder(image, widths: Sequence[int], rate: float, block) -> list:
    """The left side of the U, finest first, with dropout at its end (the paper's section 3.1)."""
    features, x = [], image
    for level, filters in enumerate(widths):
        if level:
            x = keras.layers.MaxPooling2D(2, padding="same", name=f"encoder_{level}_pool")(x)
        x = block(x, filters, f"encoder_{level}")
        features.append(x)
    features[-1] = _dropout(x, rate, "encoder")
    return features


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
    kernel_regularizer: Any = None,
    backbone_weights: str | None = "imagenet",
    backbone_features: Sequence[str] | None = None,
    weights: str | None = None,
    activation: str | None = "auto",
    preprocessing: bool = True,
    name: str | None = None,
) -> keras.Model:
    """U-Net: upsample, concatenate the encoder's map, drop out, two 3x3 convolutions; repeat.

    Differs from the paper: padded convolutions, so that the output has the input's size, and
    normalization; bilinear upsampling unless `upsampling="transpose"`.

    Args:
        backbone: a name from `segzoo.backbones.names()`, a `keras.Model` whose outputs are feature
            maps, finest first, or None for the encoder of Ronneberger et al. with the widths
            `decoder_filters` reversed.
        classes: int >= 1, channels of the output.
        input_shape: (height, width, channels); height and width at least 32 or None.
        decoder_filters: widths of the decoder's stages, coarsest first; each stage doubles the
            size. Stages beyond the input's size are left out; with fewer, the class scores are
            resized to the input.
        decoder_dropout: rate in [0, 1) of every stage, or one rate for each.
        upsampling: `"bilinear"`, `"nearest"`, or `"transpose"`, a learned 2x2 convolution.
        block_activation: activation inside the blocks.
        normalization: `"batch"`, `"group"`, `"layer"`, `"instance"` or None, in the decoder and
            in the encoder of `backbone=None`.
        kernel_regularizer: of every convolution outside the backbone.
        backbone_weights: of a named backbone: None, `"imagenet"`, `"noisy-student"` or the path
            of a weights file.
        backbone_features: layer names that replace the backbone's taps, finest first.
        weights: path of whole-model weights, instead of `backbone_weights`.
        activation: of the output. `"auto"` is sigmoid for one class and softmax for several;
            `"sigmoid"` is for multi-label; None gives logits.
        preprocessing: bool, whether a named backbone normalizes RGB in 0..255 in the graph.
        name: model name. Default: "unet".

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
    shape = _assembly.check_arguments(classes, input_shape, activation)
    _assembly.check_option("upsampling", upsampling, _assembly.UPSAMPLINGS)
    widths = _assembly.check_widths("decoder_filters", decoder_filters)
    rates = _dropout_rates(decoder_dropout, len(widths))
    block = functools.partial(
        _double_conv,
        normalization=normalization,
        activation=block_activation,
        kernel_regularizer=kernel_regularizer,
    )
    image = keras.Input(shape, name="image")

    if backbone is None:
        features = _paper_encoder(image, widths[::-1], rates[0], block)
        strides, rounds_up = tuple(2**level for level in range(len(widths))), True
        widths, rates = widths[1:], rates[1:]
    else:
        encoder = _assembly.build_encoder(
            backbone,
            shape,
            weights=None if weights else backbone_weights,
            features=backbone_features,
            preprocessing=preprocessing,
        )
        features, strides, rounds_up = encoder(image), encoder.strides, encoder.rounds_up

    *skips, x = features
    skip_at = dict(zip(strides[:-1], skips, strict=True))
    stride = strides[-1]
    for stage, (filters, rate) in enumerate(zip(widths, rates, strict=True), 1):
        if stride == 1:
            break
        stride //= 2
        skip, place = skip_at.get(stride), f"decoder_{stage}"
        x = _assembly.upsample(
            x,
            image if skip is None and stride == 1 else skip,
            upsampling,
            f"{place}_upsample",
            filters=filters,
            rounds_up=rounds_up,
            kernel_regularizer=kernel_regularizer,
        )
        if skip is not None:
            x = keras.layers.Concatenate(name=f"{place}_merge")([x, skip])
        x = _dropout(x, rate, place)
        x = block(x, filters, place)  # (B, H/stride, W/stride, filters)

    outputs = _assembly.classify(
        x,
        image,
        classes,
        activation,
        kernel_regularizer=kernel_regularizer,
        full_size=stride == 1,
    )
    return _assembly.assemble(image, outputs, weights, name or "unet")


def EffNetUNet(
    variant: str = "b0",
    classes: int = 1,
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    *,
    decoder_filters: Sequence[int] = (256, 128, 64, 32, 16),
    decoder_dropout: float | Sequence[float] = (0.5, 0.5, 0.5, 0.25, 0.25),
    upsampling: str = "bilinear",
    block_activation: str = "relu",
    normalization: str | None = "batch",
    kernel_regularizer: Any = None,
    backbone_weights: str | None = "imagenet",
    backbone_features: Sequence[str] | None = None,
    weights: str | None = None,
    activation: str | None = "auto",
    preprocessing: bool = True,
    name: str | None = None,
) -> keras.Model:
    """U-Net on EfficientNet, with the dropout of the roof-segmentation notebook.

    The skips are the expand activations in front of the strided blocks 2a, 3a, 4a and 6a.

    Args:
        variant: `"b0"` to `"b7"` or `"l2"`.
        classes: int >= 1, channels of the output.
        input_shape: (height, width, channels); height and width at least 32 or None.
        decoder_filters: as in `UNet`.
        decoder_dropout: as in `UNet`. Default: (0.5, 0.5, 0.5, 0.25, 0.25), cut to the number of
            `decoder_filters`.
        upsampling: as in `UNet`.
        block_activation: as in `UNet`.
        normalization: as in `UNet`.
        kernel_regularizer: as in `UNet`.
        backbone_weights: as in `UNet`.
        backbone_features: as in `UNet`.
        weights: as in `UNet`.
        activation: as in `UNet`.
        preprocessing: as in `UNet`.
        name: model name. Default: "effnet_unet".

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
    if decoder_dropout == _EFFNET_DROPOUT:
        decoder_dropout = _EFFNET_DROPOUT[: len(tuple(decoder_filters))]
    if f"efficientnet{variant}" not in backbones.names("efficientnet"):
        variants = [name.removeprefix("efficientnet") for name in backbones.names("efficientnet")]
        raise ValueError(f"`variant` must be one of {variants}, received variant={variant!r}")
    return UNet(
        f"efficientnet{variant}",
        classes,
        input_shape,
        decoder_filters=decoder_filters,
        decoder_dropout=decoder_dropout,
        upsampling=upsampling,
        block_activation=block_activation,
        normalization=normalization,
        kernel_regularizer=kernel_regularizer,
        backbone_weights=backbone_weights,
        backbone_features=backbone_features,
        weights=weights,
        activation=activation,
        preprocessing=preprocessing,
        name=name or "effnet_unet",
    )
