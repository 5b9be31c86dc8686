"""The backbones by name: what there is (`names`, `info`) and how to get one (`build`).

A backbone is one functional model from an image to a list of feature maps, finest first. Its
input normalization is its first layer. A family's module in `families` says what there is and how
it is made; `named` makes it.
"""

import os
from collections.abc import Sequence

import keras

from segzoo.backbones import families
from segzoo.backbones._rows import BackboneInfo
from segzoo.backbones.named import build_row
from segzoo.layers._arguments import near


def _by_family(rows: list[BackboneInfo]) -> dict[str, BackboneInfo]:
    order = list(dict.fromkeys(row.family for row in rows))
    return {row.name: row for row in sorted(rows, key=lambda row: order.index(row.family))}


_REGISTRY = _by_family(list(families.rows()))


def names(family: str | None = None) -> list[str]:
    """Return the names of the backbones.

    Args:
        family: the family whose names are wanted, for example `"resnet"`. Defaults to None, for
            all.

    Returns:
        A list of the names, family by family.

    Raises:
        ValueError: if there is no such family.

    Example:
        >>> from segzoo import backbones
        >>> backbones.names("vgg")
        ['vgg16', 'vgg19']
    """
    families = list(dict.fromkeys(row.family for row in _REGISTRY.values()))
    if family is not None and family not in families:
        raise ValueError(
            f"`family` must be one of {families}, received family={family!r}"
            + near(family, families)
        )
    return [name for name, row in _REGISTRY.items() if family in (None, row.family)]


def info(name: str) -> BackboneInfo:
    """Return what is known of a backbone, without building it.

    Args:
        name: one of `names()`.

    Returns:
        A `BackboneInfo`: family, published weights, feature maps with their strides and channels,
        parameters, paper.

    Raises:
        ValueError: if there is no such backbone; the message lists similar names.

    Example:
        >>> from segzoo import backbones
        >>> row = backbones.info("resnet50")
        >>> row.features[0], row.strides, row.channels
        ('conv1_relu', (2, 4, 8, 16, 32), (64, 256, 512, 1024, 2048))
        >>> row.paper.arxiv
        '1512.03385'
    """
    if not isinstance(name, str) or name not in _REGISTRY:
        raise ValueError(
            f"`backbone` must be one of segzoo.backbones.names(), received {name!r}"
            + near(name, _REGISTRY)
        )
    return _REGISTRY[name]


def build(
    name: str,
    *,
    weights: str | os.PathLike | None = "imagenet",
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    output_stride: int = 32,
    preprocessing: bool = True,
    features: Sequence[str] | None = None,
) -> keras.Model:
    """Build a backbone, a `keras.Model` from an image to feature maps.

    Differs from the published networks in padding alone, so that maps line up with the image: a
    map of stride s has ceil(size / s) rows at any size. Sizes that the strides divide give what
    the published network gives, except in networks with a 'valid' stem (Xception, Inception,
    NASNet), whose maps are wider by the border that the stem would have cut.

    Args:
        name: one of `names()`.
        weights: `None` for random initialization; a published set of `info(name).weights`, which
            Keras or the `efficientnet` package download once; or the path of a weights file
            (`.weights.h5`, `.keras`, Keras 2's `.h5`, or `.safetensors` in the layouts of
            torchvision, timm, segmentation_models_pytorch and Transformers), with or without the
            classifier. A file of PyTorch's builds the network that it was trained in, which
            differs in padding and epsilon. Defaults to `"imagenet"`.
        input_shape: (height, width, channels); height and width are at least 32 or None.
            If the number of channels is not three, the first convolution is adapted: a gray image,
            or one that repeats gray or RGB, gives the response of the RGB network. Defaults to
            (None, None, 3).
        output_stride: 8, 16 or 32. Strides beyond it become dilation. Defaults to 32.
        preprocessing: bool, whether the backbone takes RGB in 0..255 of any type and normalizes it
            itself. With False it takes what the network was trained on. Defaults to True.
        features: names of the layers whose outputs are the feature maps, finest first. Defaults
            to `info(name).features`.

    Returns:
        A model named "backbone" from (B, H, W, C) to a list of maps (B, H/s, W/s, C_s).

    Raises:
        ValueError: if an argument is not one of the values above; if a weights file does not fit,
            naming the first layer that does not; if published weights cannot be downloaded, saying
            which file to put where.

    Example:
        >>> from segzoo import backbones
        >>> backbone = backbones.build("vgg16", weights=None, input_shape=(64, 96, 3))
        >>> [tuple(map.shape) for map in backbone.outputs]
        [(None, 32, 48, 128), (None, 16, 24, 256), (None, 8, 12, 512), (None, 4, 6, 512), \
(None, 2, 3, 512)]
    """
    return build_row(
        info(name),
        weights=weights,
        input_shape=input_shape,
        output_stride=output_stride,
        preprocessing=preprocessing,
        features=features,
    ).model
