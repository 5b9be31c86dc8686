"""ResNet and ResNeXt of torchvision and timm, SE-ResNet of the authors of SENet.

Keras                    torchvision, timm       SENet
conv1_conv               conv1                   layer0.conv1
conv3_block1_0_conv      layer2.0.downsample.0   the same
conv3_block1_2_bn        layer2.0.bn2            the same
conv3_block1_se_reduce                           layer2.0.se_module.fc1
"""

from segzoo.weights.pytorch._layouts import Layout, by_rules

_BLOCK = r"conv(\d)_block(\d+)_"
_GATES = {"reduce": "fc1", "expand": "fc2"}


def _block(match) -> str:
    return f"layer{int(match[1]) - 1}.{int(match[2]) - 1}"


_RULES = (
    (_BLOCK + "0_conv", lambda m: f"{_block(m)}.downsample.0"),
    (_BLOCK + "0_bn", lambda m: f"{_block(m)}.downsample.1"),
    (_BLOCK + r"(\d)_(conv|bn)", lambda m: f"{_block(m)}.{m[4]}{m[3]}"),
)

TORCHVISION = Layout(
    name="torchvision-resnet",
    title="torchvision's and timm's ResNet",
    marks=("conv1.weight", "layer1.0.conv1.weight"),
    modules=by_rules((r"conv1_(conv|bn)", r"\g<1>1"), *_RULES),
    unused=r"fc\..*",
)
SENET = Layout(
    name="senet",
    title="SE-ResNet of the authors of SENet",
    marks=("layer0.conv1.weight", "layer1.0.conv1.weight"),
    modules=by_rules(
        (r"conv1_(conv|bn)", r"layer0.\g<1>1"),
        (_BLOCK + "se_(reduce|expand)", lambda m: f"{_block(m)}.se_module.{_GATES[m[3]]}"),
        *_RULES,
    ),
    unused=r"last_linear\..*",
)
