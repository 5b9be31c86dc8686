"""MA-Net of segmentation_models_pytorch: this library's, with another attention of positions."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from segzoo.layers import PositionAttention
from segzoo.layers.resize import size_of
from segzoo.models._features import Features
from segzoo.models._style import Style
from segzoo.models.manet import manet
from segzoo.models.pytorch._architecture import Architecture, interpolation, widths


@keras.saving.register_keras_serializable(package="segzoo.models")
class AttentionOverPairs(PositionAttention):
    """`PositionAttention` whose softmax is over all pairs of pixels of an image at once.

    With N pixels, `P = softmax(Q K')` over its N x N entries and `Y = P V` of N rows with C
    channels, the output is x plus Y read on as C planes of N pixels: PyTorch reshapes where a
    transpose would be due, and the weights have learned with that.

    Args:
        filters: int >= 1, channels in which pixels are compared. Defaults to 64.

    Call arguments:
        x: tensor (B, H, W, C), of any size.

    Returns:
        Tensor (B, H, W, C).

    Example:
        >>> import keras
        >>> from segzoo.models.pytorch.manet import AttentionOverPairs
        >>> tuple(AttentionOverPairs(4)(keras.ops.ones((2, 5, 7, 8))).shape)
        (2, 5, 7, 8)
    """

    def call(self, x):
        (height, width), channels = size_of(x), x.shape[-1]
        pixels = height * width
        query = ops.reshape(self.query(x), (-1, pixels, self.filters))
        key = ops.reshape(self.key(x), (-1, pixels, self.filters))
        value = ops.reshape(self.value(x), (-1, pixels, channels))
        # In float32: the products are not scaled, and a half would overflow.
        query, key = ops.cast(query, "float32"), ops.cast(key, "float32")
        scores = ops.matmul(query, ops.transpose(key, (0, 2, 1)))
        shares = ops.softmax(ops.reshape(scores, (-1, pixels * pixels)))
        shares = ops.cast(ops.reshape(shares, (-1, pixels, pixels)), value.dtype)
        planes = ops.reshape(ops.matmul(shares, value), (-1, channels, height, width))
        return x + ops.transpose(planes, (0, 2, 3, 1))


def _maps(features: Features) -> Features:
    """Without a map that has no channels: what has no skip is enlarged alone."""
    maps = tuple(map for map in features.maps if map.channels)
    return Features(features.image, maps, features.rounds_up)


def _manet(features: Features, style: Style, options: Mapping[str, Any]):
    x, _ = manet(
        _maps(features),
        style,
        decoder_filters=widths(options, len(features.maps)),
        attention=AttentionOverPairs(options["decoder_pab_channels"], name="position_attention"),
        reduction=16,
        upsampling=interpolation(options),
    )
    return x


def _modules(features: Features, options: Mapping[str, Any]) -> dict[str, str]:
    center = "decoder.center"
    modules = {
        "position_attention/query": f"{center}.center_conv",
        "position_attention/key": f"{center}.top_conv",
        "position_attention/value": f"{center}.bottom_conv",
        "position_attention_conv/conv": f"{center}.out_conv",
    }
    for stage in range(len(features.maps)):
        ours, theirs = f"decoder_{stage + 1}", f"decoder.blocks.{stage}"
        modules |= {f"{ours}_high_{k}": f"{theirs}.hl_conv.{k - 1}" for k in (1, 2)}
        modules |= {f"{ours}_conv_{k}": f"{theirs}.conv{k}" for k in (1, 2)}
        modules |= {f"{ours}_gate_high": f"{theirs}.SE_hl", f"{ours}_gate_low": f"{theirs}.SE_ll"}
    return modules


MANET = Architecture(
    {
        "decoder_use_norm": "batchnorm",
        "decoder_channels": (256, 128, 64, 32, 16),
        "decoder_pab_channels": 64,
        "decoder_interpolation": "nearest",
    },
    _manet,
    _modules,
    least_depth=1,
)
