"""Layers that bring one feature map to the height and width of another, whatever the sizes.

`ResizeLike` interpolates, `CropLike` cuts, `Upsample` multiplies. All three work with sizes known
only at run time, in eager mode, in graphs, under XLA and in exported models.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from segzoo.layers._arguments import as_int, positive_int

INTERPOLATIONS = ("bilinear", "nearest", "nearest_floor")


def resize(x, height, width, interpolation: str = "bilinear", align_corners: bool = False):
    """Resize `x` (B, H, W, C) to (B, height, width, C); the sizes are ints or scalar tensors.

    With static sizes bilinear interpolation is `keras.ops.image.resize`, an operation that every
    converter knows. A size known only at run time makes that operation fail in a TensorFlow graph,
    XLA has no gradient of its nearest form, it knows no aligned corners, and ONNX gives some sizes
    one row too few; there the same interpolation is a product with two matrices, one for each axis:
    y = R x Cᵀ.
    """
    rows, columns, channels = x.shape[1:]
    static = _static(rows, columns, height, width)
    if static and (rows, columns) == (height, width):
        return x
    exact = static and _from_ratio(rows, height) and _from_ratio(columns, width)
    if exact and interpolation == "bilinear" and not align_corners:
        # In float32: XLA's gradient of the operation has no 16-bit form.
        y = ops.image.resize(
            ops.cast(x, "float32"), (height, width), "bilinear", data_format="channels_last"
        )
        return ops.cast(y, x.dtype)
    if static and height % rows == width % columns == 0 and not align_corners:
        return ops.repeat(ops.repeat(x, height // rows, axis=1), width // columns, axis=2)
    shape = ops.shape(x)
    rows, columns = shape[1], shape[2]
    # Columns first: its intermediate is the smaller one, and the last product is one large GEMM.
    x = ops.matmul(_weights(width, columns, interpolation, align_corners, x.dtype), x)
    x = ops.reshape(x, (-1, rows, width * channels))
    x = ops.matmul(_weights(height, rows, interpolation, align_corners, x.dtype), x)
    return ops.reshape(x, (-1, height, width, channels))


def _weights(out_size, in_size, interpolation, align_corners, dtype):
    """The (out_size, in_size) matrix of interpolation weights along one axis.

    Positions are whole multiples of 1 / unit: as floats they would lose their digits in an exported
    file of 16 or 8 bits, where an open size leaves them to be computed.
    """
    rows, columns = ops.cast(out_size, "int32"), ops.cast(in_size, "int32")
    target = ops.arange(out_size, dtype="int32")[:, None]
    source = ops.arange(in_size, dtype="int32")[None, :]
    if interpolation == "nearest_floor":  # in float32, as PyTorch has it
        ratio = ops.cast(columns, "float32") / ops.cast(rows, "float32")
        nearest = ops.floor(ops.cast(target, "float32") * ratio)
        return ops.cast(ops.equal(nearest, ops.cast(source, "float32")), dtype)
    if align_corners:  # the centers of the corner pixels stay where they are
        unit = 2 * ops.maximum(rows - 1, 1)
        position = 2 * target * (columns - 1)
    else:  # pixel i covers [i, i + 1), so its center is at i + 1/2
        unit = 2 * rows
        position = (2 * target + 1) * columns - rows
    if interpolation == "nearest":
        offset = position + unit // 2 - unit * source
        return ops.cast(ops.logical_and(offset >= 0, offset < unit), dtype)
    position = ops.minimum(ops.maximum(position, 0), unit * (columns - 1))
    weights = ops.maximum(unit - ops.abs(position - unit * source), 0)
    return ops.cast(ops.cast(weights, "float32") / ops.cast(unit, "float32"), dtype)


def _from_ratio(in_size: int, out_size: int) -> bool:
    """Whether the ratio of two sizes leads from one to the other once it is rounded to float32.

    ONNX files store it so. 7 rows times 25 / 7 are 24.9999998 then, of which ONNX Runtime makes 24.
    """
    return int(float(np.float32(out_size / in_size)) * in_size) == out_size


def size_of(x) -> tuple[Any, Any]:
    """Height and width of `x`: ints where they are static, scalar tensors otherwise."""
    (height, width), dynamic = x.shape[1:3], ops.shape(x)
    return (dynamic[1] if height is None else height, dynamic[2] if width is None else width)


def _static(*sizes) -> bool:
    """Whether all sizes are plain ints; comparing tensors would fail in a graph."""
    return all(isinstance(size, int) for size in sizes)


def _check_interpolation(interpolation: str) -> str:
    if interpolation not in INTERPOLATIONS:
        raise ValueError(
            f"`interpolation` must be one of {INTERPOLATIONS}, received "
            f"interpolation={interpolation!r}"
        )
    return interpolation


@keras.saving.register_keras_serializable(package="segzoo.layers")
class ResizeLike(keras.layers.Layer):
    """Resize a feature map to the height and width of a reference.

    Half-pixel centers, no antialiasing: the same numbers as `keras.ops.image.resize`. With
    `align_corners=True` the centers of the corner pixels coincide instead.

    Args:
        interpolation: `"bilinear"`, `"nearest"`, or `"nearest_floor"`, which takes the pixel at
            `floor(i * h / H)`, as PyTorch's "nearest" does. Defaults to `"bilinear"`.
        align_corners: bool, whether the centers of the corner pixels coincide, for networks that
            were trained that way. Defaults to False.

    Call arguments:
        x: tensor (B, h, w, C).
        reference: tensor (B, H, W, D), of which only the size is used.

    Returns:
        Tensor (B, H, W, C) of the layer's compute dtype.

    Raises:
        ValueError: if `interpolation` is unknown.

    Example:
        >>> import keras, segzoo
        >>> x, reference = keras.ops.ones((1, 4, 5, 8)), keras.ops.ones((1, 7, 13, 3))
        >>> tuple(segzoo.layers.ResizeLike()(x, reference).shape)
        (1, 7, 13, 8)
    """

    def __init__(
        self, interpolation: str = "bilinear", align_corners: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.interpolation = _check_interpolation(interpolation)
        self.align_corners = align_corners

    def call(self, x, reference):
        return resize(x, *size_of(reference), self.interpolation, self.align_corners)

    def compute_output_shape(self, x_shape, reference_shape):
        return (x_shape[0], *reference_shape[1:3], x_shape[3])

    def get_config(self) -> dict[str, Any]:
        config = {"interpolation": self.interpolation, "align_corners": self.align_corners}
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable(package="segzoo.layers")
class CropLike(keras.layers.Layer):
    """Crop a feature map to the height and width of a reference, at the bottom and right.

    A transposed convolution of stride 2 turns ceil(n / 2) rows into n or n + 1; the crop
    removes the surplus row.

    Args:
        offset: int >= 0, rows and columns that are removed at the top and left. Defaults to 0.

    Call arguments:
        x: tensor (B, h, w, C) with h >= H + offset and w >= W + offset.
        reference: tensor (B, H, W, D), of which only the size is used.

    Returns:
        Tensor (B, H, W, C).

    Raises:
        ValueError: if `offset` is not an int >= 0.

    Example:
        >>> import keras, segzoo
        >>> x, reference = keras.ops.ones((1, 8, 14, 8)), keras.ops.ones((1, 7, 13, 3))
        >>> tuple(segzoo.layers.CropLike()(x, reference).shape)
        (1, 7, 13, 8)
    """

    def __init__(self, offset: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if (number := as_int(offset)) is None or number < 0:
            raise ValueError(f"`offset` must be an int >= 0, received offset={offset!r}")
        self.offset = number

    def call(self, x, reference):
        height, width = size_of(reference)
        if _static(height, width, *x.shape[1:3]) and (height, width) == tuple(x.shape[1:3]):
            return x
        k, (batch, _, _, channels) = self.offset, ops.shape(x)
        # Not `x[:, k : k + height, k : k + width]`, whose open ends an ONNX file computes in float.
        return ops.slice(x, (0, k, k, 0), (batch, height, width, channels))

    def compute_output_shape(self, x_shape, reference_shape):
        return (x_shape[0], *reference_shape[1:3], x_shape[3])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "offset": self.offset}


@keras.saving.register_keras_serializable(package="segzoo.layers")
class Upsample(keras.layers.Layer):
    """Enlarge a feature map by a whole factor, even where its size is known only at run time.

    `keras.layers.UpSampling2D` with bilinear interpolation needs static sizes in a graph.

    Args:
        factor: int >= 1, of both height and width. Defaults to 2.
        interpolation: `"bilinear"` or `"nearest"`. Defaults to `"bilinear"`.

    Call arguments:
        x: tensor (B, H, W, C).

    Returns:
        Tensor (B, factor * H, factor * W, C).

    Raises:
        ValueError: if `factor` is below 1 or `interpolation` is unknown.

    Example:
        >>> import keras, segzoo
        >>> tuple(segzoo.layers.Upsample(2)(keras.ops.ones((1, 4, 5, 8))).shape)
        (1, 8, 10, 8)
    """

    def __init__(self, factor: int = 2, interpolation: str = "bilinear", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.factor = positive_int("factor", factor)
        self.interpolation = _check_interpolation(interpolation)

    def call(self, x):
        height, width = size_of(x)
        return resize(x, height * self.factor, width * self.factor, self.interpolation)

    def compute_output_shape(self, x_shape):
        sizes = [None if size is None else size * self.factor for size in x_shape[1:3]]
        return (x_shape[0], *sizes, x_shape[3])

    def get_config(self) -> dict[str, Any]:
        config = {"factor": self.factor, "interpolation": self.interpolation}
        return {**super().get_config(), **config}
