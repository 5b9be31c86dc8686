"""Run lists as text or integers, to and from edges.

The grammar is strict: ASCII digits and ASCII whitespace, pairs of start and length, sorted,
without overlap. Nothing is repaired but touching runs, which are merged.
"""

import functools
from typing import Any

import numpy as np

from segzoo.rle._messages import hint, short
from segzoo.rle._pixels import MOST_PIXELS

_BLANK = b" \t\n\r\v\f"
_GRAMMAR = b"0123456789" + _BLANK
_FEW = 64  # runs; up to here one `%` is quicker than the bulk formatter
_BLOCK = 1 << 13  # runs that are formatted at once: the work stays in the cache


def check_start(start: int) -> int:
    """Return `start`, the number of the first pixel, as int, or raise ValueError."""
    if not isinstance(start, (int, np.integer)) or start not in (0, 1):
        raise ValueError(f"`start` must be 0 or 1, received start={short(start)}")
    return int(start)


def read_runs(rle: Any, start: int, size: int = MOST_PIXELS) -> np.ndarray:
    """Return the edges of a run list; raise ValueError where it is malformed.

    Args:
        rle: str, bytes, integers (flat or as pairs), or one of the spellings of an empty mask.
        start: number of the first pixel, 0 or 1.
        size: pixels of the mask, where its shape is known.

    Returns:
        int64 array `[start, end, start, end, ...]`, strictly increasing, from 0.
    """
    start = check_start(start)
    if isinstance(rle, np.ndarray) and not rle.ndim and rle is not np.ma.masked:
        rle = rle.item()  # a text or a number in an array
    edges = _read_numbers(rle)
    if not edges.size:
        return edges
    if edges.size % 2:
        raise ValueError(
            "`rle` must hold pairs of start and length, received an odd count of "
            f"{edges.size} numbers: the last run, `{edges[-1]}`, has no length{hint(rle)}"
        )
    edges[::2] -= start
    edges[1::2] += edges[::2]
    # A sum past int64 wraps to a negative end, which is not above its start.
    rising = edges[1:] > edges[:-1]
    if edges[0] < 0 or edges[-1] > size:
        raise _fault(rle, start, size)
    if not rising.all():
        if not rising[::2].all() or (edges[1:] < edges[:-1]).any():
            raise _fault(rle, start, size)
        touching = np.flatnonzero(~rising)  # an end that is the next start: drop both
        edges = np.delete(edges, np.concatenate([touching, touching + 1]))
    return edges


