"""COCO's run lengths, byte for byte beside pycocotools."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from segzoo import rle
from tests.rle.oracle import masks


def theirs(mask: np.ndarray) -> dict:
    return coco.encode(np.asfortranarray((mask != 0).astype(np.uint8)))


@given(mask=masks())
def test_to_coco_writes_what_pycocotools_writes(mask):
    found, wanted = rle.to_coco(mask), theirs(mask)
    assert found == {"size": wanted["size"], "counts": wanted["counts"].decode("ascii")}
    assert json.loads(json.dumps(found)) == found


@given(mask=masks())
def test_from_coco_reads_str_bytes_and_lists(mask):
    wanted = (mask != 0).astype(np.uint8)
    edges = np.flatnonzero(np.diff(wanted.ravel("F"), prepend=0)).tolist()
    counts = np.diff([0, *edges, mask.size]).tolist()
    for written in (
        theirs(mask)["counts"],
        theirs(mask)["counts"].decode(),
        bytearray(theirs(mask)["counts"]),
        memoryview(theirs(mask)["counts"]),
        np.frombuffer(theirs(mask)["counts"], np.uint8),
        counts,
        np.array(counts),
    ):
        found = rle.from_coco({"size": list(mask.shape), "counts": written})
        assert found.dtype == np.uint8 and found.flags.c_contiguous and found.flags.writeable
        np.testing.assert_array_equal(found, wanted)


@given(counts=st.lists(st.integers(1, 255), min_size=1, max_size=6))
def test_a_uint8_array_is_read_as_numbers_where_they_fill_the_mask(counts):
    coco = {"size": [1, sum(counts)], "counts": np.array(counts, np.uint8)}
    wanted = np.repeat(np.arange(len(counts)) % 2, counts)[None]
    np.testing.assert_array_equal(rle.from_coco(coco), wanted)


def test_a_uint8_array_that_fits_as_text_and_as_numbers_is_refused():
    counts = np.frombuffer(b"4d49;", np.uint8)  # 4, 148, 9, 159 as text, 52, 100, 52, 57, 59 else
    coco = {"size": [20, 16], "counts": counts}
    with pytest.raises(ValueError, match="could be both characters and numbers"):
        rle.from_coco(coco)
    assert rle.from_coco({**coco, "counts": counts.tobytes()}).sum() == 148 + 159
    assert rle.from_coco({**coco, "counts": counts.tolist()}).sum() == 100 + 57


@pytest.mark.parametrize("density", [0.001, 0.5, 0.999])
def test_large_masks(density, rng):
    mask = rng.random((1031, 613)) < density
    mask[:, 100:500] = False  # long counts beside short ones
    assert rle.to_coco(mask)["counts"].encode() == theirs(mask)["counts"]
    np.testing.assert_array_equal(rle.from_coco(rle.to_coco(mask)), mask)
    np.testing.assert_array_equal(coco.decode(rle.to_coco(mask)), mask)


@given(rest=st.lists(st.integers(0, 4), max_size=12))
def test_counts_of_zero_join_their_neighbors(rest):
    size = sum(rest)
    values = np.repeat(np.arange(len(rest)) % 2, rest)
    found = rle.from_coco({"size": [1, size], "counts": rest})
    np.testing.assert_array_equal(found[0], values)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ("23", 'must sum to the 6 pixels of "size", received 5'),
        ("2310", "must sum to|from 0 to"),
        ("23" + "1" * 4, "must sum to|from 0 to"),
        ("", "must sum to the 6 pixels"),
        ("P", "must end with a whole count"),
        ("23Q", "must end with a whole count"),
        ("P" * 40, "must end with a whole count"),
        ("P" * 12 + "1", "below 2"),
        ("o" * 11 + "0", "from 0 to the 6 pixels"),
        ("@", "from 0 to the 6 pixels .*received -16"),
        ("2 31", "received b. . at index 1"),
        ("23\x00", "at index 2"),
        ("23é", "at index 2"),
        ("23~", "at index 2"),
        ([2, -1, 5], "received -1 as count 2 of 3"),
        ([2, 3], "received 5"),
        ([2**62, 2**62, 2**62, 2**62, 6], "as count 1 of 5"),
        ([6] * 5, "received 30"),
        (np.array([2**63, 6], np.uint64), "as count 1 of 2"),
        ([2.0, 4.0], "list of integers"),
        ([[2, 4]], "list of integers"),
        ([[2], [4, 5]], "list of integers"),
        ([2**70], "list of integers"),
        (None, "list of integers"),
        (6, "list of integers"),
    ],
)
def test_malformed_counts_are_refused(counts, message):
    with pytest.raises(ValueError, match=message):
        rle.from_coco({"size": [2, 3], "counts": counts})


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ({"size": [2, 3]}, r"keys .*received \['size'\]"),
        ("231", "received str"),
        ({"size": [2], "counts": "231"}, '"size".*two integers'),
        ({"size": [2, -3], "counts": "231"}, '"size".*two integers'),
        ({"size": None, "counts": "231"}, '"size".*two integers'),
    ],
)
def test_what_is_no_coco_mask_is_refused(mask, message):
    with pytest.raises(ValueError, match=message):
        rle.from_coco(mask)


@settings(max_examples=500)
@given(text=st.one_of(st.text(alphabet="0123PQno@/p", max_size=20), st.text(max_size=8)))
def test_any_counts_are_a_valid_mask_or_a_value_error(text):
    try:
        mask = rle.from_coco({"size": [3, 4], "counts": text})
    except ValueError:
        return
    assert mask.shape == (3, 4) and mask.max() <= 1
    np.testing.assert_array_equal(mask, coco.decode({"size": [3, 4], "counts": text}))


def test_to_coco_refuses_floats():
    with pytest.raises(ValueError, match="threshold"):
        rle.to_coco(np.zeros((3, 4)))
