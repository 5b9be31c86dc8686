"""Safetensors files: eight bytes with the length of a header in JSON, the header, the values.

The header is checked as a whole before anything is allocated for a tensor: a file that lies about
a length, a type or a place is refused at once. Values are read one tensor at a time. A pickle is
never opened, because reading one runs what it says.
"""

import json
import math
import os
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import ml_dtypes  # noqa: F401  (registers bfloat16, which the package cannot read without it)
import numpy as np
from safetensors import SafetensorError, safe_open

# Bytes of one value, for the types that weights of a network have.
_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_BYTES |= {"I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1}
_LONGEST_HEADER = 8 << 20  # bytes; one of 1,000 tensors takes 0.1 MB
_PICKLES = (".pth", ".pt", ".ckpt", ".bin", ".pkl", ".pickle")


class SafetensorsFile(Mapping[str, np.ndarray]):
    """The tensors of a safetensors file by name, each read when it is asked for.

    Args:
        path: the file.

    Attributes:
        path: the file.
        shapes: the shape of each tensor, known without reading it.
        metadata: what the writer noted, text by text; most files note nothing.

    Raises:
        FileNotFoundError: if there is no file at `path`.
        ValueError: if the file is a pickle, an index of shards, truncated or damaged, or has a
            tensor of a type that no weights have.

    Example:
        >>> import os, tempfile
        >>> import numpy as np
        >>> from safetensors.numpy import save_file
        >>> from segzoo.weights.safetensors_files import SafetensorsFile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "model.safetensors")
        ...     save_file({"fc.weight": np.ones((3, 2), "float16")}, path)
        ...     file = SafetensorsFile(path)
        ...     file.shapes, file["fc.weight"].dtype
        ({'fc.weight': (3, 2)}, dtype('float32'))
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = pathlib.Path(path)
        header = _read_header(self.path)
        metadata = header.pop("__metadata__", {})
        self.metadata: dict[str, str] = metadata if isinstance(metadata, dict) else {}
        self.shapes: dict[str, tuple[int, ...]] = {
            name: tuple(entry["shape"]) for name, entry in header.items()
        }

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.shapes:
            raise KeyError(name)
        try:
            with safe_open(self.path, framework="numpy") as file:
                value = np.asarray(file.get_tensor(name))
        except (SafetensorError, OSError, TypeError) as error:
            raise damaged(self.path, f"tensor `{name}` cannot be read ({error})") from error
        if value.dtype.kind in "iub":
            return value
        with np.errstate(over="ignore"):  # infinity is refused where values are checked
            return value.astype("float32")

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


def is_safetensors(path: str | os.PathLike) -> bool:
    """Whether a file is meant to be read here: by its content, then by what it is called.

    Pickles and indices of shards are, too: `SafetensorsFile` says what to do about them.

    Args:
        path: the file.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        return path.suffix == ".safetensors"
    with path.open("rb") as stream:
        start = stream.read(9)
    if start.startswith(b"\x89HDF"):
        return False
    return (
        path.suffix == ".safetensors"
        or _announces_header(start, path.stat().st_size)
        or _is_pickle(path, start)
        or start.startswith(b"{")
    )


def damaged(path: pathlib.Path, cause: str) -> ValueError:
    """The error of a file that cannot be read."""
    return ValueError(f"{path} is truncated or damaged, nothing was loaded: {cause[:400]}")


def _read_header(path: pathlib.Path) -> dict[str, Any]:
    if not path.exists():
        raise FileNotFoundError(f"there is no weights file at {path}")
    if not path.is_file():
        raise ValueError(f"{path} is a folder, not a weights file")
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(9)
        if not _announces_header(start, size):
            if _is_pickle(path, start):
                raise _pickle_error(path)
            if start.startswith(b"{"):
                raise _json_error(path)
        length = int.from_bytes(start[:8], "little")
        if len(start) < 8 or length > min(size - 8, _LONGEST_HEADER):
            raise damaged(
                path,
                f"a file of {size} bytes cannot have the header of {length} bytes that its start "
                f"{start[:8]!r} announces",
            )
        stream.seek(8)
        text = stream.read(length)
    try:
        header = json.loads(text.decode(), object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"its header is not JSON ({error})") from error
    if not isinstance(header, dict):
        raise damaged(path, f"its header is not a table of tensors but a {type(header).__name__}")
    _check_entries(path, header, size - 8 - length)
    return header


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} occurs twice")
    return table


