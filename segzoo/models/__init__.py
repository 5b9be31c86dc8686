"""Builders of segmentation models; each returns a plain `keras.Model`."""

from segzoo.models.deeplab_v3_plus import DeepLabV3Plus
from segzoo.models.fcn import FCN
from segzoo.models.unet import EffNetUNet, UNet
from segzoo.models.unet_plus_plus import UNetPlusPlus

__all__ = ["FCN", "DeepLabV3Plus", "EffNetUNet", "UNet", "UNetPlusPlus"]
