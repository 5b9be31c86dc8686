"""An HDF5 file as a tree of groups and tensors that are not read yet, and what is refused in it.

HDF5 can do more than weights need, and each of these has been used to read other files of a
machine, or to fill its memory and time with a small file:

    a link to another file, or a soft link           refused
    an object that is linked from two places         refused: cycles, exponentially many paths
    values outside the file, or mapped (virtual)     refused
    anything but real numbers                        refused before it is read
    a compressed chunk larger than it says           refused at the size that it says
    a data set without values                        refused: it would be read as zeros
    too many objects, groups too deep                refused before they are visited
"""

import dataclasses
import math
import os
import zlib
from collections.abc import Iterator

import h5py
import ml_dtypes
import numpy as np
from h5py import h5a, h5d, h5g, h5l, h5o, h5t, h5z

from segzoo.weights._layers import Tensor
from segzoo.weights._values import WeightsFileError, check_dtype, reading

# NASNetLarge, the largest network here, has 4,000 objects in its file.
_MOST_OBJECTS = 20_000
_DEEPEST = 64
_LONGEST_ATTRIBUTE = 8 << 20  # bytes
_FILTERS = {h5z.FILTER_SHUFFLE, h5z.FILTER_DEFLATE, h5z.FILTER_FLETCHER32}


@dataclasses.dataclass(frozen=True)
class Group:
    """A group of an HDF5 file: groups and tensors by name, and attributes that are names."""

    name: str
    path: str | os.PathLike
    id: h5g.GroupID
    groups: dict[str, "Group"] = dataclasses.field(default_factory=dict)
    tensors: dict[str, Tensor] = dataclasses.field(default_factory=dict)

    def walk(self, place: str = "") -> Iterator[tuple[str, Tensor]]:
        """All tensors below, with their names from here."""
        for name, tensor in self.tensors.items():
            yield place + name, tensor
        for name, group in self.groups.items():
            yield from group.walk(f"{place}{name}/")

    def has(self, attribute: str) -> bool:
        """Whether the group has an attribute."""
        return h5a.exists(self.id, attribute.encode())

    def strings(self, attribute: str) -> list[str]:
        """An attribute that is a list of names, put together from its chunks.

        Keras 2 cuts a list that is too long for one attribute into `layer_names0`, `..1`, ...
        """
        if self.has(attribute):
            return self._strings(attribute)
        names: list[str] = []
        count = 0
        while self.has(f"{attribute}{count}"):
            names += self._strings(f"{attribute}{count}")
            count += 1
        return names

    def string(self, attribute: str) -> str:
        """An attribute that is one name; empty where there is none."""
        names = self._strings(attribute) if self.has(attribute) else [""]
        if len(names) != 1:
            raise self._no_names(attribute)
        return names[0]

    def _strings(self, attribute: str) -> list[str]:
        found = h5a.open(self.id, attribute.encode())
        kind = found.get_type()
        size = math.prod(found.shape) * kind.get_size()
        empty = found.get_space().get_simple_extent_npoints() == 0
        if not empty and not (isinstance(kind, h5t.TypeStringID) and size <= _LONGEST_ATTRIBUTE):
            raise self._no_names(attribute)
        value = [] if empty else h5py.Group(self.id).attrs[attribute]
        names = [n.decode() if isinstance(n, bytes) else str(n) for n in np.atleast_1d(value)]
        if len(set(names)) < len(names):
            raise self._no_names(attribute)
        return names

    def _no_names(self, attribute: str) -> WeightsFileError:
        return WeightsFileError(
            self.path,
            f"is damaged: the attribute `{attribute}` of `{self.name}` is no list of different "
            "names",
        )


