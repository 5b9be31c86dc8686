"""Every builder in a small form, for the checks that run over all of them."""

import keras

from segzoo import models


def tiny_backbone(channels: int = 3, name: str = "tiny") -> keras.Model:
    """Five strided convolutions: feature maps of strides 2 to 32 in milliseconds."""
    image = x = keras.Input((None, None, channels), name=f"{name}_image")
    outputs = []
    for stage, filters in enumerate((6, 7, 8, 9, 10), 1):
        x = keras.layers.Conv2D(
            filters, 3, strides=2, padding="same", activation="gelu", name=f"{name}_stage_{stage}"
        )(x)
        outputs.append(x)
    return keras.Model(image, outputs, name=name)


SMALL = {
    "DeepLabV3Plus": {"aspp_filters": 8, "low_level_filters": 5, "decoder_filters": 7},
    "FCN": {"head_filters": 6},
    "UNet": {"decoder_filters": (12, 10, 8, 6, 4)},
    "EffNetUNet": {"decoder_filters": (12, 10, 8, 6, 4)},
    "UNetPlusPlus": {"filters": (4, 6, 8, 10, 12)},
}


def _on(builder, backbone, **options):
    def build(classes=1, input_shape=(None, None, 3), **more):
        name = backbone
        if name == "tiny":
            name = tiny_backbone(input_shape[2])
        elif isinstance(name, str):
            more = {"backbone_weights": None, **more}
        first = (name,) if builder != "EffNetUNet" else (backbone,)
        return getattr(models, builder)(*first, classes, input_shape, **{**options, **more})

    return build


def _small(builder, backbone, **options):
    return _on(builder, backbone, **{**SMALL[builder], **options})


TINY = {
    "deeplab-tiny": _small("DeepLabV3Plus", "tiny"),
    "deeplab-separable-tiny": _small("DeepLabV3Plus", "tiny", separable=True),
    "fcn8-tiny": _small("FCN", "tiny"),
    "fcn16-tiny": _small("FCN", "tiny", stride=16),
    "fcn32-tiny": _small("FCN", "tiny", stride=32),
    "unet-tiny": _small("UNet", "tiny"),
    "unet-transpose-tiny": _small("UNet", "tiny", upsampling="transpose", normalization="group"),
    "unet-own": _small("UNet", None),
    "unet-own-transpose": _small("UNet", None, upsampling="transpose"),
    "unetpp-tiny": _small("UNetPlusPlus", "tiny"),
    "unetpp-own": _small("UNetPlusPlus", None),
    "unetpp-own-deep": _small("UNetPlusPlus", None, deep_supervision=True),
    "unetpp-own-nearest": _small(
        "UNetPlusPlus", None, upsampling="nearest", normalization="batch", block_activation="relu"
    ),
}

REAL = {
    "deeplab-mobilenetv2": _small("DeepLabV3Plus", "mobilenetv2"),
    "fcn8-vgg16": _small("FCN", "vgg16"),
    "unet-mobilenetv2": _small("UNet", "mobilenetv2"),
    "unetpp-mobilenetv2": _small("UNetPlusPlus", "mobilenetv2"),
    "effnet-unet-b0": _small("EffNetUNet", "b0"),
}

ALL = {**TINY, **REAL}

# Every decoder on three families that pad differently: ResNet pads both sides by hand, MobileNetV2
# as its static size would have it, Xception's stem not at all.
PADDINGS = {
    f"{builder}-{backbone}": _small(builder, backbone)
    for builder in ("DeepLabV3Plus", "FCN", "UNet", "UNetPlusPlus")
    for backbone in ("resnet18", "mobilenetv2", "xception")
} | {"EffNetUNet-b0": _small("EffNetUNet", "b0")}
