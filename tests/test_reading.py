"""The one reader: forms of labels, ignored pixels, weights, and what cannot be right."""

import keras
import numpy as np
import pytest
from keras import ops

from segzoo._arguments import class_weights_of, ignored_classes, list_of_weights
from segzoo._reading import Reading
from segzoo._targets import largest_class

pytestmark = pytest.mark.core
LABELS = np.array([[[0, 1, 255], [2, 2, 1]]], "uint8")
PROBS = np.full((1, 2, 3, 3), 1 / 3, "float16")


def read(y, p=PROBS, w=None, **options):
    return Reading(**options)(y, p, w)


def array(x):
    return ops.convert_to_numpy(x)


def test_labels_stay_labels_and_predictions_become_float32():
    for form in (LABELS, LABELS[..., None]):
        batch = read(form, ignored=(255,))
        assert batch.kind == "exclusive"
        assert tuple(batch.targets.labels.shape) == (1, 2, 3)
        assert array(batch.scores).dtype == np.float32


def test_an_ignored_label_is_in_no_class():
    batch = read(LABELS, ignored=(255,))
    expected = np.eye(3)[np.where(LABELS == 255, 0, LABELS)] * (LABELS != 255)[..., None]
    np.testing.assert_array_equal(array(batch.dense()), expected)
    labels = np.where(LABELS == 255, -1, LABELS.astype(int))
    np.testing.assert_array_equal(array(batch.labels()), labels)


def test_a_mask_of_one_class_with_void():
    batch = read(np.array([[[0, 1, 255]]], "uint8"), PROBS[:, :1, :, :1], ignored=(255,))
    assert batch.kind == "binary"
    np.testing.assert_array_equal(array(batch.valid)[0, 0, :, 0], [True, True, False])
    np.testing.assert_array_equal(array(batch.dense())[0, 0, :, 0], [0, 1, 0])


def test_dense_entries_pixels_and_exclusive_pixels():
    dense = np.array([[[[1, 0, 0], [255, 1, 0], [0, 0, 0], [0, 1, 0]]]])
    p = np.full((1, 1, 4, 3), 0.5, "float32")
    entries = read(dense, p, ignored=(255,), multilabel=True)
    np.testing.assert_array_equal(array(entries.valid)[0, 0], dense[0, 0] != 255)
    pixels = array(read(dense, p, ignored=(255,)).valid)[0, 0, :, 0]
    np.testing.assert_array_equal(pixels, [True, False, False, True])
    of_class = array(read(dense, p, ignored=(255, 1)).valid)[0, 0, :, 0]
    np.testing.assert_array_equal(of_class, [True, False, False, False])


@pytest.mark.parametrize("classes", [2, 3, 24, 25])
def test_an_all_zero_pixel_is_of_no_class(classes):
    dense = np.zeros((1, 2, 2, classes))
    dense[0, 0, 0, 1] = 1
    labels = array(read(dense, np.full(dense.shape, 0.5)).labels())
    np.testing.assert_array_equal(labels, [[[1, -1], [-1, -1]]])
    values = ops.convert_to_tensor(np.random.default_rng(0).normal(size=(1, 5, 7, classes)))
    np.testing.assert_array_equal(array(largest_class(values)), array(values).argmax(-1))


def test_weights_take_their_shapes():
    p = np.zeros((2, 3, 4, 5), "float32")
    labels = np.zeros((2, 3, 4), int)
    for shape, images, pixels in (
        ((), (2,), None),
        ((2,), (2,), None),
        ((2, 3, 4), None, (2, 3, 4, 1)),
        ((2, 3, 4, 1), None, (2, 3, 4, 1)),
    ):
        batch = read(labels, p, np.ones(shape))
        for weights, expected in ((batch.image_weights, images), (batch.pixel_weights, pixels)):
            assert expected == (None if weights is None else tuple(weights.shape))
    for shape in ((3,), (2, 3), (2, 3, 4, 5), (2, 4, 3)):
        with pytest.raises(ValueError, match="`sample_weight` of shape"):
            read(labels, p, np.ones(shape))


def test_ignored_classes_are_integers():
    assert ignored_classes(None) == ()
    assert ignored_classes(np.int64(255)) == (255,)
    assert ignored_classes([255, -1]) == (255, -1)
    assert ignored_classes(np.array([255.0])) == (255,)
    for bad in (1.5, "void", True, [None], b"x", b"", [[1]], float("inf"), {"a": 1}, 1j):
        with pytest.raises(ValueError, match="`ignore_class` must be"):
            ignored_classes(bad)


def test_class_weights_are_a_sequence_or_a_mapping():
    assert class_weights_of(np.array([1, 2])) == [1.0, 2.0]
    mapping = class_weights_of({0: 0.2, 2: 50})
    assert mapping == {0: 0.2, 2: 50.0} == class_weights_of([[0, 0.2], [2, 50]])
    assert list_of_weights(mapping, 4) == [0.2, 1.0, 50.0, 1.0]
    with pytest.raises(ValueError, match="`class_weights` must map classes 0 to 1"):
        list_of_weights(mapping, 2)
    for bad in (
        "12",
        {"a": 1},
        {-1: 1},
        {0.5: 1},
        [1, "b"],
        {0: -1},
        [float("nan")],
        3,
        [],
        {0: 1j},
    ):
        with pytest.raises(ValueError, match="`class_weights` must be numbers >= 0"):
            class_weights_of(bad)


