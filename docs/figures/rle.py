"""Draw `docs/images/rle.png`: how a run list walks over a mask in both orders.

python docs/figures/rle.py
"""

import pathlib

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import FancyBboxPatch

from segzoo import rle

TARGET = pathlib.Path(__file__).parents[1] / "images" / "rle.png"
MASK = np.array(
    [
        [0, 0, 0, 1, 1, 0, 0],
        [0, 0, 1, 1, 1, 1, 0],
        [0, 1, 1, 1, 1, 1, 0],
        [0, 0, 1, 1, 0, 0, 0],
        [0, 0, 0, 1, 0, 0, 0],
    ]
)
INK, MUTED, PAPER = "#22303c", "#93a1ad", "#eef2f5"
COLORS = ["#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7"]  # Okabe and Ito: for every eye


def draw(axes: plt.Axes, order: str) -> None:
    """Draw the mask, the walk over its pixels, and the run list that it gives."""
    height, width = MASK.shape
    text = rle.encode(MASK, order=order)
    runs = np.array(text.split(), int).reshape(-1, 2)
    if order == "F":
        places = [(row, column) for column in range(width) for row in range(height)]
    else:
        places = [(row, column) for row in range(height) for column in range(width)]
    inside = np.zeros(len(places), int)
    for index, (first, length) in enumerate(runs, 1):
        inside[first - 1 : first - 1 + length] = index
    for number, ((row, column), run) in enumerate(zip(places, inside, strict=True), 1):
        color = COLORS[(run - 1) % len(COLORS)] if run else PAPER
        axes.add_patch(
            FancyBboxPatch(
                (column - 0.44, row - 0.44), 0.88, 0.88, linewidth=0, facecolor=color,
                boxstyle="round,pad=0,rounding_size=0.12",
            )
        )  # fmt: skip
        starts = run and run != ([0, *inside])[number - 1]
        axes.text(
            column - 0.36, row - 0.32, number, ha="left", va="top", zorder=4,
            fontsize=13 if starts else 9, weight="bold" if starts else "normal",
            color="white" if run else MUTED,
        )  # fmt: skip
    reach, beside = 0.36, 0.24  # of an arrow within its cells, away from the numbers
    if order == "F":
        tails = [(column + beside, -reach) for column in range(width)]
        span = (0, height - 1 + 2 * reach)
    else:
        tails = [(-reach, row + beside) for row in range(height)]
        span = (width - 1 + 2 * reach, 0)
    for x, y in tails:
        style = {"arrowstyle": "-|>", "color": INK, "lw": 1.1, "alpha": 0.55, "mutation_scale": 9}
        style |= {"shrinkA": 0, "shrinkB": 0}
        axes.annotate("", (x + span[0], y + span[1]), (x, y), arrowprops=style, zorder=3)
    way = "down the columns" if order == "F" else "along the rows"
    axes.set_title(f'order="{order}": {way}', fontsize=15, color=INK, weight="bold", pad=10)
    write(axes, runs, (width - 1) / 2, height - 0.12)
    axes.set_xlim(-0.6, width - 0.4)
    axes.set_ylim(height + 0.35, -0.6)
    axes.set_aspect("equal")
    axes.axis("off")


def write(axes: plt.Axes, runs: np.ndarray, middle: float, y: float) -> None:
    """Write the run list, each pair in the color of its pixels."""
    words = [f"{first} {length}" for first, length in runs]
    advance = 0.205  # of one monospaced character
    x = middle - advance * len(" ".join(words)) / 2
    for index, word in enumerate(words):
        axes.text(
            x, y, word, family="monospace", fontsize=15, weight="bold", va="center", ha="left",
            color=COLORS[index % len(COLORS)],
        )  # fmt: skip
        x += advance * (len(word) + 1)


def main() -> None:
    """Write the picture."""
    figure, axes = plt.subplots(1, 2, figsize=(13, 5.6))
    for panel, order in zip(axes, "FC", strict=True):
        draw(panel, order)
    figure.subplots_adjust(left=0.01, right=0.99, top=0.9, bottom=0.02, wspace=0.04)
    TARGET.parent.mkdir(exist_ok=True)
    figure.savefig(TARGET, dpi=110, facecolor="white", metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    main()
