"""Fields from a satellite: six channels of uint16, pixels without data, weights, a large scene."""

import keras
import numpy as np
import pytest

import segzoo
from segzoo import losses, metrics, models
from tests.walks.plain import iou

pytestmark = pytest.mark.slow
VOID = 255


def scene_of(size, rng):
    """Six channels (H, W, 6) of uint16, fields (H, W) in them, and clouds, which have no data."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    fields = ((rows // 24 + columns // 32) % 3 == 0).astype("uint8")
    bands = np.array([900, 1200, 800, 3000, 2500, 1500])
    grown = np.array([-200, 300, -300, 4000, -500, -600])
    scene = bands + grown * fields[..., None] + rng.normal(0, 400, (*size, 6))
    scene = scene.clip(1, 10_000).astype("uint16")
    clouds = (rows - 30) ** 2 + (columns - 40) ** 2 < 15**2
    scene[clouds] = 0
    return scene, np.where(clouds, VOID, fields).astype("uint8")


def test_fields_in_a_scene_of_six_channels(tmp_path, rng):
    scene, truth = scene_of((160, 512), rng)
    tiles = [np.s_[y : y + 64, x : x + 64] for y in (0, 48, 96) for x in range(0, 448, 32)]
    x, y = np.stack([scene[t] for t in tiles]), np.stack([truth[t] for t in tiles])
    order = rng.permutation(len(tiles))
    x, y = x[order], y[order]

    pixels = keras.Input((None, None, 6))
    unet = models.UNet(None, 1, (None, None, 6), decoder_filters=(16, 8))
    model = keras.Model(pixels, unet(keras.layers.Rescaling(1 / 10_000)(pixels)))
    named = models.UNet("mobilenetv2", 1, (None, None, 6), backbone_weights=None)
    for network in (named, model):
        network.compile(
            keras.optimizers.Adam(5e-3),
            losses.BCEDice(ignore_class=VOID),
            metrics=[metrics.IoU(ignore_class=VOID)],
            weighted_metrics=[metrics.IoU(ignore_class=VOID, name="sure")],
        )
    with pytest.raises(ValueError, match=r"values 0 to \d+, but the model normalizes 0\.\.255"):
        segzoo.check_batch(named, x[:8], y[:8])
    sure = np.where(y == 1, 1.0, 0.25)  # the ground is labeled less carefully
    with pytest.raises(ValueError, match=r"`sample_weight` must be .*\(8, 64, 64\)"):
        segzoo.check_batch(model, x[:8], y[:8], sure[:8, :-1])
    assert "uint16, values 0 to" in segzoo.check_batch(model, x[:8], y[:8], sure[:8])
    train, valid = slice(0, 32), slice(32, None)
    history = model.fit(
        x[train],
        y[train],
        sample_weight=sure[train],
        batch_size=8,
        epochs=8,
        validation_data=(x[valid], y[valid], sure[valid]),
        verbose=0,
    ).history

    guess = model.predict(x[valid], verbose=0)[..., 0] > 0.5
    kept = y[valid] != VOID
    there, guess = y[valid][kept] == 1, guess[kept]
    assert history["val_iou"][-1] == pytest.approx(iou(there, guess), abs=1e-6)
    assert iou(there, guess) > 0.8
    w = sure[valid][kept]
    weighted = w[there & guess].sum() / w[there | guess].sum()
    assert history["val_sure"][-1] == pytest.approx(weighted, abs=1e-6)

    # A scene that no memory holds: from file to file, in tiles, as if it were predicted whole.
    scene, truth = scene_of((418, 630), np.random.default_rng(1))
    np.save(tmp_path / "scene.npy", scene)
    image = np.load(tmp_path / "scene.npy", mmap_mode="r")
    labels = np.lib.format.open_memmap(tmp_path / "labels.npy", "w+", "uint8", image.shape[:2])
    tiled = {"tile_size": 128, "overlap": 48, "trim": 24, "verbose": 0}
    segzoo.inference.predict_tiles(model, image, labels=True, out=labels, **tiled)
    labels.flush()
    scores = segzoo.inference.predict_tiles(model, image, **tiled)
    whole = model.predict(scene[None], verbose=0)[0]
    np.testing.assert_allclose(scores, whole, atol=1e-5)
    np.testing.assert_array_equal(np.load(tmp_path / "labels.npy"), scores[..., 0] > 0.5)

    # The score of the scene, and the area in hectares, at ten meters for a pixel.
    found = np.load(tmp_path / "labels.npy") == 1
    score = metrics.IoU(ignore_class=VOID)(truth[None], found[None, ..., None].astype("float32"))
    kept = truth != VOID
    assert float(score) == pytest.approx(iou(truth[kept] == 1, found[kept]), abs=1e-6)
    runs = segzoo.rle.encode(found)
    assert segzoo.rle.area(runs) / 100 == found.sum() / 100
