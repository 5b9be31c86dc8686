"""Fully convolutional networks with output strides of 32, 16 and 8.

    pool5 -> 7x7 -> 1x1 -> score --------------------------------------> x32    FCN-32s
                            `-> x2 -+
    pool4 ------------ score ------ + ---------------------------------> x16    FCN-16s
                                    `-> x2 -+
    pool3 -------------------- score ------ + -------------------------> x8     FCN-8s

Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015,
arXiv 1411.4038, figure 3.
"""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from segzoo import backbones
from segzoo.models import _assembly

STRIDES = (8, 16, 32)


@keras.saving.register_keras_serializable(package="segzoo.models")
class BilinearUpsampling(keras.initializers.Initializer):
    """Kernel with which a transposed convolution interpolates each class by itself.

    For a stride s and a kernel of 2 s the weights fall off linearly from the center (section 4.1
    of the paper: deconvolution layers "initialized to bilinear interpolation").
    """

    def __call__(self, shape, dtype=None):
        """A kernel (size, size, outputs, inputs) with the same weights on its diagonal."""
        size, channels = shape[0], min(shape[2:])
        ramp = 1.0 - np.abs((np.arange(size) + 0.5) / (size / 2) - 1.0)
        kernel = np.zeros(shape)
        kernel[:, :, range(channels), range(channels)] = np.outer(ramp, ramp)[:, :, None]
        return ops.convert_to_tensor(kernel, dtype=dtype)


