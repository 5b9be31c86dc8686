"""Label maps to and from one run list for each label."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from segzoo import rle
from tests.rle.oracle import ORDERS, SHAPES, STARTS, in_memory, slow_encode


@given(
    labels=npst.arrays(np.int16, SHAPES, elements=st.sampled_from([0, 1, 2, 300, -1])),
    layout=st.sampled_from(["C", "F", "strided", "backwards"]),
    background=st.sampled_from([0, 2, 77]),
    order=ORDERS,
    start=STARTS,
)
def test_labels_are_encoded_as_masks_and_come_back(labels, layout, background, order, start):
    options = {"background": background, "order": order, "start": start}
    texts = rle.encode_labels(in_memory(labels, layout), **options)
    present = [label for label in np.unique(labels).tolist() if label != background]
    assert texts == {label: slow_encode(labels == label, order, start) for label in present}
    assert list(texts) == present
    found = rle.decode_labels(texts, labels.shape, **options)
    assert found.dtype == np.int32 and found.flags.c_contiguous and found.flags.writeable
    np.testing.assert_array_equal(found, labels)


@pytest.mark.parametrize("order", "FC")
def test_large_label_maps(order, rng):
    labels = np.kron(rng.integers(0, 9, (13, 90)), np.ones((40, 11), int)).astype(np.uint8)
    noise = rng.integers(0, 3, (517, 333))
    for array in labels, noise:
        texts = rle.encode_labels(array, order=order)
        assert texts == {
            label: rle.encode(array == label, order=order) for label in range(1, array.max() + 1)
        }
        np.testing.assert_array_equal(rle.decode_labels(texts, array.shape, order=order), array)


def test_overlap_raises_or_the_last_label_wins():
    rows = {5: "1 4", 2: "3 4"}
    with pytest.raises(ValueError, match=r'labels 5 and 2 share pixel 2 .*overlap="last"'):
        rle.decode_labels(rows, (2, 4))
    found = rle.decode_labels(rows, (2, 4), overlap="last")
    assert found.ravel("F").tolist() == [5, 5, 2, 2, 2, 2, 0, 0]
    swapped = rle.decode_labels(dict(reversed(rows.items())), (2, 4), overlap="last")
    assert swapped.ravel("F").tolist() == [5, 5, 5, 5, 2, 2, 0, 0]


def test_runs_of_two_labels_may_touch():
    assert rle.decode_labels({1: "1 2 5 1", 2: "3 2"}, (1, 6)).tolist() == [[1, 1, 2, 2, 1, 0]]


def test_a_run_inside_another_labels_run_overlaps():
    with pytest.raises(ValueError, match="must not overlap"):
        rle.decode_labels({1: "1 6", 2: "2 1 4 1"}, (1, 6))


def test_dtype_and_background():
    found = rle.decode_labels({7: "2 1"}, (1, 3), background=255, dtype=np.uint8)
    assert found.dtype == np.uint8 and found.tolist() == [[255, 7, 255]]
    assert rle.decode_labels({}, (2, 2)).tolist() == [[0, 0], [0, 0]]


def test_an_object_with_the_number_of_the_background_does_not_vanish():
    with pytest.raises(ValueError, match=r"label 0, .*`background` of the 10 pixels.* from 1 on"):
        rle.decode_labels(dict(enumerate(["1 3", "10 2"])), (3, 5))
    assert rle.decode_labels({0: "", 1: "1 1"}, (1, 2)).tolist() == [[1, 0]]
    found = rle.decode_labels({0: "1 3", 1: "4 2"}, (1, 5), background=-1)
    assert found.tolist() == [[0, 0, 0, 1, 1]]
    labels = np.array([[0, 2, 1], [1, 0, 0]])  # a map of classes: every pixel has one
    classes = rle.encode_classes(labels[..., None] == np.arange(3))
    np.testing.assert_array_equal(rle.decode_labels(dict(enumerate(classes)), (2, 3)), labels)


@pytest.mark.parametrize(
    ("rles", "options", "message"),
    [
        (["1 1"], {}, "`rles` must map labels"),
        ({"a": "1 1"}, {}, "must map integers"),
        ({1: "1 9"}, {}, "label 1: .* past the mask's 6 pixels"),
        ({300: "1 1"}, {"dtype": np.uint8}, "`label` must be a number that dtype uint8 holds"),
        ({1: "1 1"}, {"dtype": "S1"}, "`dtype`"),
        ({1: "1 1"}, {"background": 0.5}, "`background`"),
        ({1: "1 1"}, {"background": -1, "dtype": np.uint8}, "`background`"),
        ({1: "1 1"}, {"overlap": "first"}, "`overlap` must be"),
        ({1: "1 1"}, {"order": "K"}, "`order`"),
        ({1: "1 1"}, {"start": 5}, "`start`"),
        ({1: "1 1"}, {"shape": (6,)}, "`shape`"),
    ],
)
def test_decode_labels_refuses_bad_arguments(rles, options, message):
    shape = options.pop("shape", (2, 3))
    with pytest.raises(ValueError, match=message):
        rle.decode_labels(rles, shape, **options)


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (np.zeros((2, 3)), {}, "`labels` must be of bool or integers"),
        (np.zeros((2, 3, 1), int), {}, r"squeeze the last axis, `labels\[..., 0\]`"),
        (np.zeros((2, 3), int), {"background": None}, "`background`"),
        (np.zeros((2, 3), int), {"order": "K"}, "`order`"),
    ],
)
def test_encode_labels_refuses_bad_arguments(labels, options, message):
    with pytest.raises(ValueError, match=message):
        rle.encode_labels(labels, **options)
