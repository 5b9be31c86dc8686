"""Clouds: four classes that overlap, some missing, deep supervision, a threshold for each class."""

import keras
import numpy as np
import pytest

import segzoo
from segzoo import losses, metrics
from tests.walks.plain import dice, iou

pytestmark = pytest.mark.slow
TYPES = ["Fish", "Flower", "Gravel", "Sugar"]


def clouds(count, size, rng):
    """Pictures (N, H, W, 4), a band for each type, and masks that overlap or are absent."""
    masks = np.zeros((count, *size, 4), "uint8")
    for picture in masks:
        for kind in range(4):
            if rng.uniform() < 0.7:
                y, x = rng.integers(0, size[0] // 2), rng.integers(0, size[1] // 2)
                picture[y : y + size[0] // 2, x : x + size[1] // 2, kind] = 1
    return (0.6 * masks + rng.normal(0.2, 0.15, masks.shape)).astype("float32"), masks


def test_clouds_that_overlap(rng):
    size = (48, 64)
    x, painted = clouds(48, size, rng)
    table = [segzoo.rle.encode_classes(mask) for mask in painted]
    y = np.stack([segzoo.rle.decode_classes(row, size, classes=4) for row in table])
    np.testing.assert_array_equal(y, painted)
    x, y, held_out, truth = x[:36], y[:36], x[36:], y[36:]

    model = segzoo.models.UNetPlusPlus(
        None,
        4,
        (*size, 4),
        filters=(8, 12, 16),
        deep_supervision=True,
        activation="sigmoid",
        normalization="batch",
        dropout=0.0,
    )
    heads = len(model.outputs)

    def compiled(overlap):
        model.compile(
            keras.optimizers.Adam(1e-2),
            [losses.BCEDice(average="micro") for _ in range(heads)],
            loss_weights=losses.deep_supervision_weights(heads),
            metrics=[None] * (heads - 1)
            + [[metrics.DiceScore(multilabel=overlap, average="per_image", name="dice")]],
        )

    compiled(overlap=False)
    with pytest.raises(ValueError, match=r"`dice` takes them as exclusive: give .*multilabel=True"):
        segzoo.check_batch(model, x[:8], [y[:8]] * heads)
    compiled(overlap=True)
    with pytest.raises(ValueError, match=r"`y` must be a list of 2.*`\[y\] \* 2`"):
        segzoo.check_batch(model, x[:8], y[:8])
    segzoo.check_batch(model, x[:8], [y[:8]] * heads)
    data = (held_out, [truth] * heads)
    history = model.fit(
        x, [y] * heads, batch_size=6, epochs=10, validation_data=data, verbose=0
    ).history

    # The competition's score: Dice of each image and class, 1 where both masks are empty.
    final = keras.Model(model.input, model.outputs[-1])
    scores = final.predict(held_out, verbose=0)
    guess, there = scores > 0.5, truth > 0
    each = [
        [dice(there[n, ..., k], guess[n, ..., k], empty=1) for k in range(4)] for n in range(12)
    ]
    assert history[f"val_{model.output_names[-1]}_dice"][-1] == pytest.approx(
        np.mean(each), abs=1e-6
    )
    assert np.mean(each) > 0.7

    # The loss that `fit` shows is the sum that its arguments say.
    total = 0.0
    for weight, output in zip([1 / 3, 2 / 3], model.predict(held_out, verbose=0), strict=True):
        p = output.clip(1e-7, 1 - 1e-7).astype("float64")
        entropy = -np.where(there, np.log(p), np.log(1 - p)).mean()
        overlap, both = (output * there).sum(), output.sum() + there.sum()
        total += weight * (entropy + 1 - (2 * overlap + 1) / (both + 1))
    loss = model.evaluate(*data, batch_size=12, return_dict=True, verbose=0)["loss"]
    assert loss == pytest.approx(total, rel=1e-4)

    # The best threshold of each class, found in one pass and scored.
    search = metrics.ThresholdSearch(multilabel=True, class_names=TYPES, thresholds=19)
    search.update_state(truth, scores)
    found = search.result()
    chosen = [float(found[f"best_iou_{name}_threshold"]) for name in TYPES]
    levels = search.curve()["thresholds"]
    for k, name in enumerate(TYPES):
        tried = [iou(there[..., k], scores[..., k] > np.float32(t)) for t in levels]
        assert float(found[f"best_iou_{name}"]) == pytest.approx(np.nanmax(tried), abs=1e-6)
    score = metrics.IoU(multilabel=True, threshold=chosen, average=None, class_names=TYPES)
    result = score(truth, scores)
    for k, name in enumerate(TYPES):
        by_hand = iou(there[..., k], scores[..., k] > np.float32(chosen[k]))
        assert float(result[f"iou_{name}"]) == pytest.approx(by_hand, abs=1e-6)
