"""The DeepLab checkpoints that Keras's users know, as the network that produced them.

Chen, Zhu, Papandreou, Schroff, Adam, "Encoder-Decoder with Atrous Separable Convolution for
Semantic Image Segmentation", ECCV 2018, arXiv 1802.02611, trained their networks on Pascal VOC and
Cityscapes; github.com/bonlime/keras-deeplab-v3-plus (MIT) publishes the weights as Keras 2 files,
which load by name. What differs from `DeepLabV3Plus` with its own weights:

    xception65   batch normalization with epsilon 1e-3 in the backbone and 1e-5 after it,
                 separable convolutions, image pooling first in the concatenation
    mobilenetv2  output stride 8, 1x1 and image pooling alone, no low-level branch
    both         every resize with aligned corners, input in -1..1

Aligned corners, because the weights were trained that way: DeepLab's authors cropped to 513 = 32 k
+ 1 pixels and resized with `align_corners=True`, and so did the network of the first Keras
releases. Its last one resizes with half-pixel centers, which shifts the maps against what the
weights learned.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import keras

from segzoo import backbones
from segzoo.backbones.channels import kernel_adapter
from segzoo.backbones.families.xception65 import separable_conv, xception65
from segzoo.backbones.named import build_row
from segzoo.layers import BatchNormalization, ImageNormalization, ResizeLike
from segzoo.models import _heads
from segzoo.weights import layer_shapes, load_weights
from segzoo.weights.published import Published

_CLASSIFIERS = ("logits_semantic", "custom_logits_semantic")
_DILATIONS = {8: (12, 24, 36), 16: (6, 12, 18)}

# MobileNetV2's layers as the published files name them, by Keras's names.
_MOBILENET_NAMES = {"Conv1": "Conv", "bn_Conv1": "Conv_BN"} | {
    f"block_{block}_{part}": f"expanded_conv_{block}_{part}"
    for block in range(1, 17)
    for layer in ("expand", "depthwise", "project")
    for part in (layer, f"{layer}_BN")
}


def build(
    backbone: str,
    classes: int,
    input_shape: tuple[int | None, int | None, int],
    *,
    weights: Published,
    output_stride: int = 16,
    aspp_dilations: Sequence[int] | None = None,
    aspp_filters: int = 256,
    low_level_filters: int = 48,
    decoder_filters: int = 256,
    dropout: float = 0.1,
    separable: bool = False,
    backbone_features: Sequence[str] | None = None,
    auxiliary: int | None = None,
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
        ("auxiliary", auxiliary, (None,)),
    ]
    if backbone == "mobilenetv2":
        published += [
            ("aspp_dilations", aspp_dilations, (None,)),
            ("separable", separable, (False,)),
        ]
    for argument, value, accepted in published:
        if value not in accepted:
            raise ValueError(
                f"`{argument}` must be {' or '.join(map(str, accepted))} with weights of the "
                f"published network on {backbone!r}, received {argument}={value!r}"
            )
    path = weights.path()
    found = layer_shapes(path)
    # A file without a classifier is of another network, which loading will say.
    classifier = next((n for n in _CLASSIFIERS if n in found), None)
    theirs = found[classifier][0][-1] if classifier else classes  # of (1, 1, filters, classes)
    fits = theirs == classes
    model, body = _network(
        backbone,
        classes,
        input_shape,
        classifier=(classifier or _CLASSIFIERS[0]) if fits else _CLASSIFIERS[1],
        output_stride=output_stride,
        dilations=aspp_dilations or _DILATIONS[output_stride],
        dropout=dropout,
        activation=activation,
        preprocessing=preprocessing,
        name=name or "deeplab_v3_plus",
    )
    load_weights(model if fits else body, path, surplus=_CLASSIFIERS, adapt=kernel_adapter(model))
    if not fits:
        logging.getLogger("segzoo").warning(
            "%s has weights for %d classes, the model has %d: its classifier `%s` starts fresh, "
            "all other layers are loaded",
            *(path, theirs, classes, _CLASSIFIERS[1]),
        )
    return model


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
    image = keras.Input(shape, name="image")
    if backbone == "xception65":
        low, x = _xception(shape, output_stride, preprocessing)(image)
    else:
        low, x = None, _mobilenet(shape, preprocessing)(image)  # (B, H/8, W/8, 320)

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


def _xception(shape, output_stride: int, preprocessing: bool) -> keras.Model:
    """Low-level features and the last map; no ReLU follows the former, as published."""
    normalize = ImageNormalization(127.5, 127.5, name="preprocessing") if preprocessing else None
    network = xception65(
        shape, output_stride, stem_padding="same", momentum=0.99, preprocessing=normalize
    )
    low = network.get_layer("entry_flow_block2_separable_conv2_pointwise_BN").output
    return keras.Model(network.inputs[0], [low, network.output], name="backbone")


def _mobilenet(shape, preprocessing: bool) -> keras.Model:
    """MobileNetV2 at output stride 8, without its last convolution."""
    row = backbones.info("mobilenetv2")
    source: Any = row.source
    built = build_row(
        replace(row, source=replace(source, rename=_MOBILENET_NAMES)),
        weights=None,
        pretrained=True,
        input_shape=shape,
        output_stride=8,
        preprocessing=preprocessing,
        features=["expanded_conv_16_project_BN"],
    )
    return keras.Model(built.model.inputs[0], built.model.outputs[0], name="backbone")
