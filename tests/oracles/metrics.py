"""Metrics in plain NumPy loops over float64, written from the definitions."""

import math

import numpy as np


def decide(y_pred, threshold=0.5, multilabel=False):
    """Returns the decisions as masks (B, H, W, C), from probabilities."""
    classes = y_pred.shape[-1]
    if classes > 1 and not multilabel:
        return np.eye(classes, dtype=bool)[y_pred.argmax(axis=-1)]
    return y_pred > np.asarray(threshold, y_pred.dtype)


def masks(labels, classes):
    """Returns labels (B, H, W) as masks (B, H, W, C); a label that is no class is in none."""
    return np.stack([labels == c for c in range(classes)], axis=-1)


def count(truth, guess, weights=None):
    """Returns tp, predicted and actual of each class, of masks (N, C)."""
    weights = np.ones(len(truth)) if weights is None else weights
    hits = [
        [w for w, t, g in zip(weights, *channel, strict=True) if t and g]
        for channel in zip(truth.T, guess.T, strict=True)
    ]
    predicted = [weights[c].sum() for c in guess.T]
    actual = [weights[c].sum() for c in truth.T]
    tp = np.array([math.fsum(weights_hit) for weights_hit in hits])
    return tp, np.array(predicted, float), np.array(actual, float)


def class_score(score, tp, predicted, actual, beta=1.0, empty=math.nan):
    """Returns one class's score of its counts."""
    if predicted + actual == 0:
        return empty
    b2 = beta**2
    numerator, denominator = {
        "dice": (2 * tp, predicted + actual),
        "iou": (tp, predicted + actual - tp),
        "f_score": ((1 + b2) * tp, b2 * actual + predicted),
        "precision": (tp, predicted),
        "recall": (tp, actual),
    }[score]
    return numerator / denominator if denominator else 0.0


def streaming(
    score,
    truth,
    guess,
    *,
    average="macro",
    valid=None,
    pixel_weights=None,
    image_weights=None,
    class_weights=None,
    empty_score=None,
    beta=1.0,
):
    """Returns the score over a data set of masks (B, H, W, C)."""
    images, classes = truth.shape[0], truth.shape[-1]
    valid = np.ones(truth.shape[:3], bool) if valid is None else valid
    pixels = np.ones(truth.shape[:3]) if pixel_weights is None else pixel_weights
    per_image = np.ones(images) if image_weights is None else image_weights
    class_weights = np.ones(classes) if class_weights is None else np.asarray(class_weights, float)
    if average == "per_image":
        empty = 1.0 if empty_score is None else empty_score
        pairs = []
        for b in range(images):
            counts = count(truth[b][valid[b]], guess[b][valid[b]], pixels[b][valid[b]])
            for c, counted in enumerate(zip(*counts, strict=True)):
                value = class_score(score, *counted, beta=beta, empty=empty)
                if not math.isnan(value):
                    pairs.append((value, per_image[b] * class_weights[c]))
        return mean(pairs)
    empty = math.nan if empty_score is None else empty_score
    weights = pixels * per_image[:, None, None]
    tp, predicted, actual = count(truth[valid], guess[valid], weights[valid])
    if average == "micro":
        sums = [(class_weights * x).sum() for x in (tp, predicted, actual)]
        return class_score(score, *sums, beta=beta, empty=empty)
    scores = [
        class_score(score, *counted, beta=beta, empty=empty)
        for counted in zip(tp, predicted, actual, strict=True)
    ]
    if average is None:
        return scores
    if average == "weighted":
        if not (predicted + actual).any():
            return empty
        if not actual.any():
            return 0.0
        class_weights = class_weights * actual
    return mean([(s, w) for s, w in zip(scores, class_weights, strict=True) if not math.isnan(s)])


def mean(pairs):
    """Returns the mean of (value, weight) pairs, NaN without weight."""
    total = math.fsum(w for _, w in pairs)
    return math.fsum(v * w for v, w in pairs) / total if total else math.nan


def boundary(mask, valid=None):
    """Returns the pixels of `mask` with one of the 8 neighbors, in the image, not in it."""
    valid = np.ones(mask.shape, bool) if valid is None else valid
    result = np.zeros_like(mask)
    for i, j in np.argwhere(mask & valid):
        window = (slice(max(i - 1, 0), i + 2), slice(max(j - 1, 0), j + 2))
        result[i, j] = (~mask[window] & valid[window]).any()
    return result


def boundary_f1_counts(truth, guess, tolerance, valid=None):
    """Returns matched and all boundary pixels of guess and truth, (H, W) masks."""
    lines = boundary(guess, valid), boundary(truth, valid)
    matched = []
    for line, other in (lines, lines[::-1]):
        near = 0
        for i, j in np.argwhere(line):
            t = tolerance
            window = (slice(max(i - t, 0), i + t + 1), slice(max(j - t, 0), j + t + 1))
            near += other[window].any()
        matched.append(near)
    return matched[0], lines[0].sum(), matched[1], lines[1].sum()


def boundary_f1(truth, guess, tolerance, valid=None):
    """Returns the boundary F1 of masks (B, H, W), counts summed; NaN without any boundary."""
    valid = [None] * len(truth) if valid is None else valid
    counts = [
        boundary_f1_counts(t, g, tolerance, v) for t, g, v in zip(truth, guess, valid, strict=True)
    ]
    near_guess, guessed, near_truth, true = np.sum(counts, axis=0)
    if guessed + true == 0:
        return 0.0 if (truth != guess).any() else math.nan
    precision = near_guess / guessed if guessed else 0.0
    recall = near_truth / true if true else 0.0
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def boundary_region(mask, ratio):
    """Returns `mask` less its erosion, step by step, with a frame of zeros around the image."""
    steps = max(1, round(ratio * math.hypot(*mask.shape)))
    eroded = np.pad(mask, 1)
    for _ in range(steps):
        before = np.pad(eroded, 1)
        height, width = eroded.shape
        for i in range(3):
            for j in range(3):
                eroded = eroded & before[i : i + height, j : j + width]
    return mask & ~eroded[1:-1, 1:-1]


def boundary_iou(truth, guess, ratio):
    """Returns the boundary IoU of masks (B, H, W), counts summed."""
    both = either = 0
    for t, g in zip(truth, guess, strict=True):
        t, g = boundary_region(t, ratio), boundary_region(g, ratio)
        both, either = both + (t & g).sum(), either + (t | g).sum()
    return both / either if either else math.nan


def surface_distances(truth, guess, spacing):
    """Returns the distances of each surface's pixels to the other surface, all pairs compared."""

    def surface(mask):
        framed = np.pad(mask, 1)
        inside = mask.copy()
        for i, j in np.argwhere(mask):
            around = [
                framed[i, j + 1],
                framed[i + 2, j + 1],
                framed[i + 1, j],
                framed[i + 1, j + 2],
            ]
            inside[i, j] = all(around)
        return np.argwhere(mask & ~inside) * np.asarray(spacing, float)

    points = surface(truth), surface(guess)
    gaps = np.linalg.norm(points[0][:, None] - points[1][None], axis=-1)
    return gaps.min(axis=1), gaps.min(axis=0)
