"""Which layer of a weights file belongs to which layer of a model.

Layers are paired by name. Names that Keras gives by itself (`conv2d_17`) count by their rank among
their kind, since the number depends on what was built earlier in the process. Where a file has not
the model's names, order decides, but never against a name that both sides have.

All shapes are compared, and the kinds of layers as far as the file tells them: group and layer
normalization have the same weights. What a file has beyond the model is accepted where it is known
to be surplus. To load a part of a network, that is what stands behind the part, as a classifier
top does (VGG19 has every layer of VGG16, but in between it has others), and what stands around it,
as a decoder does around a backbone. To load a whole network it is nothing, but for what the caller
names.
"""

import collections
import dataclasses
import pathlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from segzoo.weights._layers import Layer, Tensor, said_kind
from segzoo.weights._values import WeightsFileError

# Classes that are told apart where both sides tell them: each has its own arithmetic.
_KINDS = re.compile(r"(depthwise_|separable_)?conv2d|conv2d_transpose|dense|[a-z]+_normalization")


@dataclasses.dataclass(frozen=True)
class Rules:
    """What may differ between a file and a model.

    Attributes:
        surplus: None where the model is a part of the file's; otherwise the prefixes of the names
            of layers that the file may have and the model has not.
        fresh: prefixes of the names of the classifier's layers. Where they differ from the file's
            in the number of classes alone they keep the model's values.
        colors: whether the first convolution may have another number of input channels than the
            file's, which then has to have three.
    """

    surplus: Sequence[str] | None = None
    fresh: Sequence[str] = ()
    colors: bool = False


@dataclasses.dataclass(frozen=True)
class Pair:
    """A variable of the model and what the file has for it."""

    layer: Layer
    tensor: Tensor
    variable: Any
    colors: bool = False  # the file's is of three colors, the model's is not


@dataclasses.dataclass(frozen=True)
class Pairing:
    """All pairs, and the layers that start fresh, each with those of the file."""

    pairs: list[Pair]
    fresh: list[tuple[Layer, Layer]]


class _MisfitError(ValueError):
    """The first layer that does not fit."""


def pair_weights(
    model_name: str, wanted: list[Layer], found: list[Layer], path: pathlib.Path, rules: Rules
) -> Pairing:
    """Pair each weight of the model with one of the file.

    Args:
        model_name: the model's name, for the error.
        wanted: the model's layers, in order.
        found: the file's layers, in order.
        path: the file, for the error.
        rules: what may differ.

    Raises:
        ValueError: names the first layer of the model that does not fit.
    """
    want, have = ([x for x in layers if x.weights] for layers in (wanted, found))
    try:
        return _pair(want, have, rules)
    except _MisfitError as error:
        raise WeightsFileError(
            path, f"does not fit model `{model_name}`, nothing was loaded: {error}"
        ) from None


def _pair(wanted: list[Layer], found: list[Layer], rules: Rules) -> Pairing:
    """Pair by names, and by order where the file has not the model's names."""
    mine, theirs = set(_names(wanted)), set(_names(found))
    try:
        return _pair_by(_names, wanted, found, rules)
    except _MisfitError as misfit:
        if mine <= theirs:
            raise
        try:
            _check_shared_names(wanted, found, strict=rules.surplus is not None)
            return _pair_by(_ranks, wanted, found, rules)
        except _MisfitError:
            if mine & theirs:
                raise misfit from None
            raise


def _pair_by(
    keys: Callable[[list[Layer]], list], wanted: list[Layer], found: list[Layer], rules: Rules
) -> Pairing:
    rest = dict(zip(keys(found), found, strict=True))
    if len(rest) < len(found):
        raise _MisfitError("the file has two layers with the same name and place")
    pairs: list[Pair] = []
    fresh: list[tuple[Layer, Layer]] = []
    matched: list[Layer] = []
    for key, layer in zip(keys(wanted), wanted, strict=True):
        match = rest.pop(key, None)
        if match is None:
            raise _MisfitError(f"the model has {layer}, the file has no such layer")
        matched.append(match)
        if _is_fresh(layer, match, rules):
            fresh.append((layer, match))
        else:
            pairs += _fit(layer, match, colors=rules.colors and layer is wanted[0])
    if len({change for pair in fresh for change in _changes(*pair)}) > 1:
        raise _MisfitError(f"the model has {fresh[0][0]}, the file has {fresh[0][1]}")
    _check_surplus(matched, list(rest.values()), rules.surplus)
    return Pairing(pairs, fresh)


def _check_surplus(matched: list[Layer], rest: list[Layer], surplus: Sequence[str] | None) -> None:
    """Refuse what the file has beyond the model, unless it is known to be surplus."""
    last: dict[str, int] = {}
    for layer in matched:
        sequence, place = layer.rank
        last[sequence] = max(place, last.get(sequence, place))
    parents = {layer.parents for layer in matched}
    for layer in rest:
        if surplus is not None:
            if not layer.name.startswith(tuple(surplus)):
                raise _MisfitError(f"the file has {layer}, the model has no such layer")
            continue
        sequence, place = layer.rank
        # The statistics of an input normalization may stand in front: they are no part of the net.
        if layer.kind == "normalization" or (
            layer.automatic and layer.automatic[0] == "normalization"
        ):
            continue
        behind = place > last.get(sequence, place)
        # A file that counts each class by itself does not tell where a class stands that the model
        # has not: it may be a classifier's (VGG's has three), or one around a backbone.
        dense = sum(other.kind == "dense" for other in rest)
        classifier = layer.kind == "dense" and dense <= 3
        beside = sequence not in last and (classifier or layer.parents not in parents)
        if not behind and not beside:
            raise _MisfitError(f"the file has {layer}, the model has no such layer at that place")


