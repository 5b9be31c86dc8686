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

import numpy as np

_CHUNK = 1 << 15  # overlaps that are added up at once: the work stays in the cache


class Runs:
    """The runs of several masks, sorted by where they begin: begins, ends, and whose each is.

    Args:
        edges: those of all masks, one mask after the other.
        sizes: how many of them each mask has.
    """

    def __init__(self, edges: np.ndarray, sizes: np.ndarray):
        begins, ends = edges[::2], edges[1::2]
        stops = np.cumsum(sizes // 2)
        covered = np.append(0, np.cumsum(ends - begins))
        self.areas = covered[stops] - covered[stops - sizes // 2]
        ranks = np.argsort(begins, kind="stable")
        self.begins, self.ends = begins[ranks], ends[ranks]
        self.owners = np.repeat(np.arange(sizes.size), sizes // 2)[ranks]


def intersections(a: Runs, b: Runs) -> np.ndarray:
    """Return the number of pixels that each mask of `a` shares with each of `b`, int64."""
    # How many runs of b begin before a run of a, and of a before or with a run of b: one sort,
    # which leaves runs that begin together in this order.
    ranks = np.empty(a.begins.size + b.begins.size, np.int64)
    ranks[np.argsort(np.concatenate([a.begins, b.begins]), kind="stable")] = np.arange(ranks.size)
    before_a = ranks[: a.begins.size] - np.arange(a.begins.size)
    before_b = ranks[a.begins.size :] - np.arange(b.begins.size)
    return _begin_within(a, b, before_a) + _begin_within(b, a, before_b).T


def _begin_within(outer: Runs, inner: Runs, lows: np.ndarray) -> np.ndarray:
    """Add up, by pair of masks, the overlaps of runs with those that begin within them.

    Args:
        outer, inner: the runs.
        lows: index of the first inner run that begins within each outer one.

    Returns:
        (masks of outer, masks of inner) int64.
    """
    shape = (outer.areas.size, inner.areas.size)
    pairs = shape[0] * shape[1]
    shared = np.zeros(pairs, np.int64)
    counts = np.searchsorted(inner.begins, outer.ends) - lows
    totals = np.cumsum(counts)
    rows = outer.owners * shape[1]
    chunk = _CHUNK
    first = 0
    while first < counts.size:
        before = totals[first] - counts[first]
        last = max(first + 1, int(np.searchsorted(totals, before + chunk, "right")))
        some = slice(first, last)
        first = last
        # One entry for each overlap, of a run with each of the `times` that begin within it.
        times = counts[some]
        inside = np.repeat(lows[some] - totals[some] + times + before, times)
        inside += np.arange(inside.size)
        lengths = np.minimum(np.repeat(outer.ends[some], times), inner.ends[inside])
        lengths -= inner.begins[inside]
        places = np.repeat(rows[some], times)
        places += inner.owners[inside]
        shared += np.bincount(places, lengths, pairs).astype(np.int64)
    return shared.reshape(shape)
