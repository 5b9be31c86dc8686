"""From a decoder's map to class scores at the image's size: one head, several, an auxiliary one."""

from typing import Any

import keras

from segzoo.layers import ConvBlock, ResizeLike
from segzoo.models._features import Map


def head(
    x,
    image,
    classes: int,
    activation: str | None,
    *,
    kernel_size: int = 1,
    kernel_regularizer: Any = None,
    full_size: bool = False,
    align_corners: bool = False,
    suffix: str = "",
):
    """Class scores by a convolution, resized to the image, activated in float32.

    Args:
        x: the decoder's map (B, h, w, C).
        image: (B, H, W, channels), of which only the size is used.
        classes: channels of the scores.
        activation: `"auto"` is sigmoid for one class and softmax for several; None gives logits.
        kernel_size: of the convolution.
        kernel_regularizer: of the convolution.
        full_size: whether `x` has the image's size already.
        align_corners: of the resize.
        suffix: of the layers' names.

    Returns:
        (B, H, W, classes), float32.
    """
    x = keras.layers.Conv2D(
        classes,
        kernel_size,
        padding="same",
        data_format="channels_last",
        kernel_regularizer=kernel_regularizer,
        name=f"logits{suffix}",
    )(x)
    if not full_size:
        resize = ResizeLike(
            align_corners=align_corners, name=f"logits{suffix}_resize", dtype="float32"
        )
        x = resize(x, image)
    return activate(x, classes, activation, suffix)


def activate(x, classes: int, activation: str | None, suffix: str = ""):
    """The output activation, in float32 also under mixed precision."""
    if activation == "auto":
        activation = "sigmoid" if classes == 1 else "softmax"
    return keras.layers.Activation(activation, dtype="float32", name=f"output{suffix}")(x)


def auxiliary_head(features: Map, image, classes: int, activation: str | None):
    """The fully convolutional head of an auxiliary loss on one of the backbone's maps.

    3x3 to a quarter of the map's channels, normalization, ReLU, dropout 0.1, 1x1: Zhao et al.,
    "Pyramid Scene Parsing Network", CVPR 2017, arXiv 1612.01105, section 3.3.
    """
    x = ConvBlock(max(features.channels // 4, 1), 3, name="auxiliary_conv")(features.x)
    x = keras.layers.Dropout(0.1, name="auxiliary_dropout")(x)
    return head(x, image, classes, activation, suffix="_auxiliary")
