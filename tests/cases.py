"""The one table of cases: every public builder, loss, metric and layer in a small form.

A row brings its subject under every common check, and `tests/test_cases.py` fails for a public name
without one. The tests take from here what they need, as do the benchmarks and the table of
`docs/models.md`. The module is data: it imports neither Keras nor segzoo until a case is called,
because the benchmarks also read it where neither is installed.
"""

import ast
import dataclasses
from collections.abc import Callable
from typing import Any

Shape = tuple[int | None, int | None, int]


@dataclasses.dataclass(frozen=True)
class Row:
    """A builder's row of the table.

    `small` are its smallest interesting arguments on the tiny backbone, without dropout, so that
    two runs agree. `variants` are further small forms by name: what differs from `small`, where
    "backbone" may be None for the builder's own encoder, or a key of `BACKBONES`. `real` is the
    published backbone of the slow checks, `paddings` are families that pad in different ways.
    `lacks` names checks that the builder is not expected to pass, with the reason. `documented` are
    the rows of the table in docs/models.md, as calls at full size; `measured` are those of the
    benchmarks, by the name of the comparison.
    """

    small: dict[str, Any]
    variants: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    backbone: str | None = "tiny"
    real: str = "mobilenetv2"
    paddings: tuple[str, ...] = ("resnet18", "mobilenetv2", "xception")
    lacks: dict[str, str] = dataclasses.field(default_factory=dict)
    documented: tuple[str, ...] = ()
    measured: dict[str, str] = dataclasses.field(default_factory=dict)


