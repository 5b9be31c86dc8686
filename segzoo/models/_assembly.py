"""What every builder does before and after its decoder.

    network = Network("fpn", classes, input_shape, activation=activation, ...)
    features = network.encode(backbone, ...)      encode: maps by level
    x = fpn(features, style, ...)                 decode: a function of the features
    return network.model(x)                       head: class scores at the image's size

Checks of arguments that builders share are here too.
"""

import numbers
import os
from collections.abc import Sequence
from typing import Any

import keras

from segzoo.backbones.channels import kernel_adapter
from segzoo.backbones.encoder import encoder
from segzoo.layers._arguments import as_int, items, positive_int
from segzoo.models import _heads
from segzoo.models._features import Features
from segzoo.weights import load_weights

ACTIVATIONS = ("auto", "sigmoid", "softmax", None)
MINIMUM_SIZE = 32
# What the names of layers start with whose channels are the classes.
CLASSIFIERS = ("logits", "score_", "upsample_")


class Network:
    """A model in the making: its checked common arguments, its image, its features.

    Args:
        kind: the model's name unless the user gives one.
        classes, input_shape, activation, weights, name, auxiliary: as in every builder.
    """

    def __init__(
        self,
        kind: str,
        classes: int,
        input_shape: Sequence[int | None],
        *,
        activation: str | None,
        weights: str | os.PathLike | None = None,
        auxiliary: int | None = None,
        name: str | None = None,
    ) -> None:
        self.classes = positive_int("classes", classes)
        self.shape = check_input_shape(input_shape)
        self.activation = check_activation(activation, self.classes)
        self.auxiliary = check_auxiliary(auxiliary)
        self.weights = weights
        self.name = name or kind
        self.image = keras.Input(self.shape, name="image")
        self.features: Features | None = None

    def encode(
        self,
        backbone: str | keras.Model,
        *,
        backbone_weights: str | os.PathLike | None,
        backbone_features: Sequence[str] | None = None,
        preprocessing: bool = True,
        output_stride: int = 32,
        least: int = 2,
    ) -> Features:
        """The maps that the backbone makes of the image; `least` of them at least."""
        found = encoder(
            backbone,
            weights=None if self.weights is not None else backbone_weights,
            input_shape=self.shape,
            output_stride=output_stride,
            preprocessing=preprocessing,
            features=backbone_features,
            pretrained=self.weights is not None or backbone_weights is not None,
        )
        if len(found.levels) < least:
            raise ValueError(
                f"`backbone` must give {least} or more feature maps, finest first; received maps "
                f"of levels {found.levels}"
            )
        maps = found(self.image)
        self.features = Features.of(self.image, maps, found.levels, found.strides, found.rounds_up)
        if self.auxiliary is not None:
            self.features.at(self.auxiliary)
        return self.features

    def own_encoder(self, maps: Sequence[Any], levels: Sequence[int]) -> Features:
        """The maps of a builder's own encoder, which round up."""
        if self.auxiliary is not None:
            raise ValueError(
                "`auxiliary` must be None with `backbone=None`: the builder's own encoder has no "
                f"map for an auxiliary head, received auxiliary={self.auxiliary}"
            )
        self.features = Features.of(self.image, maps, levels)
        return self.features

    def head(self, x, **options: Any):
        """Class scores of `x` at the image's size, activated; see `_heads.head`."""
        return _heads.head(x, self.image, self.classes, self.activation, **options)

    def activate(self, x, suffix: str = ""):
        """The output activation of scores that have the image's size already."""
        return _heads.activate(x, self.classes, self.activation, suffix)

    def model(self, outputs) -> keras.Model:
        """The finished model, with its auxiliary head and whole-model weights where asked for.

        Args:
            outputs: activated scores, or a list of them, the usual output last.
        """
        if self.auxiliary is not None and self.features is not None:
            if isinstance(outputs, list):
                raise ValueError(
                    "`auxiliary` must be None with `deep_supervision=True`, received "
                    f"auxiliary={self.auxiliary}"
                )
            # Made last, so that seeds give all other layers the weights that they have without it.
            extra = _heads.auxiliary_head(
                self.features.at(self.auxiliary), self.image, self.classes, self.activation
            )
            outputs = [extra, outputs]
        model = keras.Model(self.image, outputs, name=self.name)
        if self.weights is not None:
            # A head that only trained the others is not missed.
            surplus = ("auxiliary_", "logits_auxiliary") if self.auxiliary is None else ()
            adapt = kernel_adapter(model)
            load_weights(model, self.weights, surplus=surplus, fresh=CLASSIFIERS, adapt=adapt)
        return model


