"""What running batch statistics do to a validation after a short training, and what settles them.

    python -m tests.benchmarks.bench_settling

A U-Net on MobileNetV2 learns the photograph of `examples/quickstart.py` from random weights: 36
steps of Adam at 1e-3 on batches of 8 crops of 96 pixels from its left part, at three momenta of the
backbone's batch normalization. Judged on its right part, which no crop has seen, in windows of 96
pixels. IoU, one run each:

- `training`: of the last epoch (12 steps), as `fit` shows it: with the statistics of each batch.
- `batch`: of the held-out windows with their own statistics (`training=True`).
- `validation`: with the running statistics, as `evaluate` and `predict` take them.
- `passed`: the same after 12 batches passed with `training=True`, at the layers' own momentum.
- `settled`: the same after `settle` of `docs/finetuning.md` on those batches instead.
"""

import importlib
import pathlib
import re
import sys

import keras
import numpy as np

import segzoo

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "examples"))
quickstart = importlib.import_module("quickstart")

EPOCHS, STEPS, BATCH, SIZE = 3, 12, 8, 96


def recipe():
    """`settle` as it stands in the documentation."""
    page = (ROOT / "docs" / "finetuning.md").read_text()
    names = {"keras": keras}
    exec(
        next(b for b in re.findall(r"```python\n(.*?)```", page, re.S) if "def settle" in b), names
    )
    return names["normalizations"], names["settle"]


def measure(momentum):
    keras.utils.set_random_seed(0)
    normalizations, settle = recipe()
    photograph = quickstart.data.coins()
    mask, split = quickstart.label_coins(photograph), quickstart.SPLIT
    rng = np.random.default_rng(0)
    crops, masks = quickstart.random_crops(
        photograph[:, :split], mask[:, :split], STEPS * BATCH, SIZE, rng
    )
    places = [np.s_[y : y + SIZE, x : x + SIZE] for y in (0, 96, 192) for x in (240, 264, 288)]
    windows, truth = (
        np.stack([a[place] for place in places])[..., None] for a in (photograph, mask)
    )

    model = segzoo.models.UNet("mobilenetv2", 1, (None, None, 1), backbone_weights=None)
    for norm in normalizations(model.get_layer("backbone")):
        norm.momentum = momentum
    model.compile(
        keras.optimizers.Adam(1e-3), segzoo.losses.BCEDice(), metrics=[segzoo.metrics.IoU()]
    )
    history = model.fit(crops, masks, batch_size=BATCH, epochs=EPOCHS, verbose=0).history

    def iou(training=False):
        return float(segzoo.metrics.IoU()(truth, model(windows, training=training)))

    norms = list(normalizations(model))
    held = [[v.numpy() for v in norm.non_trainable_weights] for norm in norms]

    def put_back():
        for norm, values in zip(norms, held, strict=True):
            for variable, value in zip(norm.non_trainable_weights, values, strict=True):
                variable.assign(value)

    found = [history["iou"][-1], iou(training=True)]
    put_back()
    found.append(iou())
    batches = [crops[k * BATCH : (k + 1) * BATCH] for k in range(STEPS)]
    for images in batches:
        model(images, training=True)
    found.append(iou())
    put_back()
    settle(model, batches)
    return [*found, iou()]


def main():
    print("| momentum | training | batch | validation | passed | settled |\n" + "| --- " * 6 + "|")
    for momentum in (0.9, 0.99, 0.999):
        cells = " | ".join(f"{value:.3f}" for value in measure(momentum))
        print(f"| {momentum} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
