"""What a weights file and a model have in common: layers with weights, in order.

A file's weights are `Tensor`s, which know their shape and are read when they are needed. A model's
are its variables. `pair_weights` in `_pairing` compares the two without reading anything.
"""

import dataclasses
import re
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

# Kinds of layers with weights, as Keras names them when nobody else does.
_AUTOMATIC = re.compile(
    r"((?:depthwise_|separable_)?conv2d|conv2d_transpose|dense"
    r"|(?:batch_|layer_|group_|unit_)?normalization)(?:_(\d+))?"
)


@dataclasses.dataclass(frozen=True)
class Tensor:
    """An array of a weights file that is not read yet.

    Attributes:
        name: its place in the file, for errors.
        shape: of the array.
        read: gives the array.
    """

    name: str
    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer with weights, of a file or of a model.

    Attributes:
        path: names from the outermost model inwards, joined by "/".
        rank: its place: the sequence that it is counted in, and the place there. Keras 3 counts
            the layers of each class by themselves.
        weights: `Tensor`s or variables by name, in the order of the layer.
        owner: the layer itself, of a model.
    """

    path: str
    rank: tuple[str, int]
    weights: dict[str, Any]
    owner: Any = None

    @property
    def name(self) -> str:
        """The layer's own name; empty where the file has none."""
        return self.path.rpartition("/")[2]

    @property
    def automatic(self) -> tuple[str, int] | None:
        """Kind and number of an automatic name."""
        match = _AUTOMATIC.fullmatch(self.name)
        return (match[1], int(match[2] or 0)) if match else None

    def __str__(self) -> str:
        shapes = ", ".join(f"{name} {tuple(w.shape)}" for name, w in self.weights.items())
        return f"layer `{self.path or self.rank}` with {shapes}"


def model_layers(model: keras.Model, layout: str) -> list[Layer]:
    """Layers with weights in the model's order, those of nested models in their place.

    Args:
        model: a functional or sequential model.
        layout: of the file that they are compared with: `"keras3"` names and counts them as
            Keras 3 does in its files, any other as Keras 2 did.
    """
    if layout == "keras3":
        return list(_keras3_layers(model))
    leaves = enumerate(_leaves(model))
    return [
        Layer(parents + layer.name, ("", place), _keras2_weights(layer), layer)
        for place, (layer, parents) in leaves
    ]


def _leaves(model: keras.Model, parents: str = "") -> Iterator[tuple[Any, str]]:
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _leaves(layer, f"{parents}{layer.name}/")
        elif layer.weights:
            yield layer, parents


def _keras2_weights(layer: keras.layers.Layer) -> dict[str, Any]:
    variables = layer.trainable_weights + layer.non_trainable_weights
    names = [v.name for v in variables]
    if len(set(names)) < len(names):  # a layer of layers
        names = [v.path for v in variables]
    return dict(zip(names, variables, strict=True))


def _keras3_layers(model: keras.Model, parents: str = "", place: str = "") -> Iterator[Layer]:
    for key, layer in _numbered(model.layers):
        if isinstance(layer, keras.Model):
            yield from _keras3_layers(layer, f"{parents}{layer.name}/", f"{place}{key}/")
        elif layer.weights:
            kind, count = split_key(key)
            weights = dict(_keras3_weights(layer, "", {id(layer)}))
            yield Layer(parents + layer.name, (place + kind, count), weights, layer)


def _keras3_weights(layer: Any, place: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """Variables of a layer and of those that its attributes hold, under Keras's names for them."""
    store: dict[str, Any] = {}
    layer.save_own_variables(store)
    for key, variable in store.items():
        yield f"{place}vars/{key}", variable
    for attribute in sorted(vars(layer), key=lambda name: (name.startswith("_"), name)):
        if attribute in _OF_EVERY_LAYER:
            continue
        value = getattr(layer, attribute)
        held: Any = [(attribute, value)]
        if isinstance(value, list | tuple | dict):
            values = value.values() if isinstance(value, dict) else value
            inner = [item for item in values if isinstance(item, keras.layers.Layer)]
            held = [(f"{attribute}/{key}", item) for key, item in _numbered(inner)]
        for name, item in held:
            if isinstance(item, keras.layers.Layer) and id(item) not in seen:
                seen.add(id(item))
                yield from _keras3_weights(item, f"{place}{name}/", seen)


_OF_EVERY_LAYER = frozenset(dir(keras.layers.Layer()))


def _numbered(layers: Any) -> Iterator[tuple[str, Any]]:
    """Layers with the keys that Keras 3 files have for them: the class and a count."""
    counts: dict[str, int] = {}
    for layer in layers:
        kind = _snake_case(type(layer).__name__)
        count = counts[kind] = counts.get(kind, -1) + 1
        yield f"{kind}_{count}" if count else kind, layer


def _snake_case(name: str) -> str:
    """As Keras writes class names: `Conv2DTranspose` is `conv2d_transpose`."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def split_key(key: str) -> tuple[str, int]:
    """Class and count of a key: `conv2d_1` is the second `conv2d`."""
    kind, _, count = key.rpartition("_")
    return (kind, int(count)) if kind and count.isascii() and count.isdigit() else (key, 0)
