"""Find four types of clouds, which may overlap, with UNet++ and deep supervision.

The data set has `train_images/*.jpg` and `test_images/*.jpg` of 1400x2100 pixels and `train.csv`
with the columns Image_Label (`0011165.jpg_Fish`) and EncodedPixels. Without `--data` a small
synthetic set of that layout is painted first.

    python examples/clouds_unetpp.py
    python examples/clouds_unetpp.py --data understanding_cloud_organization --size 256
"""

import time
from collections import defaultdict
from pathlib import Path

import keras
import numpy as np
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
    resize_mask,
    write_csv,
)
from _synthetic import CLOUD_TYPES, write_clouds

import segzoo

FLOOR = 0.5  # held-out Dice on the synthetic set; everything at once scores about 0.4
FULL = (1400, 2100)  # of the images and of the masks in train.csv
SUBMITTED = (350, 525)  # of the masks in a submission
COLORS = [(230, 60, 60), (250, 200, 60), (70, 190, 90), (70, 130, 240)]


def parse_arguments(argv=None):
    parser = common_options(__doc__, images=120, epochs=20, size=96, batch_size=8, backbone="none")
    parser.add_argument("--quick", action="store_true", help="small and short, for a first try")
    return parse(parser, argv, {"images": 80, "epochs": 16, "size": 64})


def read_table(path: Path) -> dict[str, dict[str, str]]:
    """The run lengths of `train.csv`: by image, then by cloud type."""
    runs = defaultdict(dict)
    for row in read_csv(path):
        image, label = row["Image_Label"].rsplit("_", 1)
        runs[image][label] = row["EncodedPixels"]
    return dict(runs)


