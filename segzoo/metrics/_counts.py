"""From a batch of targets and predictions to decisions, and from decisions to counts.

Counts are made image by image, in int32 where no pixel has a weight, so that a metric can sum
them, weigh them by image, or score each image before it goes on.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from keras import ops

from segzoo import _targets
from segzoo._overlap import sum_columns
from segzoo.metrics._counters import wide_dtype


class Batch(NamedTuple):
    """One batch, read: what is true, what was predicted, what counts, and how much."""

    truth: Any  # dense: (B, H, W, C) booleans; exclusive: (B, H, W) int32, -1 for no class
    scores: Any  # (B, H, W, C) probabilities; exclusive: any scores whose largest wins
    valid: Any  # None, (B, H, W, 1) or (B, H, W, C) booleans
    image_weights: Any  # None or (B,)
    pixel_weights: Any  # None or (B, H, W, 1)


class Tally(NamedTuple):
    """Pixel counts per class, of any one shape: (C,), (B, C) or (B, C, thresholds)."""

    tp: Any
    predicted: Any
    actual: Any
    tn: Any


def read_batch(
    y_true: Any,
    y_pred: Any,
    sample_weight: Any = None,
    *,
    ignored: tuple[int, ...] = (),
    from_logits: bool = False,
    multilabel: bool = False,
    channels: bool = False,
) -> Batch:
    """Returns a `Batch`; `channels` asks for a mask per channel of exclusive classes too."""
    y_true, y_pred = _targets.standardize(y_true, y_pred, ignored)
    classes = y_pred.shape[-1]
    exclusive = classes > 1 and not multilabel
    valid = _targets.valid_mask(y_true, classes, ignored, exclusive=exclusive)
    if exclusive and not channels:
        truth = _targets.label_targets(y_true, classes)
    else:
        truth = _targets.dense_targets(y_true, classes, valid) >= 0.5
        y_pred = _targets.probabilities(y_pred, from_logits, multilabel)
    image_weights = pixel_weights = None
    if sample_weight is not None:
        sample_weight = ops.convert_to_tensor(sample_weight)
        weights = _targets.pixel_weights(sample_weight, y_pred)
        weights = ops.cast(weights, wide_dtype())
        if len(sample_weight.shape) > 1:
            pixel_weights = weights
        else:
            batch = ops.shape(y_pred)[0]
            image_weights = ops.broadcast_to(ops.reshape(weights, (-1,)), (batch,))
    return Batch(truth, y_pred, valid, image_weights, pixel_weights)


def count_confusion(batch: Batch) -> Any:
    """Returns (B, 1 + C, C) counts of (truth, prediction); the first row is truth of no class.

    The pairs are numbered and the numbers counted, which is cheaper than one-hot matrices, on a
    CPU and under XLA, from four classes on.
    """
    classes = batch.scores.shape[-1]
    pairs = batch.truth * classes + _targets.largest_class(batch.scores)  # no class: below 0
    if batch.valid is not None:  # one more row for the pixels that count nowhere
        pairs = ops.where(ops.squeeze(batch.valid, -1), pairs, classes * classes)
    limit = (classes + 2) * classes
    counts = count_numbers(pairs, limit, batch.pixel_weights, shift=classes)
    return ops.reshape(counts, (-1, classes + 2, classes))[:, : classes + 1]


def count_numbers(numbers: Any, limit: int, pixel_weights: Any = None, shift: int = 0) -> Any:
    """Returns how often each of 0 .. limit - 1 occurs in each image: (B, H, W, ...) to (B, limit).

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
    counts = ops.segment_sum(
        ops.reshape(amounts, (-1,)), ops.reshape(numbers, (-1,)), num_segments=images * limit
    )
    return ops.reshape(counts, (-1, limit))


def tally_of_confusion(confusion: Any) -> Tally:
    """Returns the classes' counts, (B, C), of (B, 1 + C, C) from `count_confusion`.

    `tn` is 0: a pixel has one class, and its label is right once, not once for every other class.
    """
    square = confusion[:, 1:]
    tp = ops.diagonal(square, axis1=1, axis2=2)
    return Tally(tp, ops.sum(confusion, axis=1), ops.sum(square, axis=2), ops.zeros_like(tp))


def tally_masks(batch: Batch, threshold: float) -> Tally:
    """Returns each channel's counts, (B, C): a pixel is positive above `threshold`."""
    truth, guess = batch.truth, above(batch.scores, threshold)
    if batch.valid is None:
        counted = ops.ones_like(truth)
    else:
        counted = ops.broadcast_to(batch.valid, ops.shape(truth))
        guess = ops.logical_and(guess, counted)
    tp = sum_pixels(ops.logical_and(truth, guess), batch.pixel_weights)
    predicted = sum_pixels(guess, batch.pixel_weights)
    actual = sum_pixels(truth, batch.pixel_weights)
    pixels = sum_pixels(counted, batch.pixel_weights)
    return Tally(tp, predicted, actual, pixels - predicted - actual + tp)


def above(probabilities: Any, threshold: float) -> Any:
    """Returns where a probability exceeds the threshold, in the precision of the probability."""
    return probabilities > ops.cast(threshold, probabilities.dtype)


def sum_images(values: Any, image_weights: Any = None) -> Any:
    """Returns the (weighted) sum over the images: (B, ...) to (...)."""
    if image_weights is None:
        return ops.sum(values, axis=0)
    weights = ops.reshape(image_weights, (-1,) + (1,) * (len(values.shape) - 1))
    return ops.sum(ops.cast(values, weights.dtype) * weights, axis=0)


def sum_pixels(mask: Any, pixel_weights: Any = None) -> Any:
    """Returns the (weighted) number of pixels in each image and channel: (B, C)."""
    if pixel_weights is None:
        columns = sum_columns(ops.cast(mask, "float32"))  # whole numbers up to H: exact
        return ops.sum(ops.cast(columns, "int32"), axis=1)
    return ops.sum(ops.cast(mask, pixel_weights.dtype) * pixel_weights, axis=(1, 2))
