"""The layer that makes a backbone's own input normalization a part of the graph."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable(package="segzoo.layers")
class ImageNormalization(keras.layers.Layer):
    """Normalize an image in 0..255 to what a pretrained network was trained on.

    `output = (image - mean) / std`, channel by channel. The first three channels are red, green
    and blue; every channel beyond them, and every channel of an image with fewer than three, is
    normalized with the mean of the three statistics.

    The math is float32 under mixed precision too, because float16 and bfloat16 images lose detail
    when the mean is subtracted in their own type; the result has the layer's compute type.

    Args:
        mean: one number or three (red, green, blue), in units of the image. Defaults to 0.
        std: one number or three, above 0. Defaults to 1.
        reverse_channels: bool, whether RGB becomes BGR, as networks converted from Caffe expect.
            Images with another number of channels keep their order. Defaults to False.
        constant_channel: whether a plane of ones is appended, or how many. A convolution after it
            can then carry a constant that vanishes on its zero padding, which a bias cannot (see
            `segzoo.backbones`). Defaults to False.
        **kwargs: further arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: image (B, H, W, C) of any integer or floating type.

    Returns:
        Tensor (B, H, W, C), or (B, H, W, C + 1) with a constant channel.

    Raises:
        ValueError: if `mean` or `std` is neither one number nor three, or `std` is not positive.

    Example:
        >>> import numpy as np
        >>> from segzoo.layers import ImageNormalization
        >>> layer = ImageNormalization(mean=127.5, std=127.5)
        >>> image = np.array([[[[0, 51, 255]]]], dtype="uint8")
        >>> [round(float(v), 3) for v in layer(image)[0, 0, 0]]
        [-1.0, -0.6, 1.0]
    """

    def __init__(
        self,
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        reverse_channels: bool = False,
        constant_channel: bool | int = False,
        **kwargs: Any,
    ):
        # Without this Keras would round the image to the compute type before `call` sees it.
        super().__init__(autocast=False, **kwargs)
        self.mean = _statistic("mean", mean)
        self.std = _statistic("std", std)
        if np.min(std) <= 0:
            raise ValueError(f"`std` must be > 0, received std={std}")
        self.reverse_channels = reverse_channels
        self.constant_channel = constant_channel

    def build(self, input_shape):
        """Note the number of channels."""
        self._channels = input_shape[-1]

    def call(self, inputs):
        """Normalize a batch of images."""
        dtype = keras.backend.result_type(self.compute_dtype, "float32")
        channels = inputs.shape[-1]
        if channels != self._channels:  # None where Keras traces after both numbers were fed
            raise ValueError(
                f"the images must have {self._channels} channel{'s' * (self._channels != 1)}, as "
                "the model was built for; "
                f"received images of shape {tuple(inputs.shape)}"
            )
        x = ops.cast(inputs, dtype)
        x = x - ops.convert_to_tensor(per_channel(self.mean, channels), dtype)
        x = x / ops.convert_to_tensor(per_channel(self.std, channels), dtype)
        if self.reverse_channels and channels == 3:
            x = ops.flip(x, axis=-1)
        if self.constant_channel:
            ones = ops.ones_like(x[..., :1])
            x = ops.concatenate([x] + [ones] * int(self.constant_channel), axis=-1)
        return ops.cast(x, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        """Return the shape of the normalized image."""
        return (*input_shape[:-1], input_shape[-1] + int(self.constant_channel))

    def get_config(self):
        """Return the arguments of the constructor."""
        return {
            **super().get_config(),
            "mean": self.mean,
            "std": self.std,
            "reverse_channels": self.reverse_channels,
            "constant_channel": self.constant_channel,
        }


def _statistic(name: str, value: float | Sequence[float]) -> float | tuple[float, ...]:
    values = tuple(float(number) for number in np.ravel(value))
    if len(values) not in (1, 3):
        raise ValueError(
            f"`{name}` must be one number or three (red, green, blue), received {name}={value}"
        )
    return values if len(values) == 3 else values[0]


def per_channel(statistic: float | Sequence[float], channels: int) -> np.ndarray:
    """Return one value per channel: red, green, blue as given, every other one their mean.

    Args:
        statistic: one number or three.
        channels: number of channels.

    Returns:
        Array of shape (channels,).

    Example:
        >>> per_channel((1.0, 2.0, 6.0), 4).tolist()
        [1.0, 2.0, 6.0, 3.0]
        >>> per_channel((1.0, 2.0, 6.0), 1).tolist()
        [3.0]
    """
    rgb = np.broadcast_to(np.asarray(statistic, dtype="float64"), (3,))
    values = np.full(channels, rgb.mean())
    if channels >= 3:
        values[:3] = rgb
    return values
