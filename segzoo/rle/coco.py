"""COCO's run lengths: `{"size": [height, width], "counts": ...}`, as pycocotools writes them.

The counts are the lengths of background and foreground in turn, down the columns, background
first. Compressed, each count from the fourth on is replaced by its difference to the count two
before it, and written in groups of five bits, lowest first: a character is 48 + the group, + 32
where more groups follow, and the last group's top bit is the sign.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from segzoo.rle._messages import hint, short
from segzoo.rle._pixels import check_shape, mask_edges, paint
from segzoo.rle.masks import integers

_MOST_GROUPS = 12  # of five bits: more do not fit an int64 with its sign


def to_coco(mask: npt.ArrayLike) -> dict[str, Any]:
    """Write a mask as compressed COCO run lengths, byte for byte as pycocotools does.

    Args:
        mask: (H, W) bool or integers, in any memory order; non-zero is foreground. The masked
            pixels of a NumPy masked array are background.

    Returns:
        `{"size": [H, W], "counts": str}`, ready for JSON.

    Raises:
        ValueError: if `mask` is not two-dimensional or holds floats.

    Example:
        >>> import numpy as np
        >>> from segzoo import rle
        >>> rle.to_coco(np.array([[0, 1, 1], [0, 1, 0]]))
        {'size': [2, 3], 'counts': '231'}
    """
    array = integers(mask)
    edges = mask_edges(array, "F")
    counts = np.diff(edges, prepend=0, append=array.size)
    if edges.size and not counts[-1]:  # the mask ends in foreground
        counts = counts[:-1]
    return {"size": list(array.shape), "counts": _compress(counts)}


def from_coco(coco: Mapping[str, Any]) -> np.ndarray:
    """Read COCO run lengths as a mask.

    Args:
        coco: `{"size": [H, W], "counts": ...}` with counts as text (compressed: str, bytes,
            bytearray, memoryview or a uint8 array of the characters) or as a list of integers
            (uncompressed).

    Returns:
        A uint8 array (H, W) of 0 and 1, writable and C-contiguous.

    Raises:
        ValueError: if a key is missing, or the counts are malformed, negative, too large, never
            end, or do not sum to H * W. If they are in another dialect that is known (JSON, a
            polygon, a whole annotation, Label Studio's, CVAT's), the error names it.

    Example:
        >>> from segzoo import rle
        >>> rle.from_coco({"size": [2, 3], "counts": "231"})
        array([[0, 1, 1],
               [0, 1, 0]], dtype=uint8)
        >>> rle.from_coco({"size": [2, 3], "counts": [2, 3, 1]}).sum()
        np.uint64(3)
    """
    if not isinstance(coco, Mapping) or not {"size", "counts"} <= set(coco):
        what = sorted(map(str, coco)) if isinstance(coco, Mapping) else type(coco).__name__
        raise ValueError(
            f'`coco` must be a dict with the keys "size" and "counts", received {what}{hint(coco)}'
        )
    try:
        shape = check_shape(coco["size"])
    except ValueError as error:
        raise ValueError(f'"size" as {error}') from None
    size = shape[0] * shape[1]
    written = coco["counts"]
    try:
        counts = _read_counts(written, size)
    except ValueError as error:
        raise ValueError(f"{error}{_doubled(written, size) or hint(written)}") from None
    edges = np.cumsum(counts)[: counts.size // 2 * 2]
    if not counts[1:].all():
        # A count of 0 joins its neighbors: two changes in one place are none.
        edges, times = np.unique(edges, return_counts=True)
        edges = edges[times % 2 == 1]
    return paint(edges, shape, "F", 1, np.uint8)


def _read_counts(written: Any, size: int) -> np.ndarray:
    """Return the counts of a mask of `size` pixels as int64, or raise ValueError."""
    text = _text(written, size)
    counts = _plain(written) if text is None else _decompress(text)
    wrong = np.flatnonzero((counts < 0) | (counts > size))
    if wrong.size:
        raise ValueError(
            f'"counts" must be from 0 to the {size} pixels of "size", received '
            f"{counts[wrong[0]]} as count {wrong[0] + 1} of {counts.size}"
        )
    # Unsigned, the first sum past the size does not overflow: it is below twice the size.
    ends = np.cumsum(counts.view(np.uint64))
    if (ends[-1] if ends.size else 0) != size or (ends > size).any():
        raise ValueError(
            f'"counts" must sum to the {size} pixels of "size", received {sum(counts.tolist())}'
        )
    return counts


def _text(written: Any, size: int) -> bytes | None:
    """Return the characters of compressed counts, `None` for anything else."""
    if isinstance(written, str):
        return written.encode("utf-8", "replace")
    if isinstance(written, (bytes, bytearray)):
        return bytes(written)
    if isinstance(written, memoryview) and written.itemsize == 1:
        return written.tobytes()
    array = isinstance(written, np.ndarray) and written.dtype == np.uint8 and written.ndim == 1
    if not array or not written.size or not ((written >= ord("0")) & (written <= ord("o"))).all():
        return None
    # It may be numbers as well as characters: what fits the size decides.
    text = written.tobytes()
    if written.sum(dtype=np.int64) != size:
        return text
    try:
        _read_counts(text, size)
    except ValueError:
        return None
    raise ValueError(
        '"counts" must be bytes or a list where a uint8 array could be both characters and '
        f"numbers, received {short(written)}"
    )


def _doubled(written: Any, size: int) -> str:
    """Return "; ..." where compressed counts are right but for doubled backslashes."""
    text = _text(written, size) if isinstance(written, (str, bytes, bytearray)) else None
    if text is None or rb"\\" not in text:
        return ""
    try:
        _read_counts(text.replace(rb"\\", b"\\"), size)
    except ValueError:
        return ""
    return (
        "; each backslash in it is doubled, as in JSON that was escaped twice: "
        r'`counts.replace("\\\\", "\\")` takes one away'
    )


def _compress(counts: np.ndarray) -> str:
    """Return the characters of counts of at least 0."""
    values = counts.copy()
    values[3:] -= counts[1:-2]
    alive = np.ones(values.size, bool)
    columns = []
    while alive.any():
        group = values & 31
        values >>= 5
        more = values != -(group >> 4)  # unless the bits above only repeat the sign
        columns.append(((group + 32 * more + 48) * alive).astype(np.uint8))
        alive &= more
    return np.stack(columns, axis=1).tobytes().translate(None, b"\0").decode("ascii")


def _decompress(text: bytes) -> np.ndarray:
    """Return the counts of their characters, as int64; raise ValueError where there is none."""
    groups = np.frombuffer(text, np.uint8) - np.uint8(48)  # wraps below "0"
    if (groups > 63).any():
        index = int(np.argmax(groups > 63))
        raise ValueError(
            f'"counts" must hold the characters "0" to "o", received {text[index : index + 1]!r} '
            f"at index {index}"
        )
    lasts = np.flatnonzero(groups < 32)
    if groups.size and (not lasts.size or lasts[-1] != groups.size - 1):
        raise ValueError(f'"counts" must end with a whole count, received ...{text[-10:]!r}')
    sizes = np.diff(lasts, prepend=-1)
    if (sizes > _MOST_GROUPS).any():
        raise ValueError(
            f'"counts" must be below 2**60, received a count of {sizes.max()} groups of five bits'
        )
    if not groups.size:
        return np.empty(0, np.int64)
    firsts = lasts - sizes + 1
    place = np.arange(groups.size) - np.repeat(firsts, sizes)
    values = np.add.reduceat((groups & np.uint8(31)).astype(np.int64) << 5 * place, firsts)
    values -= (groups[lasts] >> 4).astype(np.int64) << 5 * sizes  # the sign
    # Undo the differences. A wrong count stands before any sum that could overflow, because
    # a difference of counts within the size is within it, too.
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def _plain(counts: Any) -> np.ndarray:
    """Return uncompressed counts as int64."""
    if np.ma.is_masked(counts):
        raise ValueError(f'"counts" must not hold masked numbers, received {short(counts)}')
    try:
        numbers = np.asarray(counts)
    except ValueError:  # ragged
        numbers = np.asarray(None)
    if numbers.ndim == 1 and not numbers.size:
        return np.empty(0, np.int64)
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
        raise ValueError(
            f'"counts" must be str, bytes or a list of integers, received {short(counts)}'
        )
    return (
        np.minimum(numbers, np.uint64(2**62)).astype(np.int64)
        if numbers.dtype == np.uint64
        else numbers.astype(np.int64)
    )
