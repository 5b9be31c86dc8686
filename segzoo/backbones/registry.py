"""The backbones by name: what there is (`names`, `info`) and how to get one (`build`).

A backbone is one functional model from an image to a list of feature maps, finest first. Its
input normalization is its first layer. It is made from a published network in one pass over the
graph (`dilation.rebuild`), which settles names, padding, output stride and input channels; weights
are loaded into the published network before, where their layout fits, and carried over.
"""

import contextlib
import difflib
import os
import re
import sys
from collections.abc import Iterable, Sequence

import keras
import numpy as np

from segzoo.backbones import applications, efficientnet, resnet_small, xception65
from segzoo.backbones._rows import NORMALIZATIONS, BackboneInfo
from segzoo.backbones.channels import adapt_kernel
from segzoo.backbones.dilation import Rebuilt, Scale, rebuild
from segzoo.layers.preprocessing import ImageNormalization
from segzoo.weights import download_error, load_weights

_REGISTRY: dict[str, BackboneInfo] = {
    row.name: row
    for module in (resnet_small, applications, efficientnet, xception65)
    for row in module.ROWS
}


def names(family: str | None = None) -> list[str]:
    """List the backbones.

    Args:
        family: of one family only, for example `"resnet"`. Defaults to all.

    Returns:
        The names, by family.

    Raises:
        ValueError: when there is no such family.

    Example:
        >>> from segzoo import backbones
        >>> backbones.names("vgg")
        ['vgg16', 'vgg19']
    """
    families = list(dict.fromkeys(row.family for row in _REGISTRY.values()))
    if family is not None and family not in families:
        raise ValueError(
            f"`family` must be one of {families}, received family={family!r}"
            + _near(family, families)
        )
    return [name for name, row in _REGISTRY.items() if family in (None, row.family)]


def info(name: str) -> BackboneInfo:
    """Tell what a backbone is without building it.

    Args:
        name: one of `names()`.

    Returns:
        Family, weights on offer, taps with stride and channels, parameters, paper.

    Raises:
        ValueError: when there is no such backbone; the message lists near names.

    Example:
        >>> from segzoo import backbones
        >>> row = backbones.info("resnet50")
        >>> row.features[0], row.strides, row.channels
        ('conv1_relu', (2, 4, 8, 16, 32), (64, 256, 512, 1024, 2048))
        >>> row.paper.arxiv
        '1512.03385'
    """
    if name not in _REGISTRY:
        raise ValueError(
            f"`backbone` must be one of segzoo.backbones.names(), received {name!r}"
            + _near(name, _REGISTRY)
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
    """Build a backbone.

    Differs from the published networks in padding alone, so that maps line up with the image: a
    map of stride s has ceil(size / s) rows at any size. Sizes that the strides divide give what
    the published network gives, except in networks with a 'valid' stem (Xception, Inception,
    NASNet), whose maps are wider by the border that the stem would have cut.

    Args:
        name: one of `names()`.
        weights: `None` for random initialization; a published set of `info(name).weights`, which
            Keras or the `efficientnet` package download once; or the path of a weights file
            (`.weights.h5`, `.keras`, or Keras 2's `.h5`), with or without the classifier.
            Defaults to `"imagenet"`.
        input_shape: (height, width, channels); height and width are at least 32 or None.
            With other than three channels the first convolution is adapted: a gray image, or one
            that repeats gray or RGB, gives the response of the RGB network.
        output_stride: 8, 16 or 32. Strides beyond it become dilation.
        preprocessing: whether the backbone takes RGB in 0..255 of any type and normalizes it
            itself. With False it takes what the network was trained on.
        features: names of the layers whose outputs are the feature maps, finest first. Defaults
            to `info(name).features`.

    Returns:
        A model named "backbone" from (B, H, W, C) to a list of maps (B, H/s, W/s, C_s).

    Raises:
        ValueError: when an argument is not one of the values above; when a weights file does not
            fit, naming the first layer that does not; when published weights cannot be downloaded,
            saying which file to put where.

    Example:
        >>> from segzoo import backbones
        >>> backbone = backbones.build("vgg16", weights=None, input_shape=(64, 96, 3))
        >>> [tuple(map.shape) for map in backbone.outputs]
        [(None, 32, 48, 128), (None, 16, 24, 256), (None, 8, 12, 512), (None, 4, 6, 512), \
(None, 2, 3, 512)]
    """
    return build_named(
        name,
        weights=weights,
        input_shape=input_shape,
        output_stride=output_stride,
        preprocessing=preprocessing,
        features=features,
    )[0]


def build_named(
    name, *, weights, input_shape, output_stride, preprocessing, features
) -> tuple[keras.Model, tuple[Scale, ...]]:
    """Build a backbone, and tell of each map its stride in the undilated network and as built."""
    row = info(name)
    _check(row, input_shape, output_stride)
    with _room_for_deep_graphs():
        return _build(row, weights, input_shape, output_stride, preprocessing, features)


def _build(row, weights, input_shape, output_stride, preprocessing, features):
    file = _weights_file(row, weights)
    source = _load_source(row, None if file else weights)
    channels = input_shape[-1]
    image = keras.Input(input_shape, name="image")
    statistics = NORMALIZATIONS[row.normalization] if preprocessing else {}
    x = _normalize(image, statistics) if preprocessing else image
    network = rebuild(
        source,
        image,
        x,
        output_stride=output_stride,
        explicit_padding=row.explicit_padding,
        rename=dict(row.rename),
    )
    taps = _taps(row, network, features)
    backbone = keras.Model(image, [network.maps[tap] for tap in taps], name="backbone")
    if file is None and weights is not None:
        _carry_over(network, channels, statistics)
    elif file is not None:
        _load_file(file, source, backbone, lambda: _carry_over(network, channels, statistics))
    return backbone, tuple(network.scales[tap] for tap in taps)


@contextlib.contextmanager
def _room_for_deep_graphs():
    """Lift Python's recursion limit for the time of a build.

    Keras walks a graph by recursion along its longest path. EfficientNet-L2 has nearly a thousand
    layers in a row, which is all that Python allows by default.
    """
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, 10_000))
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


