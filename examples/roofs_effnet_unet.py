"""Find roofs in aerial images with a U-Net on EfficientNet; tune the threshold, clean the masks.

The data set has `training/images/img/*.tif`, `training/masks/img/*.tif` and
`test/images/img/*.tif`, all of 256x256 pixels. Without `--data` a small synthetic set of that
layout is painted first.

    python examples/roofs_effnet_unet.py
    python examples/roofs_effnet_unet.py --data roofs --backbone efficientnetb7 \\
        --backbone-weights imagenet --size 256 --epochs 150
"""

from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np
from _shared import (
    common_options,
    draw_history,
    draw_rows,
    errors,
    finish,
    judge,
    parse,
    read_csv,
    read_image,
    write_csv,
)
from _synthetic import write_roofs
from scipy import ndimage

import segzoo

FLOOR = 0.5  # held-out IoU on the synthetic set; calling everything a roof scores about 0.15
FULL = (256, 256)  # of the images and of the masks that are written


def parse_arguments(argv=None):
    parser = common_options(
        __doc__, images=150, epochs=20, size=128, batch_size=8, backbone="efficientnetb0"
    )
    parser.add_argument("--quick", action="store_true", help="small and short, for a first try")
    return parse(parser, argv, {"images": 80, "epochs": 10, "size": 64})


def read_training(folder: Path, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, size, size, 3) in 0..255, masks (N, size, size, 1) of 0 and 1."""
    paths = sorted((folder / "images/img").glob("*.tif"), key=lambda path: (len(path.name), path))
    shape = (size, size)
    images = [read_image(path, shape) for path in paths]
    masks = [read_image(folder / "masks/img" / path.name, shape, "L") for path in paths]
    return np.stack(images), (np.stack(masks) > 0).astype("uint8")


def clean(masks: np.ndarray) -> np.ndarray:
    """Closing fills the small holes of (N, H, W, 1) masks, opening takes the small specks away.

    Both work with 3x3 pixels on each image by itself, continued beyond its edge as roofs are.
    """
    window = np.ones((3, 3), bool)
    cleaned = []
    for mask in masks[..., 0]:
        wide = np.pad(mask.astype(bool), 2, mode="edge")
        wide = ndimage.binary_opening(ndimage.binary_closing(wide, window), window)
        cleaned.append(wide[2:-2, 2:-2])
    return np.stack(cleaned)[..., None]


def predict_full(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Probabilities (N, 256, 256, 1) of images of any size."""
    probabilities = model.predict(images, batch_size=8, verbose=0)
    return keras.ops.convert_to_numpy(keras.ops.image.resize(probabilities, FULL))


def draw_search(path: Path, search: segzoo.metrics.ThresholdSearch, best: float) -> None:
    """The score at every threshold, all of them from one pass."""
    curve = search.curve()
    figure, axis = plt.subplots(figsize=(4.5, 3), layout="constrained")
    axis.plot(curve["thresholds"], curve["scores"])
    axis.axvline(best, color="0.5", linestyle=":")
    axis.set(xlabel="threshold", ylabel="held-out IoU")
    axis.grid(alpha=0.3)
    finish(figure, path)


