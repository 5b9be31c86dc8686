"""UPerNet: pyramid pooling on the last map, a feature pyramid, and all its levels fused.

    stride 32 -- pyramid pooling -- 3x3 --+--------------> resize --+
                                          | x2                      |
    stride 16 -- 1x1 -------------------> + -- 3x3 ------> resize --+
                                          | x2                      +- concatenate - 3x3 - 1x1
    stride 8 --- 1x1 -------------------> + -- 3x3 ------> resize --+
                                          | x2                      |
    stride 4 --- 1x1 -------------------> + -- 3x3 -----------------+

Xiao, Liu, Zhou, Jiang, Sun, "Unified Perceptual Parsing for Scene Understanding", ECCV 2018,
arXiv 1807.10221, figure 4.
"""

import os
from collections.abc import Sequence

import keras

from segzoo.layers._arguments import positive_int
from segzoo.models._assembly import Network, check_different, check_rate
from segzoo.models._builder import builder
from segzoo.models._features import Features
from segzoo.models._pyramid_pooling import pyramid_pooling
from segzoo.models._style import Style
from segzoo.weights import published


def upernet(
    features: Features,
    style: Style,
    *,
    bin_sizes: Sequence[int],
    decoder_filters: int,
    dropout: float,
    pyramid_style: Style | None = None,
):
    """The pyramid from coarse to fine, a 3x3 after each sum; all levels fused at the finest."""
    x = pyramid_pooling(features.coarsest.x, style, bin_sizes=bin_sizes, filters=decoder_filters)
    x = (pyramid_style or style).conv(x, decoder_filters, name="psp_conv")
    levels = [x]
    for _, map in features.coarse_to_fine():
        name = f"top_down_{map.level}"
        lateral = style.conv(map.x, decoder_filters, 1, name=f"lateral_{map.level}")
        x = style.resize(x, lateral, name=f"{name}_upsample")
        x = keras.layers.Add(name=name)([x, lateral])
        levels.insert(0, style.conv(x, decoder_filters, name=f"fpn_{map.level}"))

    finest, *coarser = levels
    fused = [finest] + [
        style.resize(x, finest, name=f"fuse_{map.level}_resize")
        for x, map in zip(coarser, features.maps[1:], strict=True)
    ]
    x = keras.layers.Concatenate(name="fuse_merge")(fused)
    x = style.conv(x, decoder_filters, name="fuse")  # (B, H/4, W/4, 512)
    return keras.layers.Dropout(dropout, name="decoder_dropout")(x)


@builder
def UPerNet(
    backbone: str | keras.Model = "resnet50",
    classes: int = 1,
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    *,
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
    """Build the semantic branch of UPerNet on any backbone.

    Args:
        backbone: a name from `segzoo.backbones.names()`, or a `keras.Model` whose outputs are
            feature maps, finest first. The maps of stride 4 and coarser are used. Defaults to
            `"resnet50"`.
        classes: int >= 1, number of output channels. Defaults to 1.
        input_shape: (height, width, channels); height and width are at least 32, or None for any
            size. Defaults to (None, None, 3).
        bin_sizes: ints >= 1, numbers of regions along each axis in the pyramid pooling. The regions
            overlap where the map's size is not a multiple of their number. Defaults to (1, 2, 3,
            6).
        decoder_filters: int >= 1, channels of every convolution of the decoder. Defaults to 512.
        dropout: rate in [0, 1), before the classifier. Defaults to 0.1.
        backbone_weights: weights of a named backbone: None for random ones, `"imagenet"`,
            `"noisy-student"` (EfficientNet), `"imagenet-nc"` (Mix Transformers) or the path of a
            weights file. Defaults to `"imagenet"`.
        backbone_features: names of the layers whose outputs replace the backbone's feature maps,
            finest first. Defaults to None.
        weights: path of weights of the whole model, which replace `backbone_weights`. Or the name
            of a published checkpoint, `"ade20k"` (150 classes), for `"convnexttiny"`,
            `"convnextsmall"` and `"convnextbase"`. By name, or as a file of that layout, it is
            Transformers' network; with other `classes` than the file's its classifier starts fresh.
            Defaults to None.
        auxiliary: None, or the level (8, 16 or 32) of a backbone map that gets an auxiliary fully
            convolutional head; the outputs are then a list, the auxiliary output first. Defaults to
            None.
        activation: activation of the output. `"auto"` is sigmoid for one class and softmax for
            several; `"sigmoid"` is for multi-label segmentation; None gives logits. Defaults to
            `"auto"`.
        preprocessing: bool, whether a model on a named backbone takes RGB in 0..255 and normalizes
            it itself. Defaults to True.
        name: name of the model. Defaults to `"upernet"`.

    Returns:
        A `keras.Model` from (B, H, W, channels) to float32 (B, H, W, classes).

    Raises:
        ValueError: for an argument outside its range, an unknown backbone, a backbone without the
            maps that the decoder needs, or weights that do not fit.

    Example:
        >>> import segzoo
        >>> model = segzoo.models.UPerNet("convnexttiny", 150, backbone_weights=None)
        >>> model.output_shape
        (None, None, None, 150)

    Reference:
        Xiao, Liu, Zhou, Jiang, Sun, "Unified Perceptual Parsing for Scene Understanding",
        ECCV 2018, arXiv 1807.10221, figure 4.
    """
    known = published.find("UPerNet", backbone, weights)
    if known is not None:
        from segzoo.models._published_pytorch import build  # needs this module

        fixed = {
            "bin_sizes": (tuple(bin_sizes), ((1, 2, 3, 6),)),
            "decoder_filters": (decoder_filters, (512,)),
            "backbone_features": (backbone_features, (None,)),
            "auxiliary": (auxiliary, (None,)),
        }
        return build(
            known,
            str(backbone),
            classes,
            input_shape,
            fixed=fixed,
            dropout=dropout,
            activation=activation,
            preprocessing=preprocessing,
            name=name,
        )
    network = Network(
        "upernet",
        classes,
        input_shape,
        activation=activation,
        weights=weights,
        auxiliary=auxiliary,
        name=name,
    )
    bin_sizes = check_different("bin_sizes", bin_sizes)
    decoder_filters = positive_int("decoder_filters", decoder_filters)
    dropout = check_rate("dropout", dropout)
    features = network.encode(
        backbone,
        backbone_weights=backbone_weights,
        backbone_features=backbone_features,
        preprocessing=preprocessing,
    )
    x = upernet(
        features.from_level(4),
        Style(),
        bin_sizes=bin_sizes,
        decoder_filters=decoder_filters,
        dropout=dropout,
    )
    return network.model(network.head(x))
