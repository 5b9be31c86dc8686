"""The losses in float64 NumPy, written from the papers, one class and pixel at a time where clear.

`y` is dense (B, H, W, C), `p` are probabilities, `w` are pixel weights (B, H, W) or `None`.
"""

import itertools
import math

import numpy as np
from scipy import ndimage

EPS = 1e-7


def groups(y, p, w, per_image):
    """Yields (y, p, w) of shape (N, C) for each image, or once for the batch."""
    w = np.ones(y.shape[:3]) if w is None else np.broadcast_to(w, y.shape[:3])
    classes = y.shape[-1]
    for one in range(len(y)) if per_image else [slice(None)]:
        yield y[one].reshape(-1, classes), p[one].reshape(-1, classes), w[one].reshape(-1)


def counts(y, p, w):
    """Counts whose extreme is at p = y for soft targets too (arXiv 2302.05666)."""
    tp = math.fsum(w * np.minimum(y, p))
    fp = math.fsum(w * np.maximum(p - y, 0))
    fn = math.fsum(w * np.maximum(y - p, 0))
    tn = math.fsum(w * np.minimum(1 - y, 1 - p))
    return tp, fp, fn, tn


def region(score, y, p, w=None, per_image=False, average="macro", class_weights=None):
    """Returns the mean loss of `score(tp, fp, fn, tn)`, with the batch as one or by image."""
    results = []
    for y_, p_, w_ in groups(y, p, w, per_image):
        each = [counts(y_[:, c], p_[:, c], w_) for c in range(y.shape[-1])]
        if average == "micro":
            results.append(score(*np.sum(each, axis=0)))
        else:
            weights = class_weights or [1] * len(each)
            total = sum(k * score(*c) for k, c in zip(weights, each, strict=True))
            results.append(total / sum(weights))
    return np.mean(results)


def dice(tp, fp, fn, tn, smooth=1.0):
    return 1 - (2 * tp + smooth) / (2 * tp + fp + fn + smooth)


def jaccard(tp, fp, fn, tn, smooth=1.0):
    return 1 - (tp + smooth) / (tp + fp + fn + smooth)


def tversky(tp, fp, fn, tn, alpha=0.3, beta=0.7, smooth=1.0):
    return 1 - (tp + smooth) / (tp + alpha * fp + beta * fn + smooth)


def focal_tversky(tp, fp, fn, tn, alpha=0.3, beta=0.7, gamma=0.75, smooth=1.0):
    return tversky(tp, fp, fn, tn, alpha, beta, smooth) ** gamma


def log_cosh_dice(tp, fp, fn, tn, smooth=1.0):
    return math.log(math.cosh(dice(tp, fp, fn, tn, smooth)))


def mcc(tp, fp, fn, tn, smooth=1.0):
    tp, tn = tp + smooth, tn + smooth
    return 1 - (tp * tn - fp * fn) / math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))


def generalized_dice(y, p, w=None, per_image=False, smooth=1.0):
    results = []
    for y_, p_, w_ in groups(y, p, w, per_image):
        each = [counts(y_[:, c], p_[:, c], w_) for c in range(y.shape[-1])]
        areas = [tp + fn for tp, _, fn, _ in each]
        smallest = min([a for a in areas if a > 0], default=1.0)
        weights = [(smallest / a) ** 2 if a > 0 else 1.0 for a in areas]
        overlap = sum(k * 2 * tp for k, (tp, *_) in zip(weights, each, strict=True))
        sizes = sum(
            k * (2 * tp + fp + fn) for k, (tp, fp, fn, _) in zip(weights, each, strict=True)
        )
        results.append(1 - (overlap + smooth) / (sizes + smooth))
    return np.mean(results)


def pixel_mean(values, w=None, valid=None, class_share=None):
    """Returns sum(w values) / number of valid pixels, or / their class weights."""
    valid = np.ones(values.shape) if valid is None else valid
    w = np.ones(values.shape) if w is None else np.broadcast_to(w, values.shape)
    divisor = np.sum(valid if class_share is None else class_share * valid)
    return np.sum(values * w * valid) / divisor if divisor else 0.0


