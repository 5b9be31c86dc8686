"""Fully convolutional networks with output strides of 32, 16 and 8.

    pool5 -> 7x7 -> 1x1 -> score --------------------------------------> x32    FCN-32s
                            `-> x2 -+
    pool4 ------------ score ------ + ---------------------------------> x16    FCN-16s
                                    `-> x2 -+
    pool3 -------------------- score ------ + -------------------------> x8     FCN-8s

Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015,
arXiv 1411.4038, figure 3.
"""

import os
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from segzoo import backbones
from segzoo.layers._arguments import positive_int
from segzoo.models._assembly import Network, check_option, check_rate
from segzoo.models._builder import builder
from segzoo.models._features import Features
from segzoo.models._upsampling import fit

LEVELS = (8, 16, 32)


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
        known = isinstance(rows, int) and isinstance(columns, int)  # neither None nor a symbol
        if not known or rows * columns > self.most_pixels:
            return super().convolution_op(inputs, kernel)
        size = self.kernel_size[0]
        margin = (size // 2, size // 2)
        x = ops.pad(inputs, [(0, 0), margin, margin, (0, 0)])
        x = ops.concatenate([x[:, :, j : j + columns] for j in range(size)], axis=-1)
        x = ops.concatenate([x[:, i : i + rows] for i in range(size)], axis=-1)  # (B, H, W, 49 C)
        neighbors = size * size * channels
        y = ops.matmul(ops.reshape(x, (-1, neighbors)), ops.reshape(kernel, (neighbors, -1)))
        return ops.reshape(y, (-1, rows, columns, self.filters))


def fcn(features: Features, *, classes: int, level: int, head_filters: int, dropout: float):
    """Scores of the maps from `level` to 32, summed from coarse to fine, at the image's size."""
    finer, last = features.need(*[k for k in LEVELS if k >= level])[:-1], features.at(32)
    x, stride = last.x, last.stride
    for number, kernel_size, kind in ((6, 7, WideConv2D), (7, 1, keras.layers.Conv2D)):
        x = kind(
            head_filters,
            kernel_size,
            padding="same",
            data_format="channels_last",
            activation="relu",
            kernel_initializer="he_normal",
            name=f"conv_{number}",
        )(x)
        if dropout:
            x = keras.layers.Dropout(dropout, name=f"dropout_{number}")(x)
    x = _score(x, classes, 32)  # (B, H/32, W/32, classes)

    for skip in reversed(finer):
        # Zeros, so that the finer map contributes nothing at first (the paper's section 4.2).
        score = _score(skip.x, classes, skip.level, kernel_initializer="zeros")
        if stride > skip.stride:
            x = _deconvolve(x, stride // skip.stride, classes, f"upsample_{skip.level}")
            x = fit(x, score, f"upsample_{skip.level}_fit", features.rounds_up)
        x = keras.layers.Add(name=f"fuse_{skip.level}")([x, score])
        stride = skip.stride

    x = _deconvolve(x, stride, classes, "upsample_1")
    return fit(x, features.image, "upsample_1_fit", features.rounds_up)


def _score(x, classes: int, level: int, **options):
    return keras.layers.Conv2D(
        classes, 1, data_format="channels_last", name=f"score_{level}", **options
    )(x)


@builder
def FCN(
    backbone: str | keras.Model = "vgg16",
    classes: int = 1,
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    *,
    stride: int = 8,
    head_filters: int = 1024,
    dropout: float = 0.0,
    backbone_weights: str | os.PathLike | None = "imagenet",
    backbone_features: Sequence[str] | None = None,
    weights: str | os.PathLike | None = None,
    auxiliary: int | None = None,
    activation: str | None = "auto",
    preprocessing: bool = True,
    name: str | None = None,
) -> keras.Model:
    """Build FCN-8s, FCN-16s or FCN-32s on any backbone.

    On VGG the pooling layers are scored, as in the paper; on other backbones the maps of stride 8,
    16 and 32. Differs from the paper: `"same"` padding instead of 100 pixels around the image; 1024
    channels in the head instead of 4096; every transposed convolution is learned, including the
    last one.

    Args:
        backbone: a name from `segzoo.backbones.names()`, or a `keras.Model` whose outputs are
            feature maps, finest first. Defaults to `"vgg16"`.
        classes: int >= 1, number of output channels. Defaults to 1.
        input_shape: (height, width, channels); height and width are at least 32, or None for any
            size. Defaults to (None, None, 3).
        stride: 8, 16 or 32: the stride of the finest map that is scored. Defaults to 8.
        head_filters: int >= 1, channels of the 7x7 and the 1x1 convolution on the last map.
            Defaults to 1024.
        dropout: rate in [0, 1), after each of these two; 0.5 in the paper. Defaults to 0.0.
        backbone_weights: weights of a named backbone: None for random ones, `"imagenet"`,
            `"noisy-student"` (EfficientNet), `"imagenet-nc"` (Mix Transformers) or the path of a
            weights file. Defaults to `"imagenet"`.
        backbone_features: names of the layers whose outputs replace the backbone's feature maps,
            finest first. They have the strides from `stride` to 32. Defaults to None.
        weights: path of weights of the whole model, which replace `backbone_weights`. Defaults to
            None.
        auxiliary: None, or the level (8, 16 or 32) of a backbone map that gets an auxiliary fully
            convolutional head; the outputs are then a list, the auxiliary output first. Defaults to
            None.
        activation: activation of the output. `"auto"` is sigmoid for one class and softmax for
            several; `"sigmoid"` is for multi-label segmentation; None gives logits. Defaults to
            `"auto"`.
        preprocessing: bool, whether a model on a named backbone takes RGB in 0..255 and normalizes
            it itself. Defaults to True.
        name: name of the model. Defaults to `"fcn_8s"`, `"fcn_16s"` or `"fcn_32s"`.

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
    stride = check_option("stride", stride, LEVELS)
    network = Network(
        f"fcn_{stride}s",
        classes,
        input_shape,
        activation=activation,
        weights=weights,
        auxiliary=auxiliary,
        name=name,
    )
    head_filters = positive_int("head_filters", head_filters)
    dropout = check_rate("dropout", dropout)
    if backbone_features is None and isinstance(backbone, str):
        backbone_features = _taps(backbone, stride)
    features = network.encode(
        backbone,
        backbone_weights=backbone_weights,
        backbone_features=backbone_features,
        preprocessing=preprocessing,
        least=1,  # FCN-32s scores the last map alone
    )
    x = fcn(
        features, classes=network.classes, level=stride, head_filters=head_filters, dropout=dropout
    )
    return network.model(network.activate(x))


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
        data_format="channels_last",
        use_bias=False,
        kernel_initializer=BilinearUpsampling(),
        name=name,
    )(x)