def _check_entries(path: pathlib.Path, header: dict[str, Any], size: int) -> None:
    """Raise ValueError unless the tensors fill the `size` bytes of values, without overlap."""
    places = []
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= set(entry):
            raise damaged(path, f"tensor `{name}` has no type, shape and place, but {entry!r:.80}")
        kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not isinstance(kind, str) or kind not in _BYTES:
            raise ValueError(
                f"{path}: tensor `{name}` is of type {kind!r}, nothing was loaded. What is read is "
                f"{', '.join(_BYTES)}; save the weights as float32, float16 or bfloat16"
            )
        if not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2:
            raise damaged(
                path, f"tensor `{name}` of shape {shape!r:.80} is at the bytes {offsets!r:.80}"
            )
        begin, end = offsets
        if end > size:
            raise damaged(
                path, f"tensor `{name}` ends at byte {end} of the values, there are {size}"
            )
        if end - begin != math.prod(shape) * _BYTES[kind]:
            raise damaged(
                path,
                f"tensor `{name}` of type {kind} and shape {tuple(shape)} cannot be the bytes "
                f"{begin} to {end}",
            )
        places.append((begin, end, name))
    if not places:
        raise damaged(path, "it has no tensors")
    expected, before = 0, "the start"
    for begin, end, name in sorted(places):
        if begin != expected:
            how = "overlaps" if begin < expected else "does not follow on"
            raise damaged(path, f"tensor `{name}` at byte {begin} {how} {before}")
        expected, before = end, f"`{name}`"
    if expected != size:
        raise damaged(path, f"{size} bytes of values follow, its tensors have {expected}")


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(n) is int and n >= 0 for n in values)


def _announces_header(start: bytes, size: int) -> bool:
    """Whether the first nine bytes are those of a header that the file can have."""
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= size - 8


def _is_pickle(path: pathlib.Path, start: bytes) -> bool:
    """Whether a file is what `torch.save` wrote, or is called so and is nothing known."""
    if start.startswith(b"PK"):
        # An archive; Keras's has other entries than PyTorch's, whose first is `<name>/data.pkl`.
        with path.open("rb") as stream:
            return b"data.pkl" in stream.read(4096)
    return bool(re.match(rb"\x80[\x02-\x05]", start)) or path.suffix.lower() in _PICKLES


def _pickle_error(path: pathlib.Path) -> ValueError:
    return ValueError(
        f"{path} is a file of `torch.save`, a pickle, which runs code of its author when it is "
        "read; segzoo reads none. Save the weights as safetensors with two lines of PyTorch:\n"
        f'    state = torch.load("{path.name}", map_location="cpu", weights_only=True)\n'
        f'    safetensors.torch.save_file(state, "{path.stem}.safetensors")\n'
        "A checkpoint of a training run keeps the weights in an entry, such as "
        '`state["state_dict"]`'
    )


def _json_error(path: pathlib.Path) -> ValueError:
    try:
        table = json.loads(path.read_bytes()[:_LONGEST_HEADER])
        shards = sorted(set(table["weight_map"].values()))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return ValueError(f"{path} is a text in JSON, not a weights file")
    return ValueError(
        f"{path} is an index of {len(shards)} files, which hold the weights in parts "
        f"({', '.join(map(str, shards[:3]))}{', …' if len(shards) > 3 else ''}). Only one file is "
        'read: save the model in one, in PyTorch with `save_pretrained(..., max_shard_size="50GB")`'
    )
