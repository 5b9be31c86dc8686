"""The layers of a Keras file, for each of its layouts.

layout                             what tells it                            a layer's name is
"keras3"        `.weights.h5`      HDF5 with a group `layers`               attribute `name`
"keras3"        `.keras`           a zip archive with such a file inside    the same
"keras2"        weights only       HDF5 with the attribute `layer_names`    its entries
"keras2"        whole model        HDF5 with a group `model_weights`        its `layer_names`
"""

import collections
import json
from typing import Any

from segzoo.weights._hdf5 import Group
from segzoo.weights._layers import Layer, Parts, Tensor, split_key


def keras3_layers(group: Group, parents: str = "", place: str = "") -> list[Layer]:
    """Layers of a model's group; a nested model has a `layers` of its own."""
    layers = []
    for key, child in group.groups["layers"].groups.items():
        # The key is the class and a count: `conv2d`, `conv2d_1`, ... The name is an attribute,
        # which the first releases of Keras 3 did not write.
        kind, count = split_key(key)
        path = parents + _name(child)
        if "layers" in child.groups:
            layers += keras3_layers(child, f"{path}/", f"{place}{key}/")
            continue
        parts = Parts(kind)
        _add_parts(parts, child, "")
        layers.append(Layer(path, (place + kind, count), parts.weights, parts.kinds))
    return sorted(layers, key=lambda layer: layer.rank)


def _name(group: Group) -> str:
    own = group.groups.get("vars")
    return own.string("name") if own else ""


def _add_parts(parts: Parts, group: Group, place: str) -> None:
    """The weights of a layer's group, and those of the layers that it holds."""
    for key, child in sorted(group.groups.items()):
        if key == "vars":
            for number, tensor in sorted(child.tensors.items()):
                parts.weights[f"{place}vars/{number}"] = tensor
        elif key == "seed_generator":  # the state of a random generator
            continue
        elif "vars" in child.groups or not child.groups:
            _add_parts(parts, child, parts.enter(place, key, _name(child), ""))
        else:  # a list of layers; their keys tell the class
            for inner, item in sorted(child.groups.items()):
                kind = split_key(inner)[0]
                _add_parts(parts, item, parts.enter(place, f"{key}/{inner}", _name(item), kind))


def keras2_root(tree: Group) -> Group | None:
    """The group with the layers: the file itself, or `model_weights` of a whole model."""
    for group in (tree, tree.groups.get("model_weights")):
        if group is not None and (group.has("layer_names") or group.has("layer_names0")):
            return group
    return None


def keras2_layers(root: Group) -> list[Layer]:
    """Layers of the file; the entry of a nested model is cut into its layers."""
    layers: list[Layer] = []
    for name in root.strings("layer_names"):
        group = root
        for part in name.split("/"):
            group = group.groups[part]
        inside = dict(group.walk())
        weights = {w.removesuffix(":0"): inside[w] for w in group.strings("weight_names")}
        scopes: dict[str, dict[str, Tensor]] = collections.defaultdict(dict)
        for weight_name, tensor in weights.items():
            scope, _, last = weight_name.rpartition("/")
            scopes[scope][last] = tensor
        if len(scopes) > 1 and all(scope.startswith(f"{name}/") for scope in scopes):
            layers.append(Layer(name, ("", len(layers)), weights))  # one layer, made of layers
            continue
        if not scopes:
            layers.append(Layer(name, ("", len(layers)), {}))
        for scope, tensors in scopes.items():
            inner = f"/{scope.rpartition('/')[2]}" if len(scopes) > 1 else ""
            layers.append(Layer(name + inner, ("", len(layers)), tensors))
    return layers


def keras2_config(tree: Group) -> dict[str, Any] | None:
    """How a whole model was built, of a file that Keras 3 wrote; Keras 2 described it otherwise."""
    if not tree.has("model_config") or not tree.string("keras_version").startswith("3"):
        return None
    config = json.loads(tree.string("model_config"))
    return config if isinstance(config, dict) else None
