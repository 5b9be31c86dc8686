"""Binary masks, one or one for each class, to and from run lists."""

import operator
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from segzoo.rle._messages import short
from segzoo.rle._pixels import check_order, check_shape, fitting, mask_edges, paint
from segzoo.rle._runs import check_start, read_runs, write_runs


def encode(mask: npt.ArrayLike, *, order: str = "F", start: int = 1) -> str:
    """Write a mask as a run list, `"start length start length ..."`.

    Args:
        mask: (H, W) bool or integers, in any memory order; non-zero is foreground. The masked
            pixels of a NumPy masked array are background.
        order: `"F"` numbers the pixels down the columns, as in most of Kaggle's competitions; `"C"`
            along the rows. Defaults to `"F"`.
        start: number of the first pixel, 1 or 0. Defaults to 1.

    Returns:
        The runs, sorted and never touching; `""` for an empty mask.

    Raises:
        ValueError: if `mask` is not two-dimensional or holds floats, or `order` or `start` is
            unknown.

    Example:
        >>> import numpy as np
        >>> from segzoo import rle
        >>> mask = np.array([[0, 1, 1], [0, 1, 0]])
        >>> rle.encode(mask)
        '3 3'
        >>> rle.encode(mask, order="C", start=0)
        '1 2 4 1'
    """
    check_order(order)
    start = check_start(start)
    return write_runs(mask_edges(integers(mask), order), start)


def decode(
    rle: Any,
    shape: tuple[int, int],
    *,
    order: str = "F",
    start: int = 1,
    value: float = 1,
    dtype: npt.DTypeLike = np.uint8,
) -> np.ndarray:
    """Read a run list as a mask.

    Args:
        rle: str, bytes, or integers (flat or as pairs); `None`, NaN, `""` and -1 are empty masks.
        shape: (height, width) of the mask.
        order: `"F"` or `"C"`, see `encode`. Defaults to `"F"`.
        start: number of the first pixel, 1 or 0. Defaults to 1.
        value: value of the foreground, which must fit `dtype`. Defaults to 1.
        dtype: type of the mask: bool, or integers or floats of at most 64 bits. Defaults to uint8.

    Returns:
        A new array (H, W) of `dtype`, writable and C-contiguous for either `order`.

    Raises:
        ValueError: if the run list is malformed (an odd count, no integers, a length below 1, a run
            before `start`, past the end, unsorted or overlapping), naming the run; or if an
            argument is out of range.

    Example:
        >>> from segzoo import rle
        >>> rle.decode("3 3", (2, 3))
        array([[0, 1, 1],
               [0, 1, 0]], dtype=uint8)
        >>> rle.decode(None, (1, 2), value=255)
        array([[0, 0]], dtype=uint8)
    """
    check_order(order)
    height, width = check_shape(shape)
    return paint(read_runs(rle, start, height * width), (height, width), order, value, dtype)


def encode_classes(masks: npt.ArrayLike, *, order: str = "F", start: int = 1) -> list[str]:
    """Write a multi-label mask as one run list for each class.

    Args:
        masks: (H, W, C) bool or integers; classes may overlap. The masked pixels of a NumPy
            masked array are background.
        order: `"F"` or `"C"`, see `encode`. Defaults to `"F"`.
        start: number of the first pixel, 1 or 0. Defaults to 1.

    Returns:
        C run lists, `""` for an absent class.

    Raises:
        ValueError: if `masks` is not three-dimensional or holds floats, or an argument is out of
            range.

    Example:
        >>> import numpy as np
        >>> from segzoo import rle
        >>> masks = np.zeros((2, 3, 2), bool)
        >>> masks[:, 1, 0] = True
        >>> rle.encode_classes(masks)
        ['3 2', '']
    """
    array = integers(masks, name="masks", ndim=3)
    return [
        encode(array[..., channel], order=order, start=start) for channel in range(array.shape[2])
    ]


