"""The masks that are prepared on the host, one image at a time, for losses that read a map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from segzoo._arguments import ignored_classes, integer

IgnoreClass = int | Sequence[int] | None


def by_image(
    function: Callable[[np.ndarray, np.ndarray], np.ndarray],
    mask: ArrayLike,
    classes: int | None,
    ignore_class: IgnoreClass,
) -> np.ndarray:
    """Return `function(one_hot, void)` of a mask, or of each mask of a batch (B, H, W, C).

    `one_hot` are booleans (H, W, C), false where ignored; `void` booleans (H, W).
    """
    mask = np.asarray(mask)
    if classes is not None:
        classes = integer("classes", classes, 1)
    fits = mask.ndim == 2 or (
        mask.ndim in (3, 4) and (mask.shape[-1] == 1 or classes in (None, mask.shape[-1]))
    )
    if not fits or mask.dtype.kind not in "biuf":
        raise ValueError(
            "`mask` must be numbers (H, W) or (H, W, 1), labels where `classes` is above 1, or "
            f"(H, W, C) of 0 and 1, or a batch (B, H, W, C) of such, received shape {mask.shape} "
            f"of dtype {mask.dtype} with classes={classes}"
        )
    ignored = ignored_classes(ignore_class)
    if mask.ndim == 4:
        return np.stack([function(*_read(one, classes, ignored)) for one in mask])
    return function(*_read(mask, classes, ignored))


def _read(
    mask: np.ndarray, classes: int | None, ignored: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Return one mask as booleans (H, W, C), and where it is ignored, (H, W)."""
    if mask.ndim == 2:
        mask = mask[..., None]
    dense = mask.shape[-1] > 1
    several = not dense and (classes or 1) > 1
    known = range(classes) if several and classes else range(2)
    named = ignored
    if dense:  # 0 and 1 are targets there, and the number of a class names its channel
        named = tuple(value for value in ignored if not 0 <= value < mask.shape[-1])
    void = np.isin(mask, named)
    wrong = mask[~void & ~np.isin(mask, known)]
    if wrong.size:
        what = f"labels 0 to {known[-1]}" if several else "0 and 1"
        raise ValueError(
            f"`mask` must hold {what}, or values of `ignore_class`, received {wrong[0]:g} "
            f"(ignore_class={list(ignored) or None})"
        )
    one_hot = mask == np.arange(len(known)) if several else (mask == 1) & ~void
    hidden: np.ndarray = np.logical_or.reduce(void, axis=-1)
    for value in set(ignored) - set(named):
        hidden = hidden | one_hot[..., value]
    return one_hot & ~hidden[..., None], hidden


def checked_spacing(spacing: Any) -> tuple[float, float]:
    """Return the size of a pixel along rows and columns, or raise ValueError."""
    values = np.asarray(spacing, dtype="float64") if np.ndim(spacing) == 1 else np.zeros(0)
    if values.shape != (2,) or not (values > 0).all() or not np.isfinite(values).all():
        raise ValueError(
            "`spacing` must be two numbers > 0, the size of a pixel along rows and columns, "
            f"received spacing={spacing!r}"
        )
    return float(values[0]), float(values[1])
