"""The DeepLab checkpoints that Keras's users know, as the network that produced them.

Chen, Zhu, Papandreou, Schroff, Adam, "Encoder-Decoder with Atrous Separable Convolution for
Semantic Image Segmentation", ECCV 2018, arXiv 1802.02611, trained their networks on Pascal VOC and
Cityscapes; github.com/bonlime/keras-deeplab-v3-plus (MIT) publishes the weights as Keras 2 files,
which load by name. What differs from `DeepLabV3Plus` with its own weights:

    xception65   batch normalization with epsilon 1e-3 in the backbone and 1e-5 behind it,
                 separable convolutions, image pooling first in the concatenation
    mobilenetv2  output stride 8, 1x1 and image pooling alone, no low-level branch
    both         every resize with aligned corners, input in -1..1

Aligned corners, because the weights were trained that way: DeepLab's authors cropped to 513 = 32 k
+ 1 pixels and resized with `align_corners=True`, and so did the network of the first Keras
releases. Its last one resizes with half-pixel centers, which shifts the maps against what the
weights learned.
"""

import logging
import os
from collections.abc import Sequence

import keras

from segzoo.backbones.channels import adapt_kernel
from segzoo.backbones.families.xception65 import separable_conv, xception65
from segzoo.layers import BatchNormalization, ImageNormalization, ResizeLike
from segzoo.models import _heads
from segzoo.weights import fetch, layer_shapes, load_weights

_RELEASES = "https://github.com/bonlime/keras-deeplab-v3-plus/releases/download"
_XCEPTION = "deeplabv3_xception_tf_dim_ordering_tf_kernels"
_MOBILENET = "deeplabv3_mobilenetv2_tf_dim_ordering_tf_kernels"
_FILES = {
    "pascal_voc": {
        "xception65": f"{_RELEASES}/1.1/{_XCEPTION}.h5",
        "mobilenetv2": f"{_RELEASES}/1.1/{_MOBILENET}.h5",
    },
    "cityscapes": {
        "xception65": f"{_RELEASES}/1.2/{_XCEPTION}_cityscapes.h5",
        "mobilenetv2": f"{_RELEASES}/1.2/{_MOBILENET}_cityscapes.h5",
    },
}
_BACKBONES = ("xception65", "mobilenetv2")
_FIRST = {"xception65": "entry_flow_conv1_1", "mobilenetv2": "Conv"}
_CLASSIFIERS = ("logits_semantic", "custom_logits_semantic")
_DILATIONS = {8: (12, 24, 36), 16: (6, 12, 18)}

# Expanded MobileNetV2 blocks: filters, stride, dilation. Strides 16 and 32 became dilation.
_MOBILENET_BLOCKS = (
    (16, 1, 1),
    *((24, 2, 1), (24, 1, 1)),
    *((32, 2, 1), (32, 1, 1), (32, 1, 1)),
    *((64, 1, 1), (64, 1, 2), (64, 1, 2), (64, 1, 2)),
    *((96, 1, 2), (96, 1, 2), (96, 1, 2)),
    *((160, 1, 2), (160, 1, 4), (160, 1, 4)),
    (320, 1, 4),
)


def is_published(backbone: str | keras.Model, weights: str | os.PathLike) -> bool:
    """Whether `weights` is a published checkpoint, by name or as a file of that layout.

    Raises:
        ValueError: for the name of a checkpoint that the backbone has not.
    """
    if weights in _FILES:
        if backbone not in _BACKBONES:
            raise ValueError(
                f"`weights={weights!r}` is published for the backbones {_BACKBONES}, received "
                f"backbone={backbone!r}"
            )
        return True
    if backbone not in _BACKBONES or not os.path.isfile(weights):
        return False
    found = layer_shapes(weights)
    return {"image_pooling", "concat_projection"} <= set(found) and any(
        name in found for name in _CLASSIFIERS
    )


