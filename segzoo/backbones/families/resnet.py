"""ResNets and what was made of them, built directly.

    conv1     7x7/2, 3x3/2 pool                                        strides 2, 4
    conv2..5  blocks, the first of conv3 to conv5 with the stride      strides 4, 8, 16, 32

    basic        3x3, 3x3                          ResNet18, 34
    bottleneck   1x1, 3x3, 1x1 of four times the width; the stride is in the 3x3 in torchvision's
                 networks (v1.5), in the first 1x1 in Keras's and in SE-ResNet. The 3x3 has 32
                 groups in ResNeXt. In SENet a gate multiplies what is added to the shortcut.

Layers are named like those of Keras's ResNet50. Of torchvision's and timm's names,

    conv1_conv, conv1_bn                       are conv1, bn1 (layer0.conv1, layer0.bn1 in SENet)
    conv{s}_block{b}_{i}_conv, _{i}_bn         layer{s-1}.{b-1}.conv{i}, .bn{i}
    conv{s}_block{b}_0_conv, _0_bn             layer{s-1}.{b-1}.downsample.0, .downsample.1
    conv{s}_block{b}_se_reduce, _se_expand     layer{s-1}.{b-1}.se_module.fc1, .fc2

He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv 1512.03385,
table 1; Xie, Girshick, Dollár, Tu, He, "Aggregated Residual Transformations for Deep Neural
Networks", CVPR 2017, arXiv 1611.05431, table 1; Hu, Shen, Albanie, Sun, Wu, "Squeeze-and-Excitation
Networks", CVPR 2018, arXiv 1709.01507, table 1.
"""

from dataclasses import dataclass
from functools import partial

from keras import layers

from segzoo.backbones._rows import Paper, Row, Variant
from segzoo.backbones.construct import LAST, Layers, Stage
from segzoo.backbones.families import _papers as papers

_TIMM = "https://huggingface.co/timm/{}_in1k/resolve/main/model.safetensors"
_KERAS = "https://storage.googleapis.com/tensorflow/keras-applications/resnet/"


@dataclass(frozen=True)
class Plan:
    """What tells the networks apart.

    Attributes:
        blocks: of each stage.
        bottleneck: whether a block has three convolutions, not two.
        strided: which of a block's convolutions has the stride.
        groups: of the 3x3 convolution.
        width: its channels in the first stage.
        gates: whether a squeeze-and-excitation gate ends a block, and the stem is SENet's.
        bias: whether convolutions in front of a normalization have a bias.
        epsilon: of batch normalization.
        momentum: of batch normalization.
        initializer: of the convolutions.
    """

    blocks: tuple[int, int, int, int]
    bottleneck: bool = True
    strided: int = 2
    groups: int = 1
    width: int = 64
    gates: bool = False
    bias: bool = False
    epsilon: float = 1e-5
    momentum: float = 0.9
    initializer: str = "he_normal"


def resnet(plan: Plan, x, variant: Variant, output_stride: int) -> list:
    """The maps of a network of residual blocks.

    Args:
        plan: which network.
        x: normalized image (B, H, W, C).
        variant: what another library did otherwise.
        output_stride: strides beyond it become dilation.

    Returns:
        Maps of levels 2, 4, 8, 16 and 32.
    """
    make = Layers(
        variant,
        output_stride,
        epsilon=plan.epsilon,
        momentum=plan.momentum,
        kernel_initializer=plan.initializer,
    )
    x = make.conv(x, 64, 7, "conv1_conv", stride=make.stage(2).stride, use_bias=plan.bias)
    x = make.norm(x, "conv1_bn")
    x = layers.Activation("relu", name="conv1_relu")(x)  # (B, H/2, W/2, 64)
    maps = [x]
    # Behind a ReLU zeros pad as minus infinity does. SENet's pool starts at the edge and drops
    # an odd last row, which lies inside the image and is kept here unless it has to be dropped.
    pad = (1, 1) if not plan.gates else (0, 2) if variant.rounds_up else (0, 1)
    x = layers.ZeroPadding2D((pad, pad), data_format=LAST, name="pool1_pad")(x)
    x = layers.MaxPooling2D(3, make.stage(2).stride, data_format=LAST, name="pool1_pool")(x)
    for number, blocks in enumerate(plan.blocks[: (variant.depth or 5) - 1], 2):
        stage = make.stage(1 if number == 2 else 2)
        for block in range(1, blocks + 1):
            x = _block(make, plan, x, 2 ** (number - 2), stage, f"conv{number}_block{block}")
            stage = Stage(rate=stage.rate, first=stage.rate)
        maps.append(x)  # (B, H/4, W/4, 256), then (B, H/8, W/8, 512), ...
    return maps


