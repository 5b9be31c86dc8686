"""How two models were built, compared, where a file tells it.

Weights fit whatever a layer makes of them: a slope, an epsilon, the method of a resize are in no
array. What may differ without a change of what the weights mean is left out: names, types, how a
layer is trained, and what another output stride changes.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import keras

from segzoo.weights._layers import snake_case

_FREE = {
    *("name", "trainable", "dtype", "dtype_policy", "autocast", "seed", "axis", "data_format"),
    *("batch_shape", "batch_input_shape", "build_config", "synchronized", "momentum"),
    *("rate", "dropout", "noise_shape", "activity_regularizer"),
    # Output stride; what a stride's removal does to its neighbors.
    *("strides", "padding", "dilation_rate", "dilations", "dilation", "cropping", "pool_size"),
    # In the shapes already.
    *("filters", "units", "use_bias", "constant_channel", "kernel_size"),
}
_FREE_ENDINGS = ("_initializer", "_regularizer", "_constraint")


def first_difference(
    layers: Iterable[keras.layers.Layer], outputs: Iterable[str], config: dict[str, Any]
) -> str:
    """Say in what the first layer that was built otherwise differs; empty where none does.

    Args:
        layers: of the model, those with weights and those without; compared are layers of one name
            and class.
        outputs: names of layers whose function is the caller's own choice, the output activation.
        config: of the file's model.
    """
    theirs: dict[str, dict] = {}
    twice: set[str] = set()
    for entry in _entries(config):
        name = _name(entry)
        twice |= {name} & theirs.keys()
        theirs[name] = entry
    for layer in layers:
        entry = theirs.get(layer.name, {})
        comparable = layer.name not in twice and layer.name not in outputs
        if comparable and _class(entry) == type(layer).__name__:
            found = _difference(layer.get_config(), entry["config"])
            if found:
                key, ours, other = found
                return (
                    f"`{layer.name}` of the model has {key}={ours!r}, in the file {key}={other!r}"
                )
    return ""


def _entries(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The layers in a model's config, those of models inside in their place."""
    todo = [config]
    while todo:
        entry = todo.pop()
        inside = entry.get("config") if isinstance(entry, dict) else None
        if isinstance(inside, dict) and isinstance(inside.get("layers"), list):
            todo += reversed(inside["layers"])
        elif isinstance(inside, dict):
            yield entry


def layers_of(config: dict[str, Any]) -> dict[str, str]:
    """The layers in a model's config, in its order: their classes in snake case by their names."""
    return {_name(entry): snake_case(_class(entry)) for entry in _entries(config)}


def _class(entry: dict[str, Any]) -> str:
    # An `.h5` has the package in front: `segzoo.layers>ConvBlock`.
    return str(entry.get("class_name")).rpartition(">")[2]


def _name(entry: dict[str, Any]) -> str:
    return str(entry["config"].get("name", entry.get("name")))


def _difference(ours: dict[str, Any], theirs: dict[str, Any]) -> tuple[str, Any, Any] | None:
    for key in sorted(ours.keys() & theirs.keys() - _FREE):
        mine, other = _plain(ours[key]), _plain(theirs[key])
        if mine != other and not key.endswith(_FREE_ENDINGS):
            return key, mine, other
    return None


def _plain(value: Any) -> Any:
    """A value of a config without what depends on where it comes from: types, modules, names."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict) and "class_name" in value:
        inside = value.get("config")
        # A function is its name.
        return inside if isinstance(inside, str) else [_class(value), _plain(inside)]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if key not in _FREE}
    return value.item() if hasattr(value, "item") else value
