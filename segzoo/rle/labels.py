"""Label maps, one integer for each pixel, to and from one run list for each label."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from segzoo.rle._messages import short
from segzoo.rle._pixels import check_order, check_shape, fitting, scan
from segzoo.rle._runs import check_start, read_runs, write_runs
from segzoo.rle.masks import by_index, integers, is_mapping


def encode_labels(
    labels: npt.ArrayLike, *, background: int = 0, order: str = "F", start: int = 1
) -> dict[int, str]:
    """Write a label map as one run list for each label in it.

    Args:
        labels: (H, W) integers or bool, such as a class map or instance ids. The masked pixels of
            a NumPy masked array are background.
        background: the label that is left out. Defaults to 0.
        order: `"F"` or `"C"`, see `encode`. Defaults to `"F"`.
        start: number of the first pixel, 1 or 0. Defaults to 1.

    Returns:
        A dictionary of the run lists by label, in ascending order.

    Raises:
        ValueError: if `labels` is not two-dimensional or holds floats, or an argument is out of
            range.

    Example:
        >>> import numpy as np
        >>> from segzoo import rle
        >>> rle.encode_labels(np.array([[0, 7, 7], [0, 7, 2]]))
        {2: '6 1', 7: '3 3'}
    """
    check_order(order)
    start = check_start(start)
    _check_background(background)
    array = integers(labels, name="labels", background=background)
    if not array.size:
        return {}
    # One scan for all labels: where the value changes, one run ends and another begins.
    places = scan(array, order, values=True)
    begins, ends = places[:-1], places[1:]
    line, place = np.divmod(begins, array.shape[0 if order == "F" else 1])
    values = array[place, line] if order == "F" else array[line, place]
    ranks = np.argsort(values, kind="stable")
    edges = np.stack([begins, ends], axis=1)[ranks]
    found, firsts = np.unique(values[ranks], return_index=True)
    groups = np.split(edges, firsts[1:])
    return {
        int(label): write_runs(group.ravel(), start)
        for label, group in zip(found, groups, strict=True)
        if label != background
    }


def decode_labels(
    rles: Mapping[int, Any],
    shape: tuple[int, int],
    *,
    overlap: str = "raise",
    background: int = 0,
    order: str = "F",
    start: int = 1,
    dtype: npt.DTypeLike = np.int32,
) -> np.ndarray:
    """Read one run list for each label as a label map.

    Args:
        rles: run lists by label: a mapping, or a pandas Series with the labels as its index. The
            background may be among them where every pixel has a label, as in a map of classes.
        shape: (height, width) of the map.
        overlap: what to do where labels overlap: `"raise"` an error, or let the label win that
            stands `"last"` in `rles`. Defaults to `"raise"`.
        background: the label of all other pixels. Defaults to 0.
        order: `"F"` or `"C"`, see `encode`. Defaults to `"F"`.
        start: number of the first pixel, 1 or 0. Defaults to 1.
        dtype: type of the map, which every label must fit. Defaults to int32.

    Returns:
        A new array (H, W) of `dtype`, writable and C-contiguous.

    Raises:
        ValueError: if a run list is malformed, naming its label, labels overlap, a label does not
            fit `dtype`, the label of an object is that of the background, or an argument is out of
            range.

    Example:
        >>> from segzoo import rle
        >>> rle.decode_labels({2: "6 1", 7: "3 3"}, (2, 3))
        array([[0, 7, 7],
               [0, 7, 2]], dtype=int32)
    """
    check_order(order)
    if not isinstance(overlap, str) or overlap not in ("raise", "last"):
        raise ValueError(f'`overlap` must be "raise" or "last", received {short(overlap)}')
    if not is_mapping(rles):
        raise ValueError(f"`rles` must map labels to run lists, received {type(rles).__name__}")
    height, width = check_shape(shape)
    _check_background(background)
    flat = np.full(height * width, fitting(background, dtype, "background"))
    runs = {}
    for label, row in by_index(rles).items():
        fitting(label, dtype, "label")
        try:
            runs[label] = read_runs(row, start, flat.size)
        except ValueError as error:
            raise ValueError(f"label {label}: {error}") from error
    if overlap == "raise":
        _check_disjoint(runs)
    if runs.get(int(background), np.empty(0)).size:
        _check_no_rest(runs, background, flat.size)
    for label, edges in runs.items():
        for begin, end in edges.reshape(-1, 2).tolist():
            flat[begin:end] = label
    if order == "F":
        return np.ascontiguousarray(flat.reshape(width, height).T)
    return flat.reshape(height, width)


def _check_background(background: int) -> None:
    if isinstance(background, bool) or not isinstance(background, (int, np.integer)):
        raise ValueError(f"`background` must be an integer, received {short(background)}")


def _check_no_rest(runs: dict[int, np.ndarray], background: int, size: int) -> None:
    """Raise ValueError where pixels without a label would look like those labeled background."""
    seen = np.zeros(size, bool)
    for edges in runs.values():
        for begin, end in edges.reshape(-1, 2).tolist():
            seen[begin:end] = True
    if not seen.all():
        raise ValueError(
            f"`rles` has the label {background}, which is also the `background` of the "
            f"{size - int(seen.sum())} pixels without a label: number objects from "
            f"{background + 1} on, or give another `background`"
        )


def _check_disjoint(runs: dict[int, np.ndarray]) -> None:
    """Raise ValueError where runs of two labels overlap."""
    pairs = np.concatenate([edges.reshape(-1, 2) for edges in runs.values()] or [np.empty((0, 2))])
    labels = np.repeat(list(runs), [edges.size // 2 for edges in runs.values()])
    ranks = np.argsort(pairs[:, 0], kind="stable")
    begins, ends = pairs[ranks].T
    bad = np.flatnonzero(begins[1:] < ends[:-1])
    if bad.size:
        first, second = labels[ranks[bad[0]]], labels[ranks[bad[0] + 1]]
        raise ValueError(
            f"`rles` must not overlap, but labels {first} and {second} share pixel "
            f'{begins[bad[0] + 1]} of the scan, from 0; `overlap="last"` lets the last label win'
        )
