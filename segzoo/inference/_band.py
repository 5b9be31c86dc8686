"""The rows of a result that tiles still add to: a weighted mean that moves down the image."""

from collections.abc import Iterator

import numpy as np

STEP = 2**20  # scores that are decided and written at once


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
        rows, columns = slice(y - self.top, y - self.top + height), slice(x, x + width)
        total = self.weights[rows, columns]
        total += weights[..., None]
        mean = self.scores[rows, columns]
        # The mean moves towards the new scores by their share of the weight. Unlike a sum that is
        # divided at the end, this leaves equal scores as they are, to the last bit.
        with np.errstate(invalid="ignore", over="ignore"):
            step = np.subtract(scores, mean, dtype=mean.dtype)
            step *= weights[..., None] / total
            step += mean
            infinite = ~np.isfinite(step)
            if infinite.any():  # inf - inf above; as a mean, inf stays inf and NaN stays NaN
                step[infinite] = (mean + scores)[infinite]
        mean[...] = step

    def leave(self, row: int) -> Iterator[tuple[int, np.ndarray]]:
        """Give up the rows above `row`, a few at a time: (number of the first, scores)."""
        leaving = row - self.top
        at_once = max(1, STEP // self.scores[0].size)
        for start in range(0, leaving, at_once):
            yield self.top + start, self.scores[start : min(start + at_once, leaving)]
        staying = len(self.scores) - leaving
        for target in range(staying):  # row by row: one assignment would copy all of them first
            self.scores[target] = self.scores[target + leaving]
            self.weights[target] = self.weights[target + leaving]
        self.scores[staying:] = 0
        self.weights[staying:] = 0
        self.top = row
