"""What can be wrong with the images."""

from collections.abc import Iterator

import keras
import numpy as np

from segzoo.layers import ImageNormalization


def image_faults(model: keras.Model, images: list[np.ndarray]) -> list[str]:
    """The faults of all inputs."""
    faults = []
    for tensor, image in zip(model.inputs, images, strict=True):
        found = _faults(model, tuple(tensor.shape), image)
        faults += [f"{tensor.name}: {fault}" if len(images) > 1 else fault for fault in found]
    return faults


def describe(model: keras.Model, image: np.ndarray) -> str:
    """A line of the summary."""
    low, high = float(image.min()), float(image.max())
    raw = high > 10 and not any(map(_changes_range, _layers(model)))
    note = ", which the model takes as they are" if raw else ""
    return f"images {image.shape} {image.dtype}, values {low:.3g} to {high:.3g}{note}"


def _faults(model: keras.Model, shape: tuple[int | None, ...], x: np.ndarray) -> list[str]:
    if len(shape) != 4:
        return [] if x.ndim == len(shape) else [f"`x` must be {shape}, received shape {x.shape}"]
    height, width, channels = shape[1:]
    if x.ndim != 4 and not (x.ndim == 3 and channels == 1):
        one = "; a single image is a batch as `x[None]`" if x.ndim == 3 else ""
        return [f"`x` must be (B, H, W, {channels}), received shape {x.shape}{one}"]
    if x.size == 0:
        return [f"`x` is empty, received shape {x.shape}"]
    x = x if x.ndim == 4 else x[..., None]
    if x.shape[-1] != channels and x.shape[1] == channels:
        return [
            f"`x` has {x.shape[-1]} channels, the model takes {channels}; it is laid out "
            "(B, C, H, W): move its channels last"
        ]
    faults = []
    if x.shape[-1] != channels:
        faults.append(f"`x` has {x.shape[-1]} channels, the model takes {channels}")
    fixed = [(got, due) for got, due in zip(x.shape[1:3], (height, width), strict=True) if due]
    if any(got != due for got, due in fixed):
        faults.append(f"`x` is {x.shape[1]} x {x.shape[2]}, the model takes {height} x {width}")
    elif min(x.shape[1:3]) < 32 and any(layer.name == "levels" for layer in model.layers):
        faults.append(f"`x` is {x.shape[1]} x {x.shape[2]}, at least 32 x 32 is needed")
    values = x.astype("float64")
    if not np.isfinite(values).all():
        return [*faults, "`x` has NaN or infinite values"]
    low, high = values.min(), values.max()
    if any(map(_takes_bytes, _layers(model))) and (0 < high <= 1 or high > 255.5 or low < 0):
        faults.append(
            f"`x` has values {low:g} to {high:g}, but the model normalizes 0..255 by itself: give "
            "the image in 0..255, or build the model with `preprocessing=False`"
        )
    return faults


def _layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    for layer in model.layers:
        yield from _layers(layer) if isinstance(layer, keras.Model) else [layer]


def _takes_bytes(layer: keras.layers.Layer) -> bool:
    """Whether a layer normalizes 0..255, and not 0..1 or the 16 bits of a satellite."""
    if isinstance(layer, ImageNormalization):
        return 2 < np.max([*np.ravel(layer.mean), *np.ravel(layer.std)]) <= 255
    return isinstance(layer, keras.layers.Rescaling) and 0.9 < 255 * np.max(layer.scale) < 2.1


def _changes_range(layer: keras.layers.Layer) -> bool:
    own = (ImageNormalization, keras.layers.Rescaling, keras.layers.Normalization)
    return isinstance(layer, own)