def build(
    backbone: str,
    classes: int,
    input_shape: tuple[int | None, int | None, int],
    *,
    weights: str | os.PathLike,
    output_stride: int = 16,
    aspp_dilations: Sequence[int] | None = None,
    aspp_filters: int = 256,
    low_level_filters: int = 48,
    decoder_filters: int = 256,
    dropout: float = 0.1,
    backbone_features: Sequence[str] | None = None,
    activation: str | None = "auto",
    preprocessing: bool = True,
    name: str | None = None,
) -> keras.Model:
    """Build the published network and load its weights; arguments as `DeepLabV3Plus`.

    With another number of classes than the file's, the classifier alone starts fresh, and the log
    says so. With other channels than RGB the first convolution is adapted.
    """
    published: list[tuple[str, object, tuple]] = [
        ("output_stride", output_stride, tuple(_DILATIONS)),
        ("aspp_filters", aspp_filters, (256,)),
        ("low_level_filters", low_level_filters, (48,)),
        ("decoder_filters", decoder_filters, (256,)),
        ("backbone_features", backbone_features, (None,)),
    ]
    if backbone == "mobilenetv2":
        published.append(("aspp_dilations", aspp_dilations, (None,)))
    for argument, value, accepted in published:
        if value not in accepted:
            raise ValueError(
                f"`{argument}` must be {' or '.join(map(str, accepted))} with weights of the "
                f"published network on {backbone!r}, received {argument}={value!r}"
            )
    path = fetch(_FILES[weights][backbone], "weights") if weights in _FILES else weights
    found = layer_shapes(path)
    first, classifier = _FIRST[backbone], next((n for n in _CLASSIFIERS if n in found), None)
    # (height, width, channels, filters) and (1, 1, filters, classes); a file that lacks either
    # is of another network, which loading will say.
    file_channels = found[first][0][2] if first in found else input_shape[2]
    fits = classifier is not None and found[classifier][0][-1] == classes

    def network(channels: int) -> tuple[keras.Model, keras.Model]:
        return _network(
            backbone,
            classes,
            (*input_shape[:2], channels),
            classifier=classifier if classifier and fits else _CLASSIFIERS[1],
            output_stride=output_stride,
            dilations=aspp_dilations or _DILATIONS[output_stride],
            dropout=dropout,
            activation=activation,
            preprocessing=preprocessing,
            name=name or "deeplab_v3_plus",
        )

    model, body = network(input_shape[2])
    adapt = file_channels == 3 != input_shape[2]
    source = network(3) if adapt else (model, body)
    load_weights(source[0] if fits else source[1], path)
    if adapt:
        _carry_over(source[0], model)
    if not fits:
        logging.getLogger("segzoo").warning(
            "%s has weights for %s classes, the model has %d: its classifier `%s` starts fresh, "
            "all other layers are loaded",
            path,
            found[classifier][0][-1] if classifier else "no",
            classes,
            _CLASSIFIERS[1],
        )
    return model


def _carry_over(source: keras.Model, target: keras.Model) -> None:
    """Copy all weights; the first convolution, which alone differs in shape, is adapted."""
    values = []
    for value, variable in zip(source.get_weights(), target.weights, strict=True):
        if value.shape != tuple(variable.shape):
            value = adapt_kernel(value, variable.shape[2], mean=127.5, std=127.5)
        values.append(value)
    target.set_weights(values)


