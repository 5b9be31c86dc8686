"""Streets: exclusive classes with a void label, logs by class, scores at the label's own size."""

import keras
import numpy as np
import pytest
from PIL import Image

import segzoo
from segzoo import losses, metrics
from tests.walks.plain import iou, objects

pytestmark = pytest.mark.slow
NAMES = ["road", "car", "tree", "sky"]
VOID = 255


def enlarged(maps, size):
    """Maps (H, W, C) at another size: linear between the centers of pixels."""
    for axis, length in enumerate(size):
        old = maps.shape[axis]
        at = (np.arange(length) + 0.5) * old / length - 0.5

        def along(line, at=at, old=old):
            return np.interp(at, np.arange(old), line)

        maps = np.apply_along_axis(along, axis, maps)
    return maps


def test_streets_with_a_void_label(tmp_path, rng):
    pictures, labels = objects(48, (64, 96), 4, rng, each=5)
    labels[:, :5] = VOID  # the hood of the car
    for number, label in enumerate(labels):
        Image.fromarray(label).save(tmp_path / f"{number}.png")
    y = np.stack([np.asarray(Image.open(tmp_path / f"{number}.png")) for number in range(48)])
    x, train, valid = pictures, slice(0, 40), slice(40, None)

    model = segzoo.models.UNet(None, 4, (None, None, 3), decoder_filters=(32, 16, 8))

    def compiled(**options):
        model.compile(
            keras.optimizers.Adam(5e-3),
            losses.Dice(**options) + losses.CategoricalCrossentropy(ignore_class=VOID),
            metrics=[
                metrics.IoU(average=None, class_names=NAMES, ignore_class=VOID),
                metrics.PixelAccuracy(ignore_class=VOID),
                metrics.ConfusionMatrix(class_names=NAMES, ignore_class=VOID),
            ],
        )

    compiled()
    with pytest.raises(ValueError, match="not ignored by `dice`: give it `ignore_class=255` too"):
        segzoo.check_batch(model, x[:8], y[:8])
    small = [np.asarray(Image.fromarray(label).resize((48, 32), 2)) for label in y[:8]]
    compiled(ignore_class=VOID)
    with pytest.raises(ValueError, match=r"no class of 0\.\.3 and are not ignored"):
        segzoo.check_batch(model, x[:8, ::2, ::2], np.stack(small))  # interpolated class numbers
    summary = segzoo.check_batch(model, x[:8], y[:8])
    shares = [f"class {k}: {100 * (y[:8, 5:] == k).mean():.3g} %" for k in range(4)]
    assert ", ".join(shares) in summary

    history = model.fit(
        x[train], y[train], batch_size=8, epochs=8, validation_data=(x[valid], y[valid]), verbose=0
    ).history
    scores = model.predict(x[valid], verbose=0)
    truth, guess = y[valid][:, 5:], scores.argmax(axis=-1)[:, 5:]
    expected = [iou(truth == k, guess == k) for k in range(4)]
    for name, value in zip(NAMES, expected, strict=True):
        assert history[f"val_iou_{name}"][-1] == pytest.approx(value, abs=1e-6)
    assert (
        history["val_iou"][-1] == pytest.approx(np.mean(expected), abs=1e-6) and min(expected) > 0.6
    )
    assert history["val_pixel_accuracy"][-1] == pytest.approx((truth == guess).mean(), abs=1e-6)
    matrix = np.zeros((4, 4), int)
    np.add.at(matrix, (truth.ravel(), guess.ravel()), 1)
    np.testing.assert_array_equal(history["val_confusion_matrix"][-1], matrix)

    # The benchmark's numbers: scores at the size of the label, then the decision.
    label = np.kron(y[valid][0], np.ones((2, 3), "uint8"))
    resize = segzoo.layers.ResizeLike()
    large = resize(scores[:1], label[None, ..., None].astype("float32"))
    own = metrics.IoU(ignore_class=VOID, classes=4)
    own.update_state(label[None], large)
    guess = enlarged(scores[0].astype("float64"), label.shape).argmax(axis=-1)[label != VOID]
    kept = label[label != VOID]
    by_hand = np.nanmean([iou(kept == k, guess == k) for k in range(4)])
    assert float(own.result()) == pytest.approx(by_hand, abs=1e-4)  # ties of float32

    # Decided label maps, as a server keeps them, score the same.
    decided = segzoo.inference.decide(model).predict(x[valid], verbose=0)
    again = metrics.IoU(ignore_class=VOID, classes=4)(y[valid], decided)
    assert float(again) == pytest.approx(np.mean(expected), abs=1e-6)
