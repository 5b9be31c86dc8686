"""Which layer of a weights file belongs to which layer of a model.

Layers are paired by name. Names that Keras gives by itself (`conv2d_17`) count by their rank among
their kind, since the number depends on what was built earlier in the process. Where the names of a
file do not settle it, order does, but never against a name that both sides have.
All shapes are compared. What a file has beyond the model has to come behind it, as a classifier
top does: VGG19 has every layer of VGG16, but in between it has others.
"""

import collections
import pathlib
import re
from collections.abc import Callable
from typing import Any

from segzoo.weights._layers import Layer


class _MisfitError(ValueError):
    """The first layer that does not fit."""


def pair_weights(
    model_name: str, wanted: list[Layer], found: list[Layer], path: pathlib.Path
) -> list[tuple[Any, Any]]:
    """Pair each weight of the model with one of the file.

    Args:
        model_name: the model's name, for the error.
        wanted: the model's layers, in order.
        found: the file's layers, in order.
        path: the file, for the error.

    Returns:
        Pairs (of the file, of the model), all of one shape.

    Raises:
        ValueError: names the first layer of the model that does not fit.
    """
    try:
        return _pair_by(_names, wanted, found)
    except _MisfitError as error:
        misfit = error
    try:
        _check_shared_names(wanted, found)
        return _pair_by(_ranks, wanted, found)
    except _MisfitError as error:
        shared = set(_names(wanted)) & set(_names(found))
        misfit = misfit if shared else error
    raise ValueError(f"{path} does not fit model `{model_name}`, nothing was loaded: {misfit}")


def _pair_by(
    keys: Callable[[list[Layer]], list], wanted: list[Layer], found: list[Layer]
) -> list[tuple[Any, Any]]:
    rest = dict(zip(keys(found), found, strict=True))
    pairs: list[tuple[Any, Any]] = []
    last: dict[str, int] = {}
    for key, layer in zip(keys(wanted), wanted, strict=True):
        match = rest.pop(key, None)
        if match is None:
            raise _MisfitError(f"the model has {layer}, the file has no such layer")
        pairs += _fit(layer, match)
        sequence, place = match.rank
        last[sequence] = max(place, last.get(sequence, place))
    for layer in rest.values():
        sequence, place = layer.rank
        # The statistics of an input normalization may stand in front: they are no part of the net.
        statistics = layer.automatic and layer.automatic[0] == "normalization"
        if place < last.get(sequence, place) and not statistics:
            raise _MisfitError(f"the file has {layer}, the model has no such layer at that place")
    return pairs


def _fit(want: Layer, have: Layer) -> list[tuple[Any, Any]]:
    """The weights of two layers, by name where the names agree, otherwise in order."""
    if want.weights.keys() == have.weights.keys():
        pairs = [(have.weights[name], variable) for name, variable in want.weights.items()]
    else:
        pairs = list(zip(have.weights.values(), want.weights.values(), strict=False))
    same_count = len(want.weights) == len(have.weights)
    if not same_count or any(tuple(h.shape) != tuple(w.shape) for h, w in pairs):
        raise _MisfitError(f"the model has {want}, the file has {have}")
    return pairs


def _names(layers: list[Layer]) -> list:
    """Keys that two builds of one network share: names, and ranks among automatic names."""
    counts = collections.Counter(layer.name for layer in layers)
    automatic = [layer.automatic for layer in layers if layer.automatic]
    numbers = collections.defaultdict(list)
    for kind, number in sorted(automatic):
        numbers[kind].append(number)
    keys: list[Any] = []
    for layer in layers:
        if not layer.name:
            keys.append((layer.rank, "no name"))  # equal to no name of the model: order decides
        elif counts[layer.name] > 1:
            keys.append(layer.path)
        elif layer.automatic:
            kind, number = layer.automatic
            keys.append((kind, numbers[kind].index(number)))
        else:
            keys.append(layer.name)
    return keys


def _ranks(layers: list[Layer]) -> list:
    return [layer.rank for layer in layers]


def _check_shared_names(wanted: list[Layer], found: list[Layer]) -> None:
    """Refuse an order that pairs a layer with another than its namesake.

    Names that differ in numbers alone may: the pyramid's `aspp_rate_6, _12, _18` of output stride
    16 become `aspp_rate_12, _24, _36` at 8, with the same weights.
    """
    names = {layer.name for layer in wanted if not layer.automatic}
    names &= {layer.name for layer in found if layer.name}
    by_rank = {layer.rank: layer for layer in found}
    for layer in wanted:
        match = by_rank.get(layer.rank)
        if not match or _without_numbers(match.name) == _without_numbers(layer.name):
            continue
        if {match.name, layer.name} & names:
            raise _MisfitError(f"`{layer.name}` of the model is at the place of `{match.name}`")


def _without_numbers(name: str) -> str:
    return re.sub(r"\d+", "", name)
