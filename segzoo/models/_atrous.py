"""Atrous spatial pyramid pooling on an encoder's last map, for DeepLabV3 and DeepLabV3+."""

from collections.abc import Sequence

from segzoo.layers import AtrousSpatialPyramidPooling
from segzoo.models._features import Features
from segzoo.models._style import Style

DILATIONS = {8: (12, 24, 36), 16: (6, 12, 18), 32: (3, 6, 9)}
OUTPUT_STRIDES = tuple(DILATIONS)


def atrous_pyramid(
    features: Features,
    style: Style,
    *,
    dilations: Sequence[int] | None,
    filters: int,
    separable: bool,
    dropout: float,
):
    """The pyramid on the last map; rates of None follow the map's stride."""
    aspp = AtrousSpatialPyramidPooling(
        filters,
        dilations or DILATIONS[min(max(features.coarsest.stride, 8), 32)],
        separable=separable,
        dropout=dropout,
        normalization=style.normalization,
        activation=style.activation,
        epsilon=style.epsilon,
        kernel_regularizer=style.kernel_regularizer,
        name="aspp",
    )
    # `call` instead of calling the layer puts every branch into the model under its own name.
    return aspp.call(features.coarsest.x)  # (B, H/16, W/16, filters)
