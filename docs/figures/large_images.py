"""Draw `docs/images/large_images.png`: the pixels that tiles decide unlike the whole image.

python docs/figures/large_images.py
"""

import pathlib
import sys

import keras
import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

import segzoo

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "examples"))
from _synthetic import LAND_COLORS, paint_land  # noqa: E402

TARGET = ROOT / "docs" / "images" / "large_images.png"
TILE = 64
WAYS = {
    "side by side": {"overlap": 0, "window": "constant"},
    "half shared, constant": {"overlap": TILE // 2, "window": "constant"},
    "half shared, Gaussian": {"overlap": TILE // 2},
    "half shared, trimmed": {"overlap": TILE // 2, "trim": TILE // 4},
}


def train() -> keras.Model:
    """A U-Net of three halvings, taught to tell fields, water, forest and roads apart."""
    keras.utils.set_random_seed(0)
    image, labels = paint_land(np.random.default_rng(0), (384, 512))
    places = np.random.default_rng(0).integers(0, 384 - 96, (160, 2))
    cut = [(slice(y, y + 96), slice(x, x + 96)) for y, x in places]
    model = segzoo.models.UNet(None, len(LAND_COLORS), decoder_filters=(48, 24, 12))
    model.compile(keras.optimizers.Adam(3e-3), segzoo.losses.CategoricalCrossentropy())
    pixels = np.stack([image[place] for place in cut]) / 255
    model.fit(pixels, np.stack([labels[place] for place in cut]), 8, epochs=6, verbose=0)
    return model


def main() -> None:
    """Write the picture."""
    model = train()
    image, _ = paint_land(np.random.default_rng(1), (256, 320))
    scene = (np.clip(image, 0, 255) / 255).astype("float32")
    whole = model.predict(scene[None], verbose=0)[0].argmax(axis=-1)
    colors = np.array(list(LAND_COLORS.values())) / 255
    figure, axes = plt.subplots(2, 3, figsize=(10.5, 6), layout="constrained")
    panels = [("scene", scene), ("decided in the whole image", colors[whole])]
    for name, way in WAYS.items():
        found = segzoo.inference.predict_tiles(
            model, scene, tile_size=TILE, labels=True, verbose=0, **way
        )
        unlike = found != whole
        picture = 0.35 * colors[whole] + 0.65
        picture[unlike] = (0.85, 0.1, 0.1)
        panels.append((f"{name}: {unlike.mean():.2%}", picture))
        print(name, f"{unlike.mean():.2%}")
    for panel, (title, picture) in zip(axes.flat, panels, strict=True):
        panel.imshow(picture)
        panel.set_title(title, fontsize=11)
        panel.axis("off")
    TARGET.parent.mkdir(exist_ok=True)
    figure.savefig(TARGET, dpi=70, facecolor="white", metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    main()
