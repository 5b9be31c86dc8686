"""Layers that the models are made of, each of which you can use in a model of your own."""

from segzoo.layers.activations import gelu
from segzoo.layers.adaptive import AdaptiveAveragePooling2D
from segzoo.layers.aspp import AtrousSpatialPyramidPooling
from segzoo.layers.attention import (
    AttentionGate,
    ChannelGate,
    PositionAttention,
    SpatialChannelSqueezeExcitation,
)
from segzoo.layers.blocks import ConvBlock, SeparableConvBlock
from segzoo.layers.grouped import GroupedConv2D
from segzoo.layers.mix_transformer import (
    EfficientSelfAttention,
    MixFeedForward,
    OverlapPatchEmbedding,
)
from segzoo.layers.normalization import BatchNormalization
from segzoo.layers.pooling import DilatedPooling2D, HalvingMaxPooling2D, PhaseShift2D
from segzoo.layers.preprocessing import ImageNormalization
from segzoo.layers.resize import CropLike, ResizeLike, Upsample

__all__ = [
    "AdaptiveAveragePooling2D",
    "AtrousSpatialPyramidPooling",
    "AttentionGate",
    "BatchNormalization",
    "ChannelGate",
    "ConvBlock",
    "CropLike",
    "DilatedPooling2D",
    "EfficientSelfAttention",
    "GroupedConv2D",
    "HalvingMaxPooling2D",
    "ImageNormalization",
    "MixFeedForward",
    "OverlapPatchEmbedding",
    "PhaseShift2D",
    "PositionAttention",
    "ResizeLike",
    "SeparableConvBlock",
    "SpatialChannelSqueezeExcitation",
    "Upsample",
    "gelu",
]