# One block for each builder, in alphabetical order.
MODELS = {
    "DeepLabV3": Row(
        small={"aspp_filters": 8, "dropout": 0.0},
        variants={"separable": {"separable": True, "output_stride": 16, "dropout": 0.1}},
        documented=('DeepLabV3("resnet50")',),
        measured={"deeplab3-smp": 'DeepLabV3("resnet50")'},
    ),
    "DeepLabV3Plus": Row(
        small={"aspp_filters": 8, "low_level_filters": 5, "decoder_filters": 7, "dropout": 0.0},
        variants={
            "separable": {"separable": True, "dropout": 0.1},
            "dilated": {"backbone": "tiny-dilated"},
        },
        documented=(
            'DeepLabV3Plus("mobilenetv2")',
            'DeepLabV3Plus("resnet50")',
            'DeepLabV3Plus("resnet50", separable=True)',
            'DeepLabV3Plus("resnet50", output_stride=8)',
            'DeepLabV3Plus("xception65")',
        ),
        measured={
            "deeplab": 'DeepLabV3Plus("resnet50", dropout=0.0, '
            'backbone_features=("conv2_block3_2_relu", "conv4_block6_2_relu"))',
            # The peer's rates and dropout, so that the work is the same.
            "deeplab-smp": 'DeepLabV3Plus("resnet50", separable=True, '
            "aspp_dilations=(12, 24, 36), dropout=0.5)",
            "deeplab-hub": 'DeepLabV3Plus("resnet50", output_stride=32, '
            "aspp_dilations=(6, 12, 18))",
            "xception": 'DeepLabV3Plus("xception65", separable=True, activation="sigmoid")',
        },
    ),
    "EffNetUNet": Row(
        small={"decoder_filters": (12, 10, 8, 6, 4), "decoder_dropout": 0.0},
        backbone="b0",
        real="b0",
        paddings=("b0",),
        documented=('EffNetUNet("b0")', 'EffNetUNet("b7")'),
        # segmentation_models upsamples by repetition and drops nothing out.
        measured={
            "b0": 'EffNetUNet("b0")',
            "b7": 'EffNetUNet("b7")',
            "b0-sm": 'EffNetUNet("b0", upsampling="nearest", decoder_dropout=0.0)',
            "b7-sm": 'EffNetUNet("b7", upsampling="nearest", decoder_dropout=0.0)',
            "b0-smk": 'EffNetUNet("b0", upsampling="nearest", decoder_dropout=0.0)',
        },
    ),
    "FCN": Row(
        small={"head_filters": 6},
        variants={"stride-16": {"stride": 16}, "stride-32": {"stride": 32, "dropout": 0.1}},
        real="vgg16",
        documented=('FCN("vgg16")', 'FCN("vgg16", stride=32)', 'FCN("mobilenetv2")'),
        measured={"fcn8": 'FCN("vgg16")', "fcn32": 'FCN("vgg16", stride=32)'},
    ),
    "FPN": Row(
        small={"pyramid_filters": 8, "decoder_filters": 32, "dropout": 0.0},
        variants={"concat": {"merge": "concat", "dropout": 0.2}},
        documented=('FPN("resnet50")',),
        measured={"fpn-smp": 'FPN("resnet50")', "fpn-smk": 'FPN("resnet50")'},
    ),
    "LinkNet": Row(
        small={"final_filters": 5},
        variants={"dilated": {"backbone": "tiny-dilated"}},
        documented=('LinkNet("resnet50")',),
        measured={"linknet-smp": 'LinkNet("resnet50")', "linknet-smk": 'LinkNet("resnet50")'},
    ),
    "MANet": Row(
        small={"decoder_filters": (12, 10, 8, 6, 4), "attention_filters": 4, "reduction": 1},
        documented=('MANet("resnet50")',),
        measured={"manet-smp": 'MANet("resnet50")'},
    ),
    "PAN": Row(
        small={"decoder_filters": 6},
        backbone="tiny-dilated",  # its pyramid halves the last map three times
        documented=('PAN("resnet50")',),
        measured={"pan-smp": 'PAN("resnet50")'},
    ),
    "PSPNet": Row(
        small={"bin_sizes": (1, 2, 3), "decoder_filters": 6, "dropout": 0.0},
        variants={"auxiliary": {"auxiliary": 16, "dropout": 0.1}},
        documented=('PSPNet("resnet50")',),
        measured=dict.fromkeys(
            ("pspnet-smp", "pspnet-smk"),
            'PSPNet("resnet50", backbone_features=("conv3_block4_out",))',
        ),
    ),
    "SegFormer": Row(
        small={"decoder_filters": 8, "dropout": 0.0},
        variants={
            "dilated": {"backbone": "tiny-dilated", "dropout": 0.1},
            "mit": {"backbone": "tiny-mit"},
        },
        real="mitb0",
        documented=('SegFormer("mitb0")', 'SegFormer("mitb2")'),
        measured={
            "segformer-b0": 'SegFormer("mitb0")',
            "segformer-b2": 'SegFormer("mitb2")',
            "segformer-b0-hub": 'SegFormer("mitb0")',
        },
    ),
    "UNet": Row(
        small={"decoder_filters": (12, 10, 8, 6, 4)},
        variants={
            "transpose": {"upsampling": "transpose", "normalization": "group"},
            "own": {"backbone": None},
            "own-transpose": {"backbone": None, "upsampling": "transpose"},
            "scse": {"attention": "scse"},
            "gate": {"attention": "gate"},
        },
        documented=('UNet("mobilenetv2")', "UNet(None)", 'UNet("resnet50")'),
        measured=dict.fromkeys(("unet-smp", "unet-smk"), 'UNet("resnet50", upsampling="nearest")'),
    ),
    "UNet3Plus": Row(
        small={"skip_filters": 4},
        variants={
            "own": {"backbone": None, "filters": (4, 6, 8, 10)},
            "own-deep": {"backbone": None, "filters": (4, 6, 8), "deep_supervision": True},
        },
        documented=("UNet3Plus(None)", 'UNet3Plus("resnet50")'),
    ),
    "UNetPlusPlus": Row(
        small={"filters": (4, 6, 8, 10, 12), "dropout": 0.0},
        variants={
            "own": {"backbone": None, "dropout": 0.5},
            "own-gate": {"backbone": None, "attention": "gate"},
            "own-deep": {"backbone": None, "deep_supervision": True},
            "own-nearest": {
                "backbone": None,
                "upsampling": "nearest",
                "normalization": "batch",
                "block_activation": "relu",
            },
        },
        documented=("UNetPlusPlus(None)", 'UNetPlusPlus("resnet50")'),
        measured={
            "unetpp": 'UNetPlusPlus(None, activation="sigmoid", '
            'kernel_regularizer={"class_name": "L2", "config": {"l2": 1e-4}})',
        },
    ),
    "UPerNet": Row(
        small={"bin_sizes": (1, 2), "decoder_filters": 6, "dropout": 0.0},
        documented=('UPerNet("resnet50")', 'UPerNet("convnexttiny")'),
        measured={"upernet-smp": 'UPerNet("resnet50", decoder_filters=256)'},
    ),
}


