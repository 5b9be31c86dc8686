"""One step of a decoder from a coarse map to the size of a finer one."""

from typing import Any

import keras

from segzoo.layers import CropLike, ResizeLike, Upsample

UPSAMPLINGS = ("bilinear", "nearest", "transpose")


def upsample(
    x,
    like,
    method: str,
    name: str,
    *,
    filters: int | None = None,
    factor: int = 2,
    rounds_up: bool = True,
    kernel_regularizer: Any = None,
):
    """Enlarge `x` to the size of `like`, or by `factor` where `like` is None.

    `"transpose"` learns a convolution of kernel and stride `factor` with `filters` outputs; a row
    too many is cropped. Where the factor is 1 there is nothing to learn and `x` is brought to the
    size of `like` alone.
    """
    if method != "transpose" or factor == 1:
        interpolation = "bilinear" if method == "transpose" else method
        if like is None:
            return Upsample(factor, interpolation, name=name)(x)
        return ResizeLike(interpolation, name=name)(x, like)
    x = keras.layers.Conv2DTranspose(
        filters,
        factor,
        strides=factor,
        padding="same",
        data_format="channels_last",
        kernel_regularizer=kernel_regularizer,
        name=name,
    )(x)
    return x if like is None else fit(x, like, f"{name}_fit", rounds_up)


def fit(x, like, name: str, rounds_up: bool = True):
    """Bring `x` to the size of `like` after a transposed convolution.

    Maps that are rounded up leave a row too many, which is cropped, so that all pixels keep
    their places; maps that are rounded down leave too few, and `x` is resized. The layer is there
    also when nothing is to do, so that static and dynamic builds order their weights alike.
    """
    return (CropLike(name=name) if rounds_up else ResizeLike(name=name))(x, like)
