"""The one reader of labels: forms, masks, weights."""

import numpy as np
import pytest
from keras import ops

from segzoo import _targets

pytestmark = pytest.mark.core
LABELS = np.array([[[0, 1, 255], [2, 2, 1]]], "uint8")
PROBS = np.full((1, 2, 3, 3), 1 / 3, "float16")


def read(y, p=PROBS, ignored=()):
    return _targets.standardize(y, p, ignored)


def array(x):
    return ops.convert_to_numpy(x)


def test_labels_stay_labels_and_predictions_become_float32():
    for form in (LABELS, LABELS[..., None]):
        y, p = read(form, ignored=(255,))
        assert tuple(y.shape) == (1, 2, 3)
        assert array(p).dtype == np.float32


def test_an_ignored_label_is_in_no_class():
    y, _ = read(LABELS, ignored=(255,))
    valid = _targets.valid_mask(y, 3, (255,))
    expected = np.eye(3)[np.where(LABELS == 255, 0, LABELS)] * (LABELS != 255)[..., None]
    np.testing.assert_array_equal(array(_targets.dense_targets(y, 3, valid)), expected)
    np.testing.assert_array_equal(
        array(_targets.label_targets(y, 3, valid)), np.where(LABELS == 255, -1, LABELS.astype(int))
    )


def test_a_mask_of_one_class_with_void():
    mask = np.array([[[0, 1, 255]]], "uint8")
    y, _ = read(mask, PROBS[:, :1, :, :1], (255,))
    valid = _targets.valid_mask(y, 1, (255,))
    np.testing.assert_array_equal(array(valid)[0, 0, :, 0], [True, True, False])
    np.testing.assert_array_equal(array(_targets.label_targets(y, 1, valid)), [[[0, 1, -1]]])


def test_dense_entries_pixels_and_exclusive_pixels():
    dense = np.array([[[[1, 0, 0], [255, 1, 0], [0, 0, 0], [0, 1, 0]]]])
    p = np.full((1, 1, 4, 3), 0.5, "float32")
    y, _ = read(dense, p, (255,))
    entries = array(_targets.valid_mask(y, 3, (255,)))[0, 0]
    np.testing.assert_array_equal(entries, dense[0, 0] != 255)
    pixels = array(_targets.valid_mask(y, 3, (255,), exclusive=True))[0, 0, :, 0]
    np.testing.assert_array_equal(pixels, [True, False, False, True])
    of_class = array(_targets.valid_mask(y, 3, (255, 1)))[0, 0]
    assert not of_class[3].any() and of_class[0].all()


def test_weights_take_their_shapes():
    p = ops.convert_to_tensor(np.zeros((2, 3, 4, 5), "float32"))
    for shape, expected in (
        ((), (1, 1, 1, 1)),
        ((2,), (2, 1, 1, 1)),
        ((2, 3, 4), (2, 3, 4, 1)),
        ((2, 3, 4, 1), (2, 3, 4, 1)),
    ):
        assert tuple(_targets.pixel_weights(np.ones(shape), p).shape) == expected
    for shape in ((3,), (2, 3), (2, 3, 4, 5), (2, 4, 3)):
        with pytest.raises(ValueError, match="`sample_weight` of shape"):
            _targets.pixel_weights(np.ones(shape), p)


def test_ignored_classes_are_integers():
    assert _targets.ignored_classes(None) == ()
    assert _targets.ignored_classes(np.int64(255)) == (255,)
    assert _targets.ignored_classes([255, -1]) == (255, -1)
    for bad in (1.5, "void", True, [None]):
        with pytest.raises(ValueError, match="`ignore_class` must be"):
            _targets.ignored_classes(bad)