def tiny_backbone(channels: int = 3, name: str = "tiny", output_stride: int = 32):
    """Normalization of 0..255 and five strided convolutions: maps of stride 2 to 32, at once.

    Past `output_stride` strides become dilation, as in a published backbone. SiLU has a gradient
    everywhere, and unlike exact GELU every converter knows it.
    """
    import keras

    from segzoo import layers

    image = keras.Input((None, None, channels), name=f"{name}_image")
    x = layers.ImageNormalization(127.5, 64.0, name=f"{name}_normalization")(image)
    outputs = []
    for stage, filters in enumerate((6, 7, 8, 9, 10), 1):
        dense = 2**stage > output_stride
        x = keras.layers.Conv2D(
            filters,
            3,
            strides=1 if dense else 2,
            dilation_rate=2**stage // output_stride if dense else 1,
            padding="same",
            data_format="channels_last",
            activation="silu",
            name=f"{name}_stage_{stage}",
        )(x)
        outputs.append(x)
    return keras.Model(image, outputs, name=name)


def rounding_down(channels: int = 3):
    """Five convolutions and pools that round odd sizes down, where the tiny backbone rounds up."""
    import keras

    image = x = keras.Input((None, None, channels))
    maps = []
    for stage in range(5):
        x = keras.layers.Conv2D(4, 3, padding="same", name=f"conv_{stage}")(x)
        x = keras.layers.MaxPooling2D(2, name=f"pool_{stage}")(x)
        maps.append(x)
    return keras.Model(image, maps)


def tiny_mit(channels: int = 3):
    """Normalization and a Mix Transformer of one block for each stage: maps of stride 4 to 32."""
    import keras

    from segzoo import layers
    from segzoo.backbones.families.mit import mit

    image = keras.Input((None, None, channels))
    x = layers.ImageNormalization(127.5, 64.0)(image)
    return keras.Model(image, mit(x, (1, 1, 1, 1), (4, 6, 10, 16), drop_path=0.0))


BACKBONES = {
    "tiny": tiny_backbone,
    "tiny-dilated": lambda channels: tiny_backbone(channels, output_stride=8),
    "rounding-down": rounding_down,
    "tiny-mit": tiny_mit,
}


@dataclasses.dataclass(frozen=True)
class Case:
    """A builder on a backbone with its arguments; calling it builds the model.

    Without published weights, and with the backbone's normalization in the graph.
    """

    builder: str
    backbone: str | None
    options: dict[str, Any]

    def __call__(self, classes: int = 1, input_shape: Shape = (None, None, 3), **more: Any):
        """The model; `more` replaces the case's own arguments."""
        from segzoo import models

        backbone, options = self.backbone, {**self.options, **more}
        if backbone in BACKBONES:
            backbone = BACKBONES[backbone](input_shape[2])
        elif backbone is not None:
            options.setdefault("backbone_weights", None)
        return getattr(models, self.builder)(backbone, classes, input_shape, **options)

    def on(self, backbone: str | None) -> "Case":
        """The same on another backbone."""
        return dataclasses.replace(self, backbone=backbone)

    @property
    def scale(self) -> float:
        """The largest value of an image: 1 where an encoder of its own normalizes nothing."""
        return 1.0 if self.backbone is None else 255.0

    def images(self, rng, *shape: int):
        """Random images of that range."""
        return rng.uniform(0, self.scale, shape).astype("float32")


def _small(builder: str, row: Row) -> dict[str, Case]:
    """The small forms of a builder: the first by its name, then the variants."""
    cases = {builder: Case(builder, row.backbone, row.small)}
    for name, options in row.variants.items():
        options = {**row.small, **options}
        backbone = options.pop("backbone", row.backbone)
        cases[f"{builder}-{name}"] = Case(builder, backbone, options)
    return cases


def _called(text: str) -> Case:
    """The case behind a call such as `FCN("vgg16", stride=32)`."""
    call: Any = ast.parse(text, mode="eval").body
    options = {argument.arg: ast.literal_eval(argument.value) for argument in call.keywords}
    return Case(call.func.id, ast.literal_eval(call.args[0]), options)


def _each(choose: Callable[[str, Row], dict[str, Case]]) -> dict[str, Case]:
    return {key: case for name, row in MODELS.items() for key, case in choose(name, row).items()}


