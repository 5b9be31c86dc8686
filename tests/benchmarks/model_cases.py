"""What is measured: each of segzoo's models beside a peer that does the same work.

segzoo's side is the row `measured` of `tests/cases.py`, by the same name. Data alone, since every
worker reads it, whatever library it holds. Weights are random everywhere, and normalization of the
input is left out on both sides.
"""

import functools
import pathlib
import sys
from dataclasses import dataclass, field

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))
from tests.cases import MEASURED


@dataclass(frozen=True)
class Case:
    """A peer's model with its arguments, and the kind of batch on which both libraries run."""

    title: str
    shape: tuple[int, int, int, int]
    classes: int
    library: str
    peer: str
    peer_options: dict = field(default_factory=dict)
    exclusive: bool = False  # classes exclude each other: softmax and its cross-entropy


def _roofs(variant, library, peer, peer_options, title=""):
    return Case(
        title=f"EffNetUNet {variant.upper()}{title}",
        shape=(2, 256, 256, 3),
        classes=1,
        library=library,
        peer=peer,
        peer_options=peer_options,
    )


def _streets(stride):
    return Case(
        title=f"FCN-{stride}s VGG16",
        shape=(2, 256, 256, 3),
        classes=13,
        library="notebook",
        peer="streets_fcn",
        peer_options={"stride": stride},
        exclusive=True,
    )


def _beside(library, keyword, title, peer, shape=(2, 256, 256, 3), encoder="resnet50", **options):
    return Case(
        title=title,
        shape=shape,
        classes=1,
        library=library,
        peer=peer,
        peer_options={keyword: encoder, "encoder_weights": None, **options},
    )


_smp = functools.partial(_beside, "segmentation_models_pytorch", "encoder_name")
_segmodels = functools.partial(_beside, "segmodels_keras", "backbone_name")


def _segformer(size, filters):
    return _smp(
        f"SegFormer B{size}",
        "Segformer",
        (1, 512, 512, 3),
        f"mit_b{size}",
        decoder_segmentation_channels=filters,
    )


CASES = {
    "deeplab": Case(
        title="DeepLabV3+ ResNet50, inner taps",
        shape=(4, 256, 256, 3),
        classes=1,
        library="notebook",
        peer="flood_deeplab",
    ),
    "deeplab-smp": Case(
        title="DeepLabV3+ ResNet50, output stride 16, separable",
        shape=(4, 256, 256, 3),
        classes=1,
        library="segmentation_models_pytorch",
        peer="DeepLabV3Plus",
        peer_options={"encoder_name": "resnet50", "encoder_weights": None},
    ),
    "deeplab-hub": Case(
        title="DeepLabV3+ ResNet50, output stride 32",
        shape=(4, 256, 256, 3),
        classes=1,
        library="keras_hub",
        peer="deeplab",
    ),
    "xception": Case(
        title="DeepLabV3+ aligned Xception",
        shape=(2, 128, 800, 3),
        classes=4,
        library="notebook",
        peer="steel_deeplab",
    ),
    "unetpp": Case(
        title="UNet++",
        shape=(2, 256, 384, 1),
        classes=4,
        library="notebook",
        peer="clouds_unet_plus_plus",
    ),
    "fcn8": _streets(8),
    "fcn32": _streets(32),
    "b0": _roofs("b0", "notebook", "roofs_effnet_unet", {"variant": "B0"}),
    "b7": _roofs("b7", "notebook", "roofs_effnet_unet", {"variant": "B7"}),
    "b0-sm": _roofs(
        "b0",
        "segmentation_models",
        "Unet",
        {"backbone_name": "efficientnetb0", "encoder_weights": None},
        title=", nearest upsampling",
    ),
    "b7-sm": _roofs(
        "b7",
        "segmentation_models",
        "Unet",
        {"backbone_name": "efficientnetb7", "encoder_weights": None},
        title=", nearest upsampling",
    ),
    "unet-smp": _smp("UNet ResNet50, nearest upsampling", "Unet"),
    "linknet-smp": _smp("LinkNet ResNet50", "Linknet"),
    "fpn-smp": _smp("FPN ResNet50", "FPN"),
    "pan-smp": _smp("PAN ResNet50", "PAN"),
    "manet-smp": _smp("MANet ResNet50", "MAnet"),
    "upernet-smp": _smp("UPerNet ResNet50, 256 channels", "UPerNet"),
    "pspnet-smp": _smp("PSPNet on three stages of ResNet50", "PSPNet"),
    "deeplab3-smp": _smp("DeepLabV3 ResNet50", "DeepLabV3"),
    "unet-smk": _segmodels("UNet ResNet50, nearest upsampling", "Unet"),
    "b0-smk": _segmodels("EffNetUNet B0, nearest upsampling", "Unet", encoder="efficientnetb0"),
    "fpn-smk": _segmodels("FPN ResNet50", "FPN", pyramid_aggregation="sum"),
    "linknet-smk": _segmodels("LinkNet ResNet50", "Linknet", decoder_block_type="transpose"),
    "pspnet-smk": _segmodels("PSPNet on three stages of ResNet50", "PSPNet", (2, 240, 240, 3)),
    "segformer-b0": _segformer(0, 256),
    "segformer-b2": _segformer(2, 768),
    "segformer-b0-hub": Case(
        title="SegFormer B0 (keras-hub)",
        shape=(1, 512, 512, 3),
        classes=1,
        library="keras_hub",
        peer="segformer",
    ),
}
assert set(CASES) == set(MEASURED)
