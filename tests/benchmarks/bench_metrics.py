"""Time the metrics beside the forward pass of a small U-Net, and a threshold search beside passes.

python tests/benchmarks/bench_metrics.py [--rounds 15] [--jit]

Each metric's `update_state` and `result` are timed in turns with the forward pass, so that a busy
machine slows both down. The table gives the best of each, their ratio, and the median of the ratios
of neighbors.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

from segzoo import metrics, models

SHAPE = (8, 256, 256)
CLASSES = 4


def seconds(function, *arguments):
    """Returns how long a call takes, its result fetched."""
    start = time.perf_counter()
    for tensor in tf.nest.flatten(function(*arguments)):
        tensor.numpy()
    return time.perf_counter() - start


def compare(first, second, rounds):
    """Returns the best times of both, in turns, and the median of second over first."""
    pairs = [(seconds(*first), seconds(*second)) for _ in range(rounds + 1)][1:]
    best = [min(times) for times in zip(*pairs, strict=True)]
    return *best, statistics.median(b / a for a, b in pairs)


def step_of(metric, jit):
    """Returns what one step of `fit` does with a metric, compiled."""

    @tf.function(jit_compile=jit)
    def step(y_true, y_pred):
        metric.update_state(y_true, y_pred)
        return metric.result()

    return step


def bench_steps(rounds, jit):
    """Print each metric's time per step beside the forward pass."""
    rng = np.random.default_rng(0)
    model = models.UNet(None, CLASSES, (*SHAPE[1:], 3))
    forward = tf.function(lambda x: model(x, training=False), jit_compile=jit)
    x = tf.constant(rng.random((*SHAPE, 3), dtype="float32"))
    labels = rng.integers(0, CLASSES, SHAPE).astype("int32")
    scores = rng.random((*SHAPE, CLASSES), dtype="float32")
    masks = (scores > 0.7).astype("float32")
    exclusive = tf.constant(labels), tf.constant(scores)
    one_hot = tf.one_hot(exclusive[0], CLASSES), exclusive[1]
    multilabel = tf.constant(masks), exclusive[1]
    cases = [
        ("IoU, labels", metrics.IoU(), exclusive),
        ("IoU, one-hot truth", metrics.IoU(), one_hot),
        ("IoU, multi-label", metrics.IoU(multilabel=True), multilabel),
        ("DiceScore", metrics.DiceScore(), exclusive),
        ("DiceScore, per image", metrics.DiceScore(average="per_image"), exclusive),
        ("DiceScore, by class", metrics.DiceScore(average=None), exclusive),
        ("DiceScore, ignore 255", metrics.DiceScore(ignore_class=255), exclusive),
        ("FScore", metrics.FScore(), exclusive),
        ("Precision", metrics.Precision(), exclusive),
        ("Recall", metrics.Recall(), exclusive),
        ("PixelAccuracy", metrics.PixelAccuracy(), exclusive),
        ("ConfusionMatrix", metrics.ConfusionMatrix(), exclusive),
        ("ThresholdSearch, 101", metrics.ThresholdSearch(101, multilabel=True), multilabel),
        ("ThresholdSearch, 1001", metrics.ThresholdSearch(1001, multilabel=True), multilabel),
        ("BoundaryF1Score", metrics.BoundaryF1Score(), exclusive),
        ("BoundaryIoU", metrics.BoundaryIoU(), exclusive),
    ]
    print(f"UNet(None), {model.count_params():,} parameters, {SHAPE} pixels, {CLASSES} classes\n")
    print("| metric | forward pass, ms | metric, ms | share of the best | median share |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, metric, data in cases:
        fast, slow, ratio = compare((forward, x), (step_of(metric, jit), *data), rounds)
        print(
            f"| {name} | {1e3 * fast:.0f} | {1e3 * slow:.1f} | {slow / fast:.1%} | {ratio:.1%} |",
            flush=True,
        )


def bench_search(jit):
    """Print one `evaluate` with 101 thresholds beside ten with one threshold each."""
    rng = np.random.default_rng(0)
    x = rng.random((32, *SHAPE[1:], 3), dtype="float32")
    y = (rng.random((32, *SHAPE[1:], CLASSES)) < 0.3).astype("float32")
    model = models.UNet(None, CLASSES, (*SHAPE[1:], 3))

    def evaluate(metric):
        model.compile(loss="binary_crossentropy", metrics=[metric], jit_compile=jit)
        model.evaluate(x[:8], y[:8], batch_size=8, verbose=0)  # traces
        start = time.perf_counter()
        model.evaluate(x, y, batch_size=8, verbose=0)
        return time.perf_counter() - start

    one_pass = evaluate(metrics.ThresholdSearch(101, multilabel=True))
    ten = sum(evaluate(metrics.IoU(threshold=t / 10, multilabel=True)) for t in range(10))
    again = evaluate(metrics.ThresholdSearch(101, multilabel=True))
    one = (one_pass + again) / 2
    print("\n| 32 images, tracing left out | seconds |\n| --- | ---: |")
    print(f"| one `evaluate`, ThresholdSearch with 101 thresholds | {one:.2f} |")
    print(f"| ten `evaluate`, IoU at one threshold each | {ten:.2f} |")
    print(f"| ratio | {ten / one:.1f} |")


def main():
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="pairs of timings per metric")
    parser.add_argument("--jit", action="store_true", help="compile both with XLA")
    options = parser.parse_args()
    bench_steps(options.rounds, options.jit)
    bench_search(options.jit)


if __name__ == "__main__":
    main()