def read_tree(path: str | os.PathLike, file: h5py.File) -> Group:
    """The tree of a file, without the state of an optimizer.

    Raises:
        ValueError: names the object that is refused.
    """
    root = Group("/", path, h5g.open(file.id, b"/"))
    seen = {_address(root.id)}
    count, todo = 0, [(root, 1)]
    while todo:
        group, depth = todo.pop()
        count += group.id.get_num_objs()
        if count > _MOST_OBJECTS or depth > _DEEPEST:
            raise WeightsFileError(
                path,
                f"cannot be loaded: it has more than {_MOST_OBJECTS} objects, or groups more than "
                f"{_DEEPEST} deep, at `{group.name}`",
            )
        for key in group.id:
            # A name that is no text cannot be that of a layer.
            text = key.decode(errors="backslashreplace")
            if depth == 1 and text in ("optimizer", "optimizer_weights"):
                continue
            name = f"{group.name.rstrip('/')}/{text}"
            with reading(path, f"`{name}`"):
                if group.id.links.get_info(key).type != h5l.TYPE_HARD:
                    raise WeightsFileError(
                        path, f"cannot be loaded: `{name}` is a link to another place or file"
                    )
                item = h5o.open(group.id, key)
                address = _address(item)
                if address in seen:
                    raise WeightsFileError(
                        path, f"cannot be loaded: `{name}` is linked from two places"
                    )
                seen.add(address)
                if isinstance(item, h5d.DatasetID):
                    group.tensors[text] = _tensor(path, name, item)
                elif isinstance(item, h5g.GroupID):
                    group.groups[text] = Group(name, path, item)
                    todo.append((group.groups[text], depth + 1))
    return root


def _address(item) -> tuple[int, int]:
    info = h5o.get_info(item)
    return info.fileno, info.addr


def _tensor(path, name: str, dataset: h5d.DatasetID) -> Tensor:
    properties = dataset.get_create_plist()
    virtual = properties.get_layout() == h5d.VIRTUAL
    if virtual or properties.get_external_count():
        raise WeightsFileError(
            path,
            f"cannot be loaded: the values of `{name}` are outside the file"
            if not virtual
            else f"cannot be loaded: `{name}` is a virtual data set",
        )
    shape = tuple(dataset.shape) if dataset.shape is not None else (0,)

    def read() -> np.ndarray:
        with reading(path, f"`{name}`"):
            return _read(path, name, dataset)

    return Tensor(name, shape, read)


def _read(path, name: str, dataset: h5d.DatasetID) -> np.ndarray:
    dtype = dataset.dtype
    opaque = dtype.kind == "V" and dtype.itemsize == 2 and dtype.names is None
    if opaque and h5py.Dataset(dataset).attrs.get("dtype") == "bfloat16":
        dtype = np.dtype(ml_dtypes.bfloat16)
    check_dtype(path, name, dtype)
    size = math.prod(dataset.shape) * dtype.itemsize
    if size and not dataset.get_storage_size():
        raise WeightsFileError(path, f"is truncated or damaged: `{name}` has no values")
    if dataset.get_create_plist().get_layout() == h5d.CHUNKED:
        _check_chunks(path, name, dataset, size)
    return np.asarray(h5py.Dataset(dataset)[()]).view(dtype)


def _check_chunks(path, name: str, dataset: h5d.DatasetID, size: int) -> None:
    """Refuse a chunk that unpacks to more than it says, which HDF5 would make room for."""
    properties = dataset.get_create_plist()
    filters = [properties.get_filter(n)[0] for n in range(properties.get_nfilters())]
    if not set(filters) <= _FILTERS or len(set(filters)) < len(filters):
        raise WeightsFileError(path, f"cannot be loaded: `{name}` is not packed by gzip alone")
    declared = math.prod(properties.get_chunk()) * dataset.dtype.itemsize
    if declared > max(size, 1 << 20):
        raise WeightsFileError(
            path,
            f"cannot be loaded: a chunk of `{name}` has {declared} bytes, all its values {size}",
        )
    most = declared + 4  # a checksum
    chunks: list = []
    dataset.chunk_iter(chunks.append)
    for chunk in chunks:
        if chunk.size > 2 * most + 1024:
            unpacked = chunk.size
        elif h5z.FILTER_DEFLATE in filters and not chunk.filter_mask:
            _, packed = dataset.read_direct_chunk(chunk.chunk_offset)
            unpacked = len(zlib.decompressobj().decompress(packed, most + 1))
        else:
            unpacked = 0
        if unpacked > most:
            raise WeightsFileError(
                path,
                f"cannot be loaded: a chunk of `{name}` holds more than the {declared} bytes that "
                "it says",
            )
