"""Open a weights file of any layout: what it is, what is in it, nothing read yet."""

import contextlib
import dataclasses
import io
import json
import pathlib
import zipfile
from collections.abc import Iterator
from functools import partial
from os import PathLike
from typing import Any

import h5py

from segzoo.weights import _keras_files
from segzoo.weights._hdf5 import read_tree, reading
from segzoo.weights._layers import Layer, Tensor
from segzoo.weights.safetensors_files import SafetensorsFile, is_safetensors

_ARCHIVED = "model.weights.h5"  # of a `.keras` archive


@dataclasses.dataclass(frozen=True)
class File:
    """A weights file that is open: what it is, and its layers, whose values are not read yet.

    Attributes:
        path: where it is.
        layout: `"keras3"` (`.weights.h5` and `.keras`), `"keras2"` or `"safetensors"`.
        layers: the layers with weights, in the file's order.
        config: how the model was built, where the file says so (`.keras`).
    """

    path: pathlib.Path
    layout: str
    layers: list[Layer]
    config: dict[str, Any] | None = None

    def __contains__(self, name: str) -> bool:
        return any(layer.name == name for layer in self.layers)


@contextlib.contextmanager
def open_file(path: str | PathLike, first: str = "the list of layers") -> Iterator[File]:
    """Open a weights file; its content tells what it is, not its name.

    Args:
        path: the weights file.
        first: what is read first, for the error of a damaged file.

    Raises:
        FileNotFoundError: if there is no file at `path`.
        ValueError: if the file is no weights file, or is truncated or damaged.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no weights file at {path}")
    if not path.is_file():
        raise ValueError(f"{path} is a folder, not a weights file")
    if is_safetensors(path):
        yield File(path, "safetensors", _modules(SafetensorsFile(path)))
        return
    with path.open("rb") as stream:
        start = stream.read(8)
    for magic, opener in _OPENERS.items():
        if start.startswith(magic):
            with contextlib.ExitStack() as stack:
                yield opener(path, first, stack)
            return
    raise ValueError(
        f"{path} is not a weights file: expected HDF5, a `.keras` archive or safetensors, "
        f"received {path.stat().st_size} bytes that start with {start!r}"
    )


def _open_hdf5(path: pathlib.Path, first: str, stack: contextlib.ExitStack) -> File:
    return _read_hdf5(path, path, first, stack)


def _open_archive(path: pathlib.Path, first: str, stack: contextlib.ExitStack) -> File:
    try:
        with zipfile.ZipFile(path) as archive:
            if _ARCHIVED not in archive.namelist():
                raise ValueError(f"{path} is an archive without `{_ARCHIVED}` inside")
            source = io.BytesIO(archive.read(_ARCHIVED))
            config = json.loads(archive.read("config.json"))
    except (OSError, KeyError, RuntimeError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} is truncated or damaged: {first} cannot be read, nothing was loaded ({error})"
        ) from error
    return dataclasses.replace(_read_hdf5(path, source, first, stack), config=config)


def _read_hdf5(path: pathlib.Path, source: Any, first: str, stack: contextlib.ExitStack) -> File:
    with reading(path, first):
        file = stack.enter_context(h5py.File(source, "r"))
        tree = read_tree(path, file)
        if "layers" in tree.groups:
            return File(path, "keras3", _keras_files.keras3_layers(tree))
        root = _keras_files.keras2_root(tree)
        if root is not None:
            return File(path, "keras2", _keras_files.keras2_layers(root))
    raise ValueError(
        f"{path} is an HDF5 file, but no Keras weights file: expected a group `layers` or "
        f"`model_weights` or the attribute `layer_names`, received {sorted(file)[:5]}"
    )


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


_OPENERS = {b"\x89HDF\r\n\x1a\n": _open_hdf5, b"PK\x03\x04": _open_archive}
