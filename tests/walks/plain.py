"""What the walks share, in NumPy alone: pictures with objects in them, and scores of masks."""

import numpy as np


def objects(count, size, classes, rng, each=3):
    """Pictures (N, H, W, 3) in 0..1 of discs on a dark ground, and their labels (N, H, W).

    The ground is class 0; a disc of class k has a color of its own, under noise.
    """
    rows, columns = np.mgrid[: size[0], : size[1]]
    colors = np.array([(0.2, 0.2, 0.2), (0.8, 0.3, 0.3), (0.3, 0.8, 0.3), (0.3, 0.3, 0.8)])
    labels = np.zeros((count, *size), "uint8")
    for picture in labels:
        for _ in range(each):
            y, x, radius = (
                rng.integers(6, size[0] - 6),
                rng.integers(6, size[1] - 6),
                rng.uniform(4, 9),
            )
            picture[(rows - y) ** 2 + (columns - x) ** 2 < radius**2] = rng.integers(1, classes)
    images = colors[labels] + rng.normal(0, 0.08, (*labels.shape, 3))
    return images.clip(0, 1).astype("float32"), labels


def counted(truth, guess):
    """True positives, false positives, false negatives of two boolean arrays of one shape."""
    return (truth & guess).sum(), (~truth & guess).sum(), (truth & ~guess).sum()


def iou(truth, guess, empty=np.nan):
    """Intersection over union of two boolean arrays."""
    tp, fp, fn = counted(truth, guess)
    return tp / (tp + fp + fn) if tp + fp + fn else empty


def dice(truth, guess, empty=np.nan):
    """Twice the intersection over the sum of two boolean arrays."""
    tp, fp, fn = counted(truth, guess)
    return 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else empty