def binary_crossentropy(y, p, class_weights=None, label_smoothing=0.0, **mean):
    y = y * (1 - label_smoothing) + 0.5 * label_smoothing
    each = -y * np.log(np.maximum(p, EPS)) - (1 - y) * np.log(np.maximum(1 - p, EPS))
    return pixel_mean(np.average(each, axis=-1, weights=class_weights), **mean)


def binary_focal(y, p, gamma=2.0, alpha=0.25, class_weights=None, label_smoothing=0.0, **mean):
    y = y * (1 - label_smoothing) + 0.5 * label_smoothing
    front, back = (1, 1) if alpha is None else (alpha, 1 - alpha)
    each = -front * y * (1 - p) ** gamma * np.log(np.maximum(p, EPS))
    each = each - back * (1 - y) * p**gamma * np.log(np.maximum(1 - p, EPS))
    return pixel_mean(np.average(each, axis=-1, weights=class_weights), **mean)


def categorical_focal(
    y, p, gamma=2.0, alpha=1.0, class_weights=None, label_smoothing=0.0, w=None, valid=None
):
    k = np.ones(y.shape[-1]) if class_weights is None else np.asarray(class_weights)
    soft = y * (1 - label_smoothing) + label_smoothing / y.shape[-1]
    each = -alpha * k * soft * (1 - p) ** gamma * np.log(np.maximum(p, EPS))
    share = None if class_weights is None else np.sum(k * y, axis=-1)
    return pixel_mean(each.sum(axis=-1), w, valid, share)


def categorical_crossentropy(y, p, **arguments):
    return categorical_focal(y, p, gamma=0.0, **arguments)


def ohem(y, p, valid=None, threshold=0.7, min_kept=0.0625):
    """The mean cross-entropy of the hard pixels, by a sort."""
    valid = np.ones(y.shape[:3], bool) if valid is None else valid > 0
    side = (y * p).sum(axis=-1)
    kept = valid & (side < threshold)
    wanted = math.ceil(min_kept * valid.sum())
    if wanted:
        kept |= valid & (side <= np.sort(side[valid])[wanted - 1])
    return categorical_crossentropy(y, p, valid=kept.astype(float))


def signed_distance(y, valid=None, spacing=(1, 1)):
    """The distance of every pixel to the nearest on the other side, among all pairs of pixels."""
    valid = np.ones(y.shape[:3], bool) if valid is None else valid.astype(bool)
    places = np.stack(np.meshgrid(*map(np.arange, y.shape[1:3]), indexing="ij"), -1) * spacing
    result = np.zeros(y.shape)
    for b, c in itertools.product(range(y.shape[0]), range(y.shape[-1])):
        inside = valid[b] & (y[b, ..., c] > 0.5)
        outside = valid[b] & ~inside
        if inside.any() and outside.any():
            apart = places[:, :, None] - places[inside], places[:, :, None] - places[outside]
            to_class, to_rest = (np.sqrt((d**2).sum(-1)).min(-1) for d in apart)
            result[b, ..., c] = np.where(inside, -to_rest, to_class) * valid[b]
    return result


def boundary_distance(y, p, w=None, valid=None, class_weights=None):
    each = np.average(p * signed_distance(y, valid), axis=-1, weights=class_weights)
    return pixel_mean(each, w, valid)


def skeleton_recall(y, p, w=None, per_image=False, class_weights=None, smooth=1.0):
    results = []
    for y_, p_, w_ in groups(y, p, w, per_image):
        total = weight = 0.0
        for c in range(y.shape[-1]):
            length = math.fsum(w_ * y_[:, c])
            if length:
                found = math.fsum(w_ * np.minimum(y_[:, c], p_[:, c]))
                k = 1 if class_weights is None else class_weights[c]
                total += k * (1 - (found + smooth) / (length + smooth))
                weight += k
        results.append(total / weight if weight else 0.0)
    return np.mean(results)


def jaccard_of_errors(wrong, truth):
    """Returns the set function: 1 - |truth minus wrong| / |truth united with wrong|."""
    union = np.sum(truth | wrong)
    return 1 - np.sum(truth & ~wrong) / union if union else 0.0


