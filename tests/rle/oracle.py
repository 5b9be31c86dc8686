"""Run lengths by slow loops, and masks to try them on; nothing here knows segzoo."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

ORDERS = st.sampled_from("FC")
STARTS = st.sampled_from([0, 1])
SHAPES = st.tuples(st.integers(0, 12), st.integers(0, 12))


def pixel(number: int, shape: tuple[int, int], order: str) -> tuple[int, int]:
    """Return the row and column of the pixel with that number, from 0."""
    height, width = shape
    if order == "F":
        return number % height, number // height
    return number // width, number % width


def slow_encode(mask: np.ndarray, order: str = "F", start: int = 1) -> str:
    """Walk over the mask pixel by pixel."""
    words, length = [], 0
    for number in range(mask.size):
        if mask[pixel(number, mask.shape, order)] != 0:
            if length == 0:
                words.append(str(number + start))
            length += 1
        elif length:
            words.append(str(length))
            length = 0
    if length:
        words.append(str(length))
    return " ".join(words)


def slow_decode(text: str, shape: tuple[int, int], order: str = "F", start: int = 1) -> np.ndarray:
    """Set pixel by pixel."""
    mask = np.zeros(shape, bool)
    numbers = [int(word) for word in text.split()]
    for first, length in zip(numbers[::2], numbers[1::2], strict=True):
        for number in range(first - start, first - start + length):
            mask[pixel(number, shape, order)] = True
    return mask


@st.composite
def masks(draw, shape=SHAPES, dtypes=(np.bool_, np.uint8, np.int8, np.uint16, np.int32, np.int64)):
    """Draw a mask of any density, dtype and memory order."""
    shape = draw(shape) if isinstance(shape, st.SearchStrategy) else shape
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    values = [0, 1] if dtype.kind == "b" else [0, 1, 2, np.iinfo(dtype).max]
    mask = draw(npst.arrays(dtype, shape, elements=st.sampled_from(values)))
    return in_memory(mask, draw(st.sampled_from(["C", "F", "strided", "backwards"])))


def in_memory(mask: np.ndarray, layout: str) -> np.ndarray:
    """Return an equal mask that lies in memory another way."""
    if layout == "strided":
        wide = np.zeros((*mask.shape, 3), mask.dtype)
        wide[..., 1] = mask
        return wide[..., 1]
    if layout == "backwards":
        return np.ascontiguousarray(mask[::-1, ::-1])[::-1, ::-1]
    return np.array(mask, order=layout)
