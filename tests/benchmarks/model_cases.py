"""What is measured: each of segzoo's models beside a peer that does the same work.

Data alone, since every worker reads it, whatever library it holds. Weights are random everywhere,
and normalization of the input is left out on both sides.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Case:
    """A pair: a builder of segzoo's and a peer's, with their arguments, on one kind of batch.

    `targets` are the peer's time divided by segzoo's, of predict and of a training step.
    """

    title: str
    shape: tuple[int, int, int, int]
    classes: int
    builder: str
    options: dict
    library: str
    peer: str
    peer_options: dict = field(default_factory=dict)
    targets: tuple[float | None, float | None] = (None, None)
    exclusive: bool = False  # classes exclude each other: softmax and its cross-entropy


TAPS = ("conv2_block3_2_relu", "conv4_block6_2_relu")
L2 = {"class_name": "L2", "config": {"l2": 1e-4}}
FLOOD = {"backbone": "resnet50", "backbone_features": TAPS, "dropout": 0.0}
# segmentation_models upsamples by repetition and drops nothing out.
PLAIN = {"upsampling": "nearest", "decoder_dropout": 0.0}


def _roofs(variant, library, peer, peer_options, targets, **options):
    return Case(
        title=f"EffNetUNet {variant.upper()}" + (", nearest upsampling" if options else ""),
        shape=(2, 256, 256, 3),
        classes=1,
        builder="EffNetUNet",
        options={"variant": variant, **options},
        library=library,
        peer=peer,
        peer_options=peer_options,
        targets=targets,
    )


def _streets(stride):
    return Case(
        title=f"FCN-{stride}s VGG16",
        shape=(2, 256, 256, 3),
        classes=13,
        builder="FCN",
        options={"backbone": "vgg16", "stride": stride},
        library="notebook",
        peer="streets_fcn",
        peer_options={"stride": stride},
        targets=(1.05, 1.05),
        exclusive=True,
    )


CASES = {
    "deeplab": Case(
        title="DeepLabV3+ ResNet50, inner taps",
        shape=(4, 256, 256, 3),
        classes=1,
        builder="DeepLabV3Plus",
        options=FLOOD,
        library="notebook",
        peer="flood_deeplab",
        targets=(1.25, 1.25),
    ),
    "deeplab-smp": Case(
        title="DeepLabV3+ ResNet50, output stride 16, separable",
        shape=(4, 256, 256, 3),
        classes=1,
        builder="DeepLabV3Plus",
        # The peer's rates and dropout, so that the work is the same.
        options={
            "backbone": "resnet50",
            "separable": True,
            "aspp_dilations": (12, 24, 36),
            "dropout": 0.5,
        },
        library="segmentation_models_pytorch",
        peer="DeepLabV3Plus",
        peer_options={"encoder_name": "resnet50", "encoder_weights": None},
        targets=(1.0, 1.0),
    ),
    "deeplab-hub": Case(
        title="DeepLabV3+ ResNet50, output stride 32",
        shape=(4, 256, 256, 3),
        classes=1,
        builder="DeepLabV3Plus",
        options={"backbone": "resnet50", "output_stride": 32, "aspp_dilations": (6, 12, 18)},
        library="keras_hub",
        peer="deeplab",
    ),
    "xception": Case(
        title="DeepLabV3+ aligned Xception",
        shape=(2, 128, 800, 3),
        classes=4,
        builder="DeepLabV3Plus",
        options={"backbone": "xception65", "separable": True, "activation": "sigmoid"},
        library="notebook",
        peer="steel_deeplab",
        targets=(1.0, 1.0),
    ),
    "unetpp": Case(
        title="UNet++",
        shape=(2, 256, 384, 1),
        classes=4,
        builder="UNetPlusPlus",
        options={"backbone": None, "activation": "sigmoid", "kernel_regularizer": L2},
        library="notebook",
        peer="clouds_unet_plus_plus",
        targets=(1.15, 1.15),
    ),
    "fcn8": _streets(8),
    "fcn32": _streets(32),
    "b0": _roofs("b0", "notebook", "roofs_effnet_unet", {"variant": "B0"}, (1.1, 1.1)),
    "b7": _roofs("b7", "notebook", "roofs_effnet_unet", {"variant": "B7"}, (1.1, 1.1)),
    "b0-sm": _roofs(
        "b0",
        "segmentation_models",
        "Unet",
        {"backbone_name": "efficientnetb0", "encoder_weights": None},
        (1.0, None),
        **PLAIN,
    ),
    "b7-sm": _roofs(
        "b7",
        "segmentation_models",
        "Unet",
        {"backbone_name": "efficientnetb7", "encoder_weights": None},
        (1.0, None),
        **PLAIN,
    ),
}
FIRST_TARGET = 1.3  # of the first training step beside the notebooks' graphs
