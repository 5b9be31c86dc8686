"""The encoder of a builder that has one of its own: blocks, with max-pooling between them."""

from collections.abc import Callable, Sequence
from typing import Any

import keras


def pooled_maps(
    image, block: Callable[[Any, int, int], Any], *, filters: Sequence[int], pool: str
) -> list:
    """The outputs of the blocks, finest first: level 1, 2, 4, ... for one width each.

    Args:
        image: tensor (B, H, W, C).
        block: from a map, its width and its place (0, 1, ...) to a map of the same size.
        filters: the widths, finest first.
        pool: name of a pooling layer, "{}" for the place that it leads to.
    """
    maps, x = [], image
    for place, width in enumerate(filters):
        if place:
            x = keras.layers.MaxPooling2D(
                2, padding="same", data_format="channels_last", name=pool.format(place)
            )(x)
        x = block(x, width, place)
        maps.append(x)
    return maps
