"""EfficientNet and EfficientNet-Lite, in timm's names and in those of lukemelas.

    Keras                timm                     lukemelas
    stem_conv, stem_bn   conv_stem, bn1           _conv_stem, _bn0
    block1a_dwconv       blocks.0.0.conv_dw       _blocks.0._depthwise_conv
    block1a_project_bn   blocks.0.0.bn2           _blocks.0._bn2
    block2b_expand_conv  blocks.1.1.conv_pw       _blocks.2._expand_conv
    block2b_se_reduce    blocks.1.1.se.conv_reduce  _blocks.2._se_reduce
    block2b_project_bn   blocks.1.1.bn3           _blocks.2._bn2
    top_conv, top_bn     conv_head, bn2           _conv_head, _bn1

In timm's names two networks are published: timm's own, and those of segmentation_models_pytorch
and timm's `efficientnet_*`, which pad and normalize otherwise. The names do not tell them apart.
"""

import re

from segzoo.weights.pytorch._layouts import Layout

_BLOCK = re.compile(r"(block(\d)([a-z]))_(\w+)")
_TIMM = {
    "expand_conv": "conv_pw",
    "expand_bn": "bn1",
    "dwconv": "conv_dw",
    "bn": "bn2",
    "se_reduce": "se.conv_reduce",
    "se_expand": "se.conv_expand",
    "project_conv": "conv_pwl",
    "project_bn": "bn3",
}
# A block that does not expand has no `conv_pw` in front, and takes the name for its last.
_TIMM_FIRST = {**_TIMM, "bn": "bn1", "project_conv": "conv_pw", "project_bn": "bn2"}
_TIMM_ENDS = {"stem_conv": "conv_stem", "stem_bn": "bn1", "top_conv": "conv_head", "top_bn": "bn2"}
_LUKEMELAS = {
    "expand_conv": "_expand_conv",
    "expand_bn": "_bn0",
    "dwconv": "_depthwise_conv",
    "bn": "_bn1",
    "se_reduce": "_se_reduce",
    "se_expand": "_se_expand",
    "project_conv": "_project_conv",
    "project_bn": "_bn2",
}
_LUKEMELAS_ENDS = {
    "stem_conv": "_conv_stem",
    "stem_bn": "_bn0",
    "top_conv": "_conv_head",
    "top_bn": "_bn1",
}


def _timm(paths: list[str]) -> dict[str, str]:
    found = {}
    for path in paths:
        match = _BLOCK.fullmatch(path)
        if match:
            block, stage, place, part = match.groups()
            parts = _TIMM if f"{block}_expand_conv" in paths else _TIMM_FIRST
            if part in parts:
                found[path] = f"blocks.{int(stage) - 1}.{ord(place) - ord('a')}.{parts[part]}"
        elif path in _TIMM_ENDS:
            found[path] = _TIMM_ENDS[path]
    return found


def _lukemelas(paths: list[str]) -> dict[str, str]:
    blocks: dict[str, int] = {}  # lukemelas numbers them through
    found = {}
    for path in paths:
        match = _BLOCK.fullmatch(path)
        if match and match[4] in _LUKEMELAS:
            number = blocks.setdefault(match[1], len(blocks))
            found[path] = f"_blocks.{number}.{_LUKEMELAS[match[4]]}"
        elif path in _LUKEMELAS_ENDS:
            found[path] = _LUKEMELAS_ENDS[path]
    return found


TIMM = Layout(
    name="timm-efficientnet",
    title="EfficientNet in timm's names",
    marks=("conv_stem.weight", "blocks.0.0.conv_dw.weight"),
    modules=_timm,
    unused=r"(conv_head|bn2|classifier)\..*",
)
LUKEMELAS = Layout(
    name="lukemelas-efficientnet",
    title="EfficientNet in the names of lukemelas",
    marks=("_conv_stem.weight", "_blocks.0._depthwise_conv.weight"),
    modules=_lukemelas,
    unused=r"(_conv_head|_bn1|_fc)\..*",
)
