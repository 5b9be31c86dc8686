"""Data, gradients and the oracle of every loss, for the loss tests."""

import keras
import numpy as np
import pytest
from keras import ops

from segzoo import losses
from segzoo._arguments import parameters
from tests.cases import LOSSES
from tests.oracles import losses as oracle

CLASSES = sorted(LOSSES)


def _those(choose):
    return {name for name, row in LOSSES.items() if choose(row)}


SEVERAL_ONLY = _those(lambda row: row.several)
SIGMOID = _those(lambda row: row.sigmoid)
REGION = _those(lambda row: row.kind == "region")
COUNTING = _those(lambda row: row.kind in ("region", "counts"))
PIXEL = _those(lambda row: row.kind == "pixel")
HARD = _those(lambda row: row.kind == "hard")
RECALL = _those(lambda row: row.kind == "recall")
MAP = _those(lambda row: row.kind == "map")
SHAPE = _those(lambda row: row.kind == "shape")


def region(score):
    return lambda y, p, **arguments: oracle.region(score, y, p, **arguments)


def _lovasz_hinge(y, p, **arguments):
    p = np.clip(p, 1e-7, 1 - 1e-7)
    return oracle.lovasz_hinge(y, np.log(p) - np.log1p(-p), **arguments)


ORACLES = {
    "Dice": region(oracle.dice),
    "Jaccard": region(oracle.jaccard),
    "Tversky": region(oracle.tversky),
    "FocalTversky": region(oracle.focal_tversky),
    "LogCoshDice": region(oracle.log_cosh_dice),
    "MCC": region(oracle.mcc),
    "GeneralizedDice": oracle.generalized_dice,
    "BinaryCrossentropy": oracle.binary_crossentropy,
    "BinaryFocal": oracle.binary_focal,
    "CategoricalCrossentropy": oracle.categorical_crossentropy,
    "CategoricalFocal": oracle.categorical_focal,
    "OHEM": oracle.ohem,
    "LovaszHinge": _lovasz_hinge,
    "LovaszSoftmax": oracle.lovasz_softmax,
    "BoundaryDistance": oracle.boundary_distance,
    "BoundaryF1": oracle.boundary_f1,
    "CenterlineDice": oracle.centerline_dice,
    "SkeletonRecall": oracle.skeleton_recall,
    "BCEDice": lambda y, p: oracle.binary_crossentropy(y, p) + oracle.region(oracle.dice, y, p),
}

_COUNTS = "exact sums of tp, fp, fn, tn and the paper's ratio"
_PIXELS = "the paper's sum over pixels"
_SORTED = "the Jaccard set function along the sorted errors"
ORACLE_NAMES = {
    **dict.fromkeys(COUNTING, _COUNTS),
    **dict.fromkeys(PIXEL, _PIXELS),
    "OHEM": "a sort of the pixels",
    "LovaszHinge": _SORTED,
    "LovaszSoftmax": _SORTED,
    "BoundaryDistance": "distances between all pairs of pixels",
    "BoundaryF1": "windows by plain loops",
    "CenterlineDice": "SciPy's minimum and maximum filters",
    "SkeletonRecall": _COUNTS,
    "BCEDice": "sum of its parts' oracles",
}


def make(name, /, **arguments):
    row, known = LOSSES[name], parameters(getattr(losses, name))
    arguments = {**row.arguments, **arguments}
    if row.inner:
        inside = {k: arguments.pop(k) for k in [*arguments] if k not in known}
        arguments["loss"] = make(row.inner, **inside)
    return getattr(losses, name)(**arguments)


def cases():
    """Every loss with every number of classes that it takes."""
    return [(name, c) for name in CLASSES for c in (1, 3) if c > 1 or name not in SEVERAL_ONLY]


def few(values, *quick, rest=(pytest.mark.slow,)):
    """Parameters for pytest: those of some losses by default, the `rest` in the slow tests."""
    names = [value if isinstance(value, str) else value[0] for value in values]
    marks = [[] if name in quick else list(rest) for name in names]
    parts = [[value] if isinstance(value, str) else value for value in values]
    return [pytest.param(*part, marks=mark) for part, mark in zip(parts, marks, strict=True)]