def check_input_shape(
    input_shape: Sequence[int | None],
) -> tuple[int | None, int | None, int]:
    """(height, width, channels) as ints, or ValueError."""
    shape = items(input_shape) or []
    sizes = [None if size is None else as_int(size) for size in shape]
    wrong = [n for n, size in zip(sizes, shape, strict=True) if n is None and size is not None]
    if len(shape) != 3 or wrong or sizes[2] is None or sizes[2] < 1:
        raise ValueError(
            "`input_shape` must be (height, width, channels) with a known number of channels; "
            f"height and width may be None. Received input_shape={input_shape!r}"
        )
    height, width = sizes[:2]
    if any(size is not None and size < MINIMUM_SIZE for size in (height, width)):
        raise ValueError(
            f"`input_shape` must have a height and width of at least {MINIMUM_SIZE}, received "
            f"input_shape={input_shape!r}"
        )
    return height, width, sizes[2]


def check_activation(activation: str | None, classes: int) -> str | None:
    """Raise ValueError unless `activation` is one that an output can have."""
    if isinstance(activation, str) and activation == "linear":  # Keras's word for none
        return None
    check_option("activation", activation, ACTIVATIONS)
    if activation == "softmax" and classes == 1:
        raise ValueError(
            "`activation` must be 'sigmoid', 'auto' or None with one class (softmax over one class "
            "is 1 everywhere), received activation='softmax' with classes=1"
        )
    return activation


def check_auxiliary(auxiliary: int | None) -> int | None:
    """Raise ValueError unless `auxiliary` is a level that can have a head, or None."""
    level = None if auxiliary is None else as_int(auxiliary)
    if auxiliary is not None and level not in (8, 16, 32):
        raise ValueError(
            "`auxiliary` must be None or the level of a backbone map, 8, 16 or 32; received "
            f"auxiliary={auxiliary!r}"
        )
    return level


def check_option(argument: str, value: Any, accepted: Sequence[Any]) -> Any:
    """`value`, or ValueError unless it is one of `accepted`."""
    choice = value if value is None or isinstance(value, str) else as_int(value)
    if choice not in accepted or (choice is None and value is not None):
        raise ValueError(f"`{argument}` must be one of {accepted}, received {argument}={value!r}")
    return choice


def check_rate(argument: str, value: float) -> float:
    """`value` as a float, or ValueError unless it is a dropout rate."""
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not 0 <= value < 1:
        raise ValueError(f"`{argument}` must be in [0, 1), received {argument}={value!r}")
    return float(value)


def check_widths(argument: str, values: Sequence[int], least: int = 1) -> tuple[int, ...]:
    """`values` as a tuple of ints, or ValueError unless they are at least `least` widths."""
    widths = [as_int(n) for n in items(values) or []]
    if len(widths) < least or any(n is None or n < 1 for n in widths):
        raise ValueError(
            f"`{argument}` must be a list of ints >= 1, at least {least} of them, received "
            f"{argument}={values!r}"
        )
    return tuple(n for n in widths if n is not None)


def check_different(argument: str, values: Sequence[int]) -> tuple[int, ...]:
    """`values` as a tuple of different ints >= 1, at least one, or ValueError."""
    numbers = check_widths(argument, values)
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"`{argument}` must not repeat a number, received {argument}={values!r}")
    return numbers
