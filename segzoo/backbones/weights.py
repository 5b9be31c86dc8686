"""Weights files of every Keras layout, read by content and checked whole before they are used.

    layout                  what tells it                             what names a layer
    Keras 3, `.weights.h5`  HDF5 with a group `layers`                the attribute `name` of `vars`
    Keras 3, `.keras`       a zip archive with such a file inside     the same
    Keras 2, weights only   HDF5 with the attribute `layer_names`     its entries
    Keras 2, whole model    HDF5 with a group `model_weights`         its `layer_names`

The name of the file tells nothing: users rename files. Which layer of the file belongs to which of
the model is settled in `_pairing`, before the first assignment: a file either fits as a whole or
changes nothing.
"""

import collections
import contextlib
import io
import os
import pathlib
import tempfile
import zipfile
from collections.abc import Iterator
from typing import Any

import h5py
import keras

from segzoo.backbones._pairing import Layer, pair_weights

_ARCHIVED = "model.weights.h5"  # of a `.keras` archive


def load_weights(model: keras.Model, path: str | os.PathLike) -> None:
    """Load a weights file of any Keras layout, or raise and leave the model as it was.

    The file may be Keras 3's `.weights.h5` or `.keras`, or Keras 2's `.h5`, weights alone or a
    whole model; its content tells, not its name. Layers behind those of the model, such as a
    classifier top, and the state of an optimizer are left out.

    Args:
        model: a built `keras.Model`; models inside it are followed.
        path: the weights file.

    Raises:
        FileNotFoundError: if there is no file at `path`.
        ValueError: if the file is no weights file, is truncated, or does not fit the model; the
            message names the first layer that does not fit, and both shapes.

    Example:
        >>> import os, tempfile
        >>> import keras
        >>> from segzoo.backbones.weights import load_weights
        >>> def network():
        ...     return keras.Sequential([keras.Input((8,)), keras.layers.Dense(2, name="score")])
        >>> source, target = network(), network()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "any.weights.h5")
        ...     source.save_weights(path)
        ...     load_weights(target, path)
        >>> bool((source.get_weights()[0] == target.get_weights()[0]).all())
        True
    """
    path = pathlib.Path(path)
    first = next((f"layer `{layer.name}`" for layer, _ in _leaves(model)), "the first layer")
    with _open(path, first) as file:
        if "layers" in file:
            load = _load_keras3
        elif _keras2_root(file) is not None:
            load = _load_keras2
        else:
            raise ValueError(
                f"{path} is an HDF5 file, but no Keras weights file: expected a group `layers` or "
                f"`model_weights` or the attribute `layer_names`, received {sorted(file)[:5]}"
            )
    load(model, path)


def layer_shapes(path: str | os.PathLike) -> dict[str, list[tuple[int, ...]]]:
    """What is in a weights file of any Keras layout.

    Args:
        path: the weights file.

    Returns:
        The shapes of each layer's weights, by the layer's name; models inside the file's model
        are followed.
    """
    path = pathlib.Path(path)
    with _open(path) as file, _reading(path, "the list of layers"):
        root = _keras2_root(file)
        if root is not None:
            layers = _keras2_layers(root)
        else:
            layers = _keras3_layers(file) if "layers" in file else []
        return {
            layer.name: [tuple(weight.shape) for weight in layer.weights.values()]
            for layer in layers
        }


@contextlib.contextmanager
def _open(path: pathlib.Path, first: str = "the first layer") -> Iterator[h5py.File]:
    """The HDF5 file at `path`, or the one in the archive there."""
    if not path.exists():
        raise FileNotFoundError(f"there is no weights file at {path}")
    if not path.is_file():
        raise ValueError(f"{path} is a folder, not a weights file")
    with path.open("rb") as stream:
        start = stream.read(8)
    if not start.startswith((b"PK\x03\x04", b"\x89HDF\r\n\x1a\n")):
        raise ValueError(
            f"{path} is not a weights file: expected HDF5 or a `.keras` archive, "
            f"received {path.stat().st_size} bytes that start with {start!r}"
        )
    with _reading(path, first):
        source: Any = path
        if start.startswith(b"PK"):
            with zipfile.ZipFile(path) as archive:
                if _ARCHIVED not in archive.namelist():
                    raise ValueError(f"{path} is an archive without `{_ARCHIVED}` inside")
                source = io.BytesIO(archive.read(_ARCHIVED))
        file = h5py.File(source, "r")
    with file:
        yield file


@contextlib.contextmanager
def _reading(path: pathlib.Path, what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, KeyError, RuntimeError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} is truncated or damaged: {what} cannot be read, nothing was loaded ({error})"
        ) from error


# Keras 3: the model writes its own file, the values in it are exchanged, the model reads it back.
# So the layout inside a layer stays Keras's business, and what the file lacks besides weights
# (states of random generators, an optimizer) keeps the model's own value.


