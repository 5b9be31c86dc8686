"""Open a weights file of any layout: what it is, what is in it, nothing read yet."""

import contextlib
import dataclasses
import pathlib
import stat
from collections.abc import Iterator
from functools import partial
from os import PathLike
from typing import Any

import h5py

from segzoo.weights import _keras_files
from segzoo.weights._archive import read_archive
from segzoo.weights._config import layers_of
from segzoo.weights._hdf5 import read_tree
from segzoo.weights._layers import Layer, Tensor
from segzoo.weights._values import WeightsFileError, reading
from segzoo.weights.safetensors_files import SafetensorsFile, is_safetensors

# What weights that were packed may unpack to, where no model says what it needs.
_UNPACKED = 16 << 20


@dataclasses.dataclass(frozen=True)
class File:
    """An open weights file: what it is, and its layers, whose values are not read yet.

    Attributes:
        path: where it is.
        layout: `"keras3"` (`.weights.h5` and `.keras`), `"keras2"` or `"safetensors"`.
        layers: the layers, those without weights too where the file lists them.
        config: how the model was built, where the file says so (`.keras`, and whole models in `.h5`
            that Keras 3 wrote).
        ordered: whether the file tells the order of all its layers; a `.weights.h5` counts those of
            each class by themselves.
    """

    path: pathlib.Path
    layout: str
    layers: list[Layer]
    config: dict[str, Any] | None = None
    ordered: bool = True

    def kinds(self) -> dict[str, str]:
        """The classes of all layers by their names; empty where the file does not list them all."""
        if self.config:
            return layers_of(self.config)
        named = {layer.name: layer.kind for layer in self.layers if layer.kind and layer.name}
        return named if any(not layer.weights for layer in self.layers) else {}

    def __contains__(self, name: str) -> bool:
        return any(layer.name == name for layer in self.layers)


@contextlib.contextmanager
def open_file(
    path: str | PathLike, first: str = "the list of layers", limit: int = 0
) -> Iterator[File]:
    """Open a weights file; what it is, its content tells and not its name.

    Args:
        path: the weights file.
        first: what is read first, for the error of a damaged file.
        limit: bytes that a packed archive may unpack to beyond what every one may.

    Raises:
        FileNotFoundError: if there is no file at `path`.
        ValueError: if the file is not a weights file, is truncated or damaged, or holds what a
            weights file does not need.
    """
    path = pathlib.Path(path)
    _check_kind(path)
    with contextlib.ExitStack() as stack:
        with reading(path, first):
            file = _open(path, _UNPACKED + limit, stack)
        yield file


def _open(path: pathlib.Path, limit: int, stack: contextlib.ExitStack) -> File:
    if is_safetensors(path):
        return File(path, "safetensors", _modules(SafetensorsFile(path)))
    stream = stack.enter_context(path.open("rb"))
    start = stream.read(8)
    if start == b"\x89HDF\r\n\x1a\n":
        return _open_hdf5(path, stream, stack)
    if start.startswith(b"PK\x03\x04"):
        return _open_archive(path, stream, limit, stack)
    raise WeightsFileError(
        path,
        "is not a weights file: expected HDF5, a `.keras` archive or safetensors, received "
        f"{path.stat().st_size} bytes that start with {start!r}",
    )


def _check_kind(path: pathlib.Path) -> None:
    """Refuse what is no file, a pipe or a device, which reading might wait for."""
    if not path.exists():
        raise FileNotFoundError(f"there is no weights file at {path}")
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a device, a pipe or a socket"
        raise WeightsFileError(path, f"is {kind}, not a weights file")


def _open_hdf5(path: pathlib.Path, source: Any, stack: contextlib.ExitStack) -> File:
    file = stack.enter_context(h5py.File(source, "r"))
    tree = read_tree(path, file)
    root = _keras_files.keras2_root(tree)
    if "layers" in tree.groups:
        return File(path, "keras3", _keras_files.keras3_layers(tree), ordered=False)
    if root is not None:
        config = _keras_files.keras2_config(tree)
        return File(path, "keras2", _keras_files.keras2_layers(root), config)
    raise WeightsFileError(
        path,
        "is an HDF5 file, but no Keras weights file: expected a group `layers` or `model_weights` "
        f"or the attribute `layer_names`, received {sorted([*tree.groups, *tree.tensors])[:5]}",
    )


def _open_archive(path: pathlib.Path, stream: Any, limit: int, stack: contextlib.ExitStack) -> File:
    archive = read_archive(path, stream, limit)
    file = _open_hdf5(path, archive.weights, stack)
    # The config has the order that the weights inside lack.
    places = {name: place for place, name in enumerate(layers_of(archive.config))}
    names = [layer.name for layer in file.layers]
    if len(set(names)) < len(names) or not set(names) <= set(places):
        return dataclasses.replace(file, config=archive.config)
    layers = [dataclasses.replace(x, rank=("", places[x.name])) for x in file.layers]
    layers.sort(key=lambda layer: layer.rank)
    return dataclasses.replace(file, layers=layers, config=archive.config, ordered=True)


def _modules(file: SafetensorsFile) -> list[Layer]:
    """The tensors of a file of PyTorch's by module, which is its word for a layer."""
    modules: dict[str, dict[str, Tensor]] = {}
    for name, shape in file.shapes.items():
        module, _, last = name.rpartition(".")
        modules.setdefault(module, {})[last] = Tensor(name, shape, partial(file.__getitem__, name))
    return [
        Layer(module.replace(".", "/"), ("", place), weights)
        for place, (module, weights) in enumerate(modules.items())
    ]