def main(argv=None) -> None:
    options = parse_arguments(argv)

    # 1. The data: 15% is held out.
    folder = options.data or write_roofs(options.output / "data", options.images, options.seed)
    images, masks = read_training(folder / "training", options.size)
    order = np.random.default_rng(options.seed).permutation(len(images))
    images, masks, split = images[order], masks[order], len(images) * 85 // 100
    held_out = images[split:], masks[split:]
    print(f"{split} images to train on, {len(images) - split} held out, from {folder}")

    # 2. The model. Its usual dropout, 0.5 in the deep stages, suits long training on pretrained
    #    weights.
    model = segzoo.models.EffNetUNet(
        options.backbone.removeprefix("efficientnet"),
        classes=1,
        input_shape=(options.size, options.size, 3),
        decoder_filters=(64, 48, 32, 24, 16) if options.quick else (256, 128, 64, 32, 16),
        **({"decoder_dropout": 0.1} if options.backbone_weights is None else {}),
        backbone_weights=options.backbone_weights,
    )

    # 3. Training on three losses at once: of the region, of the hard pixels, of the outline.
    #    `metrics` shows each of them.
    loss = segzoo.losses.Dice() + segzoo.losses.BinaryFocal() + segzoo.losses.BoundaryF1()
    model.compile(
        optimizer=keras.optimizers.Adam(2e-3 if options.backbone_weights is None else 5e-5),
        loss=loss,
        metrics=[segzoo.metrics.IoU(), *loss.parts],
    )
    model.optimizer.build(model.trainable_variables)  # or the first step is traced twice
    before = model.evaluate(*held_out, batch_size=options.batch_size, return_dict=True, verbose=0)
    history = model.fit(
        images[:split],
        masks[:split],
        validation_data=held_out,
        epochs=options.epochs,
        batch_size=options.batch_size,
        callbacks=[
            keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.7, patience=3),
            keras.callbacks.EarlyStopping("val_loss", patience=10, restore_best_weights=True),
        ],
    ).history

    # 4. The threshold, of 101, in one pass over the held-out images. Chosen on the images that it
    #    is then judged on, its score flatters a little: with more data, hold out a third part.
    search = segzoo.metrics.ThresholdSearch(101)
    model.compile(loss=loss, metrics=[segzoo.metrics.IoU(), search])
    after = model.evaluate(*held_out, batch_size=options.batch_size, return_dict=True, verbose=0)
    threshold = after["best_iou_threshold"]
    draw_search(options.output / "threshold.png", search, threshold)
    print(f"held-out IoU {after['iou']:.3f} at the threshold 0.5")
    print(f"held-out IoU {after['best_iou']:.3f} at the best threshold, {threshold:.2f}")

    # 5. Masks of 256x256, as they are submitted: probabilities enlarged, then cut, then cleaned.
    _, truths = read_training(folder / "training", FULL[0])
    truths, predictions = truths[order][split:], predict_full(model, held_out[0]) > threshold
    cleaned = clean(predictions)
    for name, masks in (("enlarged", predictions), ("closed and opened", cleaned)):
        score = segzoo.metrics.IoU()(truths, masks.astype("float32"))
        print(f"held-out IoU {float(score):.3f} at 256x256, {name}")

    # 6. Pictures.
    titles = ["image", "truth", f"above {threshold:.2f}", "cleaned", "errors (red: too much)"]
    rows = []
    for image, *masks in list(zip(held_out[0], truths, predictions, cleaned, strict=True))[:4]:
        large = keras.ops.convert_to_numpy(keras.ops.image.resize(image, FULL))
        rows.append([image, *masks, errors(large, masks[0], masks[2])])
    draw_rows(options.output / "predictions.png", titles, rows)
    draw_history(options.output / "learning_curve.png", history, "iou")

    # 7. The masks of the test images as run lengths, read back and compared.
    paths = sorted((folder / "test/images/img").glob("*.tif"))
    tests = np.stack([read_image(path, (options.size, options.size)) for path in paths])
    masks = clean(predict_full(model, tests) > threshold)[..., 0]
    runs = [segzoo.rle.encode(mask) for mask in masks]
    rows = [(path.stem, run, *FULL) for path, run in zip(paths, runs, strict=True)]
    table = options.output / "submission.csv"
    write_csv(table, ["ImageId", "EncodedPixels", "Width", "Height"], rows)
    for row, mask in zip(read_csv(table), masks, strict=True):
        decoded = segzoo.rle.decode(row["EncodedPixels"], FULL)
        np.testing.assert_array_equal(decoded, mask)
    print(f"wrote {table}: {len(rows)} masks, the same when read back")
    judge("IoU", before["iou"], after["iou"], None if options.data else FLOOR)


if __name__ == "__main__":
    main()
