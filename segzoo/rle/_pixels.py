"""Masks to and from edges, in the mask's own memory order: no transposed copy of a natural mask.

Down the columns of a C-ordered mask, neighbors in the scan lie a row apart. Comparing whole rows
with the rows above finds every change at the speed of memory, and only the few changes are put
into the scan's order. Painting goes the other way: mark the changes, then carry each row's state
to the row below.
"""

import operator
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from segzoo.rle._messages import short

MOST_PIXELS = 2**63 - 2  # too large an integer is read as 2**63 - 1, which ends past them
_CHUNK = 1 << 18  # pixels compared at once: the work stays in the cache, the memory small
_BLOCK = 1 << 11  # changes painted at once
_DENSE = 16  # with more than one change in so many pixels, sorting them costs more than a copy
_FEW = 16  # runs that are filled one by one
_NARROW = 128  # pixels; narrower rows are cheaper to carry all at once than one by one


def check_order(order: str) -> None:
    """Raise ValueError unless `order` is `"F"` (down the columns) or `"C"` (along the rows)."""
    if not isinstance(order, str) or order not in ("F", "C"):
        raise ValueError(
            '`order` must be "F" (down the columns) or "C" (along the rows), '
            f"received {short(order)}"
        )


def check_shape(shape: Any) -> tuple[int, int]:
    """Return `shape` as (height, width), of at most `MOST_PIXELS`, or raise ValueError."""
    try:
        height, width = map(operator.index, shape)
    except (TypeError, ValueError):
        height = width = -1
    if height < 0 or width < 0:
        raise ValueError(
            f"`shape` must be two integers of at least 0, (height, width), received {short(shape)}"
        )
    if max(height, 1) * max(width, 1) > MOST_PIXELS:
        raise ValueError(f"`shape` must have fewer than 2**63 pixels, received {short(shape)}")
    return height, width


def scan(mask: np.ndarray, order: str, values: bool = False) -> np.ndarray:
    """Return the places where a pixel differs from the one before it, between 0 and the size.

    Args:
        mask: (H, W) bool or integers.
        order: `"F"` counts down the columns, `"C"` along the rows.
        values: whether any two values differ, or (the default) only zero and non-zero.

    Returns:
        int64 `[0, place, place, ..., H * W]`, sorted.
    """
    if not (mask.flags.c_contiguous or mask.flags.f_contiguous):
        mask = np.ascontiguousarray(mask)
    lines = mask if order == "C" else mask.T  # the scan goes along its rows
    if lines.flags.c_contiguous or not mask.size:
        return _join(_changes(lines.ravel(), 1, values), mask.size)
    # Memory goes the other way: neighbors in the scan are a row of `mask` apart.
    mask = lines.T
    height, width = mask.shape
    found, count = [], 0
    for low, part in _changes(mask.ravel(), width, values):
        found.append((low, part))
        count += part.size
        if count * _DENSE > mask.size:
            return _join(_changes(lines.ravel(), 1, values), mask.size)
    # The first pixel of a column follows the last one of the column before.
    head, tail = mask[0, 1:], mask[-1, :-1]
    tops = np.flatnonzero(head != tail if values else (head != 0) != (tail != 0))
    parts = [(height, tops * height)]
    for low, part in found:
        places = part.astype(np.int64) + low
        rows = places // width
        parts.append((0, (places - rows * width) * height + rows))
    places = _join(parts, mask.size)
    places.sort()
    return places


