"""What errors say: the dialect of a value that is read elsewhere, values cut short, exact runs."""

import json

import numpy as np
import pandas as pd
import pytest

from segzoo import rle
from segzoo.rle._messages import hint, short

COCO = {"size": [5, 7], "counts": "7132N52J4"}
POLYGON = [10.5, 2.0, 30.0, 2.0, 30.0, 9.5]
# 5 x 7 RGBA pixels in 32 bits, words of 8 bits in 5, four sizes in 4 bits each, then the data.
LABEL_STUDIO = [0, 0, 0, 140, 7 << 3, 37, 74, 150, 255, 0, 12]
CVAT = [12, 5, 30, 7, 10, 20, 15, 28]  # counts, then left, top, right, bottom: a box of 6 x 9

DIALECTS = {
    "json.loads": [json.dumps(COCO), json.dumps([8, 1]).encode(), json.dumps("8 1 12 3")],
    "from_coco": [COCO, "7132N52J4", [COCO]],
    'annotation["segmentation"]': [{"id": 3, "segmentation": COCO}, {"segmentation": [POLYGON]}],
    "annToMask": [{"images": [], "annotations": [], "categories": []}],
    "frPyObjects": [POLYGON, [POLYGON], [POLYGON, POLYGON + POLYGON], [[1, 2, 9, 2, 9, 8]]],
    "label_studio_sdk": [
        LABEL_STUDIO,
        {"format": "rle", "rle": LABEL_STUDIO, "brushlabels": ["Fish"]},
        {"original_width": 7, "value": {"format": "rle", "rle": LABEL_STUDIO}},
    ],
    'from_coco({"size": [width, height]': [
        "12, 5, 30, 7",
        "12,5,30,7",
        {"rle": "12, 5, 30, 7", "left": "10", "top": "20", "width": "6", "height": "9"},
        CVAT,
    ],
}


@pytest.mark.parametrize(
    ("reader", "value"),
    [(reader, value) for reader, values in DIALECTS.items() for value in values],
    ids=lambda value: str(value)[:40],
)
def test_another_dialect_is_named_together_with_what_reads_it(reader, value):
    jobs = [lambda: rle.decode(value, (5, 7)), lambda: rle.area(value)]
    if reader != "from_coco":
        jobs.append(lambda: rle.from_coco({"size": [5, 7], "counts": value}))
    if isinstance(value, (str, dict)) and value is not COCO and reader != "from_coco":
        jobs.append(lambda: rle.from_coco(value))
    for job in jobs:
        with pytest.raises(ValueError) as error:
            job()
        assert reader in str(error.value)


def test_what_no_dialect_is_known_of_has_no_hint():
    plain = ["", "1 2 3", "nan", "[1 2]", "{", "1,x", "Fish", [], [1, 2, 3], [1.5], [[1], [2, 3]]]
    for value in [*plain, {}, {"a": 1}, None, 3, Ellipsis, np.zeros((2, 3, 4)), [10**400, 1]]:
        assert hint(value) == "", value


def test_the_way_that_the_error_names_reads_cvat(rng):
    mask = np.zeros((5, 7), np.uint8)
    mask[1:4, 2:6] = rng.random((3, 4)) < 0.6
    edges = np.flatnonzero(np.diff(mask.ravel(), prepend=0))  # along the rows
    counts = np.diff([0, *edges, mask.size]).tolist()
    height, width = mask.shape
    found = rle.from_coco({"size": [width, height], "counts": counts}).T
    np.testing.assert_array_equal(found, mask)


