"""Fit a first convolution trained on RGB to images with another number of channels.

The RGB network sees `(c - mean_c) / std_c` for each color c. Let channel i of an image with N
channels stand for the colors with the shares `A[i, c]`, which add up to one over i, and let it be
normalized with `mean_i`, `std_i`. Then color c of the image is `sum_i A[i, c] x_i`, and what the
kernel `K_c` made of it is

    K_c (sum_i A[i, c] x_i - mean_c) / std_c
        = sum_i A[i, c] K_c std_i / std_c (x_i - mean_i) / std_i
        + sum_i A[i, c] K_c (mean_i - mean_c) / std_c

The first line is a kernel for channel i. The second is a constant of every tap of the kernel. It
cannot become a bias, because it must vanish where a tap meets zero padding; it is the kernel of
one more input channel that is all ones (`ImageNormalization(constant_channel=True)`), needed only
where the colors' means differ. Two channels get two such planes, the second without a say: with
one, the kernel would have three input channels, and a file of RGB would fit it by its shapes alone.
"""

from collections.abc import Callable, Iterator, Sequence

import keras
import numpy as np

from segzoo.layers.preprocessing import ImageNormalization, per_channel


def color_shares(channels: int) -> np.ndarray:
    """Return how much of each color (columns) each channel (rows) stands for.

    Fewer than three channels are shares of a gray image. More than three repeat red, green, blue,
    and the channels of one color share it, so that the scale of the response is kept.

    Args:
        channels: number of channels of the image.

    Returns:
        Array of shape (channels, 3), every column of which adds up to 1.

    Example:
        >>> color_shares(1).tolist()
        [[1.0, 1.0, 1.0]]
        >>> color_shares(4).tolist()
        [[0.5, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.5, 0.0, 0.0]]
    """
    if channels < 3:
        return np.full((channels, 3), 1.0 / channels)
    shares = np.eye(3)[np.arange(channels) % 3]
    return shares / shares.sum(axis=0)


def adapt_kernel(
    kernel: np.ndarray,
    channels: int,
    mean: float | Sequence[float] = 0.0,
    std: float | Sequence[float] = 1.0,
    constant_channel: bool | int = False,
) -> np.ndarray:
    """Turn the kernel of an RGB network's first convolution into one for `channels` channels.

    A gray image gives the response of the RGB network to that image in all three colors; so do
    an image that repeats gray in every channel and one that repeats red, green, blue.

    Args:
        kernel: (height, width, 3, filters), input channels in the order of `mean` and `std`.
        channels: number of channels of the image.
        mean: the normalization's mean, one number or three. Defaults to 0.
        std: the normalization's standard deviation, one number or three. Defaults to 1.
        constant_channel: whether the input has a plane of ones behind its channels, or how many.

    Returns:
        Array of shape (height, width, channels + constant_channel, filters), of the kernel's type.

    Example:
        >>> import numpy as np
        >>> kernel = np.arange(3.0).reshape(1, 1, 3, 1)
        >>> adapt_kernel(kernel, 1).ravel().tolist()
        [3.0]
        >>> adapt_kernel(kernel, 4).ravel().tolist()
        [0.0, 1.0, 2.0, 0.0]
    """
    shares = color_shares(channels)
    rgb_mean, rgb_std = per_channel(mean, 3), per_channel(std, 3)
    own_mean, own_std = per_channel(mean, channels), per_channel(std, channels)
    wide = kernel.astype("float64") / rgb_std[:, None]  # K_c / std_c
    adapted = np.einsum("hwcf,ic,i->hwif", wide, shares, own_std)
    if constant_channel:
        offsets = shares * (own_mean[:, None] - rgb_mean)  # (channels, 3)
        ones = np.einsum("hwcf,ic->hwf", wide, offsets)
        planes = np.zeros((*ones.shape[:2], int(constant_channel), ones.shape[2]))
        planes[:, :, 0] = ones
        adapted = np.concatenate([adapted, planes], axis=2)
    return adapted.astype(kernel.dtype)


def constant_planes(channels: int, mean: float | Sequence[float] = 0.0) -> int:
    """Return how many planes of ones an image needs behind its channels.

    Args:
        channels: number of channels of the image.
        mean: the normalization's mean, one number or three. Defaults to 0.

    Example:
        >>> [constant_planes(channels, (10.0, 20.0, 60.0)) for channels in (1, 2, 3, 4)]
        [1, 2, 0, 1]
    """
    needed = channels != 3 and np.ptp(mean) > 0
    return (2 if channels == 2 else 1) if needed else 0


def kernel_adapter(model: keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    """Return what fits the first kernel of a model of RGB images to `model`.

    Args:
        model: the same network for images with another number of channels. It normalizes them
            itself if an `ImageNormalization` is in it; otherwise the channels are taken as they
            are.
    """
    channels = model.inputs[0].shape[-1]
    found = next((x for x in _layers(model) if isinstance(x, ImageNormalization)), None)

    def adapt(kernel: np.ndarray) -> np.ndarray:
        if found is None:
            return adapt_kernel(kernel, channels)
        # The kernel's colors are in the order of the trained network, which is BGR for some.
        kernel = kernel[:, :, ::-1] if found.reverse_channels else kernel
        return adapt_kernel(kernel, channels, found.mean, found.std, found.constant_channel)

    return adapt


def _layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    for layer in model.layers:
        yield from _layers(layer) if isinstance(layer, keras.Model) else [layer]
