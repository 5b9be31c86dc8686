"""Losses on the outputs of the models: every loss at once, and deep supervision."""

import keras
import numpy as np
import pytest

from segzoo import losses, metrics, models
from tests.cases import LOSSES, TINY, tiny_backbone
from tests.losses.helpers import make


def every_loss(classes):
    """The sum of all losses of the mask alone that are defined for so many classes."""
    rows = {n: row for n, row in LOSSES.items() if row.kind not in ("map", "recall")}
    names = (n for n, row in rows.items() if classes > 1 or not row.several)
    return sum(make(n) for n in names if classes == 1 or n != "LovaszHinge")


@pytest.mark.slow
@pytest.mark.parametrize("classes", [3, 1])
def test_every_loss_trains_a_model(classes, rng):
    case = TINY["FCN"]
    model, loss = case(classes, (40, 36, 3)), every_loss(classes)
    x, y = case.images(rng, 2, 40, 36, 3), rng.integers(0, max(classes, 2), (2, 40, 36))
    expected = float(loss(y, model(x, training=True)))
    model.compile("sgd", loss)
    before = [w.copy() for w in model.get_weights()]
    assert model.fit(x, y, verbose=0).history["loss"][0] == pytest.approx(expected, rel=1e-4)
    after = model.get_weights()
    assert all(np.isfinite(w).all() for w in after)
    moved = [(a != b).any() for a, b in zip(before, after, strict=True)]
    assert np.mean(moved) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["backbone", "own"])
def test_deep_supervision_of_unet_plus_plus_takes_a_loss_for_each_output(backbone, rng):
    model = models.UNetPlusPlus(
        None if backbone == "own" else tiny_backbone(),
        1,
        filters=(4, 6, 8, 10, 12),
        deep_supervision=True,
        dropout=0.0,
    )
    share = [0.25, 0.25, 0.5, 1.0]
    model.compile(
        keras.optimizers.SGD(0.0),
        loss=[losses.Dice()] * 4,
        loss_weights=share,
        metrics=[None, None, None, [metrics.IoU()]],
    )
    x = rng.uniform(0, 1, (2, 40, 36, 3)).astype("float32")
    y = rng.integers(0, 2, (2, 40, 36, 1))
    w = rng.uniform(0, 1, (2, 40, 36)).astype("float32")
    history = model.fit(x, [y] * 4, sample_weight=[w] * 4, verbose=0).history
    outputs = model(x)
    parts = [float(losses.Dice()(y, output, w)) for output in outputs]
    assert history["loss"][0] == pytest.approx(np.dot(share, parts), rel=1e-5)
    iou = metrics.IoU()
    iou.update_state(y, outputs[-1])
    (key,) = (name for name in history if name.endswith("iou"))
    assert history[key][0] == pytest.approx(float(iou.result()), rel=1e-5)
