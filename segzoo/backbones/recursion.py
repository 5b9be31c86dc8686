"""Room for graphs that are deeper than Python's recursion limit."""

import contextlib
import sys
import threading
from collections.abc import Iterator

_ROOM = 10_000
_lock = threading.Lock()
_inside = 0  # builds that need the room at this moment, in all threads
_before = 0  # the limit in front of the first of them


@contextlib.contextmanager
def room_for_deep_graphs() -> Iterator[None]:
    """Lift Python's recursion limit for the time of a build.

    Keras walks a graph by recursion along its longest path. EfficientNet-L2 has nearly a thousand
    layers in a row, which is all that Python allows by default. The limit is one of the whole
    process: the first of several threads lifts it, the last one puts it back.
    """
    global _inside, _before
    with _lock:
        if _inside == 0:
            _before = sys.getrecursionlimit()
            sys.setrecursionlimit(max(_before, _ROOM))
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                sys.setrecursionlimit(_before)
