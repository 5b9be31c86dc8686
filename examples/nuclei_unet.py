"""Find the nuclei in a micrograph and tell apart those that touch, beside two thresholds.

A real micrograph from the 2018 Data Science Bowl, with 125 nuclei outlined by hand. Crops of its
left half train the network, which then finds the nuclei of the right half. A threshold misses dim
nuclei and joins those that touch, even with a watershed after it. The network has a class of its
own for outlines, and what they enclose is counted nucleus by nucleus.

The package stardist (BSD-3) carries the picture, and nothing else of that package is needed. With
`--data` the folder holds `image.tif`, (H, W), and `labels.tif`, (H, W), which has a number for each
object and 0 elsewhere.

    pip install --no-deps stardist
    python examples/nuclei_unet.py
"""

from importlib.util import find_spec
from pathlib import Path

import keras
import numpy as np
from _shared import common_options, draw_rows, judge, parse, write_csv
from PIL import Image
from scipy import ndimage
from skimage import color, feature, filters, measure, segmentation

import segzoo

GAP = 16  # columns between the two halves, half a nucleus, which nobody sees


def parse_arguments(argv=None):
    parser = common_options(
        __doc__,
        help={
            "data": "folder with image.tif and labels.tif; default: the picture in stardist",
            "images": "crops of the left half in one epoch",
            "size": "height and width of a crop",
            "seed": "of the crops and the training",
        },
        images=128,
        epochs=30,
        size=128,
        batch_size=8,
        backbone="none",
    )
    parser.add_argument("--quick", action="store_true", help="small and short, for a first try")
    return parse(parser, argv, {"images": 96, "epochs": 14, "size": 96})


def find_picture(folder: Path | None) -> tuple[Path, Path]:
    """The files of the image and of its labels."""
    if folder is not None:
        return folder / "image.tif", folder / "labels.tif"
    package = find_spec("stardist")  # finds it without importing it
    if package is None:
        raise SystemExit("the picture is in a package: pip install --no-deps stardist")
    images = Path(package.origin).parent / "data" / "images"
    return images / "img2d.tif", images / "mask2d.tif"


def read_picture(image: Path, labels: Path) -> tuple[np.ndarray, np.ndarray]:
    """The image (H, W) in units of its brightness, and the labels (H, W)."""
    with Image.open(image) as file:
        pixels = np.asarray(file, "float32")
    with Image.open(labels) as file:
        numbers = np.asarray(file, "int32")
    return pixels / np.quantile(pixels, 0.99), numbers


def three_classes(labels: np.ndarray) -> np.ndarray:
    """0 for the background, 1 inside a nucleus, 2 in its outline, two pixels wide."""
    outline = segmentation.find_boundaries(labels, mode="inner")
    outline |= segmentation.find_boundaries(np.where(outline, 0, labels), mode="inner")
    return np.where(labels > 0, 1 + outline, 0).astype("uint8")