def test_doubled_backslashes_are_named_where_they_are_the_fault(rng):
    # A difference of 44 between a count and the one two before it is written as a backslash.
    mask = np.repeat(np.arange(7) % 2, [5, 3, 6, 47, 50, 91, 94])[None]
    coco = rle.to_coco(mask)
    assert "\\" in coco["counts"]
    doubled = {**coco, "counts": coco["counts"].replace("\\", "\\\\")}
    for counts in doubled["counts"], doubled["counts"].encode():
        with pytest.raises(ValueError, match=r"doubled.*counts\.replace") as error:
            rle.from_coco({**coco, "counts": counts})
        assert r'replace("\\\\", "\\")' in str(error.value)
    with pytest.raises(ValueError) as error:
        rle.from_coco({**coco, "counts": doubled["counts"] + "1"})
    assert "doubled" not in str(error.value)


def nested(depth):
    value = [3, 4]
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("depth", [2, 40, 100, 5000])
def test_lists_nested_deep_are_refused_like_others(depth):
    deep = nested(depth)
    options = {"order": deep, "start": deep, "value": deep, "dtype": deep}
    jobs = [
        lambda: rle.decode(deep, (3, 4)),
        lambda: rle.area(deep),
        lambda: rle.bbox(deep, (3, 4)),
        lambda: rle.union("1 2", deep),
        lambda: rle.iou(deep, "1 2"),
        lambda: rle.iou([deep], ["1 2"]),
        lambda: rle.complement("1 2", deep),
        lambda: rle.encode(deep),
        lambda: rle.encode_labels([[1]], background=deep),
        lambda: rle.to_coco(deep),
        lambda: rle.decode_classes([deep], (3, 4)),
        lambda: rle.decode_classes(["1 2"], (3, 4), classes=deep),
        lambda: rle.decode_labels({1: deep}, (3, 4)),
        lambda: rle.decode_labels({1: "1 2"}, (3, 4), overlap=deep),
        lambda: rle.from_coco(deep),
        lambda: rle.from_coco({"size": deep, "counts": "231"}),
        lambda: rle.from_coco({"size": [2, 3], "counts": deep}),
        lambda: rle.from_coco({"size": [2, 3], "counts": "[" * depth}),
        *(lambda o=o: rle.decode("1 2", (3, 4), **{o: deep}) for o in options),
    ]
    if depth == 2:
        jobs = [job for job in jobs if job is not jobs[7]]  # (1, 1, 2) is refused by its rank
    for job in jobs:
        with pytest.raises(ValueError) as error:
            job()
        assert len(str(error.value)) < 500


def test_values_are_cut_short_whatever_they_are():
    for value in ["x" * 10**6, list(range(10**6)), 10**5000, nested(5000), {"a": nested(5000)}]:
        assert len(short(value)) <= 60
    assert short([1, "a", None]) == "[1, 'a', None]"
    assert short("Fish 1") == "'Fish 1'"


@pytest.mark.parametrize(
    ("runs", "named"),
    [
        ("99999999999999999999 1", "`99999999999999999999 1`"),
        (b"1 2 18446744073709551617 007", "`18446744073709551617 007`"),
        ("1 1 5 " + "9" * 5000, "`5 9999"),
        (np.array([2**63 + 5, 1], np.uint64), f"`{2**63 + 5} 1`"),
    ],
)
def test_a_run_past_64_bits_is_named_as_it_was_written(runs, named):
    with pytest.raises(ValueError, match="ends past") as error:
        rle.decode(runs, (3, 4))
    assert named in str(error.value) and len(str(error.value)) < 250
    with pytest.raises(ValueError, match="ends past 64 bits"):
        rle.area(runs)


@pytest.mark.parametrize("shape", [(2**40, 2**40), (2**63, 1), (0, 2**70), (2**31, 2**32)])
def test_masks_past_64_bits_are_refused(shape):
    jobs = [
        lambda: rle.complement("1 2", shape),
        lambda: rle.bbox("1 2", shape),
        lambda: rle.decode("1 2", shape),
        lambda: rle.decode_classes(["1 2"], shape),
        lambda: rle.decode_labels({1: "1 2"}, shape),
        lambda: rle.from_coco({"size": list(shape), "counts": [0]}),
    ]
    for job in jobs:
        with pytest.raises(ValueError, match=r"`?shape`? must have fewer than 2\*\*63 pixels"):
            job()


