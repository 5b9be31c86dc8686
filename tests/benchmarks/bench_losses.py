"""Forward plus backward time of the losses beside the plain formulations, in alternation.

    python tests/benchmarks/bench_losses.py [--rounds 15] [--size 256] [--memory]

Each pair runs A B A B ... in one process inside `tf.function`; the ratio is the median of pairs.
`--memory` measures the peak of 150-class Dice in a process of its own for each form.
"""

import argparse
import ctypes
import os
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from segzoo import losses


def plain_dice(y, p):
    axes = (0, 1, 2)
    tp, fp, fn = (ops.sum(x, axis=axes) for x in (y * p, (1 - y) * p, y * (1 - p)))
    return ops.mean(1 - (2 * tp + 1) / (2 * tp + fp + fn + 1))


def plain_entropy(y, p):
    p = ops.clip(p, 1e-7, 1 - 1e-7)
    return -ops.mean(y * ops.log(p) + (1 - y) * ops.log(1 - p))


def plain_focal(y, p):
    p = ops.clip(p, 1e-7, 1 - 1e-7)
    front = -0.25 * y * ops.power(1 - p, 2.0) * ops.log(p)
    return ops.mean(front - 0.75 * (1 - y) * ops.power(p, 2.0) * ops.log(1 - p))


def notebook_boundary(y, p):
    def pool(x, size, kind):
        pooling = ops.max_pool if kind == "max" else ops.average_pool
        return pooling(x, size, strides=1, padding="same")

    b_true, b_pred = pool(1 - y, 3, "max") - (1 - y), pool(1 - p, 3, "max") - (1 - p)
    near_true, near_pred = pool(b_true, 5, "average"), pool(b_pred, 5, "average")
    precision = ops.sum(b_pred * near_true) / ops.sum(b_pred)
    recall = ops.sum(b_true * near_pred) / ops.sum(b_true)
    return 1 - 2 * precision * recall / (precision + recall)


def one_hot_dice(labels, p):
    return plain_dice(ops.one_hot(labels, p.shape[-1]), p)


def cases():
    bce_logits = keras.losses.BinaryCrossentropy(from_logits=True)
    focal_logits = keras.losses.BinaryFocalCrossentropy(
        apply_class_balancing=True, from_logits=True
    )
    bce, dice = keras.losses.BinaryCrossentropy(), keras.losses.Dice(axis=(0, 1, 2))
    focal = keras.losses.BinaryFocalCrossentropy(apply_class_balancing=True)
    per_class = [
        ("Dice", losses.Dice(), plain_dice, dice),
        ("BinaryFocal", losses.BinaryFocal(), plain_focal, focal),
        (
            "BCEDice",
            losses.BCEDice(),
            lambda y, p: plain_entropy(y, p) + plain_dice(y, p),
            lambda y, p: bce(y, p) + ops.mean(dice(y, p)),
        ),
        ("BinaryCrossentropy", losses.BinaryCrossentropy(), plain_entropy, bce),
        (
            "BinaryCrossentropy of logits",
            losses.BinaryCrossentropy(from_logits=True),
            lambda y, z: plain_entropy(y, ops.sigmoid(z)),
            bce_logits,
        ),
        (
            "BinaryFocal of logits",
            losses.BinaryFocal(from_logits=True),
            lambda y, z: plain_focal(y, ops.sigmoid(z)),
            focal_logits,
        ),
        ("BoundaryF1", losses.BoundaryF1(), notebook_boundary, None),
        ("BoundaryF1 average", losses.BoundaryF1(pooling="average"), notebook_boundary, None),
    ]
    for classes in (1, 4, 21):
        for name, ours, plain, theirs in per_class:
            yield f"{name}, C={classes}", classes, ours, plain, theirs, False
    yield "Dice of labels, C=150", 150, losses.Dice(), one_hot_dice, None, True


def step(loss):
    @tf.function
    def run(y, p):
        with tf.GradientTape() as tape:
            tape.watch(p)
            value = ops.mean(loss(y, p))
        slope = tape.gradient(value, p)
        return value, slope[0, 0, 0, 0]  # one number: copying the gradient is no part of a step

    return run


def inputs(classes, size, labels):
    rng = np.random.default_rng(0)
    shape = (1, 512, 512) if labels else (8, size, size)
    p = tf.constant(rng.random((*shape, classes), "float32"))  # leaves no freed TensorFlow buffer
    if labels:
        return tf.constant(rng.integers(0, classes, shape), "int32"), p
    return tf.cast(rng.random((*shape, classes)) > 0.5, "float32"), p


def race(functions, arguments, rounds):
    compiled = [step(function) for function in functions]
    for function in compiled:
        float(function(*arguments)[1])
    times = np.zeros((rounds, len(compiled)))
    for row in times:
        for k, function in enumerate(compiled):
            start = time.perf_counter()
            float(function(*arguments)[1])
            row[k] = time.perf_counter() - start
    return times


def peak_memory(which):
    """Prints the MiB that one step adds to the inputs, of this process's largest size."""

    def status(key):
        with open("/proc/self/status") as lines:
            return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024

    y, p = inputs(150, 512, labels=True)
    loss = losses.Dice() if which == "segzoo" else one_hot_dice
    small = tf.constant(y[:, :16, :16]), tf.constant(p[:, :16, :16])

    @tf.function(reduce_retracing=False)
    def run(y, p):
        with tf.GradientTape() as tape:
            tape.watch(p)
            value = loss(y, p)
        return tape.gradient(value, p)

    run(*small)
    run.get_concrete_function(y, p)
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what the inputs left behind is no part of the step
    with open("/proc/self/clear_refs", "w") as reset:
        reset.write("5")
    before = status("VmRSS")
    slope = run(y, p)
    print(f"{status('VmHWM') - before:.0f} {float(slope[0, 0, 0, 0]):g}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--only", default="", help="run the cases whose name has this in it")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--peak-of", choices=["segzoo", "plain"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak_of:
        return peak_memory(options.peak_of)
    if options.memory:
        print("| Dice of labels, 1x512x512x150 | MiB added by a step |\n| --- | --- |")
        for which in ("segzoo", "plain"):
            command = [sys.executable, __file__, "--peak-of", which]
            result = subprocess.run(command, capture_output=True, text=True, check=True)
            print(f"| {which} | {result.stdout.split()[0]} |")
        return None
    print("| case | segzoo ms | plain ms | plain / segzoo | keras ms | keras / segzoo |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, classes, ours, plain, theirs, labels in cases():
        if options.only not in name:
            continue
        functions = [ours, plain] + ([theirs] if theirs else [])
        times = race(functions, inputs(classes, options.size, labels), options.rounds)
        middle = np.median(times, axis=0) * 1e3
        ratios = np.median(times[:, 1:] / times[:, :1], axis=0)
        row = [name, f"{middle[0]:.2f}"]
        for k, ratio in enumerate(ratios):
            row += [f"{middle[k + 1]:.2f}", f"{ratio:.2f}"]
        print("| " + " | ".join(row + [""] * (6 - len(row))) + " |", flush=True)
    return None


if __name__ == "__main__":
    main()
