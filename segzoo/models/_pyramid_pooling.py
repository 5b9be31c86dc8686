"""Pyramid pooling: the means of a map's regions at several scales, beside the map.

    x --+------------------------------------------------------+
        +- mean of the map -------- 1x1 -- resize to x --------+
        +- means of 2 x 2 regions - 1x1 -- resize to x --------+- concatenate
        +- means of 3 x 3 regions - 1x1 -- resize to x --------+
        +- means of 6 x 6 regions - 1x1 -- resize to x --------+

Zhao, Shi, Qi, Wang, Jia, "Pyramid Scene Parsing Network", CVPR 2017, arXiv 1612.01105, figure 3.
"""

from collections.abc import Sequence

import keras

from segzoo.layers import AdaptiveAveragePooling2D
from segzoo.models._style import Style


def pyramid_pooling(x, style: Style, *, bin_sizes: Sequence[int], filters: int, name: str = "psp"):
    """`x` followed by the pooled maps of `filters` channels each, concatenated."""
    maps = [x]
    for bins in bin_sizes:
        place = f"{name}_{bins}"
        pooled = AdaptiveAveragePooling2D(bins, name=f"{place}_mean")(x)
        pooled = style.conv(pooled, filters, 1, name=place)
        maps.append(style.resize(pooled, x, name=f"{place}_resize"))
    return keras.layers.Concatenate(name=f"{name}_merge")(maps)
