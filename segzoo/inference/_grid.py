"""Where tiles lie on an image, which of their pixels are used, and how much each counts."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

WINDOWS = ("constant", "hann", "gaussian")
LEAST_WEIGHT = 1e-30  # of the largest; float32 keeps its precision down to 1e-38


@dataclass(frozen=True)
class Axis:
    """The tiles along the height or the width of an image.

    They begin every `step` pixels; the last one ends flush with the image. An image shorter than a
    tile has one tile, of which the first `length` pixels are the image.
    """

    length: int
    tile: int
    step: int
    trim: int

    @property
    def last(self) -> int:
        """Where the last tile begins."""
        return max(self.length - self.tile, 0)

    @property
    def origins(self) -> list[int]:
        """Where each tile begins."""
        return [*range(0, self.last, self.step), self.last]

    def used(self, origin: int) -> slice:
        """The pixels of a tile that count: not those near an edge inside the image."""
        start = self.trim if origin > 0 else 0
        stop = self.tile - self.trim if origin < self.last else min(self.tile, self.length)
        return slice(start, stop)


@dataclass(frozen=True)
class Grid:
    """The tiles of an image, row by row."""

    rows: Axis
    columns: Axis

    @classmethod
    def of(cls, shape: tuple[int, int], tile_size: Any, overlap: Any, trim: Any) -> "Grid":
        """The grid that the arguments of `predict_tiles` describe."""
        axes = []
        for length, tile in zip(shape, _pair(tile_size), strict=True):
            shared = _overlap(overlap, tile)
            if not is_int(trim) or not 0 <= 2 * trim <= shared:
                raise ValueError(
                    "`trim` must be an int >= 0 and at most half the overlap, which is "
                    f"{shared} of {tile} pixels here; received trim={trim!r}"
                )
            axes.append(Axis(length, tile, tile - shared, int(trim)))
        return cls(*axes)

    @property
    def tile(self) -> tuple[int, int]:
        """Height and width of a tile."""
        return self.rows.tile, self.columns.tile

    def __len__(self) -> int:
        return len(self.rows.origins) * len(self.columns.origins)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        columns = self.columns.origins
        return ((y, x) for y in self.rows.origins for x in columns)


def window_weights(window: Any, tile: tuple[int, int]) -> np.ndarray:
    """The weight of each pixel of a tile, (h, w) float32, positive, the largest about 1."""
    if isinstance(window, str):
        if window not in WINDOWS:
            raise ValueError(
                f"`window` must be one of {WINDOWS} or an array of weights, received "
                f"window={window!r}"
            )
        return np.outer(*(_window(window, size) for size in tile)).astype("float32")
    try:
        weights = np.asarray(window, "float64")
    except (TypeError, ValueError):
        weights = np.asarray(None)
    if weights.shape != tile:
        what = f"an array of shape {weights.shape}" if weights.ndim else repr(window)
        raise ValueError(
            f"`window` must be one of {WINDOWS} or an array of the tile's height and width, "
            f"{tile}, received {what}"
        )
    top = weights.max()
    if not (np.isfinite(weights).all() and weights.min() > LEAST_WEIGHT * top):
        raise ValueError(
            f"`window` must hold finite weights above 0, none below {LEAST_WEIGHT:g} of the "
            f"largest; received weights from {weights.min():g} to {top:g}. Pixels that are not to "
            "count at all are what `trim` is for"
        )
    return (weights / top).astype("float32")


def _window(kind: str, size: int) -> np.ndarray:
    """The weights along one axis, taken at the centers of the pixels, so that none is 0."""
    center = np.arange(size) + 0.5
    if kind == "hann":
        return np.sin(math.pi * center / size) ** 2
    if kind == "gaussian":  # a standard deviation of an eighth of the tile: 3e-4 at its edges
        return np.exp(-0.5 * ((center - size / 2) / (size / 8)) ** 2)
    return np.ones(size)


def is_int(value: Any) -> bool:
    """Whether `value` is a whole number, of Python or NumPy, and no bool."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _pair(tile_size: Any) -> tuple[int, int]:
    """`tile_size` as (height, width)."""
    pair = (tile_size, tile_size) if is_int(tile_size) else tile_size
    if isinstance(pair, tuple | list) and len(pair) == 2 and all(map(is_int, pair)):
        height, width = map(int, pair)
        if min(height, width) >= 1:
            return height, width
    raise ValueError(
        "`tile_size` must be an int >= 1 or a pair of them, (height, width); received "
        f"tile_size={tile_size!r}"
    )


def _overlap(overlap: Any, tile: int) -> int:
    """The pixels that neighboring tiles share."""
    if is_int(overlap) and 0 <= overlap < tile:
        return int(overlap)
    if isinstance(overlap, float | np.floating) and 0 <= overlap < 1:
        return min(round(float(overlap) * tile), tile - 1)
    raise ValueError(
        "`overlap` must be a float below 1, a share of the tile, or an int below the tile's "
        f"{tile} pixels, and not negative; received overlap={overlap!r}"
    )
