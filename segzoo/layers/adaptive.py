"""Mean pooling into a fixed number of bins, whatever the size of the map.

He, Zhang, Ren, Sun, "Spatial Pyramid Pooling in Deep Convolutional Networks for Visual
Recognition", ECCV 2014, arXiv 1406.4729; the pyramid of Zhao et al., "Pyramid Scene Parsing
Network", CVPR 2017, arXiv 1612.01105.
"""

from typing import Any

import keras
from keras import ops

from segzoo.layers._arguments import positive_int
from segzoo.layers.resize import size_of


@keras.saving.register_keras_serializable(package="segzoo.layers")
class AdaptiveAveragePooling2D(keras.layers.Layer):
    """Mean over `bins` x `bins` windows that cover a map of any size.

    Window i of n along an axis of length h covers the rows from floor(i h / n) up to, and without,
    ceil((i + 1) h / n). Windows overlap where n does not divide h; where h is below n they repeat
    rows. One bin is the mean of the map.

    The pooling is a product with one small matrix for each axis, so that sizes known only at run
    time work in graphs, under XLA and in exported models.

    Args:
        bins: int >= 1, number of windows along each axis.

    Call arguments:
        x: tensor (B, H, W, C).

    Returns:
        Tensor (B, bins, bins, C).

    Raises:
        ValueError: if `bins` is not an int >= 1.

    Example:
        >>> import keras, segzoo
        >>> x = keras.ops.reshape(keras.ops.arange(5.0), (1, 5, 1, 1))
        >>> y = segzoo.layers.AdaptiveAveragePooling2D(2)(x)
        >>> keras.ops.convert_to_numpy(y)[0, :, 0, 0].tolist()  # rows 0 to 2, rows 2 to 4
        [1.0, 3.0]

    Reference:
        Zhao, Shi, Qi, Wang, Jia, "Pyramid Scene Parsing Network", CVPR 2017, arXiv 1612.01105,
        figure 3.
    """

    def __init__(self, bins: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bins = positive_int("bins", bins)

    def call(self, x):
        if self.bins == 1:
            return ops.mean(x, axis=(1, 2), keepdims=True)
        (height, width), channels = size_of(x), x.shape[3]
        y = ops.cast(x, "float32")
        rows = ops.shape(x)[1]
        y = ops.matmul(_windows(self.bins, width), y)  # (B, H, bins, C)
        y = ops.reshape(y, (-1, rows, self.bins * channels))
        y = ops.matmul(_windows(self.bins, height), y)  # (B, bins, bins C)
        y = ops.reshape(y, (-1, self.bins, self.bins, channels))
        return ops.cast(y, x.dtype)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.bins, self.bins, input_shape[3])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "bins": self.bins}


def _windows(bins: int, size):
    """The (bins, size) matrix of the windows' weights."""
    place = ops.arange(size, dtype="int32")[None, :]  # of a number: JAX makes no range of a tracer
    size = ops.cast(size, "int32")
    window = ops.arange(bins, dtype="int32")
    first = window * size // bins
    end = ((window + 1) * size + (bins - 1)) // bins
    inside = ops.logical_and(place >= first[:, None], place < end[:, None])
    return ops.cast(inside, "float32") / ops.cast(end - first, "float32")[:, None]
