"""Every public builder in a small form, with normalization inside the graph.

Without dropout, so that two runs agree whatever the number of devices.
"""

import keras
import numpy as np

from segzoo import layers, models


def tiny_backbone(channels: int = 3) -> keras.Model:
    """Normalization and five strided convolutions: feature maps of strides 2 to 32.

    SiLU, because tf2onnx has no exact GELU.
    """
    image = keras.Input((None, None, channels), name="tiny_image")
    x = layers.ImageNormalization(127.5, 64.0, name="tiny_normalization")(image)
    outputs = []
    for stage, filters in enumerate((6, 7, 8, 9, 10), 1):
        x = keras.layers.Conv2D(
            filters, 3, strides=2, padding="same", activation="silu", name=f"tiny_stage_{stage}"
        )(x)
        outputs.append(x)
    return keras.Model(image, outputs, name="tiny")


def deeplab(classes=3, input_shape=(None, None, 3)):
    return models.DeepLabV3Plus(
        tiny_backbone(input_shape[2]),
        classes,
        input_shape,
        aspp_filters=8,
        low_level_filters=5,
        decoder_filters=7,
        dropout=0.0,
    )


def fcn(classes=3, input_shape=(None, None, 3)):
    return models.FCN(tiny_backbone(input_shape[2]), classes, input_shape, head_filters=6)


def unet(classes=3, input_shape=(None, None, 3)):
    return models.UNet(
        tiny_backbone(input_shape[2]),
        classes,
        input_shape,
        decoder_filters=(12, 10, 8, 6, 4),
        normalization="group",
    )


def unet_plus_plus(classes=3, input_shape=(None, None, 3)):
    return models.UNetPlusPlus(
        tiny_backbone(input_shape[2]),
        classes,
        input_shape,
        filters=(4, 6, 8, 10, 12),
        normalization="group",
        dropout=0.0,
    )


def effnet_unet(classes=3, input_shape=(None, None, 3)):
    return models.EffNetUNet(
        "b0",
        classes,
        input_shape,
        decoder_filters=(12, 10, 8, 6, 4),
        decoder_dropout=0.0,
        normalization="group",
        backbone_weights=None,
    )


# Those on the tiny backbone take a second or two, EffNetUNet, on EfficientNet-B0, a minute.
TINY = {"DeepLabV3Plus": deeplab, "FCN": fcn, "UNetPlusPlus": unet_plus_plus, "UNet": unet}
BUILDERS = {**TINY, "EffNetUNet": effnet_unet}


def images(count: int = 1, size: tuple[int, int] = (47, 63), seed: int = 0) -> np.ndarray:
    """Smooth random images in 0..255."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (count, size[0] // 8 + 1, size[1] // 8 + 1, 3))
    fine = coarse.repeat(8, axis=1).repeat(8, axis=2)[:, : size[0], : size[1]]
    return (0.8 * fine + rng.uniform(0, 51, fine.shape)).astype("float32")


def labels(count: int, size: tuple[int, int] = (47, 63), classes: int = 3) -> np.ndarray:
    """Class numbers that an image of `images` explains: by its first channel's brightness."""
    red = images(count, size)[..., 0]
    return np.clip(red // (256 / classes), 0, classes - 1).astype("int32")
