"""Find four kinds of defects on steel strips with DeepLabV3+ on the aligned Xception.

The data set has `train_images/*.jpg` of 256x1600 pixels and `train.csv` with the columns ImageId,
ClassId and EncodedPixels, or ImageId_ClassId and EncodedPixels. The network sees strips of 128x800
(`--size 128`); what it finds is judged at 256x1600. Without `--data` a small synthetic set of that
layout is painted first.

    python examples/steel_deeplab.py
    python examples/steel_deeplab.py --data severstal --size 128 --epochs 50 --batch-size 16
"""

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from _shared import (
    common_options,
    draw_history,
    draw_rows,
    errors,
    judge,
    overlay,
    parse,
    read_csv,
    read_image,
    write_csv,
)
from _synthetic import write_steel

import segzoo

FLOOR = 0.5  # held-out Dice on the synthetic set; an untrained network scores below 0.05
FULL = (256, 1600)  # of the images and of all run lengths
COLORS = [(230, 60, 60), (250, 200, 60), (70, 190, 90), (70, 130, 240)]


def parse_arguments(argv=None):
    parser = common_options(
        __doc__, images=120, epochs=14, size=64, batch_size=4, backbone="xception65"
    )
    parser.add_argument("--quick", action="store_true", help="small and short, for a first try")
    return parse(parser, argv, {"images": 80, "epochs": 10, "size": 64, "backbone": "resnet18"})


def read_table(folder: Path) -> dict[str, list[str]]:
    """The run lengths of each image, one for each class, "" for none."""
    runs = {path.name: [""] * 4 for path in sorted((folder / "train_images").glob("*.jpg"))}
    for row in read_csv(folder / "train.csv"):
        if "ImageId_ClassId" in row:
            row["ImageId"], row["ClassId"] = row["ImageId_ClassId"].rsplit("_", 1)
        runs[row["ImageId"]][int(row["ClassId"]) - 1] = row["EncodedPixels"]
    return runs


def decode(runs) -> np.ndarray:
    """Masks (256, 1600, 4) of a list of run lengths, as TensorFlow hands them over."""
    return segzoo.rle.decode_classes([run.decode() for run in runs], FULL)


def dataset(folder: Path, runs: dict, size: tuple[int, int], batch_size: int, training: bool):
    """A `tf.data.Dataset` of images (B, h, w, 3) in 0..255 and masks (B, h, w, 4) of 0 and 1."""

    def load(name, encoded):
        path = tf.strings.join([str(folder / "train_images") + "/", name])
        image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
        image = tf.image.resize(image, size, method="area")
        masks = tf.numpy_function(decode, [encoded], tf.uint8)
        masks = tf.image.resize(tf.ensure_shape(masks, (*FULL, 4)), size, method="area")
        return image, tf.cast(masks >= 0.5, tf.float32)

    def flip(image, masks):  # an image and its masks together, or the labels are wrong
        both = tf.concat([image, masks], axis=-1)
        both = tf.image.random_flip_up_down(tf.image.random_flip_left_right(both))
        return both[..., :3], both[..., 3:]

    data = tf.data.Dataset.from_tensor_slices((list(runs), list(runs.values())))
    data = data.map(load, num_parallel_calls=tf.data.AUTOTUNE).cache()
    if training:
        data = data.shuffle(len(runs), reshuffle_each_iteration=True)
        data = data.map(flip, num_parallel_calls=tf.data.AUTOTUNE)
    return data.batch(batch_size).prefetch(tf.data.AUTOTUNE)


