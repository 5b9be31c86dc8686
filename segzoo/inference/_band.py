"""The rows of a result that tiles still add to: a weighted mean that moves down the image."""

from collections.abc import Iterator

import numpy as np

WRITTEN = 2**20  # scores that are decided and written at once
CACHED = 2**16  # scores that are blended at once, so that they stay in the processor's cache


class Band:
    """Scores of the rows from `top` on, each the weighted mean of the tiles so far.

    A band is as high as a tile and as wide as the image. Rows that no later tile reaches leave it
    at the top: that is all of the result that is ever held.
    """

    def __init__(self, height: int, width: int, classes: int, dtype: np.dtype) -> None:
        self.top = 0
        self.scores = np.zeros((height, width, classes), dtype)
        self.weights = np.zeros((height, width, 1), "float32")

    def add(self, y: int, x: int, scores: np.ndarray, weights: np.ndarray) -> None:
        """Add a part of a tile, (h, w, classes) and (h, w), at row y and column x of the image."""
        height, width = weights.shape
        at_once = max(1, CACHED // (width * self.scores.shape[-1]))
        for start in range(0, height, at_once):
            part = slice(start, min(start + at_once, height))
            rows = slice(y - self.top + part.start, y - self.top + part.stop)
            place = rows, slice(x, x + width)
            _blend(self.scores[place], self.weights[place], scores[part], weights[part, :, None])

    def leave(self, row: int) -> Iterator[tuple[int, np.ndarray]]:
        """Give up the rows above `row`, a few at a time: (number of the first, scores)."""
        leaving = row - self.top
        at_once = max(1, WRITTEN // self.scores[0].size)
        for start in range(0, leaving, at_once):
            yield self.top + start, self.scores[start : min(start + at_once, leaving)]
        staying = len(self.scores) - leaving
        for target in range(staying):  # row by row: one assignment would copy all of them first
            self.scores[target] = self.scores[target + leaving]
            self.weights[target] = self.weights[target + leaving]
        self.scores[staying:] = 0
        self.weights[staying:] = 0
        self.top = row


def _blend(mean: np.ndarray, total: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> None:
    """Move a weighted mean towards new scores, in place; `total` is the sum of its weights.

    The mean moves by the new scores' share of the weight. Unlike a sum that is divided at the end,
    this leaves equal scores as they are, to the last bit.
    """
    total += weights
    with np.errstate(invalid="ignore", over="ignore"):
        moved = np.subtract(scores, mean, dtype=mean.dtype)
        moved *= weights / total
        moved += mean
        finite = np.isfinite(moved)
        if not finite.all():  # inf - inf above; in a mean, inf stays inf and NaN stays NaN
            moved[~finite] = (mean + scores)[~finite]
    mean[...] = moved