def read_together(rles: list[Any], start: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Read many run lists of text at once, in a third of the time.

    Returns:
        The edges of all of them, one list after the other, and how many each has; touching runs
        stay as they are. `None` where one is not text or not well-formed: `read_runs` says why.
    """
    start = check_start(start)
    if not all(isinstance(rle, str) or _is_missing(rle) for rle in rles):
        return None
    # The end of a list is written as -1, which no list holds.
    texts = [rle if isinstance(rle, str) else "" for rle in rles]
    text = " -1 ".join([*texts, ""]).encode("ascii", "replace").strip(_BLANK)
    if not text or text.translate(None, _GRAMMAR) != b"-" * len(rles):
        return None
    edges = np.fromstring(text, np.int64, sep=" ")
    sizes = np.diff(np.flatnonzero(edges < 0), prepend=-1) - 1
    edges = edges[edges >= 0]
    if (sizes % 2).any():
        return None
    edges[::2] -= start
    edges[1::2] += edges[::2]
    falls = edges[1:] < edges[:-1]
    stops = np.cumsum(sizes)
    falls[stops[(stops > 0) & (stops < edges.size)] - 1] = False  # from one list to the next
    lengths = edges[1::2] > edges[::2]
    if edges.size and (edges.min() < 0 or edges.max() > MOST_PIXELS or falls.any()):
        return None
    return (edges, sizes) if lengths.all() else None


def write_runs(edges: np.ndarray, start: int) -> str:
    """Return the run list of `edges` as text, `"start length start length ..."`."""
    if edges.size <= 2 * _FEW:
        numbers = edges.copy()
        numbers[1::2] -= edges[::2]
        numbers[::2] += start
        return ("%d " * numbers.size % tuple(numbers.tolist()))[:-1]
    text = ""
    for low in range(0, edges.size, 2 * _BLOCK):
        starts, ends = edges[low : low + 2 * _BLOCK].reshape(-1, 2).T
        part = _format(starts + start, ends - starts)
        # Appending to a str that nothing else holds grows it in place: no second copy of the text.
        text += part if low + 2 * _BLOCK < edges.size else part[:-1]
    return text


def _read_numbers(rle: Any) -> np.ndarray:
    """Return the integers of a run list as int64, none for an empty mask."""
    if isinstance(rle, str):
        # Anything outside ASCII becomes "?", which the grammar refuses.
        rle = rle.encode("ascii", "replace")
    if isinstance(rle, (bytes, bytearray, memoryview)):
        text = bytes(rle).strip(_BLANK)
        if not text or text == b"-1":
            return np.empty(0, np.int64)
        if text.translate(None, _GRAMMAR):
            raise ValueError(_not_digits(text) + hint(rle))
        # Too large an integer saturates at 2**63 - 1, which is past the end of every mask.
        return np.fromstring(text, np.int64, sep=" ")
    if isinstance(rle, (list, tuple, range, np.ndarray)) and rle is not np.ma.masked:
        return _read_integers(rle)
    if _is_missing(rle):
        return np.empty(0, np.int64)
    raise ValueError(
        "`rle` must be a str, bytes, a list of integers, or None, NaN, '' or -1 for an empty mask, "
        f"received {type(rle).__name__}: {short(rle)}{hint(rle)}"
    )


def _read_integers(rle: Any) -> np.ndarray:
    """Return a list or array of integers, flat or (N, 2), as a new flat int64 array."""
    if np.ma.is_masked(rle):
        raise ValueError(f"`rle` must not hold masked numbers, received {short(rle)}")
    try:
        numbers = np.asarray(rle)
    except ValueError:  # rows of different lengths, or nested too deep
        numbers = np.array(None)
    if not numbers.size:
        return np.empty(0, np.int64)
    pairs = numbers.ndim == 1 or (numbers.ndim == 2 and numbers.shape[1] == 2)
    if not pairs or numbers.dtype.kind not in "iu":
        raise ValueError(
            "`rle` as a list must hold integers, flat (start, length, start, ...) or as pairs, "
            f"received shape {numbers.shape} of dtype {numbers.dtype}: {short(rle)}{hint(rle)}"
        )
    if numbers.dtype == np.uint64:  # must not wrap to a negative number
        numbers = np.minimum(numbers, np.uint64(np.iinfo(np.int64).max))
    return numbers.ravel().astype(np.int64)


def _is_missing(rle: Any) -> bool:
    """Tell whether a cell stands for an empty mask: None, NaN, -1, pandas' NA and NaT, masked."""
    if rle is None or rle is np.ma.masked or type(rle).__name__ in ("NAType", "NaTType"):
        return True
    if isinstance(rle, (int, float, np.number)):
        return bool(rle == -1 or rle != rle)
    return False


def _not_digits(text: bytes) -> str:
    """Return the message that names the first word of `text` that is not an integer."""
    words = text.split()
    index = next(i for i, word in enumerate(words) if word.translate(None, _GRAMMAR))
    return (
        "`rle` must hold integers in ASCII digits, separated by whitespace: "
        f"the {'length' if index % 2 else 'start'} of run {index // 2 + 1} is "
        f"{short(words[index].decode('ascii', 'replace'))}"
    )


def _fault(rle: Any, start: int, size: int) -> ValueError:
    """Return the error that names the first malformed run, found in unbounded integers."""
    numbers = _read_numbers(rle)
    before = run = 0  # the end of the run ahead, and the count of runs
    fault = ""
    for first, length in numbers.reshape(-1, 2).tolist():
        run += 1
        begin, end = first - start, first - start + length
        if length < 1:
            fault = "a length must be at least 1"
        elif begin < 0:
            fault = f"a start must be at least {start}, the number of the first pixel"
        elif end > size:
            fault = f"it ends past the mask's {size} pixels"
            if size == MOST_PIXELS:
                fault = "it ends past 64 bits"
        elif begin < before:
            fault = f"it starts before the run ahead ends, at {before - 1 + start}; "
            fault += "runs must be sorted and must not overlap"
        if fault:
            break
        before = end
    return ValueError(
        f"`rle` is malformed in run {run} of {numbers.size // 2}, `{_written(rle, run)}`: {fault}"
        + hint(rle)
    )


def _written(rle: Any, run: int) -> str:
    """Return a run, counted from 1, as the user wrote it: past 64 bits, with leading zeros."""
    if isinstance(rle, (str, bytes, bytearray, memoryview)):
        words = (rle if isinstance(rle, str) else bytes(rle).decode("ascii")).split()
    else:
        words = [str(number) for number in np.asarray(rle).ravel()[2 * run - 2 : 2 * run]]
        run = 1
    return " ".join(
        word if len(word) <= 60 else word[:57] + "..." for word in words[2 * run - 2 : 2 * run]
    )


@functools.cache
def _groups(digits: int) -> np.ndarray:
    """Return the characters of each number below `10**digits`, four to a uint32, twice.

    First for the head of a number, with NUL for leading zeros, then for the groups behind it.
    Four digits fill a group; three digits are a number's last group and end in a space.
    """
    numbers = np.arange(10**digits)[:, None]
    powers = 10 ** np.arange(digits - 1, -1, -1)
    behind = np.full((numbers.size, 4), ord(" "), np.uint8)
    behind[:, :digits] = numbers // powers % 10 + ord("0")
    head = behind.copy()
    head[:, :digits][numbers < powers] = 0
    if digits == 3:
        head[0, 2] = ord("0")  # the number 0 itself
    return np.concatenate([head, behind]).view(np.uint32).ravel()


def _columns(numbers: np.ndarray) -> list[np.ndarray]:
    """Return numbers of at least 0 as columns of groups, such as `\\0\\012`, `3456`, `789 `."""
    digits, rest, largest = 3, numbers, int(numbers.max())
    columns: list[np.ndarray] = []
    while largest or not columns:
        above = rest // 10**digits
        group = rest - above * 10**digits
        columns.append(_groups(digits)[group + 10**digits * (above > 0)])
        digits, rest, largest = 4, above, largest // 10**digits
    return columns[::-1]


def _format(starts: np.ndarray, lengths: np.ndarray) -> str:
    """Return `"start length "` for each run: columns of fixed width, then the NULs dropped."""
    text = np.stack(_columns(starts) + _columns(lengths), axis=1)  # (runs, groups) of uint32
    return text.tobytes().translate(None, b"\0").decode("ascii")
