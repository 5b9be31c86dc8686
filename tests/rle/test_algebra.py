"""Algebra on run lists beside pycocotools and NumPy on pixels."""

import time
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from segzoo import rle
from tests.rle.oracle import ORDERS, STARTS, masks

SHAPE = (5, 7)
MASKS = masks(shape=SHAPE, dtypes=(np.bool_,))


def theirs(mask: np.ndarray) -> dict:
    return coco.encode(np.asfortranarray(mask.astype(np.uint8)))


@given(mask=masks(), order=ORDERS, start=STARTS)
def test_area_and_bbox_agree_with_pycocotools(mask, order, start):
    mask = mask != 0
    text = rle.encode(mask, order=order, start=start)
    assert rle.area(text, start=start) == coco.area(theirs(mask))
    found = rle.bbox(text, mask.shape, order=order, start=start)
    assert all(type(number) is int for number in found)
    rows, columns = np.nonzero(mask)
    if rows.size:
        x, y = columns.min(), rows.min()
        assert found == (x, y, columns.max() - x + 1, rows.max() - y + 1)
        assert found == tuple(coco.toBbox(theirs(mask)))
    else:
        assert found == (0, 0, 0, 0)


@given(a=MASKS, b=MASKS, order=ORDERS, start=STARTS)
def test_iou_agrees_with_pycocotools(a, b, order, start):
    texts = [rle.encode(mask, order=order, start=start) for mask in (a, b)]
    found = rle.iou(*texts, start=start)
    assert found == coco.iou([theirs(a)], [theirs(b)], [0])[0, 0]
    assert found == rle.iou(*reversed(texts), start=start)
    assert found == (np.sum(a & b) / np.sum(a | b) if np.any(a | b) else 0)


@given(many=st.lists(MASKS, min_size=1, max_size=5), order=ORDERS, start=STARTS)
def test_union_and_intersection_agree_with_pycocotools(many, order, start):
    options = {"order": order, "start": start}
    texts = [rle.encode(mask, **options) for mask in many]
    pairs = [
        (rle.union(*texts, start=start), np.logical_or, False),
        (rle.intersection(*texts, start=start), np.logical_and, True),
    ]
    for found, function, both in pairs:
        assert found == rle.encode(function.reduce(many), **options)  # canonical, too
        merged = coco.decode(coco.merge([theirs(mask) for mask in many], intersect=both))
        np.testing.assert_array_equal(rle.decode(found, SHAPE, **options), merged)


@given(mask=masks(), order=ORDERS, start=STARTS)
def test_complement_is_the_encoded_background(mask, order, start):
    text = rle.encode(mask, order=order, start=start)
    found = rle.complement(text, mask.shape, start=start)
    assert found == rle.encode(mask == 0, order=order, start=start)
    assert rle.complement(found, mask.shape, start=start) == text


def test_touching_runs_come_out_as_one():
    assert rle.union("1 2 3 2") == "1 4"
    assert rle.intersection("1 2 3 2") == "1 4"
    assert rle.union("1 2", "3 2") == "1 4"
    assert rle.intersection("1 2 3 2", "2 2") == "2 2"
    assert rle.complement("2 1 3 1", (1, 4)) == "1 1 4 1"
    assert rle.area("1 2 3 2") == 4


def test_the_algebra_reads_every_spelling():
    assert rle.area(None) == rle.area("-1") == rle.area(float("nan")) == 0
    assert rle.area([3, 4, 9, 1]) == rle.area(b"3 4 9 1") == 5
    assert rle.union(None, [3, 4], np.array([[5, 4]])) == "3 6"
    assert rle.iou("", None) == 0.0
    assert rle.complement(None, (2, 3)) == "1 6"
    assert rle.complement("", (0, 3)) == ""
    assert rle.area("0 3", start=0) == 3


def test_huge_masks_cost_microseconds_and_kilobytes():
    # Two disks of radius 4000 in 20,000 x 20,000 pixels, 8000 runs each.
    def disk(column: int) -> np.ndarray:
        columns = np.arange(-3999, 4000)
        half = np.sqrt(4000.0**2 - columns**2).astype(int)
        starts = (columns + column) * 20_000 + 10_000 - half
        return np.stack([starts + 1, 2 * half + 1], axis=1)

    a, b = disk(8000), disk(10_000)
    shape = (20_000, 20_000)
    tracemalloc.start()
    overlap = rle.iou(a, b)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3_000_000
    begin = time.perf_counter()
    for _ in range(20):
        rle.iou(a, b)
    assert (time.perf_counter() - begin) / 20 < 0.05  # a pass over the pixels takes far longer
    # Two disks of radius r at distance r / 2: lens over union by plane geometry.
    lens = 2 * np.arccos(0.25) - 0.5 * np.sqrt(1 - 0.25**2)
    assert overlap == pytest.approx(lens / (2 * np.pi - lens), rel=1e-3)
    assert rle.area(a) == pytest.approx(np.pi * 4000**2, rel=1e-3)
    assert rle.bbox(a, shape) == (4001, 6000, 7999, 8001)


@pytest.mark.parametrize(
    "job",
    [
        lambda text: rle.area(text),
        lambda text: rle.bbox(text, (3, 4)),
        lambda text: rle.iou("1 1", text),
        lambda text: rle.union("1 1", text),
        lambda text: rle.intersection(text),
        lambda text: rle.complement(text, (3, 4)),
    ],
)
@pytest.mark.parametrize("text", ["1 2 3", "3 0", "0 2", "5 1 1 1", "x", "9223372036854775807 9"])
def test_malformed_runs_are_refused(job, text):
    with pytest.raises(ValueError, match="`rle`"):
        job(text)


