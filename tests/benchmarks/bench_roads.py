"""What each loss makes of thin roads that are partly hidden, and what a step of it costs.

    python -m tests.benchmarks.bench_roads                 # both tables
    python -m tests.benchmarks.bench_roads --seeds 1 --only "Dice()"

Roads of 2 to 5 pixels are painted, a tenth of a picture, under noise and blots that hide parts of
them. The protocol is the same for every row: six 3x3 convolutions of 16 filters, dilated 1, 1, 2,
4, 8, 1; 120 steps of Adam at 3e-3 on batches of 8 pictures of 64 pixels; judged on 16 pictures of
128 pixels that no step has seen, decided at 0.5. Numbers are means over the seeds; half the range
between seeds follows the share of the center lines.

- `Dice`, `precision`, `recall`: of the pixels.
- `lines`: the share of the true center lines (one pixel wide) that is predicted.
- `pieces`: the mean difference of the numbers of connected parts, truth against prediction.
- `HD95`: the robust Hausdorff distance in pixels, mean over the pictures.

The cost is that of value and gradient of one loss on 4 x 512 x 512 x 1 in a compiled graph, each in
a process of its own: the median of 5 calls in CPU milliseconds of all threads, and how much the
process's peak grew. Making the maps is timed beside it, on the host.
"""

import argparse
import functools
import json
import resource
import statistics
import subprocess
import sys
import time

import keras
import numpy as np
from scipy import ndimage

from segzoo import losses, metrics

LOSSES = {
    "BinaryCrossentropy()": ("mask",),
    "BinaryCrossentropy(pos_weight=5)": ("mask",),
    "BinaryFocal()": ("mask",),
    "Dice()": ("mask",),
    "BCEDice()": ("mask",),
    "Dice() + BinaryFocal()": ("mask",),
    "Tversky()": ("mask",),
    "FocalTversky()": ("mask",),
    "LogCoshDice()": ("mask",),
    "LovaszHinge()": ("mask",),
    "MCC()": ("mask",),
    "Dice() + BoundaryF1()": ("mask",),
    "Dice() + 0.1 * BoundaryDistance()": ("mask", "distance"),
    "0.5 * Dice() + 0.5 * CenterlineDice()": ("mask",),
    "Dice() + SkeletonRecall()": ("mask", "skeleton"),
    "BCEDice() + 0.1 * SkeletonRecall()": ("mask", "skeleton"),
}
COSTS = (
    "BCEDice()",
    "BinaryCrossentropy()",
    "BinaryFocal()",
    "Dice()",
    "FocalTversky()",
    "GeneralizedDice()",
    "LogCoshDice()",
    "LovaszHinge()",
    "MCC()",
    "OHEM(BinaryCrossentropy())",
    "BoundaryF1()",
    "BoundaryDistance()",
    "CenterlineDice()",
    "SkeletonRecall()",
)
STEPS, BATCH, SIZE, HELD_OUT = 120, 8, 64, (16, 128)


