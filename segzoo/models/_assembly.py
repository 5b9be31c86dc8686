"""What every builder shares: checked arguments, the encoder, one upsampling step, the head."""

from collections.abc import Iterable, Sequence
from typing import Any

import keras

from segzoo.backbones.encoder import Encoder, encoder
from segzoo.layers import CropLike, ResizeLike, Upsample
from segzoo.weights import load_weights

UPSAMPLINGS = ("bilinear", "nearest", "transpose")
ACTIVATIONS = ("auto", "sigmoid", "softmax", None)
MINIMUM_SIZE = 32


def check_arguments(
    classes: int, input_shape: Sequence[int | None], activation: str | None
) -> tuple[int | None, int | None, int]:
    """Raise ValueError for what no builder accepts; return the input shape as a tuple."""
    if not isinstance(classes, int) or classes < 1:
        raise ValueError(f"`classes` must be an int >= 1, received classes={classes!r}")
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"`activation` must be one of {ACTIVATIONS}, received activation={activation!r}"
        )
    if activation == "softmax" and classes == 1:
        raise ValueError(
            "`activation` must be 'sigmoid', 'auto' or None with one class (softmax over one class "
            "is 1 everywhere), received activation='softmax' with classes=1"
        )
    shape = tuple(input_shape)
    if len(shape) != 3 or not isinstance(shape[2], int) or shape[2] < 1:
        raise ValueError(
            "`input_shape` must be (height, width, channels) with a known number of channels; "
            f"height and width may be None. Received input_shape={input_shape}"
        )
    for size in shape[:2]:
        if size is not None and size < MINIMUM_SIZE:
            raise ValueError(
                f"`input_shape` must have a height and width of at least {MINIMUM_SIZE}, received "
                f"input_shape={input_shape}"
            )
    return shape[0], shape[1], shape[2]


def check_option(argument: str, value: Any, accepted: Sequence[Any]) -> None:
    """Raise ValueError unless `value` is one of `accepted`."""
    if value not in accepted:
        raise ValueError(f"`{argument}` must be one of {accepted}, received {argument}={value!r}")


def check_rate(argument: str, value: float) -> None:
    """Raise ValueError unless `value` is a dropout rate."""
    if not 0 <= value < 1:
        raise ValueError(f"`{argument}` must be in [0, 1), received {argument}={value}")


def check_widths(argument: str, values: Sequence[int], least: int = 1) -> tuple[int, ...]:
    """Raise ValueError unless `values` are at least `least` widths; return them as a tuple."""
    widths = tuple(values) if isinstance(values, Iterable) else ()
    if len(widths) < least or not all(isinstance(n, int) and n >= 1 for n in widths):
        raise ValueError(
            f"`{argument}` must be at least {least} ints >= 1, received {argument}={values}"
        )
    return widths


def build_encoder(
    backbone: str | keras.Model,
    input_shape: tuple[int | None, int | None, int],
    *,
    weights: str | None,
    features: Sequence[str] | None = None,
    output_stride: int = 32,
    preprocessing: bool = True,
    least: int = 2,
) -> Encoder:
    """The encoder behind a builder's `backbone` argument.

    A name is built by `segzoo.backbones`; a `keras.Model` is taken as it is, wrapped under the
    name "backbone", so that it shares its layers and weights.
    """
    found = encoder(
        backbone,
        weights=weights,
        input_shape=input_shape,
        output_stride=output_stride,
        preprocessing=preprocessing,
        features=features,
    )
    if len(found.strides) < least:
        raise ValueError(
            f"`backbone` must give {least} or more feature maps, finest first; received maps of "
            f"strides {found.strides}"
        )
    return found


def upsample(
    x,
    like,
    method: str,
    name: str,
    *,
    filters: int | None = None,
    rounds_up: bool = True,
    kernel_regularizer: Any = None,
):
    """Enlarge `x` to the size of `like`, which is one level finer; double it when `like` is None.

    `"transpose"` learns a 2x2 convolution with `filters` outputs; a row too many is cropped.
    """
    if method != "transpose":
        layer = Upsample(2, method, name=name) if like is None else ResizeLike(method, name=name)
        return layer(x) if like is None else layer(x, like)
    x = keras.layers.Conv2DTranspose(
        filters, 2, strides=2, padding="same", kernel_regularizer=kernel_regularizer, name=name
    )(x)
    return x if like is None else fit(x, like, f"{name}_fit", rounds_up)


def fit(x, like, name: str, rounds_up: bool = True):
    """Bring `x` to the size of `like` after a transposed convolution.

    Maps that are rounded up leave a row too many, which is cropped, so that all pixels keep
    their places; maps that are rounded down leave too few, and `x` is resized. The layer is there
    also when nothing is to do, so that static and dynamic builds order their weights alike.
    """
    return (CropLike(name=name) if rounds_up else ResizeLike(name=name))(x, like)


def classify(
    x,
    image,
    classes: int,
    activation: str | None,
    *,
    kernel_regularizer: Any = None,
    full_size: bool = False,
    suffix: str = "",
):
    """Class scores by a 1x1 convolution, resized to the image, activated in float32.

    `full_size` says that `x` has the image's size already.
    """
    x = keras.layers.Conv2D(
        classes, 1, kernel_regularizer=kernel_regularizer, name=f"logits{suffix}"
    )(x)
    if not full_size:
        x = ResizeLike(name=f"logits{suffix}_resize", dtype="float32")(x, image)
    return activate(x, classes, activation, suffix)


def activate(x, classes: int, activation: str | None, suffix: str = ""):
    """The output activation, in float32 also under mixed precision."""
    if activation == "auto":
        activation = "sigmoid" if classes == 1 else "softmax"
    return keras.layers.Activation(activation, dtype="float32", name=f"output{suffix}")(x)


def assemble(image, outputs, weights: str | None, name: str) -> keras.Model:
    """The finished model, with whole-model weights where they are given."""
    model = keras.Model(image, outputs, name=name)
    if weights is not None:
        load_weights(model, weights)
    return model
