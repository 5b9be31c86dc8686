"""Pretrained encoders by name, each a `keras.Model` from an image to feature maps."""

from segzoo.backbones._rows import BackboneInfo, Paper
from segzoo.backbones.registry import build, info, names

__all__ = ["BackboneInfo", "Paper", "build", "info", "names"]
