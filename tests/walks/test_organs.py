"""Organs in gray slices: soft masks of three readers, empty slices, distances in millimeters."""

import keras
import numpy as np
import pytest

import segzoo
from segzoo import losses, metrics
from tests.walks.plain import dice

pytestmark = pytest.mark.slow
MILLIMETERS = (0.8, 0.5)


def slices(count, size, rng):
    """Gray slices (N, H, W, 1), and the masks that three readers drew (3, N, H, W)."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    readers = np.zeros((3, count, *size), bool)
    for number in range(count):
        if number % 4 == 0:
            continue  # no organ in this slice
        y, x, a, b = (
            rng.integers(20, 44),
            rng.integers(20, 60),
            rng.uniform(6, 14),
            rng.uniform(6, 14),
        )
        for reader in readers:
            grown = rng.uniform(0.9, 1.1)
            reader[number] = ((rows - y) / a) ** 2 + ((columns - x) / b) ** 2 < grown
    gray = 40 + 60 * readers[0] + rng.normal(0, 15, (count, *size))
    return gray[..., None].astype("float32"), readers


def surface(mask):
    """The pixels (N, 2) with one of four neighbors outside the mask."""
    around = np.pad(mask, 1)
    inner = around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:]
    return np.argwhere(mask & ~inner)


def distances(truth, guess):
    """From each surface pixel of one mask to the nearest of the other, both ways."""
    one, other = (surface(mask) * MILLIMETERS for mask in (truth, guess))
    apart = np.sqrt(((one[:, None] - other[None]) ** 2).sum(axis=-1))
    return apart.min(axis=1), apart.min(axis=0)


def test_organs_with_soft_and_empty_masks(rng):
    gray, readers = slices(48, (64, 80), rng)
    x = (gray - 40) / 60
    soft, hard = readers.mean(axis=0).astype("float32"), readers.sum(axis=0) >= 2
    train, valid = slice(0, 32), slice(32, None)

    model = segzoo.models.UNet(None, 1, (64, 80, 1), decoder_filters=(32, 16, 8))
    model.compile(
        keras.optimizers.Adam(5e-3),
        losses.BinaryCrossentropy() + losses.Dice(),
        metrics=[metrics.DiceScore(average="per_image")],
    )
    with pytest.raises(ValueError, match="`x` has 3 channels, the model takes 1"):
        segzoo.check_batch(model, x[:8].repeat(3, axis=-1), soft[:8])
    with pytest.raises(ValueError, match="`y / 255` for a soft mask"):
        segzoo.check_batch(model, x[:8], 255 * soft[:8])
    segzoo.check_batch(model, x[:8], soft[:8])
    history = model.fit(
        x[train],
        soft[train],
        batch_size=8,
        epochs=10,
        validation_data=(x[valid], hard[valid]),
        verbose=0,
    ).history

    # The loss of soft masks: least where the prediction is the readers' mean.
    p = model.predict(x[valid], verbose=0)[..., 0].astype("float64")
    y = soft[valid]
    tp, fp, fn = np.minimum(y, p).sum(), np.maximum(p - y, 0).sum(), np.maximum(y - p, 0).sum()
    cut = p.clip(1e-7, 1 - 1e-7)
    entropy = -(y * np.log(cut) + (1 - y) * np.log(1 - cut)).mean()
    expected = entropy + 1 - (2 * tp + 1) / (2 * tp + fp + fn + 1)
    logs = model.evaluate(x[valid], y, batch_size=16, return_dict=True, verbose=0)
    assert logs["loss"] == pytest.approx(expected, rel=1e-4)
    loss = losses.Dice()
    at_mean, harder = (float(loss(y, np.float32(guess)[..., None])) for guess in (y, y > 0.5))
    assert at_mean == pytest.approx(0, abs=1e-6) and harder > 0.01

    # Dice of each slice against the majority; an empty one that is found empty scores 1.
    guess, truth = p > 0.5, hard[valid]
    each = [dice(t, g, empty=1) for t, g in zip(truth, guess, strict=True)]
    assert history["val_dice_score"][-1] == pytest.approx(np.mean(each), abs=1e-6)
    assert np.mean(each) > 0.8 and not truth[0].any()

    # Distances of all slices at once; one side empty counts as not measured.
    guess = guess.copy()
    guess[1] = False  # an organ that was missed
    options = {"spacing": MILLIMETERS, "empty": np.nan}
    hd95 = metrics.hausdorff_distance(truth, guess, 95, **options)
    mean = metrics.average_surface_distance(truth, guess, **options)
    near = metrics.surface_dice(truth, guess, tolerance=1.0, **options)
    assert np.isnan([hd95[1], mean[1], near[1]]).all() and len(hd95) == 16
    for number, (t, g) in enumerate(zip(truth, guess, strict=True)):
        if t.any() and g.any():
            there, back = distances(t, g)
            both = np.concatenate([there, back])
            assert hd95[number] == pytest.approx(max(np.percentile(d, 95) for d in (there, back)))
            assert mean[number] == pytest.approx(both.mean())
            assert near[number] == pytest.approx((both <= 1.0).mean())
        elif not t.any() and not g.any():
            assert (hd95[number], mean[number], near[number]) == (0, 0, 1)
