"""The door that builders take: an encoder and what is known of its maps.

A map has a *level*, its stride in the undilated network, and a *stride*, pixels of the image per
pixel of the map as built. A backbone of the registry knows both. Somebody else's model is measured:
a stride s is exact in the difference of two sizes, `1024 / (rows(2048) - rows(1024))`, whatever a
border adds or takes; no quotient of a rounded size is.
"""

import difflib
import os
from collections.abc import Sequence
from dataclasses import dataclass

import keras

from segzoo.backbones import measure
from segzoo.backbones._rows import Variant
from segzoo.backbones.named import build_row
from segzoo.backbones.registry import info


@dataclass(frozen=True)
class Encoder:
    """A model from an image to feature maps, finest first, and what is known of the maps.

    Attributes:
        model: a functional model named "backbone".
        levels: of the maps: their strides in the undilated network. Level 16 is the same stage at
            every output stride.
        strides: of the maps as built.
        rounds_up: whether a map of stride s has ceil(size / s) rows for every size.
    """

    model: keras.Model
    levels: tuple[int, ...]
    strides: tuple[int, ...]
    rounds_up: bool

    def __call__(self, image) -> list:
        """The feature maps of an image, finest first."""
        features = self.model(image)
        return list(features) if isinstance(features, list | tuple) else [features]


def encoder(
    backbone: str | keras.Model,
    *,
    weights: str | os.PathLike | None,
    input_shape: tuple[int | None, int | None, int],
    output_stride: int = 32,
    preprocessing: bool = True,
    features: Sequence[str] | None = None,
    variant: Variant | None = None,
    pretrained: bool | None = None,
) -> Encoder:
    """The encoder behind a builder's `backbone` argument.

    Args:
        backbone: a name from `segzoo.backbones.names()`; or a functional `keras.Model` whose
            outputs are feature maps, finest first, which is taken as it is: wrapped under the name
            "backbone", it shares its layers and weights.
        weights: of a named backbone, as in `segzoo.backbones.build`.
        input_shape: (height, width, channels).
        output_stride: of a named backbone. A model keeps its own.
        preprocessing: of a named backbone, whether it normalizes RGB in 0..255 itself.
        features: names of the layers whose outputs are the feature maps, finest first.
        variant: of a named backbone, what another library did otherwise in it.
        pretrained: of a named backbone, whether weights come, now or later; one that starts from
            random weights gets a momentum of 0.9 in batch normalization. Defaults to whether there
            are `weights`.

    Returns:
        The encoder.

    Raises:
        ValueError: when `backbone` is neither a name nor a model of feature maps, when the strides
            of a model cannot be measured, and as `segzoo.backbones.build`.

    Example:
        >>> found = encoder("resnet18", weights=None, input_shape=(65, 65, 3), output_stride=8)
        >>> found.levels, found.strides
        ((2, 4, 8, 16, 32), (2, 4, 8, 8, 8))
    """
    if isinstance(backbone, keras.Model):
        model = _wrap(backbone, tuple(input_shape), features)
        strides = measure.strides(model)
        if list(strides) != sorted(strides):
            raise ValueError(
                "`backbone` must give its feature maps finest first, received maps of strides "
                f"{strides}"
            )
        return Encoder(model, _levels(strides), strides, measure.rounds_up(model, strides))
    if isinstance(backbone, str):
        built = build_row(
            info(backbone),
            weights=weights,
            input_shape=input_shape,
            output_stride=output_stride,
            preprocessing=preprocessing,
            features=features,
            variant=variant,
            pretrained=pretrained,
        )
        levels = tuple(scale.nominal for scale in built.scales)
        strides = tuple(scale.actual for scale in built.scales)
        return Encoder(built.model, levels, strides, built.rounds_up)
    raise ValueError(
        "`backbone` must be a name from segzoo.backbones.names() or a keras.Model whose outputs "
        f"are feature maps, received backbone={backbone!r}"
    )


def _wrap(backbone: keras.Model, input_shape, features) -> keras.Model:
    """Somebody else's model, checked, as a model named "backbone" of the chosen maps."""
    if not hasattr(backbone, "inputs"):
        raise ValueError(
            "`backbone` must be a functional keras.Model, made by keras.Model(inputs, outputs), "
            f"received {backbone.name!r} of class {type(backbone).__name__}, whose graph is not "
            "known. Wrap it: `image = keras.Input((None, None, 3)); "
            "keras.Model(image, backbone(image))`"
        )
    if features is None:
        outputs = list(backbone.outputs)
    else:
        outputs = [_layer(backbone, name).output for name in features]
    shapes = [tuple(output.shape) for output in outputs]
    if len(backbone.inputs) != 1 or not outputs or any(len(shape) != 4 for shape in shapes):
        raise ValueError(
            "`backbone` must be a model of one image whose outputs are feature maps (B, H, W, C), "
            f"finest first; received {len(backbone.inputs)} input(s) and outputs of shapes "
            f"{shapes}. `backbone_features` picks outputs by layer name"
        )
    expected = tuple(backbone.inputs[0].shape[1:])
    if len(expected) != 3 or any(
        size not in (None, got) for size, got in zip(expected, input_shape, strict=True)
    ):
        raise ValueError(
            f"`input_shape` must fit the backbone's input {expected}, received "
            f"input_shape={input_shape}"
        )
    return keras.Model(backbone.inputs[0], outputs, name="backbone")


def _layer(backbone: keras.Model, name: str) -> keras.layers.Layer:
    known = [layer.name for layer in backbone.layers]
    if name not in known:
        raise ValueError(
            f"`backbone_features` must name layers of the backbone, received {name!r}; "
            f"near names are {difflib.get_close_matches(name, known) or known[-5:]}"
        )
    return backbone.get_layer(name)


def _levels(strides: tuple[int, ...]) -> tuple[int, ...]:
    """What the strides would be without dilation: where one does not grow, the level doubles."""
    levels: list[int] = []
    for stride in strides:
        levels.append(stride if not levels or stride > levels[-1] else 2 * levels[-1])
    return tuple(levels)
