"""LinkNet: an encoder's maps added to those of a slim decoder.

    stride 32 -- block --> + -- block --> + -- block --> + -- block --> + -- x2 -- 3x3 -- 1x1
                           |              |              |              |
    encoder            stride 16      stride 8       stride 4       stride 2

    block:  1x1 to a quarter of the channels -- transposed 3x3, stride 2 -- 1x1

Chaurasia, Culurciello, "LinkNet: Exploiting Encoder Representations for Efficient Semantic
Segmentation", VCIP 2017, arXiv 1707.03718, figures 1 and 2.
"""

import os
from collections.abc import Sequence

import keras

from segzoo.layers import CropLike, ResizeLike
from segzoo.layers._arguments import positive_int
from segzoo.models._assembly import Network
from segzoo.models._builder import builder
from segzoo.models._features import Features
from segzoo.models._style import Style


def linknet(features: Features, style: Style, *, final_filters: int):
    """Blocks from map to map with added skips, then steps of two to the image's size."""
    x, stride = features.coarsest.x, features.coarsest.stride
    for _, skip in features.coarse_to_fine():
        place = f"decoder_{skip.level}"
        x = _block(x, skip, stride // skip.stride, style, place, features.rounds_up)
        x = keras.layers.Add(name=f"{place}_add")([x, skip.x])
        stride = skip.stride
    while stride > 1:
        stride //= 2
        like = features.image if stride == 1 else None
        x = _double(x, final_filters, like, style, f"final_{stride}", features.rounds_up)
    return style.conv(x, final_filters, name="final_conv")  # (B, H, W, final_filters)


def _block(x, skip, factor: int, style: Style, place: str, rounds_up: bool):
    """A bottleneck of a quarter of the channels around the enlargement."""
    narrow = max(x.shape[-1] // 4, 1)
    x = style.conv(x, narrow, 1, name=f"{place}_reduce")
    if factor == 1:  # a dilated backbone's maps keep their size
        x = style.conv(x, narrow, name=f"{place}_conv")
    step = 1
    while factor > 1:
        factor //= 2
        name = f"{place}_upsample" + (f"_{step}" if step > 1 else "")
        x = _double(x, narrow, skip.x if factor == 1 else None, style, name, rounds_up)
        step += 1
    return style.conv(x, skip.channels, 1, name=f"{place}_expand")


def _double(x, filters: int, like, style: Style, name: str, rounds_up: bool):
    """A transposed 3x3 convolution of stride 2: pixel i lies on pixel 2 i of the result.

    Rows 2 i, 2 i + 1 and 2 i + 2 of the full result see row i. Without the first row, row 2 i is
    the middle, where a strided convolution with symmetric padding took row i from.
    """
    x = style.transposed_conv(x, filters, 3, name=name)
    if like is None:
        return keras.layers.Cropping2D(
            ((1, 0), (1, 0)), data_format="channels_last", name=f"{name}_fit"
        )(x)
    return (CropLike(1, name=f"{name}_fit") if rounds_up else ResizeLike(name=f"{name}_fit"))(
        x, like
    )


@builder
def LinkNet(
    backbone: str | keras.Model = "resnet50",
    classes: int = 1,
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    *,
    final_filters: int = 32,
    backbone_weights: str | os.PathLike | None = "imagenet",
    backbone_features: Sequence[str] | None = None,
    weights: str | os.PathLike | None = None,
    auxiliary: int | None = None,
    activation: str | None = "auto",
    preprocessing: bool = True,
    name: str | None = None,
) -> keras.Model:
    """Build LinkNet on any backbone.

    Differs from the paper: the backbone's map of stride 2 is a skip too, so that the last
    transposed convolution arrives at the image's size; the classifier is a 1x1 convolution.

    Args:
        backbone: a name from `segzoo.backbones.names()`, or a `keras.Model` whose outputs are
            feature maps, finest first. Defaults to `"resnet50"`.
        classes: int >= 1, number of output channels. Defaults to 1.
        input_shape: (height, width, channels); height and width are at least 32, or None for any
            size. Defaults to (None, None, 3).
        final_filters: int >= 1, channels at the image's size. Defaults to 32.
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
        name: name of the model. Defaults to `"linknet"`.

    Returns:
        A `keras.Model` from (B, H, W, channels) to float32 (B, H, W, classes).

    Raises:
        ValueError: for an argument outside its range, an unknown backbone, a backbone without the
            maps that the decoder needs, or weights that do not fit.

    Example:
        >>> import segzoo
        >>> model = segzoo.models.LinkNet("resnet18", 4, backbone_weights=None)
        >>> model.output_shape
        (None, None, None, 4)

    Reference:
        Chaurasia, Culurciello, "LinkNet: Exploiting Encoder Representations for Efficient Semantic
        Segmentation", VCIP 2017, arXiv 1707.03718, figures 1 and 2.
    """
    network = Network(
        "linknet",
        classes,
        input_shape,
        activation=activation,
        weights=weights,
        auxiliary=auxiliary,
        name=name,
    )
    final_filters = positive_int("final_filters", final_filters)
    features = network.encode(
        backbone,
        backbone_weights=backbone_weights,
        backbone_features=backbone_features,
        preprocessing=preprocessing,
    )
    x = linknet(features, Style(), final_filters=final_filters)
    return network.model(network.head(x, full_size=True))
