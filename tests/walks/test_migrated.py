"""A program for segmentation_models, carried over word by word until nothing is refused."""

import keras
import numpy as np
import pytest

import segzoo
from segzoo import losses, metrics, models
from tests.walks.plain import objects

pytestmark = pytest.mark.slow


class Dataset(keras.utils.PyDataset):
    """Images in 0..255 and masks (H, W, 1) of floats, as the example notebook gives them."""

    def __init__(self, images, masks, batch_size, **kwargs):
        super().__init__(**kwargs)
        self.images, self.masks, self.batch_size = images, masks, batch_size

    def __len__(self):
        return len(self.images) // self.batch_size

    def __getitem__(self, i):
        part = slice(i * self.batch_size, (i + 1) * self.batch_size)
        return self.images[part], self.masks[part]


def of_segmentation_models(gt, pr):
    """`dice_loss + (1 * focal_loss)`, `IOUScore` and `FScore` of `threshold=0.5` there."""
    cut = pr.clip(1e-7, 1 - 1e-7)
    focal = -gt * 0.25 * (1 - cut) ** 2 * np.log(cut) - (1 - gt) * 0.75 * cut**2 * np.log(1 - cut)
    tp, fp, fn = (gt * pr).sum(), pr.sum() - (gt * pr).sum(), gt.sum() - (gt * pr).sum()
    loss = 1 - (2 * tp + 1e-5) / (2 * tp + fp + fn + 1e-5) + focal.mean()
    hard = (pr > 0.5).astype(float)
    both, sides = (gt * hard).sum(), gt.sum() + hard.sum()
    return loss, (both + 1e-5) / (sides - both + 1e-5), (2 * both + 1e-5) / (sides + 1e-5)


def test_a_program_of_segmentation_models(tmp_path, rng):
    pictures, labels = objects(20, (48, 48), 2, rng)
    x, y = 255 * pictures, labels[..., None].astype("float32")
    train, valid = Dataset(x[:16], y[:16], 4), Dataset(x[16:], y[16:], 1)

    # As it stood, each line is refused with its translation.
    for words, translation in (
        ({"encoder_weights": None}, "`backbone_weights`"),
        ({"encoder_freeze": True}, "trainable = False"),
        ({"decoder_block_type": "transpose"}, "`upsampling`"),
    ):
        with pytest.raises(TypeError, match=translation):
            models.UNet("resnet18", classes=1, activation="sigmoid", **words)
    with pytest.raises(TypeError, match="`class_weights`"):
        losses.Dice(class_indexes=[1])
    model = models.UNet("resnet18", classes=1, activation="sigmoid", backbone_weights=None)
    total = losses.Dice(smooth=1e-5) + (1 * losses.BinaryFocal())
    watched = [
        metrics.IoU(average="per_image", name="iou_score"),
        metrics.FScore(average="per_image", name="f1-score"),
    ]
    model.compile(keras.optimizers.Adam(1e-3), total, watched)
    with pytest.raises(ValueError, match="third argument of `compile` is `loss_weights`"):
        segzoo.check_batch(model, *train[0])
    model.compile(keras.optimizers.Adam(1e-3), total, metrics=watched)
    with pytest.raises(ValueError, match=r"normalizes 0\.\.255"):
        segzoo.check_batch(model, train[0][0] / 255, train[0][1])  # preprocessing done twice
    segzoo.check_batch(model, *train[0])
    callbacks = [
        keras.callbacks.ModelCheckpoint(
            tmp_path / "best_model.weights.h5",
            monitor="val_iou_score",
            save_weights_only=True,
            save_best_only=True,
        ),
        keras.callbacks.ReduceLROnPlateau(monitor="val_iou_score", patience=3),
    ]
    history = model.fit(
        train, epochs=6, validation_data=valid, callbacks=callbacks, verbose=0
    ).history

    # What the program printed at its end: means over the batches of one image.
    model.load_weights(tmp_path / "best_model.weights.h5")
    logs = model.evaluate(valid, return_dict=True, verbose=0)
    assert logs["iou_score"] == max(history["val_iou_score"]) > 0.6
    scores = model.predict(valid, verbose=0).astype("float64")
    there = np.mean(
        [of_segmentation_models(g, p) for g, p in zip(y[16:], scores, strict=True)], axis=0
    )
    found = [logs["loss"], logs["iou_score"], logs["f1-score"]]
    np.testing.assert_allclose(found, there, rtol=2e-4)
