"""PAN: feature pyramid attention on the last map, global attention on the way up.

    stride 16 -- FPA --> GAU ---------> GAU ---------> 3x3 ... 1x1 -> image
    (map 32)              |              |
                     map 16, 3x3    map 8, 3x3    map 4, 3x3

    FPA:  1x1 * attention + mean of the map          GAU:  3x3 of the finer map
          attention: 7x7, 5x5, 3x3 on halved maps,         * 1x1 of the coarser map's mean
          summed on the way back                           + coarser map, resized

Li, Xiong, An, Wang, "Pyramid Attention Network for Semantic Segmentation", BMVC 2018,
arXiv 1805.10180, figures 2 to 4.
"""

import os
from collections.abc import Sequence

import keras

from segzoo.layers import HalvingMaxPooling2D
from segzoo.layers._arguments import positive_int
from segzoo.models._assembly import Network, check_option
from segzoo.models._builder import builder
from segzoo.models._features import Features
from segzoo.models._style import Style

OUTPUT_STRIDES = (8, 16, 32)
_KERNELS = (7, 5, 3)


def pan(features: Features, style: Style, *, decoder_filters: int):
    """Feature pyramid attention, then one global attention upsampling for every finer map."""
    x = feature_pyramid_attention(features.coarsest.x, style, filters=decoder_filters)
    for _, finer in features.coarse_to_fine():
        x = global_attention_upsample(
            x, finer.x, style, filters=decoder_filters, name=f"gau_{finer.level}"
        )
    return x  # (B, H/4, W/4, decoder_filters)


def feature_pyramid_attention(
    x, style: Style, *, filters: int, rounds_up: bool = True, name: str = "fpa"
):
    """The map times an attention map of three scales, plus the mean of the map (figure 3).

    `rounds_up` says what halving makes of an odd size.
    """
    scales, down = [], x
    for step, kernel_size in enumerate(_KERNELS, 1):
        down = _halve(down, rounds_up, f"{name}_pool_{step}")
        down = style.conv(down, 1, kernel_size, name=f"{name}_down_{step}")
        scales.append(down)

    up = None
    for step, scale in reversed(list(enumerate(scales, 1))):
        scale = style.conv(scale, 1, _KERNELS[step - 1], name=f"{name}_scale_{step}")
        if up is not None:
            up = style.resize(up, scale, name=f"{name}_up_{step}")
            scale = keras.layers.Add(name=f"{name}_add_{step}")([up, scale])
        up = scale
    attention = style.resize(up, x, name=f"{name}_up")

    middle = style.conv(x, filters, 1, name=f"{name}_middle")
    mean = keras.layers.GlobalAveragePooling2D(
        keepdims=True, data_format="channels_last", name=f"{name}_mean"
    )(x)
    mean = style.conv(mean, filters, 1, name=f"{name}_pooling")
    x = keras.layers.Multiply(name=f"{name}_multiply")([middle, attention])
    # One pixel, which every pixel of the map takes.
    return keras.layers.Add(name=name)([x, mean])


def _halve(x, rounds_up: bool, name: str):
    if rounds_up:
        return keras.layers.MaxPooling2D(2, padding="same", data_format="channels_last", name=name)(
            x
        )
    return HalvingMaxPooling2D(name=name)(x)


def global_attention_upsample(
    x,
    finer,
    style: Style,
    *,
    filters: int,
    name: str,
    gate_activation: str = "relu",
    interpolation: str = "bilinear",
):
    """The finer map, its channels weighed by the coarser one, plus the coarser one (figure 4)."""
    low = style.conv(finer, filters, name=f"{name}_low")
    gate = keras.layers.GlobalAveragePooling2D(
        keepdims=True, data_format="channels_last", name=f"{name}_mean"
    )(x)
    gate = style.conv(gate, filters, 1, activation=gate_activation, name=f"{name}_gate")
    low = keras.layers.Multiply(name=f"{name}_multiply")([low, gate])
    up = style.resize(x, low, interpolation=interpolation, name=f"{name}_up")
    return keras.layers.Add(name=name)([low, up])


@builder
def PAN(
    backbone: str | keras.Model = "resnet50",
    classes: int = 1,
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    *,
    output_stride: int = 16,
    decoder_filters: int = 32,
    backbone_weights: str | os.PathLike | None = "imagenet",
    backbone_features: Sequence[str] | None = None,
    weights: str | os.PathLike | None = None,
    auxiliary: int | None = None,
    activation: str | None = "auto",
    preprocessing: bool = True,
    name: str | None = None,
) -> keras.Model:
    """Build a pyramid attention network (PAN) on any backbone.

    Args:
        backbone: a name from `segzoo.backbones.names()`, or a `keras.Model` whose outputs are
            feature maps, finest first. The maps of stride 4 and coarser are used. Defaults to
            `"resnet50"`.
        classes: int >= 1, number of output channels. Defaults to 1.
        input_shape: (height, width, channels); height and width are at least 32, or None for any
            size. Defaults to (None, None, 3).
        output_stride: 8, 16 or 32, the stride of the backbone's last map; dilation replaces the
            strides beyond it. A `keras.Model` keeps its own. Defaults to 16.
        decoder_filters: int >= 1, channels of the decoder. Defaults to 32.
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
        name: name of the model. Defaults to `"pan"`.

    Returns:
        A `keras.Model` from (B, H, W, channels) to float32 (B, H, W, classes).

    Raises:
        ValueError: for an argument outside its range, an unknown backbone, a backbone without the
            maps that the decoder needs, or weights that do not fit.

    Example:
        >>> import segzoo
        >>> model = segzoo.models.PAN("resnet18", 4, backbone_weights=None)
        >>> model.output_shape
        (None, None, None, 4)

    Reference:
        Li, Xiong, An, Wang, "Pyramid Attention Network for Semantic Segmentation", BMVC 2018,
        arXiv 1805.10180, figures 2 to 4.
    """
    network = Network(
        "pan",
        classes,
        input_shape,
        activation=activation,
        weights=weights,
        auxiliary=auxiliary,
        name=name,
    )
    output_stride = check_option("output_stride", output_stride, OUTPUT_STRIDES)
    decoder_filters = positive_int("decoder_filters", decoder_filters)
    features = network.encode(
        backbone,
        backbone_weights=backbone_weights,
        backbone_features=backbone_features,
        preprocessing=preprocessing,
        output_stride=output_stride,
    )
    x = pan(features.from_level(4), Style(), decoder_filters=decoder_filters)
    return network.model(network.head(x))