def mask_edges(mask: np.ndarray, order: str) -> np.ndarray:
    """Return the edges of the non-zero pixels of an (H, W) mask of bool or integers."""
    places = scan(mask, order)
    lit = mask.size and mask[0, 0]
    edges = places[0 if lit else 1 :]
    return edges[: edges.size // 2 * 2]  # without the size, unless the last pixel is foreground


def _changes(flat: np.ndarray, step: int, values: bool) -> Iterator[tuple[int, np.ndarray]]:
    """Yield where `flat[i]` differs from `flat[i - step]`, as (offset, indices from there)."""
    differs = np.empty(min(_CHUNK, flat.size // 8 * 8 + 8), bool)
    eights = differs.view(np.uint64)
    for low in range(step, flat.size, differs.size):
        pixels = flat[low : low + differs.size]
        before = flat[low - step : low - step + pixels.size]
        np.not_equal(pixels, before, out=differs[: pixels.size])
        differs[pixels.size :] = False
        if not differs.any():
            continue
        # Few changes: find the words of eight pixels that have one first.
        words = np.flatnonzero(eights != 0)
        if words.size * 4 > eights.size:
            places = np.flatnonzero(differs)
        else:
            inside = np.flatnonzero(eights[words].view(bool))
            places = words[inside >> 3] * 8 + (inside & 7)
        if not values and flat.dtype != bool:  # 1 and 255 are both foreground
            places = places[(pixels[places] != 0) != (before[places] != 0)]
        yield low, places.astype(np.int32)  # half the memory where there are many


def _join(parts: Iterable[tuple[int, np.ndarray]], size: int) -> np.ndarray:
    """Return 0, all indices with their offsets added, and `size`, as one int64 array."""
    parts = list(parts)
    places = np.empty(sum(part.size for _, part in parts) + 2, np.int64)
    places[0], places[-1] = 0, size
    end = 1
    for offset, part in parts:
        np.add(part, offset, out=places[end : end + part.size])
        end += part.size
    return places


def paint(
    edges: np.ndarray, shape: tuple[int, int], order: str, value: Any, dtype: Any
) -> np.ndarray:
    """Return the C-ordered (H, W) mask of `edges`, `value` on zeros."""
    value = fitting(value, dtype)
    size = shape[0] * shape[1]
    along = order == "C" or 1 in shape
    if edges.size == 2 and edges[1] - edges[0] == size:
        return np.full(shape, value)
    if edges.size <= 2 * _FEW:
        mask = np.zeros(shape, value.dtype)
        _fill_runs(edges, mask if order == "C" else mask.T, value)
        return mask
    if along and edges.size * _DENSE <= size:
        pattern = np.zeros(edges.size + 1, value.dtype)
        pattern[1::2] = value
        return np.repeat(pattern, np.diff(edges, prepend=0, append=size)).reshape(shape)
    mask = np.zeros(shape, value.dtype)
    if edges.size:
        # A pixel is the exclusive or of the changes up to it, in any type of that width.
        bits = mask.view(f"u{value.itemsize}")
        code = value.view(bits.dtype)
        if along:
            flat = bits.reshape(-1)
            flat[edges[: -1 if edges[-1] == size else None]] = code
            np.bitwise_xor.accumulate(flat, out=flat)
        else:
            _paint_columns(edges, bits, code)
    return mask


def _fill_runs(edges: np.ndarray, lines: np.ndarray, value: np.ndarray) -> None:
    """Fill runs that go along the rows of `lines`, a view of any memory order."""
    for begin, end in edges.reshape(-1, 2).tolist():
        (first, head), (last, tail) = divmod(begin, lines.shape[1]), divmod(end, lines.shape[1])
        if first == last:
            lines[first, head:tail] = value
            continue
        if head:  # the rest of the line that the run starts in
            lines[first, head:] = value
            first += 1
        lines[first:last] = value
        if tail:
            lines[last, :tail] = value


def _paint_columns(edges: np.ndarray, bits: np.ndarray, code: np.ndarray) -> None:
    """Paint runs that go down the columns of a C-ordered array of zeros."""
    height, width = bits.shape
    flat = bits.reshape(-1)
    left, right = int(edges[0]) // height, (int(edges[-1]) - 1) // height + 1
    # How many changes lie behind a column's first pixel, up to the next column's; the last bit is
    # all that counts.
    changes = np.zeros(right - left + 1, np.uint8)
    first, last = height, 0
    for low in range(0, edges.size, _BLOCK):
        places = edges[low : low + _BLOCK].copy()
        columns = places // height
        places -= columns * height  # rows
        first, last = min(first, int(places.min())), max(last, int(places.max()))
        inner = places > 0
        places *= width
        places += columns
        flat[places[inner]] = code
        at = int(columns[0])  # the block's leftmost column
        columns += inner
        counts = np.bincount(columns - at).astype(np.uint8)
        changes[at - left : at - left + counts.size] += counts
    # After an odd number of changes, a column's first pixel is foreground.
    lit = (np.bitwise_xor.accumulate(changes[:-1]) & 1).astype(bool)
    bits = bits[:, left:right]
    bits[0, lit] = code
    if first == 0 or lit.any():  # some run goes on to a column's last pixel
        first, last = 0, height - 1
    bits = bits[first : last + 1]
    if bits.shape[1] < _NARROW:
        np.bitwise_xor.accumulate(bits, axis=0, out=bits)
    else:
        xor = np.bitwise_xor
        for above, row in pairwise(bits):
            xor(row, above, row)


def fitting(value: Any, dtype: Any, name: str = "value") -> np.ndarray:
    """Return `value` as a 0-d array of `dtype` or raise ValueError."""
    try:
        kind = np.dtype(object if dtype is None else dtype)
    except (TypeError, ValueError, RecursionError):
        kind = np.dtype(object)
    if kind.kind not in "biuf" or kind.itemsize > 8:
        raise ValueError(
            "`dtype` must be bool, an integer or a float of at most 64 bits, "
            f"received {short(dtype)}"
        )
    number = np.asarray(value)
    if number.ndim == 0 and number.dtype.kind in "biuf":
        with np.errstate(over="ignore", invalid="ignore"):
            cast = number.astype(kind)
        fits = np.isfinite(cast) if kind.kind == "f" else cast == number
        if fits:
            return cast
    raise ValueError(f"`{name}` must be a number that dtype {kind} holds, received {short(value)}")
