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

from segzoo.rle._pixels import check_shape, mask_edges, paint
from segzoo.rle.masks import integers

_MOST_GROUPS = 12  # of five bits: more do not fit an int64 with its sign


def to_coco(mask: npt.ArrayLike) -> dict[str, Any]:
    """Write a mask as compressed COCO run lengths, byte for byte as pycocotools does.

    Args:
        mask: (H, W) bool or integers, in any memory order; non-zero is foreground.

    Returns:
        `{"size": [H, W], "counts": str}`, ready for JSON.

    Raises:
        ValueError: `mask` is not two-dimensional or holds floats.

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
        coco: `{"size": [H, W], "counts": ...}` with counts as str or bytes (compressed) or as a
            list of integers (uncompressed).

    Returns:
        (H, W) uint8 array of 0 and 1, writable and C-contiguous.

    Raises:
        ValueError: a key is missing, or the counts are malformed, negative, too large, never end,
            or do not sum to H * W.

    Example:
        >>> from segzoo import rle
        >>> rle.from_coco({"size": [2, 3], "counts": "231"})
        array([[0, 1, 1],
               [0, 1, 0]], dtype=uint8)
        >>> rle.from_coco({"size": [2, 3], "counts": [2, 3, 1]}).sum()
        np.uint64(3)
    """
    if not isinstance(coco, Mapping) or not {"size", "counts"} <= set(coco):
        raise ValueError(
            'a COCO mask must be a dict with the keys "size" and "counts", received '
            f"{sorted(map(str, coco)) if isinstance(coco, Mapping) else type(coco).__name__}"
        )
    try:
        shape = check_shape(coco["size"])
    except ValueError as error:
        raise ValueError(f'"size" as {error}') from None
    size = shape[0] * shape[1]
    counts = coco["counts"]
    counts = _decompress(counts) if isinstance(counts, (str, bytes)) else _plain(counts)
    wrong = np.flatnonzero((counts < 0) | (counts > size))
    if wrong.size:
        raise ValueError(
            f'"counts" must be from 0 to the {size} pixels of "size", received '
            f"{counts[wrong[0]]} as count {wrong[0] + 1} of {counts.size}"
        )
    ends = np.cumsum(counts)  # the first sum past the size is below twice the size: no overflow
    if (ends[-1] if ends.size else 0) != size or (ends > size).any():
        raise ValueError(
            f'"counts" must sum to the {size} pixels of "size", received {sum(counts.tolist())}'
        )
    edges = ends[: ends.size // 2 * 2]
    if not counts[1:].all():
        # A count of 0 joins its neighbors: two changes in one place are none.
        edges, times = np.unique(edges, return_counts=True)
        edges = edges[times % 2 == 1]
    return paint(edges, shape, "F", 1, np.uint8)


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


def _decompress(text: str | bytes) -> np.ndarray:
    """Return the counts of their characters, as int64; raise ValueError where there is none."""
    if isinstance(text, str):
        text = text.encode("utf-8", "replace")
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
    try:
        numbers = np.asarray(counts)
    except ValueError:  # ragged
        numbers = np.asarray(None)
    if numbers.ndim == 1 and not numbers.size:
        return np.empty(0, np.int64)
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
        raise ValueError(
            f'"counts" must be str, bytes or a list of integers, received {str(counts)[:60]!r}'
        )
    return (
        np.minimum(numbers, np.uint64(2**62)).astype(np.int64)
        if numbers.dtype == np.uint64
        else numbers.astype(np.int64)
    )