@keras.saving.register_keras_serializable(package="segzoo.models")
class WideConv2D(keras.layers.Conv2D):
    """A wide odd kernel on a small map, with padding "same" and no stride, as a matrix product.

    The head's 7x7 kernel weighs 103 MB and meets the few pixels of the last map. A product with the
    49 neighbors of each pixel, laid side by side, takes under half of the time of a convolution on
    an 8x8 map. Where the neighbors would outweigh the kernel it is a convolution.
    """

    most_pixels = 128

    def convolution_op(self, inputs, kernel):
        rows, columns, channels = inputs.shape[1:]
        if rows is None or columns is None or rows * columns > self.most_pixels:
            return super().convolution_op(inputs, kernel)
        size = self.kernel_size[0]
        margin = (size // 2, size // 2)
        x = ops.pad(inputs, [(0, 0), margin, margin, (0, 0)])
        x = ops.concatenate([x[:, :, j : j + columns] for j in range(size)], axis=-1)
        x = ops.concatenate([x[:, i : i + rows] for i in range(size)], axis=-1)  # (B, H, W, 49 C)
        neighbors = size * size * channels
        y = ops.matmul(ops.reshape(x, (-1, neighbors)), ops.reshape(kernel, (neighbors, -1)))
        return ops.reshape(y, (-1, rows, columns, self.filters))


def FCN(
    backbone: str | keras.Model = "vgg16",
    classes: int = 1,
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    *,
    stride: int = 8,
    head_filters: int = 1024,
    dropout: float = 0.0,
    backbone_weights: str | None = "imagenet",
    backbone_features: Sequence[str] | None = None,
    weights: str | None = None,
    activation: str | None = "auto",
    preprocessing: bool = True,
    name: str | None = None,
) -> keras.Model:
    """FCN-8s, FCN-16s or FCN-32s on any backbone.

    On VGG the scores are taken from the pooling layers, as in the paper; on other backbones from
    the maps of stride 8, 16 and 32. Differs from the paper: `"same"` padding in place of the 100
    pixels around the image; 1024 channels in the head in place of 4096; every transposed
    convolution is learned, the last one too.

    Args:
        backbone: a name from `segzoo.backbones.names()`, or a `keras.Model` whose outputs are
            feature maps, finest first.
        classes: int >= 1, channels of the output.
        input_shape: (height, width, channels); height and width at least 32 or None.
        stride: 8, 16 or 32: the stride of the finest map that is scored.
        head_filters: int >= 1, channels of the 7x7 and the 1x1 convolution on the last map.
        dropout: rate in [0, 1), after each of the two; the paper's is 0.5.
        backbone_weights: of a named backbone: None, `"imagenet"`, `"noisy-student"` or the path
            of a weights file.
        backbone_features: names of backbone layers of strides 8, 16 and 32 that replace the taps.
        weights: path of whole-model weights, instead of `backbone_weights`.
        activation: of the output. `"auto"` is sigmoid for one class and softmax for several;
            `"sigmoid"` is for multi-label; None gives logits.
        preprocessing: bool, whether a named backbone normalizes RGB in 0..255 in the graph.
        name: model name. Default: "fcn_8s", "fcn_16s" or "fcn_32s".

    Returns:
        A `keras.Model` from (B, H, W, channels) to float32 (B, H, W, classes).

    Raises:
        ValueError: for an argument outside its range, an unknown backbone, a backbone without the
            strides that are scored, or weights that do not fit.

    Example:
        >>> import segzoo
        >>> model = segzoo.models.FCN("vgg16", 13, head_filters=64, backbone_weights=None)
        >>> model.output_shape
        (None, None, None, 13)

    Reference:
        Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic Segmentation",
        CVPR 2015, arXiv 1411.4038, figure 3.
    """
    shape = _assembly.check_arguments(classes, input_shape, activation)
    _assembly.check_option("stride", stride, STRIDES)
    _assembly.check_widths("head_filters", [head_filters])
    _assembly.check_rate("dropout", dropout)
    if backbone_features is None and isinstance(backbone, str):
        backbone_features = _taps(backbone, stride)

    encoder = _assembly.build_encoder(
        backbone,
        shape,
        weights=None if weights else backbone_weights,
        features=backbone_features,
        preprocessing=preprocessing,
        least=1,  # FCN-32s scores the last map alone
    )
    scored = [s for s in STRIDES if s >= stride]
    if not set(scored) <= set(encoder.strides):
        raise ValueError(
            f"`backbone` must have feature maps of strides {scored} for stride={stride}, received "
            f"maps of strides {encoder.strides}"
        )
    image = keras.Input(shape, name="image")
    features = dict(zip(encoder.strides, encoder(image), strict=True))

    x = features[32]
    for number, kernel_size, kind in ((6, 7, WideConv2D), (7, 1, keras.layers.Conv2D)):
        x = kind(
            head_filters,
            kernel_size,
            padding="same",
            activation="relu",
            kernel_initializer="he_normal",
            name=f"conv_{number}",
        )(x)
        if dropout:
            x = keras.layers.Dropout(dropout, name=f"dropout_{number}")(x)
    x = keras.layers.Conv2D(classes, 1, name="score_32")(x)  # (B, H/32, W/32, classes)

    for finer in reversed(scored[:-1]):
        # Zeros, so that the finer map starts without a say (the paper's section 4.2).
        score = keras.layers.Conv2D(classes, 1, kernel_initializer="zeros", name=f"score_{finer}")(
            features[finer]
        )
        x = _deconvolve(x, 2, classes, f"upsample_{finer}")
        x = _assembly.fit(x, score, f"upsample_{finer}_fit", encoder.rounds_up)
        x = keras.layers.Add(name=f"fuse_{finer}")([x, score])

    x = _deconvolve(x, stride, classes, "upsample_1")
    x = _assembly.fit(x, image, "upsample_1_fit", encoder.rounds_up)
    outputs = _assembly.activate(x, classes, activation)
    return _assembly.assemble(image, outputs, weights, name or f"fcn_{stride}s")


def _taps(backbone: str, stride: int) -> list[str]:
    """The layers that are scored, of strides `stride` to 32."""
    info = backbones.info(backbone)
    if info.family == "vgg":
        return [f"block{block}_pool" for block in (3, 4, 5) if 2**block >= stride]
    return [tap for tap, s in zip(info.features, info.strides, strict=True) if s >= stride]


def _deconvolve(x, factor: int, classes: int, name: str):
    return keras.layers.Conv2DTranspose(
        classes,
        2 * factor,
        strides=factor,
        padding="same",
        use_bias=False,
        kernel_initializer=BilinearUpsampling(),
        name=name,
    )(x)