def _fit(want: Layer, have: Layer, colors: bool) -> list[Pair]:
    """The weights of two layers, by name where the names agree, otherwise in order."""
    if want.weights.keys() == have.weights.keys():
        pairs = [(have.weights[name], variable) for name, variable in want.weights.items()]
    else:
        pairs = list(zip(have.weights.values(), want.weights.values(), strict=False))
    other = [tuple(h.shape) != tuple(w.shape) for h, w in pairs]
    recolored = colors and other[:1] == [True] and _other_colors(*pairs[0])
    if len(want.weights) != len(have.weights) or any(other[recolored:]):
        raise _MisfitError(f"the model has {want}, the file has {have}")
    for mine, theirs in _kinds(want, have):
        raise _MisfitError(
            f"`{want.path}` of the model has a {mine} layer, in the file it is a {theirs} layer"
        )
    return [
        Pair(want, tensor, variable, recolored and number == 0)
        for number, (tensor, variable) in enumerate(pairs)
    ]


def _kinds(want: Layer, have: Layer) -> Iterator[tuple[str, str]]:
    """The kinds that differ of what two layers are made of, as far as both sides tell them."""
    for place in want.kinds.keys() & have.kinds.keys():
        mine, theirs = (layer.kinds[place].split("|") for layer in (want, have))
        known = _KINDS.fullmatch(mine[0]) and _KINDS.fullmatch(theirs[0])
        if known and not set(mine) & set(theirs):
            yield mine[0], theirs[0]
    said = (map(said_kind, layer.weights) for layer in (want, have))
    for mine, theirs in zip(*said, strict=True):
        if mine and theirs and mine != theirs:
            yield f"{mine}_normalization", f"{theirs}_normalization"


def _other_colors(have: Any, want: Any) -> bool:
    """Whether two kernels differ in their input channels alone, three in the file."""
    ours, theirs = tuple(want.shape), tuple(have.shape)
    if len(ours) != 4 or len(theirs) != 4 or theirs[2] != 3:
        return False
    return ours[2] != 3 and ours[:2] == theirs[:2] and ours[3] == theirs[3]


def _is_fresh(want: Layer, have: Layer, rules: Rules) -> bool:
    """Whether a classifier's layer differs in the number of classes, and in nothing else."""
    named = bool(rules.fresh) and want.name.startswith(tuple(rules.fresh))
    if not named or (want.kind and have.kind and want.kind != have.kind):
        return False
    shapes = [(tuple(h.shape), tuple(w.shape)) for h, w in _in_order(want, have)]
    if len(want.weights) != len(have.weights) or any(len(h) != len(w) for h, w in shapes):
        return False
    # Classes are last, and next to last too in the kernel of a class from the classes.
    return all(h[:-2] == w[:-2] and h[-1] != w[-1] for h, w in shapes)


def _in_order(want: Layer, have: Layer) -> list[tuple[Any, Any]]:
    return list(zip(have.weights.values(), want.weights.values(), strict=False))


def _changes(want: Layer, have: Layer) -> set[tuple[int, int]]:
    """The sizes that differ: of the file and of the model."""
    return {
        (theirs, ours)
        for h, w in _in_order(want, have)
        for theirs, ours in zip(h.shape, w.shape, strict=True)
        if theirs != ours
    }


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
    """Keys of order: the place among the layers with weights of each sequence."""
    places: dict[str, list[int]] = collections.defaultdict(list)
    for sequence, place in sorted(layer.rank for layer in layers):
        places[sequence].append(place)
    return [(layer.rank[0], places[layer.rank[0]].index(layer.rank[1])) for layer in layers]


def _check_shared_names(wanted: list[Layer], found: list[Layer], strict: bool) -> None:
    """Refuse an order that pairs a layer with another than its namesake.

    The pyramid's `aspp_rate_6, _12, _18` of output stride 16 may become `aspp_rate_12, _24, _36` of
    8, with the same weights. Where `strict`, no other names may differ; otherwise numbers may.
    """
    names = {layer.name for layer in wanted if not layer.automatic}
    names &= {layer.name for layer in found if layer.name}
    by_rank = dict(zip(_ranks(found), found, strict=True))
    for rank, layer in zip(_ranks(wanted), wanted, strict=True):
        match = by_rank.get(rank)
        numbers = r"(?<=_rate_)\d+" if strict else r"\d+"
        if not match or re.sub(numbers, "", match.name) == re.sub(numbers, "", layer.name):
            continue
        if (strict and match.name and not layer.automatic) or {match.name, layer.name} & names:
            raise _MisfitError(f"`{layer.name}` of the model is at the place of `{match.name}`")
