"""An HDF5 file as a tree of groups and tensors that are not read yet."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any

import h5py

from segzoo.weights._layers import Tensor


@dataclasses.dataclass(frozen=True)
class Group:
    """A group of an HDF5 file: attributes, groups and tensors by name."""

    name: str
    attributes: Any
    groups: dict[str, "Group"]
    tensors: dict[str, Tensor]

    def walk(self, place: str = "") -> Iterator[tuple[str, Tensor]]:
        """All tensors below, with their names from here."""
        for name, tensor in self.tensors.items():
            yield place + name, tensor
        for name, group in self.groups.items():
            yield from group.walk(f"{place}{name}/")

    def strings(self, attribute: str) -> list[str]:
        """An attribute that is a list of names, put together from its chunks.

        Keras 2 cuts a list that is too long for one attribute into `layer_names0`, `..1`, ...
        """
        chunks = [attribute] if attribute in self.attributes else []
        while chunks[:1] != [attribute] and f"{attribute}{len(chunks)}" in self.attributes:
            chunks.append(f"{attribute}{len(chunks)}")
        names = [name for chunk in chunks for name in self.attributes[chunk]]
        return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


@contextlib.contextmanager
def reading(path: pathlib.Path, what: str) -> Iterator[None]:
    """Turn what h5py raises for a damaged file into a ValueError that names the file."""
    try:
        yield
    except (OSError, KeyError, RuntimeError, TypeError) as error:
        raise ValueError(
            f"{path} is truncated or damaged: {what} cannot be read, nothing was loaded ({error})"
        ) from error


def read_tree(path: pathlib.Path, file: h5py.File) -> Group:
    """The tree of a file."""

    def group(source: h5py.Group) -> Group:
        made = Group(source.name, source.attrs, {}, {})
        for key, item in source.items():
            if isinstance(item, h5py.Dataset):
                made.tensors[key] = _tensor(path, item)
            else:
                made.groups[key] = group(item)
        return made

    return group(file)


def _tensor(path: pathlib.Path, dataset: h5py.Dataset) -> Tensor:
    def read():
        with reading(path, f"`{dataset.name}`"):
            if dataset.attrs.get("dtype") == "bfloat16":
                import ml_dtypes

                return dataset[()].view(ml_dtypes.bfloat16)
            return dataset[()]

    return Tensor(dataset.name, tuple(dataset.shape), read)
