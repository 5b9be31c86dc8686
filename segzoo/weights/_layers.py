"""What a weights file and a model have in common: layers with weights, in order.

A file's weights are `Tensor`s, which know their shape and are read when they are needed. A model's
are its variables. `pair_weights` in `_pairing` compares the two without reading anything.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np

# Kinds of layers with weights, as Keras names them when nobody else does.
_AUTOMATIC = re.compile(
    r"(?:depthwise_|separable_)?conv2d|conv2d_transpose|dense|(?:separable_)?conv_block"
    r"|(?:batch_|layer_|group_|unit_)?normalization"
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
    """A layer of a file or of a model.

    Attributes:
        path: names from the outermost model inwards, joined by "/".
        rank: its place: the sequence that it is counted in, and the place there. Keras 3 counts
            the layers of each class by themselves.
        weights: `Tensor`s or variables by name, in the order of the layer. A layer that is made of
            layers has the names of those in front.
        kinds: the class of the layer under "", and those of the layers that it is made of under
            their names, in snake case, where known: group and layer normalization differ in it.
        owner: the layer itself, of a model.
    """

    path: str
    rank: tuple[str, int]
    weights: dict[str, Any]
    kinds: dict[str, str] = dataclasses.field(default_factory=dict)
    owner: Any = None

    @property
    def name(self) -> str:
        """The layer's own name; empty where the file has none."""
        return self.path.rpartition("/")[2]

    @property
    def parents(self) -> str:
        """The names of the models around it; empty in the outermost model."""
        return self.path.rpartition("/")[0]

    @property
    def kind(self) -> str:
        """Its class in snake case, empty where the file does not tell."""
        return self.kinds.get("", "")

    @property
    def automatic(self) -> tuple[str, int] | None:
        """Kind and number of an automatic name, the layer's class and a count."""
        kind, number = split_key(self.name)
        if self.kind == kind or _AUTOMATIC.fullmatch(kind):
            return kind, number
        return None

    def __str__(self) -> str:
        shapes = ", ".join(f"{name} {tuple(w.shape)}" for name, w in self.weights.items())
        shapes = shapes if len(shapes) < 400 else f"{len(self.weights)} weights"
        return f"layer `{self.path or self.rank}`" + (f" with {shapes}" if shapes else "")


def model_layers(model: keras.Model, layout: str, ordered: bool = True) -> list[Layer]:
    """All layers in the model's order, those of nested models in their place.

    Args:
        model: a functional or sequential model.
        layout: of the file that they are compared with: `"keras3"` names the weights as Keras 3
            does in its files, any other as Keras 2 did.
        ordered: whether the file tells the order of all its layers; otherwise it counts those of
            each class by themselves.
    """
    layers = list(_keras3_layers(model)) if layout == "keras3" else list(_keras2_layers(model))
    if not ordered:
        return layers
    return [dataclasses.replace(layer, rank=("", place)) for place, layer in enumerate(layers)]


def _keras2_layers(model: keras.Model) -> Iterator[Layer]:
    for place, (layer, parents) in enumerate(_leaves(model)):
        variables = layer.trainable_weights + layer.non_trainable_weights
        made_of_layers = len({v.path.rpartition("/")[0] for v in variables}) > 1
        names = [v.path if made_of_layers else v.name for v in variables]
        weights = dict(zip(names, variables, strict=True))
        kinds = {"": snake_case(type(layer).__name__)}
        yield Layer(parents + layer.name, ("", place), weights, kinds, layer)


def first_layer(model: keras.Model) -> str:
    """The first layer that a file has to have, for errors."""
    leaves = (layer for layer, _ in _leaves(model) if layer.weights)
    return next((f"layer `{layer.name}`" for layer in leaves), "the first layer")


def _leaves(model: keras.Model, parents: str = "") -> Iterator[tuple[Any, str]]:
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _leaves(layer, f"{parents}{layer.name}/")
        else:
            yield layer, parents


