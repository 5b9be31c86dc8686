"""What the examples share: their options, reading and writing, judgment and pictures."""

import argparse
import csv
from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

# ---------------------------------------------------------------- options, training, judgment


HELP = {
    "data": "the published data set; default: paint a small synthetic one",
    "images": "number of synthetic images",
    "epochs": "passes over the training images",
    "size": "height of the images that the network sees",
    "seed": "of the synthetic set and the training",
}


def common_options(doc: str, help: dict | None = None, **defaults) -> argparse.ArgumentParser:
    """A parser with the options that all examples have; `help` replaces lines of `HELP`."""
    parser = argparse.ArgumentParser(
        description=doc.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add, help = parser.add_argument, HELP | (help or {})
    add("--data", type=Path, help=help["data"])
    add("--images", type=int, help=help["images"])
    add("--epochs", type=int, help=help["epochs"])
    add("--size", type=int, help=help["size"])
    add("--batch-size", type=int, help="images in one training step")
    add("--backbone", help="a name from segzoo.backbones.names()")
    add(
        "--backbone-weights",
        default="none",
        help="'none' trains from scratch; 'imagenet' (a download) is what real photographs want; "
        "or the path of a weights file",
    )
    add("--seed", type=int, default=0, help=help["seed"])
    add("--output", type=Path, default=Path("output"), help="folder for the results")
    parser.set_defaults(**defaults)
    return parser


def parse(parser: argparse.ArgumentParser, argv: list[str] | None, quick: dict):
    """The options; `quick` replaces the defaults, not what was typed."""
    if parser.parse_args(argv).quick:
        parser.set_defaults(**quick)
    options = parser.parse_args(argv)
    options.backbone = None if options.backbone == "none" else options.backbone
    if options.backbone_weights == "none":
        options.backbone_weights = None
    options.output.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(options.seed)
    return options


def judge(name: str, before: float, after: float, floor: float | None) -> None:
    """Print a held-out score; end with an error if it is below the floor."""
    print(f"\nheld-out {name}: {before:.3f} before the training, {after:.3f} after it")
    if floor is not None and not after > max(before, floor):
        raise SystemExit(f"{name} {after:.3f} is not above {max(before, floor):.3f}: train longer")


def read_image(path: Path, size: tuple[int, int], mode: str = "RGB") -> np.ndarray:
    """An image file as uint8 (height, width, channels) of that size; masks ("L") stay sharp."""
    with Image.open(path) as file:
        file.draft(mode, size[::-1])  # a JPEG is decoded no larger than it must be
        method = Image.Resampling.NEAREST if mode == "L" else Image.Resampling.BOX
        image = file.convert(mode).resize(size[::-1], method)
    return np.asarray(image).reshape(*size, -1)


def resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A mask (H, W) of bool or uint8 at another size, without new values."""
    return np.asarray(Image.fromarray(mask).resize(size[::-1], Image.Resampling.NEAREST))


def write_csv(path: Path, header: list[str], rows) -> None:
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def read_csv(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


# ---------------------------------------------------------------- pictures


def errors(image: np.ndarray, truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """A gray image with false positives in red and misses in blue; masks (H, W) or (H, W, C)."""
    truth, prediction = (np.atleast_3d(mask).astype(bool) for mask in (truth, prediction))
    picture = np.repeat(image.mean(axis=-1, keepdims=True) / 255 * 0.6 + 0.2, 3, axis=-1)
    picture[(truth & ~prediction).any(axis=-1)] = (0.1, 0.4, 0.9)
    picture[(prediction & ~truth).any(axis=-1)] = (0.9, 0.2, 0.1)
    return picture


def overlay(image: np.ndarray, masks: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """An image with a color laid over every class of (H, W, C) masks."""
    picture = np.repeat(image[..., :3].mean(axis=-1, keepdims=True) / 255, 3, axis=-1)
    for channel, color in enumerate(np.asarray(colors) / 255):
        inside = masks[..., channel].astype(bool)
        picture[inside] = 0.45 * picture[inside] + 0.55 * color
    return picture


def draw_rows(path: Path, titles: list[str], rows: list, width: float = 3) -> None:
    """A table of pictures, with a title over each column."""
    height = width * rows[0][0].shape[0] / rows[0][0].shape[1]
    size = (width * len(titles), height * len(rows) + 0.3)
    figure, axes = plt.subplots(
        len(rows), len(titles), figsize=size, squeeze=False, layout="constrained"
    )
    for line, row in zip(axes, rows, strict=True):
        for axis, picture in zip(line, row, strict=True):
            axis.imshow(picture, cmap="gray")
            axis.axis("off")
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=9)
    finish(figure, path)


def draw_history(path: Path, history: dict[str, list[float]], score: str) -> None:
    """The learning curve: the loss, and a score beside it, in training and validation."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
    for axis, name in zip(axes, ("loss", score), strict=True):
        for key in (name, f"val_{name}"):
            axis.plot(range(1, len(history[key]) + 1), history[key], label=key)
        axis.set_xlabel("epoch")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    finish(figure, path)


def finish(figure, path: Path) -> None:
    """Save a figure, and show it where that is a notebook."""
    figure.savefig(path, dpi=100)
    if "inline" in plt.get_backend():
        plt.show()
    plt.close(figure)
    print(f"wrote {path}")
