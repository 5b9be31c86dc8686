"""MobileNetV2 of torchvision.

Keras                      torchvision
Conv1, bn_Conv1            features.0.0, features.0.1
expanded_conv_depthwise    features.1.conv.0.0
block_3_expand             features.4.conv.0.0
block_3_depthwise_BN       features.4.conv.1.1
block_3_project            features.4.conv.2
Conv_1, Conv_1_bn          features.18.0, features.18.1
"""

from segzoo.weights.pytorch._layouts import Layout, by_rules

# Where the parts of a block stand; the first block does not expand.
_FIRST = {"depthwise": "0.0", "depthwise_BN": "0.1", "project": "1", "project_BN": "2"}
_OTHERS = {"expand": "0.0", "expand_BN": "0.1", "depthwise": "1.0", "depthwise_BN": "1.1"}
_OTHERS |= {"project": "2", "project_BN": "3"}

TORCHVISION = Layout(
    name="torchvision-mobilenetv2",
    title="torchvision's MobileNetV2",
    marks=("features.0.0.weight", "features.18.0.weight"),
    modules=by_rules(
        ("Conv1", "features.0.0"),
        ("bn_Conv1", "features.0.1"),
        ("Conv_1", "features.18.0"),
        ("Conv_1_bn", "features.18.1"),
        (r"expanded_conv_(\w+)", lambda m: f"features.1.conv.{_FIRST[m[1]]}"),
        (r"block_(\d+)_(\w+)", lambda m: f"features.{int(m[1]) + 1}.conv.{_OTHERS[m[2]]}"),
    ),
    unused=r"classifier\..*",
)
