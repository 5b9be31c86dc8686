"""Each builder on the photograph of `examples/quickstart.py`: parameters, CPU time, held-out Dice.

    python -m tests.benchmarks.bench_quickstart                        # all rows, into the table
    python -m tests.benchmarks.bench_quickstart --only 'UNet("resnet18")'
    python -m tests.benchmarks.bench_quickstart --steps 240 --output longer.json

The result is `docs/figures/data/quickstart.json`, which `docs/figures/builders.py` draws. It is
written after each row, and rows that it has are not repeated.

The protocol was fixed before the first run, and is the same for every row: one class on the gray
photograph, random weights, seed 0; 80 steps of Adam at 1e-3 on batches of 8 crops of 64 pixels
from the left part, each crop seen once; `BCEDice`; the builder's defaults, on ResNet18 where it
takes a backbone. UNet 3+ with its own encoder is a quarter as wide as by default, to be trained on
a CPU at all. There is one run of each, so that a difference of a few hundredths says nothing.
`--steps` trains longer on as many more crops, for rows that 80 steps leave below a Dice of 0.95.

- `parameters`: `Model.count_params()`.
- `predict_ms`: CPU milliseconds, of all threads, of one `predict_on_batch` of 1x256x256x1; the
  median of 9.
- `dice`: `DiceScore` of the right part, which no crop has seen.
- `fit_s`: seconds of the training, tracing included.
"""

import argparse
import gc
import importlib
import json
import pathlib
import statistics
import sys
import time

import keras
import numpy as np

import segzoo

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "examples"))

quickstart = importlib.import_module("quickstart")

TABLE = ROOT / "docs" / "figures" / "data" / "quickstart.json"
STEPS, BATCH, SIZE, SEED, RATE = 80, 8, 64, 0, 1e-3
CALLS = (
    'UNet("resnet18")',
    'EffNetUNet("b0")',
    'UNetPlusPlus("resnet18")',
    'MANet("resnet18")',
    'LinkNet("resnet18")',
    'FPN("resnet18")',
    'PAN("resnet18")',
    'DeepLabV3Plus("resnet18")',
    'FCN("resnet18")',
    'SegFormer("resnet18")',
    'SegFormer("mitb0")',
    "UNet(None)",
    "UNetPlusPlus(None)",
    'UPerNet("resnet18")',
    'PSPNet("resnet18")',
    'DeepLabV3("resnet18")',
    'UNet3Plus("resnet18")',
    "UNet3Plus(None, filters=(16, 32, 64, 128, 256), skip_filters=16)",
)


def build(call: str) -> keras.Model:
    """The model of a call as it stands in the table: `UNet("resnet18")`."""
    weights = ", backbone_weights=None" if '"' in call else ""
    options = f"classes=1, input_shape=(None, None, 1){weights}"
    return eval(f"{call[:-1]}, {options})", vars(segzoo.models))


def measure(call: str, steps: int = STEPS) -> dict[str, float]:
    """Train one model, judge it, and time its prediction."""
    keras.utils.set_random_seed(SEED)
    rng = np.random.default_rng(SEED)
    photograph = quickstart.data.coins()
    mask = quickstart.label_coins(photograph)
    left, right = np.s_[:, : quickstart.SPLIT], np.s_[None, :, quickstart.SPLIT :, None]
    crops, masks = quickstart.random_crops(photograph[left], mask[left], steps * BATCH, SIZE, rng)

    model = build(call)
    named = any(layer.name == "backbone" for layer in model.layers)
    scale = 1 if named else 255  # a builder's own encoder has no normalization of its own
    model.compile(
        keras.optimizers.Adam(RATE), segzoo.losses.BCEDice(), metrics=[segzoo.metrics.DiceScore()]
    )
    start = time.perf_counter()
    model.fit(crops / scale, masks, batch_size=BATCH, epochs=1, verbose=0)
    seconds = time.perf_counter() - start
    scores = model.evaluate(photograph[right] / scale, mask[right], verbose=0, return_dict=True)

    image = rng.uniform(0, 255 / scale, (1, 256, 256, 1)).astype("float32")
    model.predict_on_batch(image)
    times = []
    for _ in range(9):
        start = time.process_time()
        model.predict_on_batch(image)
        times.append(time.process_time() - start)
    return {
        "parameters": model.count_params(),
        "predict_ms": round(1e3 * statistics.median(times), 1),
        "dice": round(scores["dice_score"], 4),
        "fit_s": round(seconds, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=CALLS, help="rows, as calls")
    parser.add_argument("--steps", type=int, default=STEPS, help="of the training")
    parser.add_argument("--output", type=pathlib.Path, default=TABLE, help="the table to fill")
    options = parser.parse_args()
    table = json.loads(options.output.read_text()) if options.output.exists() else {}
    for call in options.only:
        if call not in table:
            table[call] = measure(call, options.steps)
            options.output.parent.mkdir(parents=True, exist_ok=True)
            options.output.write_text(json.dumps(table, indent=2) + "\n")
            keras.backend.clear_session()
            gc.collect()
        print(call, table[call], flush=True)


if __name__ == "__main__":
    main()