class Crops(keras.utils.PyDataset):
    """Crops at random places, turned, mirrored, and brighter or darker, anew in every epoch."""

    def __init__(self, image, classes, count, size, batch_size, seed, **kwargs):
        super().__init__(**kwargs)
        self.pair, self.rng = (image, classes), np.random.default_rng(seed)
        self.count, self.size, self.batch_size = count, size, batch_size

    def __len__(self):
        return -(-self.count // self.batch_size)

    def __getitem__(self, index):
        images, masks = [], []
        for _ in range(min(self.batch_size, self.count - index * self.batch_size)):
            y, x = (self.rng.integers(0, n - self.size + 1) for n in self.pair[0].shape)
            place = slice(y, y + self.size), slice(x, x + self.size)
            turns, mirror = self.rng.integers(4), self.rng.choice([-1, 1])
            image, mask = (np.rot90(array[place], turns)[:, ::mirror] for array in self.pair)
            images.append(image * self.rng.uniform(0.6, 1.5))
            masks.append(mask)
        return np.stack(images)[..., None].astype("float32"), np.stack(masks)


def by_threshold(image: np.ndarray, threshold: float) -> np.ndarray:
    """Nuclei above a threshold, cut where the distance to the background has a saddle."""
    bright = filters.gaussian(image) > threshold
    distance = filters.gaussian(ndimage.distance_transform_edt(bright))
    seeds = np.zeros(image.shape, int)
    for number, place in enumerate(feature.peak_local_max(distance, min_distance=7), 1):
        seeds[tuple(place)] = number
    return segmentation.watershed(-distance, seeds, mask=bright)


def by_network(probabilities: np.ndarray) -> np.ndarray:
    """Nuclei (H, W) from the three classes: what outlines enclose, grown into them."""
    background, inside, _ = np.moveaxis(probabilities, -1, 0)
    seeds = measure.label(probabilities.argmax(axis=-1) == 1, connectivity=1)
    nuclei = segmentation.watershed(-inside, seeds, mask=background < 0.5)
    sizes = np.bincount(nuclei.ravel())
    return np.where(sizes[nuclei] < 20, 0, nuclei)  # specks


def compare(truth: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """Dice of the pixels, and the F1 of the nuclei: one is found where IoU is above 0.5."""
    runs = [list(segzoo.rle.encode_labels(labels).values()) for labels in (truth, found)]
    pairs = segzoo.rle.iou(*runs) if runs[1] else np.zeros((len(runs[0]), 0))
    matched = int((pairs > 0.5).sum())  # above a half, no nucleus can match two
    dice = segzoo.metrics.dice_coef(
        *((labels > 0).astype("float32")[None, ..., None] for labels in (truth, found))
    )
    f1 = 2 * matched / (len(runs[0]) + len(runs[1]))
    return {"dice": float(dice), "f1": f1, "found": matched, "wrong": len(runs[1]) - matched}


def main(argv=None) -> None:
    options = parse_arguments(argv)

    # 1. The data: the left half trains, the right half is judged.
    image, labels = read_picture(*find_picture(options.data))
    half = image.shape[1] // 2
    left, right = np.s_[:, : half - GAP // 2], np.s_[:, half + GAP // 2 :]
    train = Crops(
        image[left],
        three_classes(labels[left]),
        options.images,
        options.size,
        options.batch_size,
        options.seed,
    )
    held_out, truth = image[right], segmentation.relabel_sequential(labels[right])[0]
    print(f"{len(np.unique(labels[left])) - 1} nuclei to train on, {truth.max()} held out")

    # 2. The model: one gray channel in, three classes out.
    model = segzoo.models.UNet(
        options.backbone,
        classes=3,
        input_shape=(None, None, 1),
        decoder_filters=(64, 32, 16, 8) if options.quick else (128, 64, 32, 16),
        backbone_weights=options.backbone_weights,
        **({} if options.backbone is None else {"preprocessing": False}),
    )
    rate = keras.optimizers.schedules.CosineDecay(3e-3, options.epochs * len(train))
    model.compile(
        optimizer=keras.optimizers.Adam(rate),
        loss=segzoo.losses.CategoricalCrossentropy() + segzoo.losses.Dice(),
        metrics=[segzoo.metrics.IoU()],
    )
    model.optimizer.build(model.trainable_variables)  # or the first step is traced twice
    whole = held_out[None, ..., None]
    before = compare(truth, by_network(model.predict(whole, verbose=0)[0]))

    # 3. Training. Outlines are a class like the others.
    model.fit(train, epochs=options.epochs)

    # 4. Judgment, beside thresholds that are taken from the left half as well.
    smooth = filters.gaussian(image[left])
    found = {
        "Otsu and watershed": by_threshold(held_out, filters.threshold_otsu(smooth)),
        "Li and watershed": by_threshold(held_out, filters.threshold_li(smooth)),
        "U-Net with outlines": by_network(model.predict(whole, verbose=0)[0]),
    }
    scores = {name: compare(truth, nuclei) for name, nuclei in found.items()}
    print(f"\n{truth.max()} nuclei{'':<14}{'Dice':>8}{'found':>8}{'wrong':>8}{'F1':>8}")
    for name, score in scores.items():
        cells = f"{score['dice']:>10.3f}{score['found']:>8}{score['wrong']:>8}{score['f1']:>8.3f}"
        print(f"{name:<22}{cells}")
    rows = [(name, *score.values()) for name, score in scores.items()]
    write_csv(options.output / "scores.csv", ["method", *before], rows)

    # 5. Pictures: every nucleus in a color of its own.
    gray = np.clip(held_out, 0, 1) ** 0.5
    colored = [
        color.label2rgb(nuclei, gray, alpha=0.45, bg_label=0, bg_color=None).clip(0, 1)
        for nuclei in (truth, *found.values())
    ]
    draw_rows(options.output / "nuclei.png", ["image", "truth", *found], [[gray, *colored]])
    model.save(options.output / "nuclei.keras")
    *thresholds, after = (score["f1"] for score in scores.values())
    judge("F1 of nuclei", before["f1"], after, None if options.data else max(thresholds))


if __name__ == "__main__":
    main()
