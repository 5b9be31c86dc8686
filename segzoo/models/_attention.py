"""The `attention` option of U-Net and UNet++."""

from segzoo.layers import AttentionGate, SpatialChannelSqueezeExcitation
from segzoo.models._features import Map

ATTENTIONS = (None, "scse", "gate")


def recalibrate(x, attention: str | None, name: str):
    """`x` with its channels and pixels weighed, where the attention is "scse" (Roy et al. 2018)."""
    if attention != "scse":
        return x
    return SpatialChannelSqueezeExcitation(name=f"{name}_scse")(x)


def gate_skip(skip: Map, coarser, stride: int, attention: str | None, name: str):
    """A skip, its pixels weighed by a map of `stride`, where the attention is "gate".

    Half of the skip's channels for the sum, as in the code of Oktay et al. 2018.
    """
    if attention != "gate":
        return skip.x
    gate = AttentionGate(
        max(skip.channels // 2, 1), max(stride // skip.stride, 1), name=f"{name}_gate"
    )
    return gate(skip.x, coarser)
