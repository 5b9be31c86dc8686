"""Pooling that Keras lacks: halving down to one row, a dilated window, a shift by a phase.

The latter two serve the à-trous form of a network (Chen et al. 2017, "Rethinking Atrous
Convolution for Semantic Image Segmentation", arXiv 1706.05587), in which a stride that was removed
becomes the spacing of every later window.
"""

from collections.abc import Iterable
from typing import Any

import keras
from keras import ops

from segzoo.layers._arguments import as_int, positive_int
from segzoo.layers.resize import size_of


@keras.saving.register_keras_serializable(package="segzoo.layers")
class DilatedPooling2D(keras.layers.Layer):
    """Maximum or mean over a window whose taps lie `dilation_rate` pixels apart, stride 1.

    The map keeps its size. An even window reaches further right and down than left and up, as
    Keras's 'same' padding has it without dilation. What lies outside does not count: it is never
    the maximum, and the mean divides by the number of taps inside.

    Args:
        pool_size: number of taps along height and width, an int >= 1 or two of them.
        dilation_rate: int >= 1, pixels from one tap to the next. Defaults to 1.
        mode: `"max"` or `"average"`. Defaults to `"max"`.
        **kwargs: further arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: tensor (B, H, W, C).

    Returns:
        Tensor (B, H, W, C).

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> import numpy as np
        >>> from segzoo.layers import DilatedPooling2D
        >>> x = np.arange(5, dtype="float32").reshape(1, 1, 5, 1)
        >>> DilatedPooling2D((1, 3), dilation_rate=2)(x)[0, 0, :, 0].numpy().tolist()
        [2.0, 3.0, 4.0, 3.0, 4.0]
    """

    def __init__(
        self,
        pool_size: int | tuple[int, int],
        dilation_rate: int = 1,
        mode: str = "max",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        given = pool_size if isinstance(pool_size, Iterable) else (pool_size, pool_size)
        sizes = [as_int(size) or 0 for size in given]
        if len(sizes) != 2 or min(sizes) < 1:
            raise ValueError(
                f"`pool_size` must be one or two ints >= 1, received pool_size={pool_size!r}"
            )
        self.pool_size = (sizes[0], sizes[1])
        if mode not in ("max", "average"):
            raise ValueError(f"`mode` must be 'max' or 'average', received {mode=}")
        self.dilation_rate = positive_int("dilation_rate", dilation_rate)
        self.mode = mode

    def call(self, inputs):
        """Pool a map."""
        if self.mode == "max":
            # The lowest finite value, not -inf: 0 * inf in a gradient would be NaN.
            half = keras.backend.standardize_dtype(inputs.dtype) == "float16"
            lowest = -65504.0 if half else -3.3e38
            return self._window(inputs, ops.maximum, lowest)
        total = self._window(inputs, ops.add, 0.0)
        return total / self._window(ops.ones_like(inputs[:1, :, :, :1]), ops.add, 0.0)

    def _window(self, x, combine, fill):
        # A window is separable: along the height first, then along the width.
        for axis, taps in ((1, self.pool_size[0]), (2, self.pool_size[1])):
            reach = (taps - 1) * self.dilation_rate
            if reach == 0:
                continue
            # The taps that 'same' has before the middle of an undilated window, now wider apart.
            before = (taps - 1) // 2 * self.dilation_rate
            pad = [(0, 0)] * 4
            pad[axis] = (before, reach - before)
            padded = ops.pad(x, pad, constant_values=fill)
            x = None
            for tap in range(taps):
                start = tap * self.dilation_rate
                window = [slice(None)] * 4
                window[axis] = slice(start, start - reach or None)
                shifted = padded[tuple(window)]
                x = shifted if x is None else combine(x, shifted)
        return x

    def compute_output_shape(self, input_shape):
        """Return the shape of the pooled map, that of the input."""
        return input_shape

    def get_config(self):
        """Return the arguments of the constructor."""
        return {
            **super().get_config(),
            "pool_size": self.pool_size,
            "dilation_rate": self.dilation_rate,
            "mode": self.mode,
        }


@keras.saving.register_keras_serializable(package="segzoo.layers")
class HalvingMaxPooling2D(keras.layers.Layer):
    """Maximum of each 2x2 window; an odd last row or column is left out, a single one is kept.

    The same as `keras.layers.MaxPooling2D`, except for maps of one row or column, which that layer
    empties.

    Args:
        **kwargs: further arguments of `keras.layers.Layer`.

    Call arguments:
        x: tensor (B, H, W, C).

    Returns:
        Tensor (B, max(H // 2, 1), max(W // 2, 1), C).

    Example:
        >>> import keras, segzoo
        >>> x = keras.ops.reshape(keras.ops.arange(5.0), (1, 1, 5, 1))
        >>> y = segzoo.layers.HalvingMaxPooling2D()(x)
        >>> keras.ops.convert_to_numpy(y).ravel().tolist()
        [1.0, 3.0]
    """

    def call(self, x):
        height, width = (
            max(n // 2, 1) if isinstance(n, int) else ops.maximum(n // 2, 1) for n in size_of(x)
        )
        y = ops.max_pool(x, 2, 2, padding="same", data_format="channels_last")
        return y[:, :height, :width]

    def compute_output_shape(self, x_shape):
        sizes = [None if n is None else max(n // 2, 1) for n in x_shape[1:3]]
        return (x_shape[0], *sizes, x_shape[3])


@keras.saving.register_keras_serializable(package="segzoo.layers")
class PhaseShift2D(keras.layers.Layer):
    """Shift a map by one sample, down and to the right, along each axis of even size.

    With stride 2 and 'same' padding a 3x3 window on an even size is centered at pixels 1, 3, 5, …,
    a 1x1 window at 0, 2, 4, …; on an odd size both at 0, 2, 4, …. Networks that add the two
    (Xception) therefore add neighbors on an even size. Where the stride is removed this
    layer, in front of the 1x1 convolution, keeps those pairs.

    Args:
        dilation_rate: int >= 1, pixels between the samples of one phase: the shift. A size is
            counted in such samples. Defaults to 1.
        **kwargs: further arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: tensor (B, H, W, C).

    Returns:
        Tensor (B, H, W, C), zero where nothing was shifted in.

    Raises:
        ValueError: if `dilation_rate` is below 1.

    Example:
        >>> import numpy as np
        >>> from segzoo.layers import PhaseShift2D
        >>> x = np.array([1, 2, 3, 4], dtype="float32").reshape(1, 1, 4, 1)
        >>> PhaseShift2D()(x)[0, 0, :, 0].numpy().tolist()
        [0.0, 1.0, 2.0, 3.0]
        >>> PhaseShift2D()(x[:, :, :3])[0, 0, :, 0].numpy().tolist()
        [1.0, 2.0, 3.0]
    """

    def __init__(self, dilation_rate: int = 1, **kwargs: Any):
        super().__init__(**kwargs)
        self.dilation_rate = positive_int("dilation_rate", dilation_rate)

    def call(self, inputs):
        """Shift a map."""
        x, rate = inputs, self.dilation_rate
        for axis in (1, 2):
            pad, keep = [(0, 0)] * 4, [slice(None)] * 4
            pad[axis], keep[axis] = (rate, 0), slice(None, -rate)
            shifted = ops.pad(x, pad)[tuple(keep)]
            samples = (ops.shape(x)[axis] + rate - 1) // rate
            even = samples % 2 == 0
            # A size known while tracing decides at once, in every backend.
            x = (shifted if even else x) if isinstance(even, bool) else ops.where(even, shifted, x)
        return x

    def compute_output_shape(self, input_shape):
        """Return the shape of the shifted map, that of the input."""
        return input_shape

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), "dilation_rate": self.dilation_rate}