def _network(
    backbone: str,
    classes: int,
    shape: tuple[int | None, int | None, int],
    *,
    classifier: str,
    output_stride: int,
    dilations: Sequence[int],
    dropout: float,
    activation: str | None,
    preprocessing: bool,
    name: str,
) -> tuple[keras.Model, keras.Model]:
    """The whole model, and the same without the classifier."""
    normalize = ImageNormalization(127.5, 127.5, name="preprocessing") if preprocessing else None
    image = keras.Input(shape, name="image")
    if backbone == "xception65":
        low, x = _xception(shape, output_stride, normalize)(image)
    else:
        low, x = None, _mobilenet(shape, normalize)(image)  # (B, H/8, W/8, 320)

    pooled = keras.layers.GlobalAveragePooling2D(
        keepdims=True, data_format="channels_last", name="image_pooling_mean"
    )(x)
    pooled = _conv(pooled, 256, "image_pooling")
    branches = [_resize(pooled, x, "image_pooling_resize"), _conv(x, 256, "aspp0")]
    if low is not None:
        branches += [
            separable_conv(x, 256, f"aspp{place}", dilation_rate=rate, epsilon=1e-5)
            for place, rate in enumerate(dilations, 1)
        ]
    x = keras.layers.Concatenate(name="aspp_merge")(branches)
    x = _conv(x, 256, "concat_projection")
    x = keras.layers.Dropout(dropout, name="aspp_dropout")(x)

    if low is not None:
        low = _conv(low, 48, "feature_projection0")  # (B, H/4, W/4, 48)
        x = keras.layers.Concatenate(name="decoder_merge")([_resize(x, low, "decoder_resize"), low])
        x = separable_conv(x, 256, "decoder_conv0", epsilon=1e-5)
        x = separable_conv(x, 256, "decoder_conv1", epsilon=1e-5)  # (B, H/4, W/4, 256)

    logits = keras.layers.Conv2D(classes, 1, data_format="channels_last", name=classifier)(x)
    logits = _resize(logits, image, "logits_resize", dtype="float32")
    outputs = _heads.activate(logits, classes, activation)
    return keras.Model(image, outputs, name=name), keras.Model(image, x, name=name)


def _conv(x, filters: int, name: str):
    """1x1 convolution, batch normalization, ReLU."""
    x = keras.layers.Conv2D(filters, 1, use_bias=False, data_format="channels_last", name=name)(x)
    x = BatchNormalization(epsilon=1e-5, name=f"{name}_BN")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def _resize(x, like, name: str, **options):
    return ResizeLike(align_corners=True, name=name, **options)(x, like)


def _xception(shape, output_stride: int, normalize) -> keras.Model:
    """Low-level features and the last map; no ReLU follows the former, as published."""
    network = xception65(
        shape, output_stride, stem_padding="same", momentum=0.99, preprocessing=normalize
    )
    low = network.get_layer("entry_flow_block2_separable_conv2_pointwise_BN").output
    return keras.Model(network.inputs[0], [low, network.output], name="backbone")


def _mobilenet(shape, normalize) -> keras.Model:
    """MobileNetV2 at output stride 8, without its last convolution.

    Sandler, Howard, Zhu, Zhmoginov, Chen, "MobileNetV2: Inverted Residuals and Linear Bottlenecks",
    CVPR 2018, arXiv 1801.04381, table 2.
    """
    norm = {"epsilon": 1e-3, "momentum": 0.999}
    image = keras.Input(shape, name="image")
    x = image if normalize is None else normalize(image)
    x = keras.layers.Conv2D(
        32, 3, strides=2, padding="same", use_bias=False, data_format="channels_last", name="Conv"
    )(x)
    x = BatchNormalization(**norm, name="Conv_BN")(x)
    x = keras.layers.ReLU(6.0, name="Conv_relu")(x)
    for place, (filters, stride, rate) in enumerate(_MOBILENET_BLOCKS):
        prefix = f"expanded_conv_{place}_" if place else "expanded_conv_"
        inputs, channels = x, x.shape[-1]
        if place:  # the first block does not expand
            x = keras.layers.Conv2D(
                6 * channels, 1, use_bias=False, data_format="channels_last", name=f"{prefix}expand"
            )(x)
            x = BatchNormalization(**norm, name=f"{prefix}expand_BN")(x)
            x = keras.layers.ReLU(6.0, name=f"{prefix}expand_relu")(x)
        x = keras.layers.DepthwiseConv2D(
            3,
            data_format="channels_last",
            strides=stride,
            dilation_rate=rate,
            padding="same",
            use_bias=False,
            name=f"{prefix}depthwise",
        )(x)
        x = BatchNormalization(**norm, name=f"{prefix}depthwise_BN")(x)
        x = keras.layers.ReLU(6.0, name=f"{prefix}depthwise_relu")(x)
        x = keras.layers.Conv2D(
            filters, 1, use_bias=False, data_format="channels_last", name=f"{prefix}project"
        )(x)
        x = BatchNormalization(**norm, name=f"{prefix}project_BN")(x)
        if stride == 1 and filters == channels:
            x = keras.layers.Add(name=f"{prefix}add")([inputs, x])
    return keras.Model(image, x, name="backbone")
