"""Draw `docs/images/metrics.png`: three small images, and the IoU that each average gives.

python docs/figures/metrics.py
"""

import pathlib

import keras
import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap

from segzoo import metrics

TARGET = pathlib.Path(__file__).parents[1] / "images" / "metrics.png"
NAMES = ["land", "water", "boat"]
TRUTH = np.array([[[0, 0, 0], [1, 1, 1]], [[0, 0, 0], [0, 0, 0]], [[0, 0, 1], [0, 2, 1]]])
GUESS = np.array([[[0, 0, 0], [0, 1, 1]], [[0, 0, 0], [0, 0, 0]], [[0, 0, 1], [0, 0, 1]]])
INK, MUTED = "#22303c", "#93a1ad"
COLORS = ListedColormap(["#e3d9b8", "#56b4e9", "#d55e00"])


def score(average: str, **options) -> float:
    """The IoU of the three images."""
    return float(metrics.IoU(average=average, **options)(TRUTH, keras.ops.one_hot(GUESS, 3)))


def draw_image(axes: plt.Axes, labels: np.ndarray, wrong: np.ndarray) -> None:
    """Draw the pixels of one image with their class, and a frame around the wrong ones."""
    axes.imshow(labels, cmap=COLORS, vmin=0, vmax=2)
    for (row, column), label in np.ndenumerate(labels):
        axes.text(column, row, NAMES[label], ha="center", va="center", fontsize=8, color=INK)
        if wrong[row, column]:
            frame = plt.Rectangle((column - 0.46, row - 0.46), 0.92, 0.92, fill=False)
            frame.set(edgecolor="#b00020", linewidth=2.5)
            axes.add_patch(frame)
    axes.set(xticks=[], yticks=[])
    axes.set_xticks(np.arange(0.5, 2), minor=True)
    axes.set_yticks(np.arange(0.5, 1), minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="both", length=0, labelleft=False, labelbottom=False)
    axes.spines[:].set_visible(False)


def main() -> None:
    """Draw the images on the left and the averages on the right."""
    figure = plt.figure(figsize=(10.5, 3.2), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[1.45, 1])
    grid = left.subplots(2, 3)
    for column in range(3):
        wrong = TRUTH[column] != GUESS[column]
        draw_image(grid[0, column], TRUTH[column], np.zeros_like(wrong))
        draw_image(grid[1, column], GUESS[column], wrong)
        grid[0, column].set_title(f"image {column + 1}", fontsize=10, color=INK)
    for axes, side in zip(grid[:, 0], ("truth", "prediction"), strict=True):
        axes.set_ylabel(side, fontsize=10, color=INK)

    bars = {
        '"macro"': score("macro"),
        '"micro"': score("micro"),
        '"weighted"': score("weighted"),
        '"per_image"': score("per_image"),
        '"per_image",\nempty_score=nan': score("per_image", empty_score=float("nan")),
    }
    axes = right.subplots()
    axes.barh(list(bars), list(bars.values()), color="#0072b2", height=0.6)
    for row, value in enumerate(bars.values()):
        axes.text(value + 0.015, row, f"{value:.3f}", va="center", fontsize=9, color=INK)
    axes.invert_yaxis()
    axes.set(xlim=(0, 1), title="IoU by average")
    axes.title.set(fontsize=10, color=INK)
    axes.tick_params(labelsize=9, length=0, colors=INK)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(MUTED)
    TARGET.parent.mkdir(exist_ok=True)
    figure.savefig(TARGET, dpi=130)


if __name__ == "__main__":
    main()