BIG = 2**32
WRONG = {
    "a label of no class": (np.array([[[0, 1, 7], [2, 2, 1]]]), PROBS, "labels 0 to 2.*received 7"),
    "a negative label": (np.array([[[0, 1, -1], [2, 2, 1]]]), PROBS, "received -1"),
    "half a label": (LABELS / 2.0, PROBS, "received 127.5.*whole numbers"),
    "labels divided by 255": (np.minimum(LABELS, 2) / 255, PROBS, "received 0.00784"),
    "a label past 32 bits": (np.array([[[0, 1, BIG], [2, 2, 1]]]), PROBS, "received"),
    "a NaN label": (np.array([[[0, 1, np.nan], [2, 2, 1]]]), PROBS, "received nan"),
    "a dense 255": (np.full((1, 2, 3, 3), 255), PROBS, "targets from 0 to 1.*received 255"),
    "a dense -0.5": (np.full((1, 2, 3, 3), -0.5), PROBS, "received -0.5"),
    "a dense NaN": (np.full((1, 2, 3, 3), np.nan), PROBS, "received nan"),
    "NaN predictions": (np.minimum(LABELS, 2), PROBS * np.nan, "`y_pred` must hold numbers"),
    "a mask of 255": (LABELS // 128 * 255, PROBS[..., :1], "targets from 0 to 1 for 1"),
    "strings": (np.full((1, 2, 3), "a"), PROBS, "`y_true` must"),
    "complex": (LABELS * 1j, PROBS, "`y_true` must hold real numbers"),
    "complex predictions": (np.minimum(LABELS, 2), PROBS * 1j, "`y_pred` must hold real numbers"),
    "objects": (np.full((1, 2, 3), None), PROBS, "`y_true` must be an array or tensor of numbers"),
    "a masked array": (np.ma.masked_equal(LABELS, 255), PROBS, "masked array.*ignore_class=255"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_right_is_an_error(case):
    y, p, message = WRONG[case]
    with pytest.raises(ValueError, match=message):
        read(y, p)


def test_labels_a_little_off_a_whole_number_are_labels():
    batch = read(np.minimum(LABELS, 2) + 1e-7, PROBS)
    np.testing.assert_array_equal(array(batch.labels()), np.minimum(LABELS, 2))
    assert array(read(np.float32([[[0.9999999]]]), PROBS[:, :1, :1]).labels()) == 1


def test_big_ignored_values_ignore_what_they_name():
    for big in (-(2**40), 2**32 + 1):
        truth = np.array([[[0, 1, big], [2, 2, 1]]])
        batch = read(truth, ignored=(big,))
        np.testing.assert_array_equal(array(batch.valid)[..., 0], truth != big)
    assert read(np.minimum(LABELS, 2), ignored=(-(2**40),)).valid is None  # no uint8 is that


def test_wrong_weights_are_an_error():
    labels = np.minimum(LABELS, 2)
    for bad in (-1, np.nan, np.inf):
        weights = np.ones(labels.shape)
        weights[0, 1, 1] = bad
        with pytest.raises(ValueError, match="`sample_weight` must be finite numbers >= 0"):
            read(labels, PROBS, weights)
    with pytest.raises(ValueError, match="`sample_weight` must"):
        read(labels, PROBS, np.full(labels.shape, "a"))


def test_scores_outside_zero_to_one_are_no_probabilities():
    labels = np.minimum(LABELS, 2)
    for bad in (5.0, -3.0):
        with pytest.raises(ValueError, match=r"probabilities from 0 to 1.*from_logits=True"):
            read(labels, PROBS * bad, probabilities=True)
        read(labels, PROBS * bad, probabilities=True, from_logits=True)
    read(labels, PROBS + 0.6667, probabilities=True)  # 1 and a rounding


def test_channels_first_is_named():
    for shape in ((2, 1, 9, 8), (2, 1, 32, 48)):
        with pytest.raises(ValueError, match="channels last"):
            read(np.zeros(shape), np.zeros(shape))
    for shape in ((2, 1, 4, 3), (2, 1, 4, 24), (2, 1, 64, 3), (2, 2, 9, 8)):  # rows of pixels
        read(np.zeros(shape), np.zeros(shape))


def test_variables_are_read():
    labels = np.minimum(LABELS, 2)
    batch = read(keras.Variable(labels, trainable=False), keras.Variable(PROBS.astype("float32")))
    assert tuple(batch.size) == (1, 2, 3, 3)


@pytest.mark.parametrize("shape", [(0, 4, 5), (2, 0, 5), (2, 4, 0)])
def test_empty_batches_are_read(shape):
    for y in (np.zeros(shape, int), np.zeros((*shape, 3))):
        batch = read(y, np.zeros((*shape, 3)), np.ones(shape), ignored=(255,))
        assert not bool(array(batch.bad))
