"""Builders of segmentation models; each returns a plain `keras.Model`."""

from segzoo.models.classes import class_colors, class_names
from segzoo.models.deeplab_v3 import DeepLabV3
from segzoo.models.deeplab_v3_plus import DeepLabV3Plus
from segzoo.models.fcn import FCN
from segzoo.models.fpn import FPN
from segzoo.models.linknet import LinkNet
from segzoo.models.manet import MANet
from segzoo.models.pan import PAN
from segzoo.models.pspnet import PSPNet
from segzoo.models.pytorch.reading import from_pytorch
from segzoo.models.segformer import SegFormer
from segzoo.models.unet import EffNetUNet, UNet
from segzoo.models.unet_3_plus import UNet3Plus
from segzoo.models.unet_plus_plus import UNetPlusPlus
from segzoo.models.upernet import UPerNet

__all__ = [
    "FCN",
    "FPN",
    "PAN",
    "DeepLabV3",
    "DeepLabV3Plus",
    "EffNetUNet",
    "LinkNet",
    "MANet",
    "PSPNet",
    "SegFormer",
    "UNet",
    "UNet3Plus",
    "UNetPlusPlus",
    "UPerNet",
    "class_colors",
    "class_names",
    "from_pytorch",
]