def _keras3_layers(model: keras.Model, parents: str = "", place: str = "") -> Iterator[Layer]:
    for key, layer in _numbered(model.layers):
        if isinstance(layer, keras.Model):
            yield from _keras3_layers(layer, f"{parents}{layer.name}/", f"{place}{key}/")
            continue
        kind, count = split_key(key)
        parts = Parts(kind)
        _add_parts(parts, layer, "", {id(layer)})
        yield Layer(parents + layer.name, (place + kind, count), parts.weights, parts.kinds, layer)


class Parts:
    """The weights of a layer of a Keras 3 file or model, those of the layers inside among them.

    Keras 3 files have a layer inside at the attribute that holds it, or in a list of the attribute;
    version 0.1 held those of blocks in a list. Its own name is the same in both, and takes the
    place of either unless it is automatic, or not known.
    """

    def __init__(self, kind: str) -> None:
        self.weights: dict[str, Any] = {}
        self.kinds = {"": kind}

    def enter(self, place: str, key: str, name: str, kind: str) -> str:
        """The place of a layer inside another, whose class is noted.

        A normalization that says in its name which one it is (`group_norm`) keeps the place that
        it has without.
        """
        said = _SAID.fullmatch(name)
        plain = f"{said[1] or ''}norm" if said else name
        automatic = _AUTOMATIC.fullmatch(split_key(name)[0])
        inner = f"{place}{plain if name and not automatic else key}/"
        if inner in self.kinds:
            inner = f"{place}{key}/"
        if kind == "group_normalization":  # Keras's class for both
            kind = "group_normalization|instance_normalization"
        self.kinds[inner] = f"{said[2]}_normalization" if said else kind
        return inner


_SAID = re.compile(r"(.*_)?(group|layer|instance)_norm")


def said_kind(weight: str) -> str:
    """The normalization that a weight's own name tells, of `block/group_norm/gamma`."""
    said = [_SAID.fullmatch(part) for part in weight.split("/")]
    return next((match[2] for match in said if match), "")


def _add_parts(parts: Parts, layer: Any, place: str, seen: set[int]) -> None:
    """Variables of a layer and of those that its attributes hold, under Keras's names for them."""
    store: dict[str, Any] = {}
    layer.save_own_variables(store)
    for key, variable in store.items():
        parts.weights[f"{place}vars/{key}"] = variable
    # On PyTorch the layers among a layer's attributes are in `_modules` alone.
    attributes = {*vars(layer), *getattr(layer, "_modules", ())}
    for attribute in sorted(attributes, key=lambda name: (name.startswith("_"), name)):
        if attribute in _OF_EVERY_LAYER:
            continue
        value = getattr(layer, attribute)
        held: Iterable[tuple[str, Any]] = [(attribute, value)]
        if isinstance(value, list | tuple | dict):
            values = value.values() if isinstance(value, dict) else value
            inner = [item for item in values if isinstance(item, keras.layers.Layer)]
            held = [(f"{attribute}/{key}", item) for key, item in _numbered(inner)]
        for key, item in held:
            if isinstance(item, keras.layers.Layer) and id(item) not in seen:
                seen.add(id(item))
                kind = snake_case(type(item).__name__)
                _add_parts(parts, item, parts.enter(place, key, item.name, kind), seen)


_OF_EVERY_LAYER = frozenset(dir(keras.layers.Layer()))


def _numbered(layers: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """Layers with the keys that Keras 3 files have for them: the class and a count."""
    counts: dict[str, int] = {}
    for layer in layers:
        kind = snake_case(type(layer).__name__)
        count = counts[kind] = counts.get(kind, -1) + 1
        yield f"{kind}_{count}" if count else kind, layer


def snake_case(name: str) -> str:
    """As Keras writes class names: `Conv2DTranspose` is `conv2d_transpose`."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def split_key(key: str) -> tuple[str, int]:
    """Class and count of a key: `conv2d_1` is the second `conv2d`."""
    kind, _, count = key.rpartition("_")
    return (kind, int(count)) if kind and count.isascii() and count.isdigit() else (key, 0)
