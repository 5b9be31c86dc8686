"""The layers of a Keras file, for each of its layouts.

layout                             what tells it                            a layer's name is
"keras3"        `.weights.h5`      HDF5 with a group `layers`               attribute `name`
"keras3"        `.keras`           a zip archive with such a file inside    the same
"keras2"        weights only       HDF5 with the attribute `layer_names`    its entries
"keras2"        whole model        HDF5 with a group `model_weights`        its `layer_names`
"""

import collections

from segzoo.weights._hdf5 import Group
from segzoo.weights._layers import Layer, Tensor, split_key


def keras3_layers(group: Group, parents: str = "", place: str = "") -> list[Layer]:
    """Layers of a model's group; a nested model has a `layers` of its own."""
    layers = []
    for key, child in group.groups["layers"].groups.items():
        # The key is the class and a count: `conv2d`, `conv2d_1`, ... The name is an attribute,
        # which the first releases of Keras 3 did not write.
        kind, count = split_key(key)
        own = child.groups.get("vars")
        path = parents + (str(own.attributes.get("name", "")) if own else "")
        if "layers" in child.groups:
            layers += keras3_layers(child, f"{path}/", f"{place}{key}/")
            continue
        weights = {
            name: tensor
            for name, tensor in child.walk()
            if "seed_generator" not in name.split("/")  # the state of a random generator
        }
        if weights:
            layers.append(Layer(path, (place + kind, count), weights))
    return sorted(layers, key=lambda layer: layer.rank)


def keras2_root(tree: Group) -> Group | None:
    """The group with the layers: the file itself, or `model_weights` of a whole model."""
    for group in (tree, tree.groups.get("model_weights")):
        if group is not None and {"layer_names", "layer_names0"} & set(group.attributes):
            return group
    return None


def keras2_layers(root: Group) -> list[Layer]:
    """Layers of the file; the entry of a nested model is cut into its layers."""
    layers: list[Layer] = []
    for name in root.strings("layer_names"):
        group = root.groups[name]
        inside = dict(group.walk())
        weights = {w.removesuffix(":0"): inside[w] for w in group.strings("weight_names")}
        scopes: dict[str, dict[str, Tensor]] = collections.defaultdict(dict)
        for weight_name, tensor in weights.items():
            scope, _, last = weight_name.rpartition("/")
            scopes[scope][last] = tensor
        if len(scopes) > 1 and all(scope.startswith(f"{name}/") for scope in scopes):
            layers.append(Layer(name, ("", len(layers)), weights))  # one layer, made of layers
            continue
        for scope, tensors in scopes.items():
            inner = f"/{scope.rpartition('/')[2]}" if len(scopes) > 1 else ""
            layers.append(Layer(name + inner, ("", len(layers)), tensors))
    return layers
