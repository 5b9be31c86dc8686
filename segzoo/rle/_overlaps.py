"""Intersections of all pairs of two lists of masks, by joining their runs.

Two runs overlap where the one begins within the other, so each overlap is found once: as a run of
`b` that begins within a run of `a`, or as a run of `a` that begins within one of `b`, past its
first pixel. In the runs of all masks, sorted by where they begin, those that begin within a given
run stand side by side:

    runs of one mask of a         |-------|            |----|
    runs of all masks of b     |----|  |---|  |--|   |-----------|
                                  2     1                2          1: begins within a, 2: within b

The cost grows with the number of runs and of their overlaps, not with the number of pairs.
"""

from typing import Literal

import numpy as np

_CHUNK = 1 << 18  # overlaps that are added up at once


class Runs:
    """The runs of several masks, sorted by where they begin: begins, ends, and whose each is."""

    def __init__(self, masks: list[np.ndarray]):
        pairs = np.concatenate([np.empty(0, np.int64), *masks]).reshape(-1, 2)
        owners = np.repeat(np.arange(len(masks)), [edges.size // 2 for edges in masks])
        ranks = np.argsort(pairs[:, 0], kind="stable")
        self.begins, self.ends = np.ascontiguousarray(pairs[ranks].T)
        self.owners = owners[ranks]
        self.areas = np.array([edges[1::2].sum() - edges[::2].sum() for edges in masks], np.int64)


def intersections(a: Runs, b: Runs) -> np.ndarray:
    """Return the number of pixels that each mask of `a` shares with each of `b`, int64."""
    shape = (a.areas.size, b.areas.size)
    shared = _begin_within(a, b, "left")
    shared += _begin_within(b, a, "right").reshape(shape[::-1]).T.ravel()
    return shared.reshape(shape)


def _begin_within(outer: Runs, inner: Runs, side: Literal["left", "right"]) -> np.ndarray:
    """Add up, by pair of masks, the overlaps of runs with those that begin within them.

    Args:
        outer, inner: the runs.
        side: "left" counts an inner run that begins where the outer one does, "right" does not.
    """
    lows = np.searchsorted(inner.begins, outer.begins, side)
    counts = np.searchsorted(inner.begins, outer.ends, "left") - lows
    ends = np.cumsum(counts)
    pairs = outer.areas.size * inner.areas.size
    shared = np.zeros(pairs, np.int64)
    chunk = max(_CHUNK, pairs)
    first = 0
    while first < counts.size:
        before = ends[first] - counts[first]
        last = max(first + 1, int(np.searchsorted(ends, before + chunk, "right")))
        rows = slice(first, last)
        first = last
        # One entry for each overlap: its outer run, and its inner run.
        outside = np.repeat(np.arange(rows.start, rows.stop), counts[rows])
        inside = np.arange(outside.size)
        inside += np.repeat(lows[rows] - (ends[rows] - counts[rows] - before), counts[rows])
        lengths = np.minimum(outer.ends[outside], inner.ends[inside]) - inner.begins[inside]
        places = outer.owners[outside] * inner.areas.size + inner.owners[inside]
        shared += np.bincount(places, lengths, pairs).astype(np.int64)
    return shared
