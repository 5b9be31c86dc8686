"""Surface distances: hand geometry, SciPy's set distance, all pairs of points."""

import builtins

import numpy as np
import pytest
from scipy.spatial.distance import directed_hausdorff

from segzoo.metrics import average_surface_distance, hausdorff_distance, surface_dice
from tests.oracles import metrics as oracle


def mask(*pixels, shape=(9, 12)):
    result = np.zeros(shape, bool)
    result[tuple(np.transpose(pixels))] = True
    return result


def test_two_pixels_two_millimeters_apart():
    truth, guess = mask((4, 3)), mask((4, 5))
    assert hausdorff_distance(truth, guess) == 2
    assert average_surface_distance(truth, guess) == 2
    assert surface_dice(truth, guess, tolerance=1.9) == 0
    assert surface_dice(truth, guess, tolerance=2) == 1


def test_spacing_has_the_rows_first():
    truth, guess = mask((2, 3)), mask((5, 7))  # 3 rows and 4 columns apart
    assert hausdorff_distance(truth, guess) == 5
    assert hausdorff_distance(truth, guess, spacing=(4, 0.25)) == pytest.approx(np.hypot(12, 1))
    assert average_surface_distance(truth, guess, spacing=[1, 3]) == (
        pytest.approx(np.hypot(3, 12))
    )
    assert surface_dice(truth, guess, tolerance=3.2, spacing=(1, 0.25)) == 1


def test_the_inside_of_a_mask_is_no_surface():
    truth = np.zeros((9, 12), bool)
    truth[2:7, 3:8] = True
    ring = truth.copy()
    ring[3:6, 4:7] = False
    assert hausdorff_distance(truth, mask((4, 5))) == pytest.approx(np.hypot(2, 2))
    # the ring's inner side is surface too, one pixel from the outer one: its pixels are the rim
    assert hausdorff_distance(truth, ring) == 0


def test_beyond_the_image_is_outside():
    full = np.ones((9, 12), bool)
    assert hausdorff_distance(full, mask((4, 5))) == pytest.approx(np.hypot(4, 6))


def test_a_percentile_leaves_out_the_worst():
    truth = mask(*[(0, column) for column in range(12)])
    guess = mask(*[(0, column) for column in range(12)], (8, 11))
    assert hausdorff_distance(truth, guess) == 8
    assert hausdorff_distance(truth, guess, percentile=90) == 0
    # 13 distances, 12 of them 0: the 95th percentile is at 11.4 of 0..12
    assert hausdorff_distance(truth, guess, percentile=95) == pytest.approx(8 * 0.4)


def test_empty_masks():
    empty, some = np.zeros((5, 7)), np.eye(5, 7)
    assert hausdorff_distance(empty, empty) == average_surface_distance(empty, empty) == 0
    assert surface_dice(empty, empty, tolerance=0) == 1
    for pair in ((empty, some), (some, empty)):
        assert hausdorff_distance(*pair) == average_surface_distance(*pair) == np.inf
        assert surface_dice(*pair, tolerance=100) == 0


@pytest.mark.parametrize("spacing", [(1, 1), (0.5, 2.25)])
def test_random_masks_agree_with_all_pairs_of_points(spacing, rng):
    for density in (0.05, 0.5, 0.9):
        truth, guess = rng.random((2, 11, 13)) < density
        to_pred, to_true = oracle.surface_distances(truth, guess, spacing)
        both = np.concatenate([to_pred, to_true])
        assert hausdorff_distance(truth, guess, spacing=spacing) == pytest.approx(both.max())
        assert average_surface_distance(truth, guess, spacing) == pytest.approx(both.mean())
        assert surface_dice(truth, guess, 1.3, spacing) == pytest.approx((both <= 1.3).mean())
        expected = max(np.percentile(to_pred, 80), np.percentile(to_true, 80))
        got = hausdorff_distance(truth, guess, percentile=80, spacing=spacing)
        assert got == pytest.approx(expected)


def test_thin_masks_agree_with_scipys_hausdorff_distance(rng):
    points = [np.unique(rng.integers(0, (40, 60), (9, 2)), axis=0) for _ in range(2)]
    truth, guess = (mask(*p, shape=(40, 60)) for p in points)
    expected = max(directed_hausdorff(*points)[0], directed_hausdorff(*points[::-1])[0])
    assert hausdorff_distance(truth, guess) == pytest.approx(expected)


