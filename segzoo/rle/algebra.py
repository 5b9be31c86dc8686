"""Measures and set operations on run lists, without a pixel: their cost grows with the runs."""

from typing import Any

import numpy as np

from segzoo.rle._messages import short
from segzoo.rle._overlaps import Runs, intersections
from segzoo.rle._pixels import check_order, check_shape
from segzoo.rle._runs import read_runs, read_together, write_runs


def area(rle: Any, *, start: int = 1) -> int:
    """Count the foreground pixels of a run list.

    Args:
        rle: any run list that `decode` reads.
        start: number of the first pixel, 1 or 0. Defaults to 1.

    Returns:
        The number of pixels.

    Raises:
        ValueError: if the run list is malformed.

    Example:
        >>> from segzoo import rle
        >>> rle.area("3 3 8 2")
        5
    """
    return _area(read_runs(rle, start))


def bbox(
    rle: Any, shape: tuple[int, int], *, order: str = "F", start: int = 1
) -> tuple[int, int, int, int]:
    """Compute the bounding box of the foreground, in COCO's form.

    Args:
        rle: any run list that `decode` reads.
        shape: (height, width) of the mask.
        order: `"F"` or `"C"`, see `encode`. Defaults to `"F"`.
        start: number of the first pixel, 1 or 0. Defaults to 1.

    Returns:
        (x, y, width, height) in pixels, (0, 0, 0, 0) for an empty mask.

    Raises:
        ValueError: if the run list is malformed or an argument is out of range.

    Example:
        >>> from segzoo import rle
        >>> rle.bbox("3 3", (2, 3))
        (1, 0, 2, 2)
    """
    check_order(order)
    height, width = check_shape(shape)
    edges = read_runs(rle, start, height * width)
    if not edges.size:
        return 0, 0, 0, 0
    # A "line" is a column with order "F" and a row with "C".
    extent = height if order == "F" else width
    first, last = edges[::2], edges[1::2] - 1
    lines = (int(first[0]) // extent, int(last[-1]) // extent)
    if (first // extent == last // extent).all():
        along = (int((first % extent).min()), int((last % extent).max()))
    else:  # a run that goes on in the next line holds the end of one and the start of the other
        along = (0, extent - 1)
    x, y = (lines, along) if order == "F" else (along, lines)
    return x[0], y[0], x[1] - x[0] + 1, y[1] - y[0] + 1


def iou(a: Any, b: Any, *, start: int = 1) -> float | np.ndarray:
    """Compute the intersection over union of two masks, or of all pairs of two lists.

    Args:
        a: any run list that `decode` reads, or a list of N of them, such as the cells of a table.
            A list of integers, flat or as pairs, is one run list.
        b: another one of the same shape, order and start, or a list of M of them.
        start: number of the first pixel, 1 or 0. Defaults to 1.

    Returns:
        A number from 0 to 1, 0 where both masks are empty, as in pycocotools; for two lists the
        (N, M) float64 array of these numbers.

    Raises:
        ValueError: if a run list is malformed (in a list its index is named), or a list stands
            beside a single run list.

    Example:
        >>> from segzoo import rle
        >>> rle.iou("1 4", "3 4")
        0.3333333333333333
        >>> rle.iou(["1 4", None], ["3 4", "1 4", "1 8"])
        array([[0.33333333, 1.        , 0.5       ],
               [0.        , 0.        , 0.        ]])
    """
    rows = _listed(a)
    columns = rows if b is a else _listed(b)
    if rows is not None and columns is not None:
        return _iou_matrix(rows, columns, start)
    if rows or columns:
        raise ValueError(
            "`a` and `b` must be two run lists or two lists of run lists, received a list and "
            f"{short(b if rows else a)}"
        )
    runs = [read_runs(a, start), read_runs(b, start)]
    both = _area(_covered(runs, 2))
    either = _area(runs[0]) + _area(runs[1]) - both
    return both / either if either else 0.0


def union(*rles: Any, start: int = 1) -> str:
    """Compute the union of masks: the pixels that are in any of them.

    Args:
        *rles: one or more run lists of the same shape, order and start.
        start: number of the first pixel, 1 or 0. Defaults to 1.

    Returns:
        The run list, with the same `start`.

    Raises:
        ValueError: if there is no run list, or a malformed one.

    Example:
        >>> from segzoo import rle
        >>> rle.union("1 4", "3 4", "9 1")
        '1 6 9 1'
    """
    return write_runs(_covered(_read_all(rles, start), 1), int(start))


def intersection(*rles: Any, start: int = 1) -> str:
    """Compute the intersection of masks: the pixels that are in all of them.

    Args:
        *rles: one or more run lists of the same shape, order and start.
        start: number of the first pixel, 1 or 0. Defaults to 1.

    Returns:
        The run list, with the same `start`.

    Raises:
        ValueError: if there is no run list, or a malformed one.

    Example:
        >>> from segzoo import rle
        >>> rle.intersection("1 4", "3 4")
        '3 2'
    """
    return write_runs(_covered(_read_all(rles, start), len(rles)), int(start))


def complement(rle: Any, shape: tuple[int, int], *, start: int = 1) -> str:
    """Compute the complement of a mask: its background becomes foreground.

    Args:
        rle: any run list that `decode` reads; the result has the same order and start.
        shape: (height, width) of the mask.
        start: number of the first pixel, 1 or 0. Defaults to 1.

    Returns:
        A run list.

    Raises:
        ValueError: if the run list is malformed or an argument is out of range.

    Example:
        >>> from segzoo import rle
        >>> rle.complement("3 3", (2, 3))
        '1 2 6 1'
    """
    height, width = check_shape(shape)
    size = height * width
    edges = read_runs(rle, start, size)
    # The changes stay, but at the two ends of the scan, where they come or go.
    ends = np.array([0, size] if size else [], np.int64)
    return write_runs(np.setxor1d(edges, ends), int(start))


def _area(edges: np.ndarray) -> int:
    return int(edges[1::2].sum() - edges[::2].sum())


def _listed(rles: Any) -> list[Any] | None:
    """Return the items of a list of run lists; `None` where `rles` is a run list itself."""
    if isinstance(rles, np.ndarray) and rles.dtype.kind not in "OSU":
        return None
    items = rles.tolist() if hasattr(rles, "tolist") else rles  # also of a pandas Series
    if not isinstance(items, (list, tuple)):
        return None
    flat = all(isinstance(item, (int, np.integer)) for item in items)
    pairs = all(isinstance(item, (list, tuple, np.ndarray)) and len(item) == 2 for item in items)
    return None if items and (flat or pairs) else list(items)


def _iou_matrix(a: list[Any], b: list[Any], start: int) -> np.ndarray:
    """Return the intersection over union of all pairs, (len(a), len(b))."""
    rows = Runs(*_read_list(a, "a", start))
    columns = rows if a is b else Runs(*_read_list(b, "b", start))
    both = intersections(rows, columns)
    either = rows.areas[:, None] + columns.areas - both
    return both / np.maximum(either, 1)


def _read_list(rles: list[Any], name: str, start: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the edges of all run lists, one after the other, and how many each has."""
    together = read_together(rles, start)
    if together is not None:
        return together
    runs = [np.empty(0, np.int64)]
    for index, rle in enumerate(rles):
        try:
            runs.append(read_runs(rle, start))
        except ValueError as error:
            raise ValueError(f"`{name}[{index}]`: {error}") from error
    return np.concatenate(runs), np.array([edges.size for edges in runs[1:]], np.int64)


def _read_all(rles: tuple[Any, ...], start: int) -> list[np.ndarray]:
    if not rles:
        raise ValueError("`rles` must be one or more run lists, received none")
    return [read_runs(rle, start) for rle in rles]


def _covered(runs: list[np.ndarray], times: int) -> np.ndarray:
    """Return the edges of the pixels that lie in at least `times` of the masks."""
    edges = np.concatenate(runs)
    if not edges.size:
        return edges
    steps = np.ones(edges.size, np.int64)
    low = 0
    for run in runs:
        steps[low + 1 : low + run.size : 2] = -1
        low += run.size
    ranks = np.argsort(edges, kind="stable")
    edges = edges[ranks]
    last = np.append(edges[1:] != edges[:-1], True)  # how deep it is once all changes here are in
    inside = (np.cumsum(steps[ranks]) >= times)[last]
    changes = np.diff(inside, prepend=False)
    return edges[last][changes]