def decode_classes(
    rles: Any,
    shape: tuple[int, int],
    *,
    classes: int | None = None,
    order: str = "F",
    start: int = 1,
    value: float = 1,
    dtype: npt.DTypeLike = np.uint8,
) -> np.ndarray:
    """Read one run list for each class as a multi-label mask.

    Args:
        rles: a sequence of run lists, one for each class, or a mapping of class index to run
            list, such as a dict or a pandas Series with the classes as its index.
        shape: (height, width) of the mask.
        classes: number of classes C. Defaults to the length of the sequence, or to the largest
            index of the mapping + 1.
        order: `"F"` or `"C"`, see `encode`. Defaults to `"F"`.
        start: number of the first pixel, 1 or 0. Defaults to 1.
        value: value of the foreground, which must fit `dtype`. Defaults to 1.
        dtype: type of the mask: bool, or integers or floats of at most 64 bits. Defaults to uint8.

    Returns:
        A new array (H, W, C) of `dtype`, C-contiguous.

    Raises:
        ValueError: if a run list is malformed, naming its class, a class is outside `classes`, or
            an argument is out of range.

    Example:
        >>> from segzoo import rle
        >>> rle.decode_classes({1: "3 2"}, (2, 3), classes=4).shape
        (2, 3, 4)
        >>> rle.decode_classes(["3 2", None], (2, 3))[..., 0]
        array([[0, 1, 0],
               [0, 1, 0]], dtype=uint8)
    """
    rows, classes = _by_class(rles, classes)
    height, width = check_shape(shape)
    # Also checks the other arguments where there is no class at all.
    empty = decode(None, (0, 0), order=order, start=start, value=value, dtype=dtype)
    masks = np.zeros((height, width, classes), empty.dtype)
    for index, row in rows.items():
        try:
            edges = read_runs(row, start, height * width)
        except ValueError as error:
            raise ValueError(f"class {index}: {error}") from error
        if edges.size:
            masks[..., index] = paint(edges, (height, width), order, value, dtype)
    return masks


def integers(
    array: npt.ArrayLike, name: str = "mask", ndim: int = 2, background: int = 0
) -> np.ndarray:
    """Return `array` as NumPy bool or integers of rank `ndim`, or raise ValueError.

    What a masked array masks becomes `background`.
    """
    rows = array if isinstance(array, (list, tuple)) else [array]
    masked = any(isinstance(row, np.ma.MaskedArray) for row in rows)
    try:
        mask = np.ma.asarray(array) if masked else np.asarray(array)
    except ValueError as error:  # rows of different lengths, or nested too deep
        raise ValueError(f"`{name}` must be an array, received {short(array)}: {error}") from None
    if mask.ndim != ndim:
        axes = "(H, W)" if ndim == 2 else "(H, W, C)"
        hint = ""
        if ndim == 2 and mask.ndim == 3:
            hint = (
                f"; squeeze the last axis, `{name}[..., 0]`"
                if mask.shape[2] == 1
                else "; use `encode_classes` for one run list per channel"
            )
        raise ValueError(f"`{name}` must have shape {axes}, received shape {mask.shape}{hint}")
    if mask.dtype.kind not in "biu":
        hint = f"; threshold it first, as in `{name} > 0.5`" if mask.dtype.kind == "f" else ""
        raise ValueError(f"`{name}` must be of bool or integers, received {mask.dtype}{hint}")
    if isinstance(mask, np.ma.MaskedArray):
        return mask.filled(fitting(background, mask.dtype, "background").item())
    return mask


def is_mapping(rles: Any) -> bool:
    """Tell a dict or what else maps keys to values, such as a pandas Series, from a sequence."""
    return isinstance(rles, Mapping) or (hasattr(rles, "keys") and hasattr(rles, "items"))


def by_index(rles: Any) -> dict[int, Any]:
    """Return a mapping of integers to run lists, or raise ValueError."""
    keys = list(rles.keys())
    series = "" if isinstance(rles, Mapping) else "; `rles.tolist()` takes them by position"
    try:
        rows = {operator.index(key): row for key, row in rles.items()}
    except TypeError:
        raise ValueError(
            f"`rles` must map integers to run lists, received the keys {short(keys)}{series}"
        ) from None
    if len(rows) < len(keys):
        raise ValueError(f"`rles` must have each key once, received the keys {short(keys)}{series}")
    return rows


def _by_class(rles: Any, classes: int | None) -> tuple[dict[int, Any], int]:
    """Return `rles` by class index, and the number of classes."""
    if classes is not None and (
        isinstance(classes, bool) or not isinstance(classes, (int, np.integer)) or classes < 1
    ):
        raise ValueError(f"`classes` must be an integer of at least 1, received {short(classes)}")
    if is_mapping(rles):
        rows = by_index(rles)
        count = max(rows, default=-1) + 1
        if not rows and classes is None:
            raise ValueError("`classes` must be given where `rles` is an empty mapping")
    elif isinstance(rles, (str, bytes, bytearray, memoryview)) or not hasattr(rles, "__len__"):
        raise ValueError(
            "`rles` must be a sequence of run lists or a mapping of class index to run list, "
            f"received {type(rles).__name__}; `decode` reads a single run list"
        )
    else:
        rows = dict(enumerate(rles))
        count = len(rows)
        if classes is not None and count != classes:
            raise ValueError(f"`rles` must hold `classes` run lists, {classes}, received {count}")
    end = "on" if classes is None else f"to {classes - 1}"
    if classes is None:
        classes = count
    if rows and not 0 <= min(rows) <= max(rows) < classes:
        raise ValueError(
            f"`rles` must have class indices from 0 {end}, received {short(sorted(rows))}"
        )
    return rows, int(classes)