# Every small form, and of these the first of each builder. Both again without those that need a
# published network, EffNetUNet: they build in a moment.
ALL = _each(_small)
FIRST = {name: ALL[name] for name in MODELS}
SMALL = {k: case for k, case in ALL.items() if case.backbone in (None, *BACKBONES)}
TINY = {name: case for name, case in FIRST.items() if name in SMALL}
# The first of each builder on a published backbone, and on families that pad in different ways:
# ResNet pads both sides by hand, MobileNetV2 as its static size would have it, Xception's stem not
# at all.
REAL = _each(lambda name, row: {f"{name}-{row.real}": FIRST[name].on(row.real)})
PADDINGS = _each(lambda name, row: {f"{name}-{b}": FIRST[name].on(b) for b in row.paddings})
# At full size: the rows of docs/models.md, and what the benchmarks measure.
DOCUMENTED = _each(lambda _, row: {text: _called(text) for text in row.documented})
MEASURED = _each(lambda _, row: {key: _called(text) for key, text in row.measured.items()})


def each(what: str, quick: dict[str, Case] = TINY, slow: dict[str, Case] = SMALL) -> list:
    """Parameters for pytest: the cases of a check, those that are not `quick` marked slow.

    A builder whose row lacks `what` is expected to fail.
    """
    import pytest

    def marks(name, case):
        reason = MODELS[case.builder].lacks.get(what)
        fails = [pytest.mark.xfail(reason=reason, strict=True)] if reason else []
        return fails + ([] if name in quick else [pytest.mark.slow])

    return [pytest.param(case, id=k, marks=marks(k, case)) for k, case in (quick | slow).items()]


def some(values, quick) -> list:
    """Parameters for pytest: values, those that are not `quick` marked slow."""
    import pytest

    return [pytest.param(x, marks=[] if x in quick else [pytest.mark.slow]) for x in values]


@dataclasses.dataclass(frozen=True)
class LossRow:
    """A loss: its kind, and what the common tests need to know.

    `kind`: "region" (ratio of counts with the shared arguments), "counts" (another ratio of
    counts), "recall" (the same of the true pixels alone), "pixel", "map" (a pixel loss whose truth
    is a map of distances), "hard" (some pixels of a pixel loss), "shape" (Lovasz, boundaries,
    skeletons: no pixel weights) or "sum". `inner` is the loss that another one is made of.
    `several` losses need more than one class, `sigmoid` ones read every channel by itself,
    `arguments` are those that a loss cannot do without.
    """

    kind: str
    several: bool = False
    sigmoid: bool = False
    inner: str = ""
    arguments: dict[str, Any] = dataclasses.field(default_factory=dict)


# The classes; each has a function of its math beside it. Their oracles: tests/losses/helpers.py.
LOSSES = {
    "BCEDice": LossRow("sum", sigmoid=True),
    "BinaryCrossentropy": LossRow("pixel", sigmoid=True),
    "BinaryFocal": LossRow("pixel", sigmoid=True),
    "BoundaryDistance": LossRow("map"),
    "BoundaryF1": LossRow("shape"),
    "CategoricalCrossentropy": LossRow("pixel", several=True),
    "CategoricalFocal": LossRow("pixel", several=True),
    "CenterlineDice": LossRow("shape"),
    "Dice": LossRow("region"),
    "FocalTversky": LossRow("region"),
    "GeneralizedDice": LossRow("counts"),
    "Jaccard": LossRow("region"),
    "LogCoshDice": LossRow("region"),
    "LovaszHinge": LossRow("shape", sigmoid=True),
    "LovaszSoftmax": LossRow("shape", several=True),
    "MCC": LossRow("region"),
    "OHEM": LossRow("hard", several=True, inner="CategoricalCrossentropy"),
    "SkeletonRecall": LossRow("recall"),
    "Tversky": LossRow("region"),
}
# What else `segzoo.losses` offers, by the file that tests it.
LOSS_HELPERS = {
    "Compound": "losses/test_training.py",
    "deep_supervision_weights": "losses/test_hard.py",
    "signed_distance": "losses/test_maps.py",
    "skeleton": "losses/test_maps.py",
}


@dataclasses.dataclass(frozen=True)
class MetricRow:
    """A streaming metric: which of the shared arguments it takes.

    `averaged` metrics take `average` and `class_weights`, `decided` ones a `threshold`, `named`
    ones `class_names` and `empty_score`; `region` ones are a ratio of tp, fp and fn. `arguments`
    are those that a metric cannot do without.
    """

    averaged: bool = True
    decided: bool = True
    named: bool = True
    region: bool = False
    arguments: dict[str, Any] = dataclasses.field(default_factory=dict)