def _load_keras3(model: keras.Model, path: pathlib.Path) -> None:
    order = {layer.name: place for place, (layer, _) in enumerate(_leaves(model))}
    with tempfile.TemporaryDirectory() as folder:
        own = pathlib.Path(folder) / "own.weights.h5"
        model.save_weights(own)
        with _open(path) as file, h5py.File(own, "r+") as template:
            wanted = _keras3_layers(template)
            wanted.sort(key=lambda layer: order.get(layer.name, len(order)))
            for have, want in pair_weights(model.name, wanted, _keras3_layers(file), path):
                parent, name = want.parent, want.name
                del parent[name]
                with _reading(path, f"`{have.name}`"):
                    file.copy(have, parent, name.rpartition("/")[2])
        model.load_weights(own)


def _keras3_layers(group: h5py.Group, parents: str = "", place: str = "") -> list[Layer]:
    """Layers of a model's group; a nested model has a `layers` of its own."""
    layers = []
    for key, child in group["layers"].items():
        # The key is the class and a count: `conv2d`, `conv2d_1`, ... The name is an attribute,
        # which the first releases of Keras 3 did not write.
        kind, _, count = key.rpartition("_")
        kind, count = (kind, int(count)) if kind and count.isdigit() else (key, 0)
        path = parents + (child["vars"].attrs.get("name", "") if "vars" in child else "")
        if "layers" in child:
            layers += _keras3_layers(child, f"{path}/", f"{place}{key}/")
            continue
        weights: dict[str, Any] = {}
        child.visititems(lambda name, item, into=weights: into.update(_dataset(name, item)))
        if weights:
            layers.append(Layer(path, (place + kind, count), weights))
    return sorted(layers, key=lambda layer: layer.rank)


def _dataset(name: str, item: Any) -> dict[str, Any]:
    """`{name: item}` of a weight; nothing for groups and the state of a random generator."""
    is_weight = isinstance(item, h5py.Dataset) and "seed_generator" not in name.split("/")
    return {name: item} if is_weight else {}


# Keras 2: a flat list of layers, each with the list of its weights.


def _load_keras2(model: keras.Model, path: pathlib.Path) -> None:
    wanted = []
    for place, (layer, parents) in enumerate(_leaves(model)):
        variables = layer.trainable_weights + layer.non_trainable_weights
        names = [v.name for v in variables]
        if len(set(names)) < len(names):  # a layer of layers
            names = [v.path for v in variables]
        wanted.append(
            Layer(
                parents + layer.name, ("", place), dict(zip(names, variables, strict=True)), layer
            )
        )
    with _open(path) as file:
        with _reading(path, "the list of layers"):
            found = _keras2_layers(_keras2_root(file))
        values = []
        for dataset, variable in pair_weights(model.name, wanted, found, path):
            with _reading(path, f"`{dataset.name}`"):
                values.append((variable, dataset[()]))
    for variable, value in values:
        variable.assign(value)
    for layer in wanted:
        if hasattr(layer.owner, "finalize_state"):  # `Normalization` computes with copies
            layer.owner.finalize_state()


def _leaves(model: keras.Model, parents: str = "") -> Iterator[tuple[Any, str]]:
    """Layers with weights in the model's order, those of nested models in their place."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _leaves(layer, f"{parents}{layer.name}/")
        elif layer.weights:
            yield layer, parents


def _keras2_root(file: h5py.File) -> h5py.Group | None:
    """The group with the layers: the file itself, or `model_weights` of a whole model."""
    for group in (file, file.get("model_weights")):
        # A list that is too long for one attribute is cut into `layer_names0`, `layer_names1`, ...
        if group is not None and {"layer_names", "layer_names0"} & set(group.attrs):
            return group
    return None


def _keras2_layers(root: h5py.Group) -> list[Layer]:
    """Layers of the file; the entry of a nested model is cut into its layers."""
    layers: list[Layer] = []
    for name in _strings(root, "layer_names"):
        weights = {
            w.removesuffix(":0"): root[name][w] for w in _strings(root[name], "weight_names")
        }
        scopes: dict[str, dict[str, Any]] = collections.defaultdict(dict)
        for weight_name, dataset in weights.items():
            scope, _, last = weight_name.rpartition("/")
            scopes[scope][last] = dataset
        if len(scopes) > 1 and all(scope.startswith(f"{name}/") for scope in scopes):
            layers.append(Layer(name, ("", len(layers)), weights))  # one layer, made of layers
            continue
        for scope, inside in scopes.items():
            inner = f"/{scope.rpartition('/')[2]}" if len(scopes) > 1 else ""
            layers.append(Layer(name + inner, ("", len(layers)), inside))
    return layers


def _strings(group: h5py.Group, attribute: str) -> list[str]:
    """An attribute that is a list of names, put together from its chunks."""
    chunks = [attribute] if attribute in group.attrs else []
    while chunks[:1] != [attribute] and f"{attribute}{len(chunks)}" in group.attrs:
        chunks.append(f"{attribute}{len(chunks)}")
    names = [name for chunk in chunks for name in group.attrs[chunk]]
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]
