"""What an encoder hands to a decoder: the image, and feature maps that know their place.

A map has a *level*, its stride in the undilated network, and a *stride*, as built. They differ past
an output stride: at output stride 8 the maps of ResNet50 have the levels 2, 4, 8, 16, 32 and the
strides 2, 4, 8, 8, 8. Decoders pick maps by level, so that level 16 is stage 4 at every output
stride, and enlarge by strides.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from segzoo import backbones


@dataclass(frozen=True)
class Map:
    """One feature map: its tensor (B, h, w, channels), its level and its stride."""

    x: Any
    level: int
    stride: int

    @property
    def channels(self) -> int:
        """The number of channels."""
        return self.x.shape[-1]


@dataclass(frozen=True)
class Features:
    """The image and an encoder's maps, finest first; every level occurs once.

    `rounds_up` says whether a map of stride s has ceil(size / s) rows at every size.
    """

    image: Any
    maps: tuple[Map, ...]
    rounds_up: bool = True

    @classmethod
    def of(
        cls,
        image,
        tensors: Sequence[Any],
        levels: Sequence[int],
        strides: Sequence[int] | None = None,
        rounds_up: bool = True,
    ) -> "Features":
        """Name the maps `level_2`, `level_4`, ... in the model, and keep them in order."""
        if any(coarser <= finer for finer, coarser in itertools.pairwise(levels)):
            raise ValueError(
                "`backbone_features` must pick one map of each level, finest first; received maps "
                f"of levels {tuple(levels)}"
            )
        named = [
            keras.layers.Identity(name=f"level_{level}")(x)
            for x, level in zip(tensors, levels, strict=True)
        ]
        # One layer takes them all: a decoder that uses one map keeps the others in its model.
        named = keras.layers.Identity(name="levels")(named)
        maps = map(Map, named, levels, strides or levels)
        return cls(image, tuple(maps), rounds_up)

    @property
    def finest(self) -> Map:
        """The first map."""
        return self.maps[0]

    @property
    def coarsest(self) -> Map:
        """The last map."""
        return self.maps[-1]

    @property
    def levels(self) -> tuple[int, ...]:
        """The levels of the maps, finest first."""
        return tuple(map.level for map in self.maps)

    @property
    def strides(self) -> tuple[int, ...]:
        """The strides of the maps, finest first."""
        return tuple(map.stride for map in self.maps)

    def get(self, level: int) -> Map | None:
        """The map of a level, or None."""
        return next((map for map in self.maps if map.level == level), None)

    def at(self, level: int) -> Map:
        """The map of a level, which must be there."""
        return self.need(level)[0]

    def need(self, *levels: int) -> tuple[Map, ...]:
        """The maps of these levels, or the one error of a backbone that lacks some."""
        missing = [level for level in levels if level not in self.levels]
        if missing:
            raise ValueError(
                f"`backbone` must have feature maps of levels {list(levels)}, received one with "
                f"levels {list(self.levels)}, which lacks {missing}{_would_do(levels)}"
            )
        return tuple(map for map in self.maps if map.level in levels)

    def from_level(self, level: int) -> "Features":
        """The same without the maps finer than a level; at least two must be left."""
        maps = tuple(map for map in self.maps if map.level >= level)
        if len(maps) < 2:
            raise ValueError(
                f"`backbone` must have two or more feature maps of level {level} or coarser, "
                f"received one with levels {list(self.levels)}{_would_do((level, 2 * level))}"
            )
        return Features(self.image, maps, self.rounds_up)

    def nearest(self, stride: int) -> Map:
        """The map whose stride is nearest to `stride`, the finer of two, never the last."""
        return min(self.maps[:-1], key=lambda map: abs(map.stride - stride))

    def coarse_to_fine(self) -> Iterator[tuple[Map, Map]]:
        """Pairs (coarser, finer) of neighbors, from the coarsest map on."""
        return itertools.pairwise(reversed(self.maps))


def _would_do(levels: Sequence[int]) -> str:
    """Say which backbones have these levels: one of each family, five at most."""
    rows: dict[str, str] = {}
    for row in map(backbones.info, backbones.names()):
        if set(levels) <= set(row.strides):
            rows.setdefault(row.family, row.name)
    names = ", ".join(map(repr, list(rows.values())[:5]))
    return f". Backbones with these levels are {names}" if names else ""
