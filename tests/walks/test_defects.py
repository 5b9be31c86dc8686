"""Defects in industry: rare classes, a backbone of one's own, weights, scores by class."""

import keras
import numpy as np
import pytest

import segzoo
from segzoo import losses, metrics
from tests.walks.plain import counted, iou, objects

pytestmark = pytest.mark.slow
NAMES = ["sound", "scratch", "dent", "stain"]


def backbone():
    """Three stages that take RGB in 0..255."""
    image = keras.Input((None, None, 3))
    x, maps = segzoo.layers.ImageNormalization(127.5, 127.5)(image), []
    for stage, filters in enumerate((12, 16, 24), 1):
        x = segzoo.layers.ConvBlock(filters, strides=2, name=f"stage_{stage}")(x)
        maps.append(x)
    return keras.Model(image, maps)


def test_rare_defects_and_their_scores(rng):
    pictures, y = objects(60, (64, 64), 4, rng, each=1)
    x = (255 * pictures).astype("uint8")
    train, valid = slice(0, 44), slice(44, None)
    share = np.array([(y[train] == k).mean() for k in range(4)])
    assert share[1:].max() < 0.03

    model = segzoo.models.UNet(backbone(), 4, decoder_filters=(24, 16, 12))
    weights = dict(enumerate(1 / np.sqrt(share)))

    def compiled(*more):
        model.compile(
            keras.optimizers.Adam(5e-3),
            losses.CategoricalCrossentropy(class_weights=weights)
            + losses.Dice(class_weights={0: 0}),
            metrics=[
                metrics.FScore(average=None, class_names=NAMES),
                metrics.IoU(class_weights={0: 0}),
                metrics.IoU(average="weighted", name="by_area"),
                metrics.Recall(average=None),
                *more,
            ],
        )

    compiled(metrics.FScore(beta=2, average=None, class_names=NAMES))
    with pytest.raises(ValueError, match=r"keys f_score, .* one overwrites the other"):
        segzoo.check_batch(model, x[:8], y[:8])
    compiled()
    with pytest.raises(ValueError, match=r"2 faults[^$]*normalizes 0\.\.255[^$]*`y - 1`"):
        segzoo.check_batch(model, x[:8] / 255, y[:8] + 1)
    segzoo.check_batch(model, x[:16], y[:16])
    history = model.fit(
        x[train], y[train], batch_size=4, epochs=12, validation_data=(x[valid], y[valid]), verbose=0
    ).history

    scores = model.predict(x[valid], verbose=0)
    guess, truth = scores.argmax(axis=-1), y[valid]
    each = [iou(truth == k, guess == k) for k in range(4)]
    tallies = [counted(truth == k, guess == k) for k in range(4)]
    f1 = [2 * tp / (2 * tp + fp + fn) for tp, fp, fn in tallies]
    for k, name in enumerate(NAMES):
        tp, _, fn = tallies[k]
        assert history[f"val_f_score_{name}"][-1] == pytest.approx(f1[k], abs=1e-6)
        assert history[f"val_recall_class_{k}"][-1] == pytest.approx(tp / (tp + fn), abs=1e-6)
    assert history["val_iou"][-1] == pytest.approx(np.mean(each[1:]), abs=1e-6)
    area = np.array([(truth == k).mean() for k in range(4)])
    assert history["val_by_area"][-1] == pytest.approx((area * each).sum(), abs=1e-6)
    assert np.mean(f1[1:]) > 0.7

    # The loss of `fit`: each pixel by the weight of its class, and Dice of the defects alone.
    p, w = scores.astype("float64"), 1 / np.sqrt(share)
    true = np.take_along_axis(p, truth[..., None].astype(int), axis=-1)[..., 0].clip(1e-7)
    entropy = (w[truth] * -np.log(true)).sum() / w[truth].sum()
    overlap = [
        1 - (2 * p[truth == k, k].sum() + 1) / (p[..., k].sum() + (truth == k).sum() + 1)
        for k in (1, 2, 3)
    ]
    logs = model.evaluate(x[valid], truth, batch_size=16, return_dict=True, verbose=0)
    assert logs["loss"] == pytest.approx(entropy + np.mean(overlap), rel=1e-4)

    # The report that goes to the customer, and which parts are rejected.
    matrix = metrics.ConfusionMatrix(class_names=NAMES)
    matrix.update_state(truth, scores)
    report = matrix.report()
    for k, name in enumerate(NAMES):
        tp, fp, fn = tallies[k]
        row = {"precision": tp / (tp + fp), "recall": tp / (tp + fn), "f1": f1[k], "iou": each[k]}
        assert report[name] == pytest.approx({**row, "support": tp + fn}, abs=1e-6)
    found = metrics.counts(truth, scores)
    predicted = keras.ops.convert_to_numpy(found.tp + found.fp)[:, 1:].sum(axis=1)
    np.testing.assert_array_equal(predicted > 20, [(g > 0).sum() > 20 for g in guess])