def _block(make: Layers, plan: Plan, x, scale: int, stage: Stage, name: str):
    """Convolutions beside a shortcut; `scale` is the stage's width in units of the first one's."""
    if plan.bottleneck:
        filters = [(plan.width * scale, 1), (plan.width * scale, 3), (256 * scale, 1)]
    else:
        filters = [(64 * scale, 3), (64 * scale, 3)]
    strided = plan.strided if plan.bottleneck else 1
    last = filters[-1][0]
    shortcut = x
    if stage.stride > 1 or x.shape[-1] != last:
        shortcut = _conv_norm(make, plan, x, last, 1, f"{name}_0", stride=stage.stride)
    for place, (width, kernel) in enumerate(filters, 1):
        own = place == strided
        x = _conv_norm(
            make,
            plan,
            x,
            width,
            kernel,
            f"{name}_{place}",
            stride=stage.stride if own else 1,
            dilation=stage.first if own else stage.rate,
            groups=plan.groups if kernel == 3 else 1,
        )
        if place < len(filters):
            x = layers.Activation("relu", name=f"{name}_{place}_relu")(x)
    if plan.gates:
        x = _gate(make, x, name)
    x = layers.Add(name=f"{name}_add")([shortcut, x])
    return layers.Activation("relu", name=f"{name}_out")(x)


def _conv_norm(make: Layers, plan: Plan, x, filters: int, kernel: int, name: str, **options):
    x = make.conv(x, filters, kernel, f"{name}_conv", use_bias=plan.bias, **options)
    return make.norm(x, f"{name}_bn")


def _gate(make: Layers, x, name: str):
    """Each channel times a number between 0 and 1, from the means of all channels."""
    channels = x.shape[-1]
    gate = layers.GlobalAveragePooling2D(
        data_format=LAST, keepdims=True, name=f"{name}_se_squeeze"
    )(x)
    gate = make.conv(gate, channels // 16, 1, f"{name}_se_reduce", use_bias=True)
    gate = layers.Activation("relu", name=f"{name}_se_relu")(gate)
    gate = make.conv(gate, channels, 1, f"{name}_se_expand", use_bias=True)
    gate = layers.Activation("sigmoid", name=f"{name}_se_gate")(gate)
    return layers.Multiply(name=f"{name}_se_excite")([x, gate])


_18, _34, _50 = (2, 2, 2, 2), (3, 4, 6, 3), (3, 4, 6, 3)
_101, _152 = (3, 4, 23, 3), (3, 8, 36, 3)


def _row(
    name: str,
    family: str,
    paper: Paper,
    parameters: int,
    plan: Plan,
    normalization: str = "torch",
    imagenet: str | None = None,
) -> Row:
    """A row; `imagenet` is the address of the published weights."""
    files = {"imagenet": imagenet} if imagenet else {}
    channels = (256, 512, 1024, 2048) if plan.bottleneck else (64, 128, 256, 512)
    stages = (f"conv{stage}_block{count}_out" for stage, count in enumerate(plan.blocks, 2))
    return Row(
        name=name,
        family=family,
        weights=tuple(files),
        features=("conv1_relu", *stages),
        strides=(2, 4, 8, 16, 32),
        channels=(64, *channels),
        parameters=parameters,
        normalization=normalization,
        paper=paper,
        squeeze_excite=plan.gates,
        source=partial(resnet, plan),
        files=files,
    )


def _keras_row(depth: int, parameters: int, blocks: tuple[int, int, int, int]) -> Row:
    plan = Plan(
        blocks,
        strided=1,
        bias=True,
        epsilon=1.001e-5,
        momentum=0.99,
        initializer="glorot_uniform",
    )
    file = f"{_KERAS}resnet{depth}_weights_tf_dim_ordering_tf_kernels_notop.h5"
    return _row(f"resnet{depth}", "resnet", papers.RESNET, parameters, plan, "caffe", file)


ROWS = [
    _row(
        "resnet18",
        "resnet",
        papers.RESNET,
        11_186_112,
        Plan(_18, bottleneck=False),
        imagenet=_TIMM.format("resnet18.a1"),
    ),
    _row(
        "resnet34",
        "resnet",
        papers.RESNET,
        21_301_696,
        Plan(_34, bottleneck=False),
        imagenet=_TIMM.format("resnet34.a1"),
    ),
    _keras_row(50, 23_587_712, _50),
    _keras_row(101, 42_658_176, _101),
    _keras_row(152, 58_370_944, _152),
    _row(
        "resnet50v1_5",
        "resnet",
        papers.RESNET,
        23_561_152,
        Plan(_50),
        imagenet=_TIMM.format("resnet50.a1"),
    ),
    _row(
        "resnet101v1_5",
        "resnet",
        papers.RESNET,
        42_605_504,
        Plan(_101),
        imagenet=_TIMM.format("resnet101.a1h"),
    ),
    _row(
        "resnet152v1_5",
        "resnet",
        papers.RESNET,
        58_295_232,
        Plan(_152),
        imagenet=_TIMM.format("resnet152.a1h"),
    ),
    _row("resnext50", "resnext", papers.RESNEXT, 23_048_128, Plan(_50, groups=32, width=128)),
    _row("resnext101", "resnext", papers.RESNEXT, 86_945_216, Plan(_101, groups=32, width=256)),
    _row("seresnet50", "senet", papers.SENET, 26_092_144, Plan(_50, strided=1, gates=True)),
    _row("seresnet101", "senet", papers.SENET, 47_383_216, Plan(_101, strided=1, gates=True)),
    _row(
        "seresnext50",
        "senet",
        papers.SENET,
        25_579_120,
        Plan(_50, groups=32, width=128, gates=True),
    ),
    _row(
        "seresnext101",
        "senet",
        papers.SENET,
        47_044_272,
        Plan(_101, groups=32, width=128, gates=True),
    ),
]