def picture(size, rng):
    """A gray picture of roads and its mask."""
    rows, columns = np.mgrid[:size, :size] / size
    mask = np.zeros((size, size), bool)
    for _ in range(max(2, size // 32)):
        angle, shift = rng.uniform(0, np.pi), rng.uniform(-0.4, 0.4)
        along = (columns - 0.5) * np.cos(angle) + (rows - 0.5) * np.sin(angle)
        across = (rows - 0.5) * np.cos(angle) - (columns - 0.5) * np.sin(angle)
        bend = 0.08 * np.sin(along * rng.uniform(4, 10) + rng.uniform(0, 6))
        mask |= np.abs(across - shift - bend) * size < rng.uniform(1, 2.5)
    hidden = ndimage.gaussian_filter(rng.normal(size=(size, size)), 3) > 0.12
    image = np.where(mask & ~hidden, 1.0, 0.0) + 0.3 * hidden
    image = ndimage.gaussian_filter(image, 0.7) + rng.normal(0, 0.25, (size, size))
    return image.astype("float32")[..., None], mask.astype("uint8")


@functools.cache
def pictures(count, size, seed):
    rng = np.random.default_rng(seed)
    images, masks = zip(*(picture(size, rng) for _ in range(count)), strict=True)
    return np.stack(images), np.stack(masks)[..., None]


def network(classes=1):
    image = x = keras.Input((None, None, 1))
    for dilation in (1, 1, 2, 4, 8, 1):
        x = keras.layers.Conv2D(16, 3, padding="same", dilation_rate=dilation, activation="relu")(x)
    activation = "sigmoid" if classes == 1 else "softmax"
    return keras.Model(image, keras.layers.Conv2D(classes, 1, activation=activation)(x))


def scores(truth, guess):
    """The scores of pictures (N, H, W) of booleans."""
    found = metrics.counts(truth[..., None], guess[..., None].astype("float32")).sum(axis=0)
    values = [float(np.squeeze(v)) for v in (found.dice(), found.precision(), found.recall())]
    lines = losses.skeleton(truth[..., None], width=1)[..., 0].astype(bool)
    values.append((lines & guess).sum() / lines.sum())
    parts = [[ndimage.label(m, np.ones((3, 3)))[1] for m in side] for side in (truth, guess)]
    values.append(np.abs(np.subtract(*parts)).mean())
    values.append(np.mean(metrics.hausdorff_distance(truth, guess, 95, empty=181.0)))
    return values


def train(text, maps, seed):
    keras.utils.set_random_seed(seed)
    images, masks = pictures(STEPS * BATCH, SIZE, seed)
    made = {"mask": lambda m: m, "distance": losses.signed_distance, "skeleton": losses.skeleton}
    y = np.concatenate([made[name](masks).astype("float32") for name in maps], axis=-1)
    model = network()
    loss = eval(text, vars(losses))
    model.compile(keras.optimizers.Adam(3e-3), loss)
    model.fit(images, y, batch_size=BATCH, shuffle=False, verbose=0)
    held_out, truth = pictures(*HELD_OUT, seed=1000)
    return scores(truth[..., 0] > 0, model.predict(held_out, verbose=0)[..., 0] > 0.5)


def cost(text):
    """Milliseconds and MiB of one loss, in this process."""
    import tensorflow as tf

    loss = eval(text, vars(losses))
    _, masks = pictures(4, 512, 0)
    y = losses.signed_distance(masks) if "Distance" in text else masks
    y = losses.skeleton(masks) if "Skeleton" in text else y
    y, p = tf.constant(y), tf.random.uniform(masks.shape)

    @tf.function
    def step(y, p):
        with tf.GradientTape() as tape:
            tape.watch(p)
            value = loss(y, p)
        return tape.gradient(value, p)

    step(y[:1, :32, :32], p[:1, :32, :32])
    before, times = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, []
    for _ in range(6):
        start = time.process_time()
        step(y, p).numpy()
        times.append(time.process_time() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return 1000 * statistics.median(times[1:]), peak / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="these losses alone; none: the costs alone")
    parser.add_argument("--cost", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cost:
        print(json.dumps(cost(options.cost)))
        return
    chosen = LOSSES if options.only is None else options.only
    print("| loss | Dice | precision | recall | lines | pieces | HD95 |\n" + "| --- " * 7 + "|")
    for text in chosen:
        runs = np.array([train(text, LOSSES[text], seed) for seed in range(options.seeds)])
        mean, spread = runs.mean(axis=0), np.ptp(runs[:, 3])
        cells = [f"{v:.3f}" for v in mean[:3]] + [f"{mean[3]:.3f} ± {spread / 2:.3f}"]
        cells += [f"{v:.1f}" for v in mean[4:]]
        print(f"| `{text}` | {' | '.join(cells)} |", flush=True)
    if options.only:
        return
    print("\n| loss | ms | MiB |\n| --- | --- | --- |")
    for text in COSTS:
        command = [sys.executable, "-m", "tests.benchmarks.bench_roads", "--cost", text]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        milliseconds, peak = json.loads(done.stdout.splitlines()[-1])
        print(f"| `{text}` | {milliseconds:.0f} | {peak:.0f} |", flush=True)
    _, masks = pictures(4, 512, 0)
    for function in (losses.signed_distance, losses.skeleton):
        start = time.process_time()
        function(masks)
        milliseconds = 1000 * (time.process_time() - start)
        print(f"{function.__name__} of the 4 masks: {milliseconds:.0f} ms")


if __name__ == "__main__":
    main()