def test_bad_arguments_are_refused():
    for job in rle.union, rle.intersection:
        with pytest.raises(ValueError, match="one or more run lists"):
            job()
        with pytest.raises(ValueError, match="`start`"):
            job("1 1", start=3)
    with pytest.raises(ValueError, match="past the mask's 12 pixels"):
        rle.bbox("12 2", (3, 4))
    with pytest.raises(ValueError, match="past the mask's 12 pixels"):
        rle.complement("12 2", (3, 4))
    with pytest.raises(ValueError, match="`order`"):
        rle.bbox("1 2", (3, 4), order="f")
    with pytest.raises(ValueError, match="`shape`"):
        rle.complement("1 2", (3, 4, 1))
    with pytest.raises(ValueError, match="`start`"):
        rle.area("1 2", start=-1)


@settings(max_examples=50)
@given(a=st.lists(MASKS, max_size=4), b=st.lists(MASKS, max_size=4), order=ORDERS, start=STARTS)
def test_iou_of_two_lists_is_the_matrix_of_pycocotools(a, b, order, start):
    texts = [[rle.encode(mask, order=order, start=start) for mask in many] for many in (a, b)]
    found = rle.iou(*texts, start=start)
    assert found.shape == (len(a), len(b)) and found.dtype == np.float64
    if a and b:
        wanted = coco.iou([theirs(m) for m in a], [theirs(m) for m in b], [0] * len(b))
        np.testing.assert_array_equal(found, wanted)
    for row, text in zip(found, texts[0], strict=True):
        assert row.tolist() == [rle.iou(text, other, start=start) for other in texts[1]]


def test_iou_of_many_masks_is_that_of_the_pixels_in_several_chunks(rng, monkeypatch):
    masks = [rng.random((31, 17)) < density for density in (0.1, 0.5, 0.9, 0, 1)]
    flat = np.stack([mask.ravel() for mask in masks]).astype(int)
    both = flat @ flat.T
    either = flat.sum(1)[:, None] + flat.sum(1) - both
    texts = [rle.encode(mask) for mask in masks]
    for chunk in (1 << 15, 40, 1):
        monkeypatch.setattr("segzoo.rle._overlaps._CHUNK", chunk)
        np.testing.assert_array_equal(rle.iou(texts, texts), both / np.maximum(either, 1))


def test_iou_takes_a_list_in_every_spelling():
    wanted = [[1 / 3, 0.0, 1.0], [0.0, 0.0, 0.0]]
    b = ["3 4", "9 1", [1, 2, 3, 2]]
    for a in (
        ["1 4", None],
        (b"1 4", float("nan")),
        [[1, 4], ""],
        [np.array([1, 4]), -1],
        np.array(["1 4", ""], dtype=object),
        np.array(["1 4", "-1"]),
        pd.Series(["1 4", np.nan], index=[7, 3]),
    ):
        assert rle.iou(a, b).tolist() == wanted
    assert rle.iou([[1, 1], [3, 1]], "1 1") == 0.5  # pairs are one run list
    assert rle.iou([1, 1, 3, 1], (1, 1)) == 0.5
    assert rle.iou([], b).shape == (0, 3) and rle.iou([], []).shape == (0, 0)
    assert rle.iou([], "1 1") == 0.0


def test_iou_of_lists_names_what_is_wrong():
    with pytest.raises(ValueError, match=r"`b\[1\]`: `rle` is malformed in run 1 of 1, `0 2`"):
        rle.iou(["1 2"], ["1 2", "0 2"])
    with pytest.raises(ValueError, match=r"two run lists or two lists of run lists.*'1 2'"):
        rle.iou(["1 2", "3 4"], "1 2")
    with pytest.raises(ValueError, match=r"two run lists or two lists of run lists.*None"):
        rle.iou(None, ["1 2", "3 4"])
    for text in (
        "1 2 3",
        "2 1 1 1",
        "1 x",
        "-1 1",
        "1 0",
        "9" * 19 + " 1",
        "1 " + "9" * 30,
        "\u0661 1",
    ):
        with pytest.raises(ValueError, match=r"`a\[1\]`: `rle`"):
            rle.iou(["4 2", text, ""], ["1 2"])
    with pytest.raises(ValueError, match="from_coco"):
        rle.iou([{"size": [2, 3], "counts": "231"}], ["1 1"])


def test_iou_of_150_masks_takes_milliseconds_and_little_memory():
    # Disks of radius 100 on a grid 60 pixels apart, as runs down the columns of 1000 x 1200 pixels.
    columns = np.arange(-99, 100)
    half = np.sqrt(100.0**2 - columns**2).astype(int)
    masks = []
    for index in range(150):
        y, x = 150 + 60 * (index % 12), 150 + 60 * (index // 12)
        masks.append(np.stack([(x + columns) * 1000 + y - half + 1, 2 * half + 1], axis=1))
    texts = [" ".join(map(str, runs.ravel())) for runs in masks]
    tracemalloc.start()
    found = rle.iou(texts, texts)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40_000_000
    assert found[3, 17] == rle.iou(texts[3], texts[17]) > 0
    begin = time.perf_counter()
    rle.iou(texts, texts)
    assert time.perf_counter() - begin < 0.5  # one pair at a time takes seconds