METRICS = {
    "BoundaryF1Score": MetricRow(),
    "BoundaryIoU": MetricRow(),
    "CalibrationError": MetricRow(averaged=False, decided=False, named=False),
    "ConfusionMatrix": MetricRow(averaged=False),
    "DiceScore": MetricRow(region=True),
    "FScore": MetricRow(region=True),
    "IoU": MetricRow(region=True),
    "PixelAccuracy": MetricRow(),
    "Precision": MetricRow(region=True),
    "Recall": MetricRow(region=True),
    "ThresholdSearch": MetricRow(decided=False),
}
# The functions, by the file that tests them.
METRIC_FUNCTIONS = {
    "average_surface_distance": "metrics/test_surface.py",
    "boundary_f1_score": "metrics/test_functional.py",
    "counts": "metrics/test_functional.py",
    "dice_coef": "metrics/test_functional.py",
    "f_score": "metrics/test_functional.py",
    "hausdorff_distance": "metrics/test_surface.py",
    "iou_score": "metrics/test_functional.py",
    "surface_dice": "metrics/test_surface.py",
}


# Layers by class, or class and variant, with their arguments.
LAYERS: dict[str, dict[str, Any]] = {
    "AdaptiveAveragePooling2D": {"bins": 3},
    "AtrousSpatialPyramidPooling": {"filters": 5, "dilations": (2, 3), "separable": True},
    "AtrousSpatialPyramidPooling-instance": {
        "filters": 5,
        "dilations": (2,),
        "normalization": "instance",
    },
    "AttentionGate": {"filters": 3},
    "BatchNormalization": {},
    "ChannelGate": {"reduction": 2},
    "ConvBlock": {"filters": 6, "kernel_size": 3, "strides": 2, "normalization": "group"},
    "ConvBlock-dilated": {"filters": 6, "kernel_size": 5, "dilation_rate": 3, "activation": "elu"},
    "ConvBlock-plain": {
        "filters": 6,
        "normalization": None,
        "activation": None,
        "kernel_regularizer": {"class_name": "L2", "config": {"l2": 1e-3}},
    },
    "CropLike": {},
    "DilatedPooling2D": {"pool_size": 3, "dilation_rate": 2},
    "DilatedPooling2D-average": {"pool_size": (2, 3), "dilation_rate": 3, "mode": "average"},
    "EfficientSelfAttention": {"filters": 6, "heads": 3, "reduction": 2},
    "EfficientSelfAttention-dilated": {"filters": 6, "reduction": 2, "dilation_rate": 3},
    "GroupedConv2D": {"filters": 6, "kernel_size": 3, "groups": 3, "strides": 2, "padding": "same"},
    "HalvingMaxPooling2D": {},
    "ImageNormalization": {"mean": (120.0, 110.0, 100.0), "std": 60.0, "reverse_channels": True},
    "MixFeedForward": {"filters": 6, "expansion": 2},
    "OverlapPatchEmbedding": {"filters": 6, "patch_size": 7, "strides": 4},
    "OverlapPatchEmbedding-dilated": {"filters": 6, "strides": 1, "dilation_rate": 2},
    "PhaseShift2D": {"dilation_rate": 2},
    "PositionAttention": {"filters": 3},
    "ResizeLike": {},
    "ResizeLike-corners": {"align_corners": True},
    "ResizeLike-nearest": {"interpolation": "nearest"},
    "ResizeLike-floor": {"interpolation": "nearest_floor"},
    "SeparableConvBlock": {"filters": 6, "dilation_rate": 2},
    "SeparableConvBlock-instance": {"filters": 6, "strides": 2, "normalization": "instance"},
    "SpatialChannelSqueezeExcitation": {"reduction": 2},
    "Upsample": {"factor": 3},
    "Upsample-nearest": {"factor": 2, "interpolation": "nearest"},
}
# Layers that take a second map, whose size they give to the first.
TWO_INPUTS = ("AttentionGate", "CropLike", "ResizeLike")


def make_layer(name: str):
    """The layer of a row of `LAYERS`."""
    from segzoo import layers

    return getattr(layers, name.partition("-")[0])(**LAYERS[name])