def test_the_largest_mask_is_measured_without_pixels():
    shape = (2**31, 2**32 - 1)
    assert rle.complement("2 1", shape) == f"1 1 3 {2**31 * (2**32 - 1) - 2}"
    assert rle.area(rle.complement(None, shape)) == 2**31 * (2**32 - 1)


MASKED = np.ma.array([[0, 1, 1], [2, 1, 0]], mask=[[1, 0, 1], [0, 1, 0]], dtype="u1")
FILLED = np.array([[0, 1, 0], [2, 0, 0]])


@pytest.mark.parametrize("dtype", ["u1", "i8", bool])
def test_masked_pixels_are_background(dtype):
    masked, filled = MASKED.astype(dtype), FILLED.astype(dtype)
    for order in "FC":
        assert rle.encode(masked, order=order) == rle.encode(filled, order=order)
        assert rle.encode_labels(masked, order=order) == rle.encode_labels(filled, order=order)
    assert rle.encode(list(masked)) == rle.encode(filled)  # a list of masked rows
    assert rle.to_coco(masked) == rle.to_coco(filled)
    stack = np.ma.stack([masked, 0 * masked, masked[::-1]], axis=-1)
    assert rle.encode_classes(stack) == [rle.encode(filled), "", rle.encode(filled[::-1])]
    assert MASKED.mask.sum() == 3 and MASKED.data[0, 2] == 1  # the caller's array as it was


def test_masked_pixels_of_a_label_map_are_its_background():
    assert rle.encode_labels(MASKED, background=7) == {0: "6 1", 1: "3 1", 2: "2 1"}
    with pytest.raises(ValueError, match="`background` must be a number that dtype uint8 holds"):
        rle.encode_labels(MASKED, background=-1)
    assert rle.encode_labels(MASKED.filled(0), background=-1).keys() == {0, 1, 2}


def test_masked_numbers_are_no_run_list():
    runs = np.ma.array([2, 2, 6, 3], mask=[0, 0, 1, 1])
    with pytest.raises(ValueError, match="`rle` must not hold masked"):
        rle.decode(runs, (3, 4))
    with pytest.raises(ValueError, match='"counts" must not hold masked'):
        rle.from_coco({"size": [2, 3], "counts": np.ma.array([2, 3, 1], mask=[0, 0, 1])})
    assert not rle.decode(np.ma.masked, (3, 4)).any()  # a masked cell is a missing one
    assert rle.decode(np.ma.array([2, 2]), (3, 4)).sum() == 2


def test_a_series_is_read_by_its_index():
    rows = pd.Series(["1 3", None, "5 1"], index=[2, 0, 3])
    found = rle.decode_classes(rows, (3, 4))
    np.testing.assert_array_equal(found, rle.decode_classes(dict(rows), (3, 4)))
    assert found.sum(axis=(0, 1)).tolist() == [0, 0, 3, 1]
    assert rle.decode_classes(rows, (3, 4), classes=6).shape == (3, 4, 6)
    assert rle.decode_classes(rows.tolist(), (3, 4)).sum(axis=(0, 1)).tolist() == [3, 0, 1]
    labels = rle.decode_labels(rows, (3, 4))
    np.testing.assert_array_equal(labels, rle.decode_labels(dict(rows), (3, 4)))


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (["Fish", "Flower"], r"must map integers .*'Fish'.*rles.tolist\(\)"),
        ([1, 1], r"each key once.*\[1, 1\].*rles.tolist\(\)"),
        ([0.0, 1.0], "must map integers"),
    ],
)
def test_a_series_whose_index_is_no_class_is_refused(index, message):
    rows = pd.Series(["1 3", "5 1"], index=index)
    for decode in rle.decode_classes, rle.decode_labels:
        with pytest.raises(ValueError, match=message):
            decode(rows, (3, 4))
