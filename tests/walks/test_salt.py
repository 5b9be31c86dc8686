"""A competition of one class: PNGs, run lengths in a CSV, a threshold, a submission."""

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import segzoo
from tests.walks.plain import iou, objects

pytestmark = pytest.mark.slow
SIZE = (101, 101)


def runs_of(mask):
    """A mask as the competition's page describes it, pixel by pixel: down, then right, from 1."""
    runs, inside = [], False
    for number, pixel in enumerate(mask.T.ravel(), 1):
        if pixel and not inside:
            runs.append([number, 0])
        inside = bool(pixel)
        if inside:
            runs[-1][1] += 1
    return " ".join(f"{start} {length}" for start, length in runs)


def competition_score(truth, guess):
    """The mean over images of the share of thresholds 0.50, 0.55, ..., 0.95 that the IoU passes."""
    thresholds = np.arange(10, 20) / 20
    return np.mean(
        [(iou(t, g, empty=1) > thresholds).mean() for t, g in zip(truth, guess, strict=True)]
    )


def test_salt_from_a_folder_to_a_submission(tmp_path, rng):
    pictures, painted = objects(42, SIZE, 2, rng)
    painted[::6] = 0  # images without salt
    pictures[::6] = 0.2
    for number, picture in enumerate(pictures):
        gray = (255 * picture.mean(axis=-1)).astype("uint8")
        Image.fromarray(gray).save(tmp_path / f"{number:03}.png")
    rows = [(f"{number:03}", runs_of(mask)) for number, mask in enumerate(painted)]
    pd.DataFrame(rows, columns=["id", "rle_mask"]).to_csv(tmp_path / "train.csv", index=False)

    # What a competitor writes from here on.
    table = pd.read_csv(tmp_path / "train.csv", dtype={"id": str})
    assert table.rle_mask.isna().sum() == 7  # an empty mask is NaN
    x = np.stack([keras.utils.img_to_array(Image.open(tmp_path / f"{i}.png")) for i in table.id])
    y = np.stack([segzoo.rle.decode(runs, SIZE) for runs in table.rle_mask])
    np.testing.assert_array_equal(y, painted)
    x /= 255
    train, valid = slice(0, 32), slice(32, None)

    model = segzoo.models.UNet(None, 1, (*SIZE, 1), decoder_filters=(24, 12))
    search = segzoo.metrics.ThresholdSearch(thresholds=np.linspace(0.1, 0.9, 17))
    model.compile(
        keras.optimizers.Adam(5e-3),
        segzoo.losses.BCEDice(),
        metrics=[segzoo.metrics.IoU(average="per_image"), search],
    )
    with pytest.raises(ValueError, match="if 255 is the object, `y > 127`"):
        segzoo.check_batch(model, x[:8], 255 * y[:8])
    assert "without a pixel" not in segzoo.check_batch(model, x[:8], y[:8])
    best = keras.callbacks.ModelCheckpoint(
        tmp_path / "best.keras", monitor="val_iou", save_best_only=True
    )
    patience = keras.callbacks.EarlyStopping(monitor="val_best_iou", patience=20)
    history = model.fit(
        x[train],
        y[train],
        batch_size=8,
        epochs=8,
        validation_data=(x[valid], y[valid]),
        callbacks=[best, patience],
        verbose=0,
    ).history

    # The best epoch was kept, and its score is that of NumPy.
    model = keras.saving.load_model(tmp_path / "best.keras")
    scores = model.predict(x[valid], verbose=0)[..., 0]
    truth = y[valid] > 0
    each = [iou(t, s > 0.5, empty=1) for t, s in zip(truth, scores, strict=True)]
    assert max(history["val_iou"]) == pytest.approx(np.mean(each), abs=1e-6)
    assert np.mean(each) > 0.8

    # One pass finds the threshold that a loop finds.
    logs = model.evaluate(x[valid], y[valid], return_dict=True, verbose=0)
    tried = [iou(truth, scores > np.float32(t)) for t in np.linspace(0.1, 0.9, 17)]
    assert logs["best_iou"] == pytest.approx(max(tried), abs=1e-6)
    threshold = logs["best_iou_threshold"]
    assert iou(truth, scores > np.float32(threshold)) == pytest.approx(max(tried), abs=1e-6)

    # The competition's score of each image, from the counts of a batch.
    found = segzoo.metrics.counts(y[valid], scores[..., None], threshold=threshold).iou()
    passed = keras.ops.convert_to_numpy(found) > np.arange(10, 20) / 20
    expected = competition_score(truth, scores > np.float32(threshold))
    assert passed.mean() == pytest.approx(expected, abs=1e-12)

    # The submission, read back as the organizers read it.
    masks = scores > threshold
    submission = pd.DataFrame(
        {"id": table.id[valid], "rle_mask": list(map(segzoo.rle.encode, masks))}
    )
    submission.to_csv(tmp_path / "submission.csv", index=False)
    assert list(submission.rle_mask) == [runs_of(mask) for mask in masks]
