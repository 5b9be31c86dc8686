"""Label every pixel of a street scene with FCN-32s, then 16s, then 8s, as the paper trains them.

The data set has `train/*.jpg` and `val/*.jpg` of 256x512 pixels: the photograph is the left half,
its mask the right half. The mask's red, in steps of 20, tells 13 classes. Without `--data` a small
synthetic set of that layout is painted first.

    python examples/streets_fcn.py
    python examples/streets_fcn.py --data cityscapes_data --backbone-weights imagenet --size 256
"""

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
)
from _synthetic import STREET_CLASSES, write_streets
from PIL import Image

import segzoo

FLOOR = 0.27  # held-out mean IoU on the synthetic set; one class everywhere scores below 0.05
STEPS = np.arange(20, 241, 20)  # between two classes in the red of a mask
COLORS = np.array(list(STREET_CLASSES.values()))


QUICK = {"images": 220, "epochs": 4, "size": 64, "batch_size": 4, "backbone": "resnet18"}


def parse_arguments(argv=None):
    parser = common_options(__doc__, images=300, epochs=8, size=96, batch_size=8, backbone="vgg16")
    parser.add_argument("--quick", action="store_true", help="small and short, for a first try")
    return parse(parser, argv, QUICK)


def read_pairs(folder: Path, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, size, size, 3) in 0..255 and labels (N, size, size) in 0..12."""
    images, labels = [], []
    for path in sorted(folder.glob("*.jpg")):
        with Image.open(path) as pair:
            photograph, mask = pair.crop((0, 0, 256, 256)), pair.crop((256, 0, 512, 256))
        images.append(np.asarray(photograph.resize((size, size), Image.Resampling.BOX)))
        red = mask.resize((size, size), Image.Resampling.NEAREST).getchannel("R")
        labels.append(np.digitize(red, STEPS))
    return np.stack(images), np.stack(labels).astype("uint8")


def inherit(model: keras.Model, teacher: keras.Model) -> None:
    """Begin with the weights of the coarser network, layer by layer of the same name and shapes.

    What the finer network adds, the scores of one more map, begins at its own initial weights.
    """
    known = {layer.name: layer for layer in teacher.layers}
    for layer in model.layers:
        source = known.get(layer.name)
        shapes = [w.shape for w in layer.weights]
        if source is not None and shapes == [w.shape for w in source.weights]:
            layer.set_weights(source.get_weights())


def main(argv=None) -> None:
    options = parse_arguments(argv)
    names = list(STREET_CLASSES)
    if options.data:  # in the published masks a step of red holds several classes
        names = [f"red_{20 * k}" for k in range(13)]

    # 1. The data: the folders say what is held out.
    folder = options.data or write_streets(options.output / "data", options.images, options.seed)
    train = read_pairs(folder / "train", options.size)
    held_out = read_pairs(folder / "val", options.size)
    print(f"{len(train[0])} images to train on, {len(held_out[0])} held out, from {folder}")

    # 2. Three networks, each beginning where the coarser one ended (section 4.2 of the paper).
    #    Labels need no one-hot encoding.
    history: dict[str, list[float]] = {}
    reports, previous = {}, None
    for stride in (32, 16, 8):
        model = segzoo.models.FCN(
            options.backbone,
            classes=13,
            input_shape=(options.size, options.size, 3),
            stride=stride,
            head_filters=128 if options.quick else 256,
            backbone_weights=options.backbone_weights if previous is None else None,
        )
        if previous is not None:
            inherit(model, previous)
        model.compile(
            optimizer=keras.optimizers.Adam(LEARNING_RATES.get(options.backbone, 1e-3)),
            loss=segzoo.losses.CategoricalCrossentropy() + 0.5 * segzoo.losses.Dice(),
            metrics=[segzoo.metrics.IoU(), segzoo.metrics.PixelAccuracy()],
        )
        model.optimizer.build(model.trainable_variables)  # or the first step is traced twice
        if previous is None:
            before = model.evaluate(*held_out, return_dict=True, verbose=0)["iou"]
        print(f"\nFCN-{stride}s")
        fitted = model.fit(
            *train,
            validation_data=held_out,
            epochs=options.epochs,
            batch_size=options.batch_size,
        )
        for key in fitted.history:
            history.setdefault(key, []).extend(fitted.history[key])
        probabilities = model.predict(held_out[0], batch_size=options.batch_size, verbose=0)
        confusion = segzoo.metrics.ConfusionMatrix(class_names=names)
        confusion.update_state(held_out[1], probabilities)
        reports[stride] = confusion.report()
        after = float(segzoo.metrics.IoU()(held_out[1], probabilities))
        previous = model

    # 3. The table: IoU of every class for each of the three, and how many pixels it has.
    print(f"\n{'IoU':<14}" + "".join(f"{f'FCN-{s}s':>9}" for s in reports) + f"{'pixels':>10}")
    for name in names:
        cells = [f"{report[name]['iou']:>9.3f}" for report in reports.values()]
        print(f"{name:<14}" + "".join(cells) + f"{int(reports[8][name]['support']):>10,}")

    # 4. Overlays of held-out streets.
    images, truths = held_out
    predictions = probabilities.argmax(axis=-1)
    rows = []
    for image, truth, prediction in list(zip(images, truths, predictions, strict=True))[:4]:
        masks = [labels[..., None] == np.arange(13) for labels in (truth, prediction)]
        wrong = errors(image, truth != prediction, np.zeros_like(truth))
        rows.append([image, *(overlay(image, m, COLORS) for m in masks), wrong])
    titles = ["image", "truth", "FCN-8s", "wrong pixels"]
    draw_rows(options.output / "predictions.png", titles, rows)
    draw_history(options.output / "learning_curve.png", history, "iou")
    model.save(options.output / "streets.keras")
    judge("mean IoU", before, after, None if options.data else FLOOR)


# VGG has no batch normalization, and takes smaller steps.
LEARNING_RATES = {"vgg16": 1e-4, "vgg19": 1e-4}

if __name__ == "__main__":
    main()
