"""Draws docs/images/losses.png: each family's loss and gradient against overlap.

python docs/figures/losses.py
"""

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from segzoo import losses

FAMILIES = {
    "region": ["Dice", "Jaccard", "Tversky", "FocalTversky", "LogCoshDice", "MCC"],
    "pixel": ["BinaryCrossentropy", "BinaryFocal", "BCEDice"],
    "Lovász and shape": ["LovaszHinge", "BoundaryF1", "CenterlineDice"],
}


def curve(name, mask, overlaps):
    """Returns the loss as the probability of the truth rises from 0 to 1 in every pixel."""
    loss = getattr(losses, name)()
    return np.array([float(loss(mask, mask * t + (1 - mask) * (1 - t))) for t in overlaps])


def main():
    overlaps = np.linspace(0.02, 0.98, 49)
    mask = np.zeros((1, 32, 32, 1))
    mask[:, 10:22, 4:28] = 1
    figure, axes = plt.subplots(2, 3, figsize=(11, 6), sharex=True, layout="constrained")
    for (upper, lower), (family, names) in zip(axes.T, FAMILIES.items(), strict=True):
        for name in names:
            values = curve(name, mask, overlaps)
            upper.plot(overlaps, values, label=name)
            lower.plot(overlaps, np.gradient(values, overlaps))
        upper.set_title(family)
        upper.set_ylim(0, 4)
        lower.set_ylim(-8, 1)
        upper.legend(fontsize=8)
        lower.set_xlabel("probability of the true class")
        for axis in (upper, lower):
            axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("loss")
    axes[1, 0].set_ylabel("gradient")
    axes[0, 0].set_ylim(0, 2)
    axes[1, 0].set_ylim(-3, 1)
    figure.savefig(Path(__file__).parents[1] / "images" / "losses.png", dpi=100)


if __name__ == "__main__":
    main()
