"""What each loss makes of the quickstart's photograph of coins, in three tasks.

    python -m tests.benchmarks.bench_coins --seeds 2
    python -m tests.benchmarks.bench_coins rims --only "GeneralizedDice()"

The protocol is that of `bench_roads` and the same for every row: its network, 120 steps of Adam at
3e-3 on batches of 8 crops of 64 pixels from the left part, judged on the right part, which no crop
has seen, whole. Numbers are means over the seeds; half the range between seeds follows the first.

- `coins`, a third of the pixels: Dice, IoU, `BoundaryF1Score(tolerance=1)` and HD95 in pixels.
- `thin`, the rim of every coin, one pixel wide, 26 of 1000 pixels: Dice, precision, recall.
- `rims`, ground, coin, and a rim of two pixels (67, 28, 5 %), exclusive: IoU of the mean and each.

`A, then B` trains two thirds of the steps with A and the rest with B.
"""

import argparse
import importlib
import pathlib
import sys

import keras
import numpy as np
from scipy import ndimage

from segzoo import losses, metrics
from tests.benchmarks.bench_roads import BATCH, SIZE, STEPS, network

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "examples"))
quickstart = importlib.import_module("quickstart")

UNIFIED = (
    "0.5 * BinaryFocal(gamma=0.5, alpha=0.6) + 0.5 * FocalTversky(alpha=0.4, beta=0.6, gamma=0.5)"
)
TASKS = {
    "coins": [
        "BCEDice()",
        "LogCoshDice()",
        "MCC()",
        "BinaryCrossentropy(), then LovaszHinge()",
        "Dice() + BoundaryF1()",
        "Dice() + 0.1 * BoundaryDistance()",
    ],
    "thin": [
        "BCEDice()",
        "BinaryCrossentropy()",
        "BinaryCrossentropy(pos_weight=10)",
        "Dice() + BinaryFocal()",
        "FocalTversky()",
        UNIFIED,
        "LogCoshDice()",
    ],
    "rims": [
        "CategoricalCrossentropy() + Dice()",
        "CategoricalCrossentropy()",
        "CategoricalCrossentropy(class_weights=[1, 1, 5])",
        "CategoricalFocal()",
        "OHEM(CategoricalCrossentropy())",
        "GeneralizedDice()",
        "CategoricalCrossentropy() + GeneralizedDice()",
        "CategoricalCrossentropy(), then LovaszSoftmax()",
    ],
}
SCORES = {
    "coins": ("Dice", "IoU", "boundary F1", "HD95"),
    "thin": ("Dice", "precision", "recall"),
    "rims": ("mean IoU", "ground", "coin", "rim"),
}


def truth_of(task):
    """The photograph and the labels of a task, (H, W)."""
    photograph = quickstart.data.coins()
    coins = quickstart.label_coins(photograph) > 0
    inner = ndimage.binary_erosion(coins, iterations=1 if task == "thin" else 2)
    labels = {"coins": coins, "thin": coins & ~inner, "rims": 2 * coins - 1 * inner}
    return photograph, labels[task].astype("uint8")


def scores(task, truth, guess):
    """The scores of one picture (H, W, C) of probabilities."""
    found = metrics.counts(truth[None], guess[None]).sum(axis=0)
    iou, *rest = (
        keras.ops.convert_to_numpy(v)
        for v in (found.iou(), found.dice(), found.precision(), found.recall())
    )
    if task == "rims":
        return [iou.mean(), *iou]
    if task == "thin":
        return [float(v[0]) for v in rest]
    outline = float(metrics.BoundaryF1Score(tolerance=1)(truth[None], guess[None]))
    far = metrics.hausdorff_distance(truth, guess[..., 0] > 0.5, 95, empty=337.0)
    return [float(rest[0][0]), float(iou[0]), outline, far]


def train(task, text, seed):
    keras.utils.set_random_seed(seed)
    photograph, labels = truth_of(task)
    split, rng = quickstart.SPLIT, np.random.default_rng(seed)
    crops, y = quickstart.random_crops(
        photograph[:, :split], labels[:, :split], STEPS * BATCH, SIZE, rng
    )
    if "BoundaryDistance" in text:
        y = np.concatenate([y, losses.signed_distance(y)], axis=-1)
    model = network(3 if task == "rims" else 1)
    steps = [STEPS] if ", then " not in text else [2 * STEPS // 3, STEPS // 3]
    done = 0
    for part, count in zip(text.split(", then "), steps, strict=True):
        here = slice(done * BATCH, (done + count) * BATCH)
        model.compile(keras.optimizers.Adam(3e-3), eval(part, vars(losses)))
        model.fit(crops[here] / 255, y[here], batch_size=BATCH, shuffle=False, verbose=0)
        done += count
    guess = model.predict(photograph[None, :, split:, None] / 255, verbose=0)[0]
    return scores(task, labels[:, split:], guess)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="*", help=f"of {', '.join(TASKS)}; default: all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="these losses alone")
    options = parser.parse_args()
    for task in options.tasks or TASKS:
        share = ", ".join(f"{100 * (truth_of(task)[1] == k).mean():.1f} %" for k in (1, 2))
        print(f"\n{task}: {share}\n| loss | {' | '.join(SCORES[task])} |")
        print("| --- " * (1 + len(SCORES[task])) + "|")
        for text in options.only or TASKS[task]:
            runs = np.array([train(task, text, seed) for seed in range(options.seeds)])
            first, *others = runs.mean(axis=0)
            cells = [f"{first:.3f} ± {np.ptp(runs[:, 0]) / 2:.3f}", *(f"{v:.3f}" for v in others)]
            print(f"| `{text}` | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
