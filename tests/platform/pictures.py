"""Images and masks that a network can learn something from."""

import numpy as np


def images(count: int = 1, size: tuple[int, int] = (47, 63), seed: int = 0) -> np.ndarray:
    """Smooth random images in 0..255."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (count, size[0] // 8 + 1, size[1] // 8 + 1, 3))
    fine = coarse.repeat(8, axis=1).repeat(8, axis=2)[:, : size[0], : size[1]]
    return (0.8 * fine + rng.uniform(0, 51, fine.shape)).astype("float32")


def labels(count: int, size: tuple[int, int] = (47, 63), classes: int = 3) -> np.ndarray:
    """Class numbers that an image of `images` explains: by its first channel's brightness."""
    red = images(count, size)[..., 0]
    return np.clip(red // (256 / classes), 0, classes - 1).astype("int32")