class Clouds(keras.utils.PyDataset):
    """Batches of gray images and their masks, read from disk as they are needed.

    An image is standardized to mean 0 and deviation 1. The last batch may be smaller: no image is
    left out. Each of the model's `outputs` gets the same masks.
    """

    def __init__(self, folder, runs, names, size, batch_size, outputs=1, shuffle=False, **kwargs):
        super().__init__(**kwargs)
        self.folder, self.runs, self.names = folder, runs, list(names)
        self.size, self.batch_size, self.outputs = size, batch_size, outputs
        self.shuffle, self.rng = shuffle, np.random.default_rng(0)

    def __len__(self):
        return -(-len(self.names) // self.batch_size)

    def __getitem__(self, index):
        names = self.names[index * self.batch_size : (index + 1) * self.batch_size]
        images = np.stack([self.image(name) for name in names])
        masks = np.stack([self.masks(name) for name in names])
        return images, masks if self.outputs == 1 else (masks,) * self.outputs

    def image(self, name: str) -> np.ndarray:
        gray = read_image(self.folder / name, self.size).mean(axis=-1, keepdims=True)
        return ((gray - gray.mean()) / (gray.std() + 1e-6)).astype("float32")

    def masks(self, name: str) -> np.ndarray:
        masks = [segzoo.rle.decode(self.runs[name].get(t), FULL) for t in CLOUD_TYPES]
        return np.stack([resize_mask(mask, self.size) for mask in masks], axis=-1)

    def on_epoch_end(self):
        if self.shuffle:
            self.rng.shuffle(self.names)


def milliseconds(model: keras.Model, images: np.ndarray) -> float:
    """The time for one image of a batch: the least of ten tries."""
    times = []
    for _ in range(10):
        start = time.perf_counter()
        model.predict_on_batch(images)
        times.append(time.perf_counter() - start)
    return 1000 * min(times) / len(images)


def write_submission(path: Path, model: keras.Model, images: Path, data: Clouds) -> dict:
    """Predict every image of a folder and write its run lengths; returns the masks."""
    rows, masks = [], {}
    for image in sorted(images.glob("*.jpg")):
        probability = model.predict(data.image(f"../{images.name}/{image.name}")[None], verbose=0)
        small = (probability[0] > 0.5).astype("uint8")
        for channel, label in enumerate(CLOUD_TYPES):
            name = f"{image.name}_{label}"
            masks[name] = resize_mask(small[..., channel], SUBMITTED)
            rows.append((name, segzoo.rle.encode(masks[name])))
    write_csv(path, ["Image_Label", "EncodedPixels"], rows)
    return masks


def main(argv=None) -> None:
    options = parse_arguments(argv)
    size = (options.size, options.size * 3 // 2)

    # 1. The data: a fifth of the images is held out.
    folder = options.data or write_clouds(options.output / "data", options.images, options.seed)
    runs = read_table(folder / "train.csv")
    names = sorted(runs)
    np.random.default_rng(options.seed).shuffle(names)
    split = len(names) * 4 // 5
    print(f"{split} images to train on, {len(names) - split} held out, from {folder}")

    # 2. The model: an output at the end of every row of the grid. A pixel may have several
    #    classes, so that the activation is a sigmoid for each.
    model = segzoo.models.UNetPlusPlus(
        options.backbone,
        classes=4,
        input_shape=(*size, 1),
        filters=(12, 24, 48, 96) if options.quick else (16, 32, 64, 128, 256),
        deep_supervision=True,
        activation="sigmoid",
        normalization="batch",  # the published network has none and wants many more epochs
        dropout=0.1,
        upsampling="transpose" if options.backbone is None else "bilinear",
        backbone_weights=options.backbone_weights,
        preprocessing=False,  # the images are standardized already
    )
    outputs = len(model.outputs)
    common = (folder / "train_images", runs)
    train = Clouds(*common, names[:split], size, options.batch_size, outputs, shuffle=True)
    held_out = Clouds(*common, names[split:], size, options.batch_size, outputs)

    # 3. Training: the same loss on each output, of which each weighs twice the one before it; the
    #    score is that of the last, deepest one. Steps that fade out let it settle.
    rate = keras.optimizers.schedules.CosineDecay(3e-3, options.epochs * len(train))
    score = segzoo.metrics.DiceScore(multilabel=True, name="dice")
    model.compile(
        optimizer=keras.optimizers.Adam(rate),
        loss=[segzoo.losses.BCEDice() for _ in range(outputs)],
        loss_weights=segzoo.losses.deep_supervision_weights(outputs),
        metrics=[[] for _ in range(outputs - 1)] + [[score]],
    )
    model.optimizer.build(model.trainable_variables)  # or the first step is traced twice
    key = f"{model.output_names[-1]}_dice"
    before = model.evaluate(held_out, return_dict=True, verbose=0)[key]
    history = model.fit(train, validation_data=held_out, epochs=options.epochs).history

    # 4. The pruned networks: how much of the grid does the task need?
    judged = Clouds(*common, names[split:], size, options.batch_size)
    print(f"\n{'outputs up to':<16}{'parameters':>12}{'ms/image':>10}{'Dice':>8}{'mean Dice':>11}")
    for depth, output in enumerate(model.outputs, 1):
        pruned = keras.Model(model.input, output)
        pruned.compile(
            loss=segzoo.losses.BCEDice(),
            metrics=[
                segzoo.metrics.DiceScore(multilabel=True, name="dice"),
                # as the competition scores: by image and class, an empty mask found empty is 1
                segzoo.metrics.DiceScore(multilabel=True, average="per_image", name="mean_dice"),
            ],
        )
        scores = pruned.evaluate(judged, return_dict=True, verbose=0)
        speed = milliseconds(pruned, judged[0][0])
        print(
            f"{f'x_0_{depth}':<16}{pruned.count_params():>12,}{speed:>10.1f}"
            f"{scores['dice']:>8.3f}{scores['mean_dice']:>11.3f}"
        )

    # 5. What a mean hides: the Dice of each image and type, from the counts of every batch.
    dice = np.concatenate(
        [
            segzoo.metrics.counts(y, pruned.predict(x, verbose=0), multilabel=True).dice()
            for x, y in (judged[index] for index in range(len(judged)))
        ]
    )
    each = np.sort(dice.mean(axis=1))
    worst = each[: max(1, len(each) // 10)]
    print(f"\nDice of an image {each.mean():.3f}, of the worst tenth {worst.mean():.3f}; by type:")
    print(", ".join(f"{t} {v:.3f}" for t, v in zip(CLOUD_TYPES, dice.mean(axis=0), strict=True)))

    # 6. Pictures: the four classes in color, over the image.
    images, masks = judged[0]
    predictions = pruned.predict(images, verbose=0) > 0.5
    rows = []
    for image, truth, prediction in list(zip(images, masks, predictions, strict=True))[:4]:
        gray = np.clip(image * 55 + 110, 0, 255)
        colored = [overlay(gray, layer, COLORS) for layer in (truth, prediction)]
        rows.append([gray[..., 0], *colored, errors(gray, truth, prediction)])
    titles = ["image", f"truth ({', '.join(CLOUD_TYPES)})", "prediction", "errors (blue: missed)"]
    draw_rows(options.output / "predictions.png", titles, rows)
    draw_history(options.output / "learning_curve.png", history, key)

    # 7. The submission, read back and compared.
    path = options.output / "submission.csv"
    written = write_submission(path, pruned, folder / "test_images", judged)
    for row in read_csv(path):
        mask = segzoo.rle.decode(row["EncodedPixels"], SUBMITTED)
        np.testing.assert_array_equal(mask, written[row["Image_Label"]])
    print(f"wrote {path}: {len(written)} masks of {SUBMITTED}, the same when read back")
    judge("Dice", before, scores["dice"], None if options.data else FLOOR)


if __name__ == "__main__":
    main()