def _near(name: object, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(name).lower(), list(known), n=5, cutoff=0.5)
    return f"; near names: {', '.join(near)}" if near else ""


def _check(row, input_shape, output_stride):
    shape = tuple(input_shape)
    sizes_fit = len(shape) == 3 and all(size is None or size >= 32 for size in shape[:2])
    if not sizes_fit or shape[2] is None or shape[2] < 1:
        raise ValueError(
            "`input_shape` must be (height, width, channels), height and width None or >= 32 and "
            f"channels >= 1, received input_shape={input_shape}"
        )
    if output_stride not in row.output_strides:
        raise ValueError(
            f"`output_stride` of {row.name!r} must be one of {row.output_strides}, "
            f"received output_stride={output_stride}"
        )


def _weights_file(row, weights):
    """Return the path when `weights` is one, None when it is a published set or None."""
    if weights is None or weights in row.weights:
        return None
    if os.path.exists(weights):
        return weights
    offer = " or ".join(map(repr, row.weights)) or "nothing, there are no published weights"
    raise ValueError(
        f"`backbone_weights` of {row.name!r} must be None (random initialization), the path of a "
        f"weights file, or a published set ({offer}), received {os.fspath(weights)!r}, "
        "which is neither a published set nor an existing file"
    )


def _load_source(row, weights):
    """Build the published network, with its published weights or without."""
    try:
        return row.source(weights)
    except Exception as error:
        # Keras raises a bare Exception when a download fails; its message has the address.
        url = re.search(r"https?://\S+\.h5", str(error))
        if weights is None or url is None:
            raise
        file = url.group().rpartition("/")[2]
        if row.family == "nasnet":  # the one family that Keras stores under another name
            file = file.lower().replace("-", "_")
        raise download_error(url.group(), "backbone_weights", error, file) from error


def _normalize(image, statistics):
    # Channels other than red, green and blue share one mean; where the colors' means differ, the
    # adapted first convolution needs a constant (see `channels`). This does not depend on the
    # weights, so that weights of the whole model fit whatever the backbone was built with.
    constant = _has_constant(image.shape[-1], statistics)
    layer = ImageNormalization(**statistics, constant_channel=constant, name="preprocessing")
    return layer(image)


def _has_constant(channels, statistics):
    return channels != 3 and np.ptp(statistics.get("mean", 0.0)) > 0


def _taps(row, network: Rebuilt, features):
    if features is None:
        return row.features
    if isinstance(features, str) or not features:
        raise ValueError(
            f"`backbone_features` must be a list of layer names, received {features!r}"
        )
    for tap in features:
        if tap not in network.maps:
            raise ValueError(
                f"`backbone_features` must name layers of {row.name!r}, received {tap!r}"
                + _near(tap, network.maps)
            )
    strides = [network.scales[tap].actual for tap in features]
    if strides != sorted(strides):
        raise ValueError(
            "`backbone_features` must be ordered from the finest map to the coarsest, received "
            f"{list(features)} with strides {strides}"
        )
    return tuple(features)


def _carry_over(network: Rebuilt, channels, statistics):
    """Copy the published network's weights into the one made anew."""
    first = next(new for _, new in network.layers if new.weights)
    for old, new in network.layers:
        values = old.get_weights()
        if new is first and channels != 3:
            kernel, *rest = values
            # The kernel's colors are in the order of the trained network, which is BGR for some.
            if statistics.get("reverse_channels"):
                kernel = kernel[:, :, ::-1]
            values = [
                adapt_kernel(
                    kernel,
                    channels,
                    statistics.get("mean", 0.0),
                    statistics.get("std", 1.0),
                    _has_constant(channels, statistics),
                ),
                *rest,
            ]
        elif values and values[0].shape != tuple(new.weights[0].shape):
            values[0] = np.swapaxes(values[0], 2, 3)  # grouped (h, w, 1, C) -> depthwise
        new.set_weights(values)


def _load_file(path, source, backbone, carry_over):
    """Load a file of the published layout, or one of a backbone that segzoo saved."""
    try:
        load_weights(source, path)
    except ValueError as published:
        try:
            load_weights(backbone, path)
        except ValueError:
            raise published from None
    else:
        carry_over()
