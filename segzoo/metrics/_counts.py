"""From a batch to decisions, and from decisions to counts.

Counts are made image by image, in int32 where no pixel has a weight, so that a metric can sum
them, weigh them by image, or score each image before it goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import ops

from segzoo._counts import Counts
from segzoo._numerics import segment_sum, sum_columns
from segzoo._reading import Batch
from segzoo._targets import largest_class

Threshold = float | Sequence[float]


def hard_counts(batch: Batch, threshold: Threshold) -> Counts:
    """Return the counts (B, C): the largest score decides, or those above a threshold."""
    if batch.kind == "exclusive":
        return counts_of_confusion(count_confusion(batch))
    return count_masks(batch, threshold)


def count_confusion(batch: Batch) -> Any:
    """Return (B, 1 + C, C) counts of (truth, prediction); the first row is truth of no class.

    The pairs are numbered and the numbers counted, which is cheaper than one-hot matrices, on a
    CPU and under XLA, from four classes on.
    """
    classes = batch.classes
    pairs = batch.labels() * classes + largest_class(batch.scores)  # no class: below 0
    if batch.valid is not None:  # one more row for the pixels that count nowhere
        pairs = ops.where(ops.squeeze(batch.valid, -1), pairs, classes * classes)
    limit = (classes + 2) * classes
    counts = count_numbers(pairs, limit, batch.pixel_weights, shift=classes)
    return ops.reshape(counts, (-1, classes + 2, classes))[:, : classes + 1]


def counts_of_confusion(confusion: Any) -> Counts:
    """Return the classes' counts, (B, C), of (B, 1 + C, C) from `count_confusion`."""
    square = confusion[:, 1:]
    tp = ops.diagonal(square, axis1=1, axis2=2)
    fp, fn = ops.sum(confusion, axis=1) - tp, ops.sum(square, axis=2) - tp
    total = ops.sum(confusion, axis=(1, 2))
    return Counts(tp, fp, fn, ops.expand_dims(total, -1) * ops.ones_like(tp))


def count_masks(batch: Batch, threshold: Threshold) -> Counts:
    """Return each channel's counts, (B, C): a pixel is positive above its threshold."""
    truth, guess = true_masks(batch), above(batch.probabilities(), threshold)
    if batch.valid is None:
        counted = ops.ones_like(truth)
    else:
        counted = ops.broadcast_to(batch.valid, ops.shape(truth))
        guess = ops.logical_and(guess, counted)
    tp, predicted, actual, total = (
        sum_pixels(mask, batch.pixel_weights)
        for mask in (ops.logical_and(truth, guess), guess, truth, counted)
    )
    return Counts(tp, predicted - tp, actual - tp, total)


def true_masks(batch: Batch) -> Any:
    """Return the truth as booleans (B, H, W, C), false where ignored."""
    return batch.dense() >= 0.5


def above(probabilities: Any, threshold: Threshold) -> Any:
    """Return where a probability exceeds its threshold, in the precision of the probability."""
    return probabilities > ops.convert_to_tensor(threshold, dtype=probabilities.dtype)


def count_numbers(numbers: Any, limit: int, pixel_weights: Any = None, shift: int = 0) -> Any:
    """Return how often each of 0 .. limit - 1 occurs in each image: (B, H, W, ...) to (B, limit).

    A segment for each image keeps the threads of a CPU apart, which makes it fast. `shift` is added
    to the numbers first.
    """
    images = ops.shape(numbers)[0]
    offsets = ops.arange(images, dtype="int32") * limit + shift
    numbers = numbers + ops.reshape(offsets, (-1,) + (1,) * (len(numbers.shape) - 1))
    if pixel_weights is None:
        amounts = ops.ones_like(numbers)
    else:
        if len(numbers.shape) == 3:
            pixel_weights = ops.squeeze(pixel_weights, -1)
        amounts = ops.broadcast_to(pixel_weights, ops.shape(numbers))
    return ops.reshape(segment_sum(amounts, numbers, images * limit), (images, limit))


def sum_images(values: Any, image_weights: Any = None) -> Any:
    """Return the (weighted) sum over the images: (B, ...) to (...)."""
    if image_weights is None:
        return ops.sum(values, axis=0)
    weights = ops.reshape(image_weights, (-1,) + (1,) * (len(values.shape) - 1))
    return ops.sum(ops.cast(values, weights.dtype) * weights, axis=0)


def sum_pixels(mask: Any, pixel_weights: Any = None) -> Any:
    """Return the (weighted) number of pixels in each image and channel: (B, C)."""
    if pixel_weights is None:
        columns = sum_columns(ops.cast(mask, "float32"))  # whole numbers up to H: exact
        return ops.sum(ops.cast(columns, "int32"), axis=1)
    return ops.sum(ops.cast(mask, pixel_weights.dtype) * pixel_weights, axis=(1, 2))
