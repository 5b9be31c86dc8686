"""Semantic segmentation on a feature pyramid network.

    stride 32 -- 1x1 -------> + ---------------> 3x3 up 3x3 up 3x3 up --+
                              | x2                                      |
    stride 16 -- 1x1 -------> + ---------------> 3x3 up 3x3 up ---------+
                              | x2                                      +-> sum -> 1x1 -> image
    stride 8 --- 1x1 -------> + ---------------> 3x3 up ----------------+
                              | x2                                      |
    stride 4 --- 1x1 -------> + ---------------> 3x3 -------------------+

Kirillov, Girshick, He, Dollár, "Panoptic Feature Pyramid Networks", CVPR 2019, arXiv 1901.02446,
figure 3; after Lin et al., "Feature Pyramid Networks for Object Detection", arXiv 1612.03144.
"""

import os
from collections.abc import Sequence

import keras

from segzoo.layers import ResizeLike
from segzoo.layers._arguments import positive_int
from segzoo.models._assembly import Network, check_option, check_rate
from segzoo.models._builder import builder
from segzoo.models._features import Features
from segzoo.models._style import Style

MERGES = ("add", "concat")


def feature_pyramid(
    features: Features, style: Style, *, filters: int, interpolation: str = "nearest"
) -> list:
    """Lateral 1x1 convolutions, summed from coarse to fine; the maps, finest first."""
    lateral = style.but(normalization=None, activation=None)
    pyramid: list = []
    for map in reversed(features.maps):
        x = lateral.conv(map.x, filters, 1, name=f"lateral_{map.level}")
        if pyramid:
            name = f"top_down_{map.level}"
            up = ResizeLike(interpolation, name=f"{name}_upsample")(pyramid[0], x)
            x = keras.layers.Add(name=name)([up, x])
        pyramid.insert(0, x)
    return pyramid


def fpn(
    features: Features,
    style: Style,
    *,
    pyramid_filters: int,
    decoder_filters: int,
    merge: str,
    dropout: float,
    interpolation: str = "nearest",
):
    """The pyramid, and its levels brought to the finest one and merged there.

    A level that is k steps coarser passes k blocks, each followed by an enlargement to the next
    finer level; the finest passes one block.
    """
    pyramid = feature_pyramid(features, style, filters=pyramid_filters, interpolation=interpolation)
    branches = []
    for place, map in enumerate(features.maps):
        x = pyramid[place]
        for step in range(max(place, 1)):
            block = f"segmentation_{map.level}_{step + 1}"
            x = style.conv(x, decoder_filters, name=f"{block}_conv")
            if place:
                x = style.resize(x, pyramid[place - step - 1], name=f"{block}_upsample")
        branches.append(x)
    join = keras.layers.Add if merge == "add" else keras.layers.Concatenate
    x = join(name="merge")(branches) if len(branches) > 1 else branches[0]
    return keras.layers.Dropout(dropout, name="decoder_dropout")(x)  # (B, H/4, W/4, filters)


@builder
def FPN(
    backbone: str | keras.Model = "resnet50",
    classes: int = 1,
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    *,
    pyramid_filters: int = 256,
    decoder_filters: int = 128,
    merge: str = "add",
    dropout: float = 0.2,
    backbone_weights: str | os.PathLike | None = "imagenet",
    backbone_features: Sequence[str] | None = None,
    weights: str | os.PathLike | None = None,
    auxiliary: int | None = None,
    activation: str | None = "auto",
    preprocessing: bool = True,
    name: str | None = None,
) -> keras.Model:
    """Build the semantic branch of Panoptic FPN on any backbone.

    Differs from the paper: dropout before the classifier, as in the usual implementations.

    Args:
        backbone: a name from `segzoo.backbones.names()`, or a `keras.Model` whose outputs are
            feature maps, finest first. The maps of stride 4 and coarser are used. Defaults to
            `"resnet50"`.
        classes: int >= 1, number of output channels. Defaults to 1.
        input_shape: (height, width, channels); height and width are at least 32, or None for any
            size. Defaults to (None, None, 3).
        pyramid_filters: int >= 1, channels of the feature pyramid. Defaults to 256.
        decoder_filters: int >= 1, a multiple of 32 (the groups of the group normalization),
            channels of the segmentation branches. Defaults to 128.
        merge: `"add"` or `"concat"`, how the branches are joined. Defaults to `"add"`.
        dropout: rate in [0, 1), before the classifier. Defaults to 0.2.
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
        name: name of the model. Defaults to `"fpn"`.

    Returns:
        A `keras.Model` from (B, H, W, channels) to float32 (B, H, W, classes).

    Raises:
        ValueError: for an argument outside its range, an unknown backbone, a backbone without the
            maps that the decoder needs, or weights that do not fit.

    Example:
        >>> import segzoo
        >>> model = segzoo.models.FPN("resnet18", 4, backbone_weights=None)
        >>> model.output_shape
        (None, None, None, 4)

    Reference:
        Kirillov, Girshick, He, Dollár, "Panoptic Feature Pyramid Networks", CVPR 2019,
        arXiv 1901.02446, figure 3.
    """
    network = Network(
        "fpn",
        classes,
        input_shape,
        activation=activation,
        weights=weights,
        auxiliary=auxiliary,
        name=name,
    )
    pyramid_filters = positive_int("pyramid_filters", pyramid_filters)
    decoder_filters = positive_int("decoder_filters", decoder_filters)
    if decoder_filters % 32:
        raise ValueError(
            "`decoder_filters` must be a multiple of 32, the number of groups of the group "
            f"normalization, received decoder_filters={decoder_filters}"
        )
    check_option("merge", merge, MERGES)
    dropout = check_rate("dropout", dropout)
    features = network.encode(
        backbone,
        backbone_weights=backbone_weights,
        backbone_features=backbone_features,
        preprocessing=preprocessing,
    )
    style = Style("group", groups=32)
    x = fpn(
        features.from_level(4),
        style,
        pyramid_filters=pyramid_filters,
        decoder_filters=decoder_filters,
        merge=merge,
        dropout=dropout,
    )
    return network.model(network.head(x))