def main(argv=None) -> None:
    options = parse_arguments(argv)
    size = (options.size, options.size * 25 // 4)

    # 1. The data: 15% of the strips are held out.
    folder = options.data or write_steel(options.output / "data", options.images, options.seed)
    runs = read_table(folder)
    names = np.random.default_rng(options.seed).permutation(list(runs)).tolist()
    split = len(names) * 85 // 100
    parts = [{name: runs[name] for name in part} for part in (names[:split], names[split:])]
    train, held_out = (
        dataset(folder, part, size, options.batch_size, training)
        for part, training in zip(parts, (True, False), strict=True)
    )
    print(f"{split} strips to train on, {len(names) - split} held out, from {folder}")

    # 2. The model: separable convolutions as in the paper; a sigmoid for each class, since
    #    defects overlap.
    model = segzoo.models.DeepLabV3Plus(
        options.backbone,
        classes=4,
        input_shape=(*size, 3),
        separable=True,
        activation="sigmoid",
        backbone_weights=options.backbone_weights,
        aspp_filters=64 if options.quick else 256,
        decoder_filters=64 if options.quick else 256,
    )
    print(f"{model.count_params():,} parameters")

    # 3. Training. Thin defects fill a hundredth of the pixels: Dice does not see the background.
    model.compile(
        optimizer=keras.optimizers.Adam(1e-3 if options.backbone_weights is None else 1e-4),
        loss=segzoo.losses.BCEDice(),
        metrics=[segzoo.metrics.DiceScore(multilabel=True)],
    )
    model.optimizer.build(model.trainable_variables)  # or the first step is traced twice
    before = model.evaluate(held_out, return_dict=True, verbose=0)["dice_score"]
    best = str(options.output / "best.weights.h5")
    history = model.fit(
        train,
        validation_data=held_out,
        epochs=options.epochs,
        shuffle=False,  # the data set does so itself
        callbacks=[
            keras.callbacks.ModelCheckpoint(
                best, "val_dice_score", mode="max", save_best_only=True, save_weights_only=True
            ),
            keras.callbacks.CSVLogger(options.output / "history.csv"),
        ],
    ).history
    model.load_weights(best)

    # 4. The held-out strips at 256x1600: probabilities are enlarged, then cut.
    rows = []
    for name in parts[1]:
        image = read_image(folder / "train_images" / name, size)
        probability = model.predict(image[None], verbose=0)
        masks = keras.ops.image.resize(probability, FULL)[0] > 0.5
        encoded = segzoo.rle.encode_classes(keras.ops.convert_to_numpy(masks))
        rows += [(f"{name}_{k}", run) for k, run in enumerate(encoded, 1)]
    path = options.output / "predictions.csv"
    write_csv(path, ["ImageId_ClassId", "EncodedPixels"], rows)

    # 5. Judgment of the file itself, by class and as the competition scores.
    by_class = segzoo.metrics.DiceScore(multilabel=True, average=None, class_names=list("1234"))
    by_image = segzoo.metrics.DiceScore(multilabel=True, average="per_image")
    found: dict[str, list[str]] = {}
    for row in read_csv(path):
        found.setdefault(row["ImageId_ClassId"].rsplit("_", 1)[0], []).append(row["EncodedPixels"])
    pictures = []
    for name, encoded in found.items():
        truth = segzoo.rle.decode_classes(runs[name], FULL)
        prediction = segzoo.rle.decode_classes(encoded, FULL)
        for metric in (by_class, by_image):
            metric.update_state(truth[None], prediction[None].astype("float32"))
        if len(pictures) < 5 and truth.any():
            image = read_image(folder / "train_images" / name, FULL)
            colored = [overlay(image, masks, COLORS) for masks in (truth, prediction)]
            pictures.append([image, *colored, errors(image, truth, prediction)])
    titles = ["image", "truth (defects 1 to 4 in four colors)", "prediction", "errors"]
    draw_rows(options.output / "predictions.png", titles, pictures, width=6)
    draw_history(options.output / "learning_curve.png", history, "dice_score")
    scores = {key: float(value) for key, value in by_class.result().items()}
    print("at 256x1600:", ", ".join(f"{key} {value:.3f}" for key, value in scores.items()))
    print(f"mean Dice of all pairs of image and class: {float(by_image.result()):.3f}")
    judge("Dice", before, scores["dice_score"], None if options.data else FLOOR)


if __name__ == "__main__":
    main()
