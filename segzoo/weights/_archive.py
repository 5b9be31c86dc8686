"""A `.keras` archive, opened once, nothing unpacked beyond what it says and what is sensible.

The weights inside are stored as they are; then HDF5 reads them in place, through a window on the
archive, once their checksum is right. An archive that was packed again is unpacked into memory,
up to a limit.
"""

import dataclasses
import io
import json
import os
import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO

from segzoo.weights._values import WeightsFileError

_WEIGHTS, _CONFIG = "model.weights.h5", "config.json"
_LARGEST_CONFIG = 8 << 20
_LARGEST_DIRECTORY = 1 << 20  # of an archive's list of members
_STEP = 1 << 20


@dataclasses.dataclass(frozen=True)
class Archive:
    """What is inside a `.keras` archive: the weights as a file, and how the model was built."""

    weights: io.RawIOBase | io.BytesIO
    config: dict[str, Any]


def read_archive(path: str | os.PathLike, stream: BinaryIO, limit: int) -> Archive:
    """Look into an archive.

    Args:
        path: its name, for the error.
        stream: the archive, which has to stay open as long as the weights are read.
        limit: bytes that weights which were packed may take, or four times as many as they are
            packed, whichever is more: weights hardly shrink when they are packed.

    Raises:
        ValueError: says what is refused.
    """
    _check_directory(path, stream)
    with zipfile.ZipFile(stream) as archive:
        members = {info.filename: info for info in archive.infolist()}
        if _WEIGHTS not in members:
            raise WeightsFileError(path, f"is an archive without `{_WEIGHTS}` inside")
        weights = members[_WEIGHTS]
        if weights.compress_type == zipfile.ZIP_STORED:
            _check_sum(archive, weights)
            source: Any = _window(stream, weights)
        else:
            most = max(limit, 4 * weights.compress_size)
            source = io.BytesIO(_read(path, archive, weights, most))
        config: Any = {}
        if _CONFIG in members:
            config = json.loads(_read(path, archive, members[_CONFIG], _LARGEST_CONFIG))
    return Archive(source, config if isinstance(config, dict) else {})


def _read(path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, most: int) -> bytes:
    if info.file_size > most:
        raise WeightsFileError(
            path,
            f"cannot be loaded: `{info.filename}` unpacks to {info.file_size} bytes, more than the "
            f"{most} that it may",
        )
    return b"".join(_pieces(archive, info))


def _check_directory(path, stream: BinaryIO) -> None:
    """Refuse a list of members that is far longer than Keras writes, before it is read."""
    size = stream.seek(0, io.SEEK_END)
    stream.seek(max(0, size - (1 << 16) - 98))
    tail = stream.read()
    at = tail.rfind(b"PK\x05\x06")
    length = int.from_bytes(tail[at + 12 : at + 16], "little") if at >= 0 else 0
    if at >= 76 and tail[at - 20 : at - 16] == b"PK\x06\x07":  # a record of a large archive
        length = max(length, int.from_bytes(tail[at - 36 : at - 28], "little"))
    if length > _LARGEST_DIRECTORY:
        raise WeightsFileError(
            path, f"cannot be loaded: a list of members of {length} bytes in the archive"
        )
    stream.seek(0)


def _check_sum(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
    """Read a member once; `zipfile` compares its checksum at the end."""
    for _ in _pieces(archive, info):
        pass


def _pieces(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    """A member in pieces: what it unpacks to may be more than it says."""
    with archive.open(info) as member:
        while piece := member.read(_STEP):
            yield piece


def _window(stream: BinaryIO, info: zipfile.ZipInfo) -> io.RawIOBase:
    # Behind a member's own header of 30 bytes are its name and a field of any length.
    stream.seek(info.header_offset + 26)
    lengths = stream.read(4)
    start = info.header_offset + 30
    start += int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")
    return _Window(stream, start, info.file_size)


class _Window(io.RawIOBase):
    """A part of a file, as a file."""

    def __init__(self, stream: BinaryIO, start: int, size: int) -> None:
        self._stream, self._start, self._size, self._at = stream, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer) -> int:
        self._stream.seek(self._start + self._at)
        count = max(0, min(len(buffer), self._size - self._at))
        got = self._stream.readinto(memoryview(buffer)[:count])  # type: ignore[attr-defined]
        self._at += got
        return got
