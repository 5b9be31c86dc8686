"""Find flood water in aerial photographs with DeepLabV3+, and see what the network looks at.

The data set has `Image/*.jpg`, `Mask/*.png` and `metadata.csv` with the columns Image and Mask.
Without `--data` a small synthetic set of that layout is painted first.

    python examples/flood_deeplab.py
    python examples/flood_deeplab.py --data flood-area --backbone-weights imagenet --size 256
"""

from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from _shared import (
    common_options,
    draw_history,
    draw_rows,
    errors,
    judge,
    parse,
    read_csv,
    read_image,
)
from _synthetic import write_flood

import segzoo

FLOOR = 0.65  # held-out IoU on the synthetic set; calling everything water scores about 0.4
LAYER = "decoder_conv_2"  # the last 3x3 convolution of the decoder, for Grad-CAM


def parse_arguments(argv=None):
    parser = common_options(
        __doc__, images=120, epochs=16, size=96, batch_size=8, backbone="resnet50"
    )
    parser.add_argument("--quick", action="store_true", help="small and short, for a first try")
    quick = {"images": 80, "epochs": 12, "size": 64, "backbone": "resnet18"}
    return parse(parser, argv, quick)


def read_set(folder: Path, size: int) -> tuple[np.ndarray, np.ndarray]:
    """All images (N, size, size, 3) in 0..255 and their masks (N, size, size, 1) of 0 and 1."""
    table = read_csv(folder / "metadata.csv")
    images = [read_image(folder / "Image" / row["Image"], (size, size)) for row in table]
    masks = [read_image(folder / "Mask" / row["Mask"], (size, size), "L") for row in table]
    return np.stack(images), (np.stack(masks) > 127).astype("uint8")


def grad_cam(model: keras.Model, image: np.ndarray, layer: str) -> np.ndarray:
    """Where the features of a layer speak for water: (H, W) in 0..1, enlarged to the image.

    Selvaraju et al., "Grad-CAM", ICCV 2017: the channels of the layer, weighted by the mean
    gradient of the score with respect to each. The score here is the mean log-odds of water.
    """
    inner = keras.Model(model.input, [model.get_layer(layer).output, model.output])
    with tf.GradientTape() as tape:
        features, probability = inner(image[None], training=False)
        tape.watch(features)
        probability = tf.clip_by_value(probability, 1e-6, 1 - 1e-6)
        score = tf.reduce_mean(tf.math.log(probability) - tf.math.log1p(-probability))
    weights = tf.reduce_mean(tape.gradient(score, features), axis=(1, 2))  # (1, channels)
    heat = tf.nn.relu(tf.einsum("bhwc,bc->bhw", features, weights))[0, ..., None]
    heat = tf.image.resize(heat, image.shape[:2])[..., 0]
    return (heat / (tf.reduce_max(heat) + 1e-9)).numpy()


def picture_row(model: keras.Model, image: np.ndarray, mask: np.ndarray) -> list[np.ndarray]:
    """Image, truth, probability, errors and Grad-CAM of one image."""
    probability = model.predict(image[None], verbose=0)[0]
    wrong = errors(image, mask, probability > 0.5)
    heat = plt.colormaps["inferno"](grad_cam(model, image, LAYER))[..., :3]
    return [image, mask, probability, wrong, 0.4 * image / 255 + 0.6 * heat]


class ProgressPictures(keras.callbacks.Callback):
    """Draw a few held-out images every few epochs, as training goes on."""

    def __init__(self, images, masks, folder: Path, every: int):
        super().__init__()
        self.images, self.masks, self.folder, self.every = images, masks, folder, every

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self.every == 0:
            pairs = zip(self.images, self.masks, strict=True)
            rows = [picture_row(self.model, *pair) for pair in pairs]
            print()  # after the progress bar
            draw_rows(self.folder / f"progress_{epoch + 1:03d}.png", TITLES, rows)


TITLES = ["image", "truth", "prediction", "errors (red: too much)", f"Grad-CAM of {LAYER}"]


def main(argv=None) -> None:
    options = parse_arguments(argv)

    # 1. The data: the last fifth of the table is held out.
    folder = options.data or write_flood(options.output / "data", options.images, options.seed)
    images, masks = read_set(folder, options.size)
    split = len(images) * 4 // 5
    print(f"{split} images to train on, {len(images) - split} held out, from {folder}")
    held_out = images[split:], masks[split:]

    # 2. The model takes RGB in 0..255 as it comes: the backbone's normalization is in the graph.
    model = segzoo.models.DeepLabV3Plus(
        options.backbone,
        classes=1,
        input_shape=(options.size, options.size, 3),
        backbone_weights=options.backbone_weights,
        aspp_filters=64 if options.quick else 256,
        decoder_filters=64 if options.quick else 256,
    )
    model.compile(
        optimizer=keras.optimizers.Adam(1e-3 if options.backbone_weights is None else 1e-4),
        loss=segzoo.losses.BinaryCrossentropy() + segzoo.losses.Dice(),
        metrics=[segzoo.metrics.IoU(), segzoo.metrics.DiceScore()],
    )
    model.optimizer.build(model.trainable_variables)  # or the first step is traced twice
    before = model.evaluate(*held_out, batch_size=options.batch_size, return_dict=True, verbose=0)

    # 3. Training, with pictures on the way.
    every = max(1, options.epochs // 3)
    history = model.fit(
        images[:split],
        masks[:split],
        validation_data=held_out,
        epochs=options.epochs,
        batch_size=options.batch_size,
        callbacks=[ProgressPictures(images[split:][:2], masks[split:][:2], options.output, every)],
    ).history

    # 4. Judgment and pictures of images that no training step has seen.
    after = model.evaluate(*held_out, batch_size=options.batch_size, return_dict=True, verbose=0)
    rows = [picture_row(model, *pair) for pair in list(zip(*held_out, strict=True))[:5]]
    draw_rows(options.output / "predictions.png", TITLES, rows)
    draw_history(options.output / "learning_curve.png", history, "iou")

    # 5. The model as one file; `segzoo` must be imported where it is loaded, and nothing else.
    model.save(options.output / "flood.keras")
    print(f"held-out Dice {before['dice_score']:.3f} -> {after['dice_score']:.3f}")
    judge("IoU", before["iou"], after["iou"], None if options.data else FLOOR)


if __name__ == "__main__":
    main()