def data(classes, seed=0, shape=(2, 7, 5)):
    """Returns random labels, dense targets, and probabilities: float64 that float32 holds exactly.

    Blobs, not noise, so that boundaries and skeletons have something to find.
    """
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(*shape, max(classes, 2)))
    scores = (scores + np.roll(scores, 1, axis=1) + np.roll(scores, 1, axis=2)) * 2
    labels = scores.argmax(axis=-1)
    logits = 0.5 * scores + rng.normal(size=scores.shape) * 1.5
    if classes == 1:
        y, p = labels[..., None].astype("float64"), logits[..., 1:] - logits[..., :1]
        p = oracle.sigmoid(p)
    else:
        y, p = np.eye(classes)[labels], oracle.softmax(logits)
    return labels, y, p.astype("float32").astype("float64")


def to_logits(name, p):
    """Returns logits whose activation, the one `name` takes, gives `p`."""
    if p.shape[-1] == 1 or name in SIGMOID:
        return np.log(p) - np.log1p(-p)
    return np.log(p)


def value(x):
    return ops.convert_to_numpy(x)


class Map(np.ndarray):
    """A truth that is what the loss reads."""


def as_read(loss, y, classes):
    """Returns a mask as the loss reads it: itself, or the map of its distances."""
    if isinstance(y, Map) or not isinstance(loss, losses.BoundaryDistance):
        return y
    y = np.asarray(y)
    if classes > 1 and y.shape[-1] != classes:
        labels = y[..., 0] if y.ndim == 4 else y
        known = (labels >= 0) & (labels < classes)
        y = np.eye(classes)[np.where(known, labels, 0).astype(int)]
        y[~known] = 255
    y = y.reshape(*y.shape[:3], classes).astype("float64")
    known = ((y >= 0) & (y <= 1)).all(axis=-1)
    return oracle.signed_distance(y * known[..., None], known).astype("float32").view(Map)


def run(loss, y, p, sample_weight=None):
    """Returns the loss of `p` in float32 as a NumPy value."""
    weights = {} if sample_weight is None else {"sample_weight": sample_weight}
    y = as_read(loss, y, np.shape(p)[-1])
    return value(loss(y, np.asarray(p, "float32"), **weights))


def traced(loss, y, p, sample_weight=None, **options):
    """Returns what `gradient` does, from a compiled graph, where no value can be looked at.

    `options` are those of `tf.function`.
    """
    y = as_read(loss, y, np.shape(p)[-1])
    arguments = (y, p) if sample_weight is None else (y, p, sample_weight)
    arguments = tuple(np.asarray(x) for x in arguments)
    if keras.backend.backend() == "jax":
        import jax

        def scalar(p, y, *w):
            return loss(y, p, *w)

        result, slope = jax.jit(jax.value_and_grad(scalar))(p, y, *arguments[2:])
        return float(value(result)), value(slope)
    if keras.backend.backend() == "torch":  # has no graphs
        return gradient(loss, *arguments)
    import tensorflow as tf

    @tf.function(autograph=False, **options)
    def step(y, p, *w):
        with tf.GradientTape() as tape:
            tape.watch(p)
            result = loss(y, p, *w)
        return result, tape.gradient(result, p)

    result, slope = step(*map(tf.constant, arguments))
    return float(result), slope.numpy()


def gradient(loss, y, p, sample_weight=None):
    """Returns the value and the gradient with respect to the predictions, on any backend."""
    backend = keras.backend.backend()
    y, p = np.asarray(as_read(loss, y, np.shape(p)[-1])), np.asarray(p)
    arguments = () if sample_weight is None else (np.asarray(sample_weight),)
    if backend == "tensorflow":
        import tensorflow as tf

        x = tf.constant(p)
        with tf.GradientTape() as tape:
            tape.watch(x)
            result = loss(y, x, *arguments)
        slope = tape.gradient(result, x)
    elif backend == "jax":
        import jax

        result, slope = jax.value_and_grad(lambda x: loss(y, x, *arguments))(jax.numpy.asarray(p))
    else:
        import torch

        x = torch.tensor(p, requires_grad=True)
        result = loss(y, x, *arguments)
        result.backward()
        slope = x.grad
    return float(value(result)), value(slope)