def lovasz_extension(errors, truth):
    """Returns the Lovász extension by its definition: the set function along the sorted errors."""
    truth = truth.astype(bool)
    order = np.argsort(-errors, kind="stable")
    wrong, value, before = np.zeros(len(truth), bool), 0.0, 0.0
    for index in order:
        wrong[index] = True
        now = jaccard_of_errors(wrong, truth)
        value += max(errors[index], 0.0) * (now - before)
        before = now
    return value


def lovasz_hinge(y, logits, valid=None, per_image=False):
    results = []
    for y_, z_, v_ in groups(y, logits, valid, per_image):
        kept = v_ > 0
        each = []
        for c in range(y.shape[-1]):
            truth, z = y_[kept, c] >= 0.5, z_[kept, c]
            each.append(lovasz_extension(1 - z * np.where(truth, 1, -1), truth))
        results.append(np.mean(each))
    return np.mean(results)


def lovasz_softmax(y, p, valid=None, per_image=False):
    results = []
    for y_, p_, v_ in groups(y, p, valid, per_image):
        kept = v_ > 0
        each = [
            lovasz_extension(np.abs(y_[kept, c] - p_[kept, c]), y_[kept, c] >= 0.5)
            for c in range(y.shape[-1])
            if y_[kept, c].any()
        ]
        results.append(np.mean(each) if each else 0.0)
    return np.mean(results)


def window(x, size, reduce):
    """Returns `reduce` over a square window of each pixel, cut off at the edges: plain loops."""
    out, r = np.empty_like(x), size // 2
    height, width = x.shape
    for i, j in itertools.product(range(height), range(width)):
        out[i, j] = reduce(x[max(i - r, 0) : i + r + 1, max(j - r, 0) : j + r + 1])
    return out


def f1_loss(per_class, smooth):
    """Returns the mean of 1 - F1 over classes of (matched_pred, pred, matched_true, true)."""
    losses = []
    for matched_pred, pred, matched_true, true in per_class:
        precision = (matched_pred + smooth) / (pred + smooth)
        recall = (matched_true + smooth) / (true + smooth)
        losses.append(1 - 2 * precision * recall / (precision + recall))
    return np.mean(losses)


def _shape_loss(measure, y, p, per_image, smooth):
    sums = np.array(
        [
            [measure(y[b, ..., c], p[b, ..., c]) for c in range(y.shape[-1])]
            for b in range(y.shape[0])
        ]
    )
    if per_image:
        return np.mean([f1_loss(image, smooth) for image in sums])
    return f1_loss(sums.sum(axis=0), smooth)


def boundary_f1(y, p, width=3, tolerance=2, pooling="max", per_image=False, smooth=1e-7):
    reduce = np.max if pooling == "max" else np.mean

    def measure(truth, pred):
        b_true = window(1 - truth, width, np.max) - (1 - truth)
        b_pred = window(1 - pred, width, np.max) - (1 - pred)
        near_true = window(b_true, 2 * tolerance + 1, reduce)
        near_pred = window(b_pred, 2 * tolerance + 1, reduce)
        return [(b_pred * near_true).sum(), b_pred.sum(), (b_true * near_pred).sum(), b_true.sum()]

    return _shape_loss(measure, y, p, per_image, smooth)


def soft_skeleton(x, iterations):
    def lower(a):
        return ndimage.minimum_filter(a, 3, mode="nearest")

    def opened(a):
        return ndimage.maximum_filter(lower(a), 3, mode="nearest")

    skeleton = np.maximum(x - opened(x), 0)
    for _ in range(iterations):
        x = lower(x)
        delta = np.maximum(x - opened(x), 0)
        skeleton = skeleton + (1 - skeleton) * delta
    return skeleton


def centerline_dice(y, p, iterations=5, per_image=False, smooth=1.0):
    def measure(truth, pred):
        s_true, s_pred = soft_skeleton(truth, iterations), soft_skeleton(pred, iterations)
        return [(s_pred * truth).sum(), s_pred.sum(), (s_true * pred).sum(), s_true.sum()]

    return _shape_loss(measure, y, p, per_image, smooth)


def softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def sigmoid(z):
    return np.exp(-np.logaddexp(0, -z))