def test_volumes_have_a_third_spacing():
    truth, guess = np.zeros((2, 5, 6, 7), "uint8")
    truth[1, 2, 3] = guess[3, 2, 3] = 1
    assert hausdorff_distance(truth, guess, spacing=(2.5, 1, 1)) == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"y_pred": np.zeros((5, 6))}, r"must have the same shape, received \(5, 7\) and \(5, 6\)"),
        ({"y_pred": np.full((5, 7), 0.3)}, "`y_pred` must be a mask of 0 and 1"),
        ({"y_true": np.full((5, 7), 255)}, "`y_true` must be a mask of 0 and 1"),
        ({"percentile": 0}, "`percentile` must be above 0"),
        ({"percentile": 101}, "`percentile` must be above 0"),
        ({"percentile": "95"}, "`percentile` must be above 0 .*'95'"),
        ({"classes": 2}, r"`classes` is for a batch of labels.*`labels\[None\]`"),
        ({"spacing": (1, 1, 1)}, "`spacing` must be one positive number for each axis"),
        ({"spacing": (1, 0)}, "`spacing` must be one positive number for each axis"),
    ],
)
def test_bad_arguments_raise(arguments, message):
    masks = {"y_true": np.zeros((5, 7)), "y_pred": np.zeros((5, 7))}
    with pytest.raises(ValueError, match=message):
        hausdorff_distance(**{**masks, **arguments})


def test_a_label_that_is_no_class_is_named():
    labels = np.zeros((2, 5, 7), "uint8")
    labels[0, 0, 0] = 255
    with pytest.raises(ValueError, match=r"`y_true` must hold .* 0 to 1 .* received the label 255"):
        hausdorff_distance(labels, labels, classes=2)


def test_negative_tolerance_raises():
    with pytest.raises(ValueError, match="`tolerance` must be >= 0, received tolerance=-1"):
        surface_dice(np.zeros((5, 7)), np.zeros((5, 7)), tolerance=-1)


def test_without_scipy_the_error_says_what_to_install(monkeypatch):
    real_import = builtins.__import__

    def without_scipy(name, *args, **kwargs):
        if name.startswith("scipy"):
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_scipy)
    with pytest.raises(ImportError, match="pip install scipy"):
        hausdorff_distance(np.eye(5), np.eye(5))


MEASURES = [
    hausdorff_distance,
    average_surface_distance,
    lambda *a, **k: surface_dice(*a, tolerance=1, **k),
]


@pytest.mark.parametrize("measure", MEASURES)
def test_a_batch_holds_the_values_of_its_pairs(measure, rng):
    truth, guess = rng.random((2, 3, 7, 9, 2)) < 0.3
    got = measure(truth, guess, spacing=(2, 1))
    assert got.shape == (3, 2)
    for b, c in np.ndindex(3, 2):
        assert got[b, c] == measure(truth[b, ..., c], guess[b, ..., c], spacing=(2, 1))
    np.testing.assert_array_equal(measure(truth[..., 0], guess[..., 0], spacing=(2, 1)), got[:, 0])


@pytest.mark.parametrize("measure", MEASURES)
def test_labels_are_a_mask_for_each_class(measure, rng):
    truth, guess = rng.integers(0, 3, (2, 2, 7, 9))
    masks = [np.eye(3, dtype=bool)[x] for x in (truth, guess)]
    np.testing.assert_array_equal(measure(truth, guess, classes=3), measure(*masks))
    with pytest.raises(ValueError, match="`y_pred` must hold integer labels 0 to 2"):
        measure(truth, guess + 1, classes=3)
    with pytest.raises(ValueError, match="`classes` is for a batch of labels"):
        measure(truth[0], guess[0], classes=3)


@pytest.mark.parametrize("measure", MEASURES)
def test_an_empty_side_gives_what_was_asked(measure):
    truth = np.zeros((3, 7, 9), bool)
    guess = truth.copy()
    truth[0, 2:4] = guess[1, 2:4] = True
    values = measure(truth, guess, empty=-5)
    np.testing.assert_array_equal(values[:2], -5)
    assert values[2] == measure(truth[2], truth[2])
    assert np.isnan(measure(truth[0], guess[0], empty=float("nan")))
