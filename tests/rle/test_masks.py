"""Masks to and from run lists, against slow loops and published strings."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segzoo import rle
from tests.rle.oracle import ORDERS, SHAPES, STARTS, in_memory, masks, slow_decode, slow_encode

# Large enough for several chunks, the bulk formatter and the dense path; sizes that 8 divides not.
LARGE = [
    (1031, 613),
    (613, 1031),
    (7, 90_001),
    (90_001, 7),
    (1, 300_001),
    (300_001, 1),
    (256, 1600),
]


@given(mask=masks(), order=ORDERS, start=STARTS)
def test_encode_agrees_with_a_walk_over_the_pixels(mask, order, start):
    assert rle.encode(mask, order=order, start=start) == slow_encode(mask, order, start)


@given(mask=masks(), order=ORDERS, start=STARTS, value=st.integers(1, 127), dtype=st.data())
def test_decode_gives_the_mask_back_in_any_dtype(mask, order, start, value, dtype):
    dtype = dtype.draw(
        st.sampled_from(
            ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", ">u2", ">f4"]
        )
    )
    text = rle.encode(mask, order=order, start=start)
    found = rle.decode(text, mask.shape, order=order, start=start, value=value, dtype=dtype)
    assert found.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(found, np.where(mask != 0, value, 0))
    assert found.flags.c_contiguous and found.flags.writeable and found.flags.aligned
    np.testing.assert_array_equal(slow_decode(text, mask.shape, order, start), mask != 0)


@pytest.mark.parametrize("shape", LARGE)
@pytest.mark.parametrize("density", [0.0005, 0.02, 0.5, 0.98])
def test_large_masks_agree_with_the_flattened_array(shape, density, rng):
    mask = rng.random(shape) < density
    mask[:, shape[1] // 2 :] &= rng.random() < 0.5
    for order in "FC":
        edges = np.flatnonzero(np.diff(mask.ravel(order), prepend=False, append=False))
        runs = np.stack([edges[::2] + 1, edges[1::2] - edges[::2]], axis=1).ravel()
        text = " ".join(map(str, runs.tolist()))
        for layout in "C", "F", "strided", "backwards":
            assert rle.encode(in_memory(mask, layout), order=order) == text
        assert rle.encode(mask * np.uint8(200), order=order) == text
        np.testing.assert_array_equal(rle.decode(text, shape, order=order, dtype=bool), mask)


@pytest.mark.parametrize("order", "FC")
def test_values_other_than_one_are_the_same_foreground(order, rng):
    labels = rng.integers(0, 5, (300, 900))
    for dtype in np.uint8, np.int64:
        assert rle.encode(labels.astype(dtype), order=order) == rle.encode(labels != 0, order=order)


@pytest.mark.parametrize("start", [0, 1])
def test_bulk_digits_are_right_at_every_power_of_ten(start):
    # Runs of all digit counts at every start near a power of ten, in one list.
    edges, position = [], 0
    for power in range(7):
        position = max(position, 10**power - 40)
        for index in range(40):
            length = 1 + index % 3
            edges += [position, length]
            position += length + 1
        edges += [position, 10**power]
        position += 10**power + 1
    mask = np.zeros((1, position + 5), bool)
    for begin, length in zip(edges[::2], edges[1::2], strict=True):
        mask[0, begin : begin + length] = True
    text = " ".join(str(n + start * (i % 2 == 0)) for i, n in enumerate(edges))
    assert rle.encode(mask, start=start) == text
    np.testing.assert_array_equal(rle.decode(text, mask.shape, start=start), mask)


@pytest.mark.parametrize("order", "FC")
@pytest.mark.parametrize("count", [1, 2, 16, 17])
def test_few_long_runs_are_filled(order, count, rng):
    shape = (13, 300)
    for _ in range(20):
        edges = np.sort(rng.choice(shape[0] * shape[1] + 1, 2 * count, replace=False))
        runs = np.stack([edges[::2] + 1, np.diff(edges)[::2]], axis=1)
        text = " ".join(map(str, runs.ravel()))
        found = rle.decode(text, shape, order=order, value=7)
        np.testing.assert_array_equal(found, 7 * slow_decode(text, shape, order))
    full = rle.decode(f"1 {shape[0] * shape[1]}", shape, order=order, value=0.5, dtype="f4")
    assert full.dtype == np.float32 and (full == 0.5).all()
    full[0, 0] = 1  # the user's to write to


def test_published_kaggle_examples():
    # "1 3" implies starting at pixel 1 and running a total of 3 pixels (1, 2, 3); "1 3 10 5"
    # implies pixels 1, 2, 3, 10, 11, 12, 13, 14; pixels go top to bottom, then left to right.
    mask = rle.decode("1 3 10 5", (5, 4))
    assert (np.flatnonzero(mask.ravel("F")) + 1).tolist() == [1, 2, 3, 10, 11, 12, 13, 14]
    assert rle.encode(mask) == "1 3 10 5"


def test_the_runs_of_a_steel_defect_keep_their_string():
    text = "29102 12 29346 24 29602 24 29858 24 30114 24"
    mask = rle.decode(text, (256, 1600))
    rows, columns = np.nonzero(mask)
    assert rle.encode(mask) == text
    # 29102 - 1 = 113 * 256 + 173: column 113, from row 173 on.
    assert (columns.min(), columns.max(), mask.sum()) == (113, 117, 12 + 4 * 24)
    assert rows[columns == 113].tolist() == list(range(173, 185))


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0), (1, 1), (1, 6), (6, 1), (4, 3)])
@pytest.mark.parametrize("order", "FC")
def test_degenerate_shapes(shape, order):
    size = shape[0] * shape[1]
    empty, full = np.zeros(shape, np.uint8), np.ones(shape, np.uint8)
    assert rle.encode(empty, order=order) == ""
    assert rle.encode(full, order=order) == (f"1 {size}" if size else "")
    for mask in empty, full:
        found = rle.decode(rle.encode(mask, order=order), shape, order=order)
        assert found.shape == shape
        np.testing.assert_array_equal(found, mask)


EMPTY = [None, float("nan"), np.nan, np.float32("nan"), pd.NA, pd.NaT, "", "  \n", "-1", " -1 "]
EMPTY += [-1, -1.0, np.int64(-1), b"", b"-1", [], (), np.array([], int), np.array(np.nan)]


@pytest.mark.parametrize("spelling", EMPTY, ids=repr)
def test_every_spelling_of_an_empty_mask(spelling):
    found = rle.decode(spelling, (3, 4), value=255)
    assert found.shape == (3, 4) and found.dtype == np.uint8 and not found.any()
    found[0, 0] = 7  # it is the user's to write to


def test_every_spelling_of_the_same_runs():
    wanted = rle.decode("2 2 6 3", (3, 4))
    spellings = ["  2 2\n6\t3 ", b"2 2 6 3", bytearray(b"2 2 6 3"), [2, 2, 6, 3], (2, 2, 6, 3)]
    spellings += [[[2, 2], [6, 3]], np.array([2, 2, 6, 3], np.uint16), np.array([[2, 2], [6, 3]])]
    spellings += [
        np.array([2, 2, 6, 3], np.uint64),
        np.array([2, 0, 2, 0, 6, 0, 3])[::2],
        "02 2 6 003",
        np.array("2 2 6 3"),
    ]
    for spelling in spellings:
        np.testing.assert_array_equal(rle.decode(spelling, (3, 4)), wanted)


def test_a_malformed_run_in_an_array_without_axes_is_named():
    with pytest.raises(ValueError, match=r"run 2 of 2, `6 9`"):
        rle.decode(np.array("2 2 6 9"), (3, 4))
    with pytest.raises(ValueError, match="`rle` must be a str"):
        rle.decode(np.array(5), (3, 4))
    with pytest.raises(ValueError, match="`coco` must be a dict"):
        rle.from_coco(np.array("2 2"))


def test_decode_leaves_the_callers_array_alone():
    numbers = np.array([2, 2, 6, 3])
    rle.decode(numbers, (3, 4))
    rle.area(numbers)
    assert numbers.tolist() == [2, 2, 6, 3]


def test_touching_runs_are_read_and_written_as_one():
    mask = rle.decode("1 2 3 2 5 1 9 1", (3, 4))
    np.testing.assert_array_equal(mask, slow_decode("1 2 3 2 5 1 9 1", (3, 4)))
    assert rle.encode(mask) == "1 5 9 1"


MALFORMED = [
    ("1", "odd count of 1 .* `1`"),
    ("1 2 3", "odd count of 3 .* `3`"),
    ("1 2 5 x", "length of run 2 is 'x'"),
    ("1.0 2", "start of run 1 is '1.0'"),
    ("+1 2", r"start of run 1 is '\+1'"),
    ("1_0 2", "start of run 1 is '1_0'"),
    ("1,2", "start of run 1 is '1,2'"),
    ("nan", "start of run 1 is 'nan'"),
    ("[1 2]", r"start of run 1 is '\[1'"),
    ("\u0661 \u0662", "ASCII digits"),
    ("1\u00a02", "ASCII digits"),
    ("1 2 -5 1", "start of run 2 is '-5'"),
    ("3 0", "run 1 of 1, `3 0`: a length must be at least 1"),
    ("1 1 3 0 6 1", "run 2 of 3, `3 0`: a length must be at least 1"),
    ([1, 1, 3, -2], "run 2 of 2, `3 -2`: a length must be at least 1"),
    ("0 3", "run 1 of 1, `0 3`: a start must be at least 1"),
    ([-4, 2], "run 1 of 1, `-4 2`: a start must be at least 1"),
    ("1 1 11 3", "run 2 of 2, `11 3`: it ends past the mask's 12 pixels"),
    ("13 1", "run 1 of 1, `13 1`: it ends past"),
    ("1 99999999999", "run 1 of 1, `1 99999999999`: it ends past"),
    ("99999999999 1", "ends past"),
    ("1 9223372036854775807", "ends past"),
    ("9223372036854775807 9223372036854775807", "ends past"),
    ("2 1 9223372036854775806 2 4 1", "run 2 of 3.* ends past"),
    ("1 " + "9" * 5000, "ends past"),
    (np.array([2**63, 1], np.uint64), "ends past"),
    ([[1, 2], [5]], "must hold integers"),
    ([2**64, 1], "must hold integers"),
    ("5 2 1 2", "run 2 of 2, `1 2`: it starts before the run ahead ends, at 6; .* sorted"),
    ("1 4 3 2", "run 2 of 2, `3 2`: it starts before the run ahead ends, at 4"),
    ("1 4 1 4", "overlap"),
    ([1.0, 2.0], "float64"),
    ([True, True], "bool"),
    (["1", "2"], "must hold integers"),
    ([[1, 2, 3]], r"shape \(1, 3\)"),
    (0, "int: 0"),
    (3.5, "float"),
    (True, "bool"),
    ({"size": [3, 4], "counts": "0"}, "dict.*from_coco"),
    (Ellipsis, "received ellipsis"),
]


@pytest.mark.parametrize(("runs", "message"), MALFORMED, ids=[repr(r)[:40] for r, _ in MALFORMED])
def test_a_malformed_run_list_is_named(runs, message):
    with pytest.raises(ValueError, match=message):
        rle.decode(runs, (3, 4))


def test_base_zero_counts_in_the_error_too():
    with pytest.raises(ValueError, match="`1 1`: it starts before the run ahead ends, at 1"):
        rle.decode("0 2 1 1", (3, 4), start=0)
    assert rle.decode("0 2", (3, 4), start=0)[:2, 0].tolist() == [1, 1]


def test_a_run_past_the_end_is_refused_without_allocating():
    tracemalloc.start()
    with pytest.raises(ValueError, match="past the mask's 100 pixels"):
        rle.decode("1 99999999999", (10, 10))
    with pytest.raises(ValueError, match="past the mask's 10000000000 pixels"):
        rle.decode("1 99999999999", (100_000, 100_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000


WORDS = st.one_of(
    st.integers(-2, 30).map(str),
    st.integers(-(2**70), 2**70).map(str),
    st.text(alphabet="0123456789 -+.x\t\u0663\u00a0", max_size=5),
)
TEXTS = st.one_of(st.lists(WORDS, max_size=8).map(" ".join), st.text(max_size=12))


@settings(max_examples=500)
@given(text=TEXTS, shape=SHAPES, order=ORDERS, start=STARTS, binary=st.booleans())
def test_any_string_is_a_valid_mask_or_a_value_error(text, shape, order, start, binary):
    try:
        mask = rle.decode(
            text.encode("utf-8", "replace") if binary else text, shape, order=order, start=start
        )
    except ValueError:
        return
    assert mask.shape == shape and mask.max(initial=0) <= 1
    wanted = "" if text.strip() == "-1" else text
    np.testing.assert_array_equal(mask, slow_decode(wanted, shape, order, start))


@settings(max_examples=300)
@given(
    numbers=st.lists(st.one_of(st.integers(-3, 20), st.integers(-(2**63), 2**63 - 1)), max_size=8),
    start=STARTS,
    order=ORDERS,
)
def test_any_list_of_integers_is_a_valid_mask_or_a_value_error(numbers, start, order):
    shape = (4, 5)
    taken, end = [], 0
    for first, length in zip(numbers[::2], numbers[1::2], strict=False):
        taken.append(length >= 1 and first - start >= end and first - start + length <= 20)
        end = first - start + length
    if len(numbers) % 2 == 0 and all(taken):
        mask = rle.decode(numbers, shape, start=start, order=order)
        text = " ".join(map(str, numbers))
        np.testing.assert_array_equal(mask, slow_decode(text, shape, order, start))
    else:
        with pytest.raises(ValueError):
            rle.decode(numbers, shape, start=start, order=order)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((3, 4)), r"float64; threshold it first, as in `mask > 0.5`"),
        (np.zeros((3, 4), np.float16), "float16"),
        (np.zeros((3, 4, 1), bool), r"shape \(3, 4, 1\); squeeze the last axis, `mask\[..., 0\]`"),
        (np.zeros((3, 4, 2), bool), r"shape \(3, 4, 2\); use `encode_classes`"),
        (np.zeros(5, bool), r"\(H, W\), received shape \(5,\)"),
        (np.bool_(True), r"shape \(\)"),
        ([["a"]], "bool or integers"),
        (np.zeros((2, 2), complex), "complex128"),
        (None, r"shape \(\)"),
    ],
)
def test_encode_refuses_what_is_not_a_mask(mask, message):
    with pytest.raises(ValueError, match=message):
        rle.encode(mask)


def test_encode_reads_nested_lists():
    assert rle.encode([[0, 1], [1, 1]]) == "2 3"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": "A"}, "`order` must be"),
        ({"order": None}, "`order` must be"),
        ({"start": 2}, "`start` must be 0 or 1, received start=2"),
        ({"start": "1"}, "`start` must be 0 or 1"),
        ({"shape": (3,)}, "`shape` must be two integers"),
        ({"shape": (3, 4, 1)}, "`shape` must be two integers"),
        ({"shape": (3, -4)}, "`shape` must be two integers"),
        ({"shape": (3.0, 4)}, "`shape` must be two integers"),
        ({"shape": 12}, "`shape` must be two integers"),
        ({"shape": "34"}, "`shape` must be two integers"),
        ({"value": 256}, "`value` must be a number that dtype uint8 holds, received 256"),
        ({"value": -1}, "`value` must be"),
        ({"value": 0.5}, "`value` must be"),
        ({"value": 2, "dtype": bool}, "`value` must be"),
        ({"value": float("nan"), "dtype": "f4"}, "`value` must be"),
        ({"value": 1e6, "dtype": "f2"}, "`value` must be"),
        ({"value": 2**70}, "`value` must be"),
        ({"value": "1"}, "`value` must be"),
        ({"value": [1]}, "`value` must be"),
        ({"dtype": complex}, "`dtype` must be"),
        ({"dtype": object}, "`dtype` must be"),
        ({"dtype": "S1"}, "`dtype` must be"),
        ({"dtype": "nonsense"}, "`dtype` must be"),
        ({"dtype": None}, "`dtype` must be"),
    ],
)
def test_decode_refuses_bad_arguments(options, message):
    shape = options.pop("shape", (3, 4))
    for runs in "1 2", None:
        with pytest.raises(ValueError, match=message):
            rle.decode(runs, shape, **options)


def test_value_of_a_float_dtype_may_be_a_fraction():
    np.testing.assert_array_equal(
        rle.decode("2 2", (2, 2), value=0.1, dtype="f4"), np.float32([[0, 0.1], [0.1, 0]])
    )


@given(
    masks=masks(shape=(4, 5)).flatmap(
        lambda first: st.lists(masks(shape=(4, 5)), max_size=3).map(lambda rest: [first, *rest])
    ),
    order=ORDERS,
    start=STARTS,
)
def test_classes_are_encoded_one_by_one_and_come_back(masks, order, start):
    stack = np.stack([mask != 0 for mask in masks], axis=-1)
    options = {"order": order, "start": start}
    texts = rle.encode_classes(stack, **options)
    assert texts == [slow_encode(mask, order, start) for mask in masks]
    found = rle.decode_classes(texts, (4, 5), value=3, dtype="i2", **options)
    assert found.dtype == np.int16 and found.flags.c_contiguous
    np.testing.assert_array_equal(found, stack * 3)


def test_classes_from_a_mapping():
    rows = {2: "1 3", np.int64(0): None}
    found = rle.decode_classes(rows, (3, 4))
    assert found.shape == (3, 4, 3)
    assert found.sum(axis=(0, 1)).tolist() == [0, 0, 3]
    assert rle.decode_classes(rows, (3, 4), classes=5).shape == (3, 4, 5)
    assert rle.decode_classes({}, (3, 4), classes=2).shape == (3, 4, 2)
    assert rle.decode_classes(pd.Series(["1 3", np.nan]), (3, 4)).shape == (3, 4, 2)


@pytest.mark.parametrize(
    ("rles", "options", "message"),
    [
        ({}, {}, "`classes` must be given"),
        ({3: "1 1"}, {"classes": 3}, r"from 0 to 2, received \[3\]"),
        ({-1: "1 1"}, {}, r"class indices from 0 on, received \[-1\]"),
        ({"a": "1 1"}, {}, "must map integers"),
        (["1 1"], {"classes": 2}, "must hold `classes` run lists, 2, received 1"),
        (["1 1"], {"classes": 0}, "`classes`"),
        ({0: "1 1"}, {"classes": 1.5}, "`classes` must be an integer"),
        ("1 1", {}, "`decode` reads a single run list"),
        (None, {}, "sequence of run lists"),
        (["1 1", "1 1 2"], {}, "class 1: .* odd count"),
        ([None], {"order": "x"}, "`order`"),
        ([None], {"value": 300}, "`value`"),
        ([None], {"shape": (3, 4, 5)}, "`shape`"),
    ],
)
def test_decode_classes_refuses_bad_arguments(rles, options, message):
    shape = options.pop("shape", (3, 4))
    with pytest.raises(ValueError, match=message):
        rle.decode_classes(rles, shape, **options)


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (np.zeros((3, 4), bool), r"`masks` must have shape \(H, W, C\)"),
        (np.zeros((3, 4, 2)), "`masks` must be of bool or integers.*`masks > 0.5`"),
    ],
)
def test_encode_classes_refuses_what_are_not_masks(masks, message):
    with pytest.raises(ValueError, match=message):
        rle.encode_classes(masks)


def test_memory_stays_near_the_mask_and_its_runs(rng):
    shape = (1400, 2100)
    rows, columns = np.indices(shape)
    natural = (np.hypot(rows - 700, columns - 1000) < 400).astype(np.uint8)
    noise = (rng.random(shape) < 0.5).astype(np.uint8)
    for mask in natural, noise:
        text = rle.encode(mask)
        runs = len(text) + 8 * len(text.split())  # as text and as 64-bit integers
        for job in (lambda m=mask: rle.encode(m), lambda t=text: rle.decode(t, shape)):
            tracemalloc.start()
            job()
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < mask.nbytes + runs + 2**18  # a chunk to work in
