"""Train a U-Net on one half of a photograph of coins and judge it on the other.

The photograph ships with scikit-image, so nothing is downloaded. A classic method, the watershed on
the gradient, labels it. Random crops of the left part train the network; the right part, which no
crop has seen, is predicted whole, although 32 does not divide its size.

    python examples/quickstart.py
    python examples/quickstart.py --backbone mobilenetv2 --backbone-weights imagenet
"""

import argparse
import time
from pathlib import Path

import keras
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from scipy import ndimage
from skimage import data, filters, segmentation

import segzoo

SPLIT = 240  # columns left of it train, columns right of it test


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--backbone",
        default="none",
        help="'none' for the U-Net paper's own encoder, or a name from segzoo.backbones.names()",
    )
    parser.add_argument(
        "--backbone-weights",
        default="none",
        help="'none', 'imagenet' (downloads), or the path of a weights file",
    )
    parser.add_argument("--epochs", type=int, default=6, help="passes over the crops")
    parser.add_argument("--crops", type=int, default=160, help="random crops to train on")
    parser.add_argument(
        "--size", type=int, default=96, help="height and width of a crop, in pixels"
    )
    parser.add_argument("--batch-size", type=int, default=8, help="crops in one training step")
    parser.add_argument("--seed", type=int, default=0, help="two runs with one seed agree")
    parser.add_argument(
        "--output", type=Path, default=Path("output"), help="folder for the results"
    )
    return parser.parse_args()


def label_coins(image: np.ndarray) -> np.ndarray:
    """The coins as a mask of 0 and 1: flood the gradient from sure background and sure coin."""
    seeds = np.zeros(image.shape, int)
    seeds[image < 30] = 1
    seeds[image > 150] = 2
    coins = segmentation.watershed(filters.sobel(image), seeds) == 2
    return ndimage.binary_fill_holes(coins).astype("uint8")


def random_crops(image, mask, count, size, rng):
    """Crops of an image and its mask at random places, randomly flipped."""
    images, masks = [], []
    for _ in range(count):
        y, x = (rng.integers(0, length - size + 1) for length in image.shape)
        flips = (slice(None, None, rng.choice([-1, 1])), slice(None, None, rng.choice([-1, 1])))
        images.append(image[y : y + size, x : x + size][flips])
        masks.append(mask[y : y + size, x : x + size][flips])
    return np.stack(images)[..., None], np.stack(masks)[..., None]


def draw(image, truth, prediction, path: Path) -> None:
    """A row of four pictures: image, truth, prediction, errors."""
    errors = np.stack([image / 255] * 3, axis=-1)
    errors[(prediction == 1) & (truth == 0)] = (0.9, 0.2, 0.1)
    errors[(prediction == 0) & (truth == 1)] = (0.1, 0.4, 0.9)
    titles = ("image", "truth", "prediction", "errors (red: too much, blue: missed)")
    figure, axes = plt.subplots(1, 4, figsize=(12, 6.6), layout="constrained")
    for axis, title, picture in zip(axes, titles, (image, truth, prediction, errors), strict=True):
        axis.imshow(picture, cmap="gray")
        axis.set_title(title, fontsize=9)
        axis.axis("off")
    figure.savefig(path, dpi=90)
    plt.close(figure)


def main() -> None:
    options = parse_arguments()
    options.output.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(options.seed)
    rng = np.random.default_rng(options.seed)

    # 1. The data: one gray photograph in 0..255, its mask in 0 and 1.
    photograph = data.coins()
    mask = label_coins(photograph)
    train = random_crops(photograph[:, :SPLIT], mask[:, :SPLIT], options.crops, options.size, rng)
    test_image, test_mask = photograph[None, :, SPLIT:, None], mask[None, :, SPLIT:, None]

    # 2. The model. A named backbone takes 0..255 as it comes; the U-Net's own encoder has no
    #    normalization of its own, so it gets 0..1.
    if options.backbone == "none":
        scale = 255.0
        model = segzoo.models.UNet(None, 1, (None, None, 1), decoder_filters=(128, 64, 32, 16))
    else:
        scale = 1.0
        weights = None if options.backbone_weights == "none" else options.backbone_weights
        model = segzoo.models.UNet(options.backbone, 1, (None, None, 1), backbone_weights=weights)

    # 3. Training, with Keras's own loop.
    model.compile(
        optimizer=keras.optimizers.Adam(2e-3),
        loss=segzoo.losses.BCEDice(),
        metrics=[segzoo.metrics.DiceScore(), segzoo.metrics.IoU()],
    )
    model.optimizer.build(model.trainable_variables)  # or the first step is traced twice
    start = time.perf_counter()
    model.fit(train[0] / scale, train[1], batch_size=options.batch_size, epochs=options.epochs)
    seconds = time.perf_counter() - start

    # 4. Judgment on the part that no crop has seen.
    scores = model.evaluate(test_image / scale, test_mask, return_dict=True, verbose=0)
    probability = model.predict(test_image / scale, verbose=0)
    prediction = (probability[0, ..., 0] > 0.5).astype("uint8")

    # 5. Results on disk, read back and compared.
    rle = segzoo.rle.encode(prediction)
    (options.output / "coins.rle").write_text(rle)
    model.save(options.output / "coins.keras")
    draw(test_image[0, ..., 0], test_mask[0, ..., 0], prediction, options.output / "coins.png")

    reloaded = keras.saving.load_model(options.output / "coins.keras")
    np.testing.assert_allclose(
        reloaded.predict(test_image / scale, verbose=0), probability, atol=1e-5
    )
    decoded = segzoo.rle.decode((options.output / "coins.rle").read_text(), prediction.shape)
    np.testing.assert_array_equal(decoded, prediction)

    print(f"\ntrained for {seconds:.0f} s on {options.crops} crops of {options.size} pixels")
    print(f"held-out Dice {scores['dice_score']:.4f}, IoU {scores['iou']:.4f}")
    print(f"model, picture and run lengths in {options.output}/; the reloaded ones agree")


if __name__ == "__main__":
    main()
