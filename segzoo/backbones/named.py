"""Build a backbone of the registry: its graph, its maps, its weights."""

import logging
import operator
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import keras
import numpy as np

from segzoo.backbones import graph, measure
from segzoo.backbones._rows import NORMALIZATIONS, TERMS, BackboneInfo, Published, Variant
from segzoo.backbones.channels import adapt_kernel, constant_planes
from segzoo.backbones.pytorch import Reading, reading
from segzoo.backbones.rebuild import Scale
from segzoo.backbones.recursion import room_for_deep_graphs
from segzoo.layers._arguments import near
from segzoo.layers.preprocessing import ImageNormalization
from segzoo.weights import fetch, load_weights
from segzoo.weights.pytorch import load
from segzoo.weights.safetensors_files import is_safetensors

# Of batch normalization in a network that is trained from random weights: Keras's 0.99 (0.999 in
# MobileNet) still carries the initial variance after hundreds of steps.
_FRESH_MOMENTUM = 0.9

_log = logging.getLogger("segzoo")


class Built(NamedTuple):
    """A backbone, the scale of each of its maps, and whether they have ceil(size / stride) rows."""

    model: keras.Model
    scales: tuple[Scale, ...]
    rounds_up: bool


def build_row(
    row: BackboneInfo,
    *,
    weights: str | os.PathLike | None,
    input_shape: Sequence[int | None],
    output_stride: int = 32,
    preprocessing: bool = True,
    features: Sequence[str] | None = None,
    variant: Variant | None = None,
    pretrained: bool | None = None,
) -> Built:
    """Build a row of the registry.

    Args:
        row: of the registry.
        weights: as in `segzoo.backbones.build`.
        input_shape: (height, width, channels).
        output_stride: strides beyond it become dilation.
        preprocessing: whether the backbone normalizes RGB in 0..255 itself.
        features: names of layers that replace the row's.
        variant: what another library did otherwise.
        pretrained: whether weights come, now or later. A backbone that starts from random weights
            gets a momentum of 0.9 in batch normalization. Defaults to whether there are `weights`.
    """
    shape = _checked_shape(input_shape)
    _check(row, output_stride, preprocessing)
    file = _weights_file(row, weights)
    published = weights is not None and file is None and bool(row.files)
    if published:
        file = fetch(row.files[str(weights)], "backbone_weights")
    torch = reading(row, file, published=published) if file and is_safetensors(file) else None
    if variant is None:
        variant = torch.variant if torch and not published else Variant()
    lines_up = variant == Variant()  # the row's own network, at every size
    if not (weights is not None if pretrained is None else pretrained):
        variant = replace(variant, momentum=_FRESH_MOMENTUM)
    with room_for_deep_graphs():
        image = keras.Input(shape, name="image")
        statistics = NORMALIZATIONS[row.normalization] if preprocessing else {}
        x = _normalize(image, statistics) if preprocessing else image
        if isinstance(row.source, Published):
            name = None if file or weights is None else str(weights)
            made = graph.rebuilt(row, row.source, name, image, x, output_stride, variant)
        else:
            made = graph.direct(row, row.source, image, x, output_stride, variant)
        taps = _taps(row, made, features, variant.depth)
        scales = made.scales(taps)
        _check_order(taps, scales)
        backbone = keras.Model(image, [made.maps[tap] for tap in taps], name="backbone")
        if weights is not None:
            if torch:
                _load_pytorch(made, backbone, torch, statistics)
            else:
                _load(made, backbone, file, statistics)
    strides = tuple(scale.actual for scale in scales)
    return Built(backbone, scales, lines_up or measure.rounds_up(backbone, strides))


def _checked_shape(input_shape) -> tuple[int | None, int | None, int]:
    try:
        height, width, channels = input_shape
        sizes = [None if size is None else operator.index(size) for size in (height, width)]
        channels = operator.index(channels)
        if channels >= 1 and all(size is None or size >= 32 for size in sizes):
            return sizes[0], sizes[1], channels
    except (TypeError, ValueError):
        pass
    raise ValueError(
        "`input_shape` must be (height, width, channels), height and width None or >= 32 and "
        f"channels >= 1, received input_shape={input_shape}"
    )


def _check(row, output_stride, preprocessing):
    if not isinstance(preprocessing, bool | np.bool_):
        raise ValueError(
            f"`preprocessing` must be True or False, received preprocessing={preprocessing!r}"
        )
    if output_stride not in row.output_strides:
        *others, last = map(str, row.output_strides)
        offered = f"{', '.join(others)} or {last}" if others else last
        raise ValueError(
            f"`output_stride` of {row.name!r} must be {offered}, received "
            f"output_stride={output_stride}; pass `output_stride={last}`"
        )


def _weights_file(row, weights):
    """Return the path when `weights` is one, None when it is a published set or None."""
    if weights is None or (isinstance(weights, str) and weights in row.weights):
        if weights in TERMS:
            _log.info("%s: the weights %r are %s", row.name, weights, TERMS[weights])
        return None
    if isinstance(weights, str | os.PathLike) and os.path.exists(weights):
        return weights
    offers = [
        f"{offer!r}, {TERMS[offer]}" if offer in TERMS else repr(offer) for offer in row.weights
    ]
    offer = " or ".join(offers) or "nothing, there are no published weights"
    raise ValueError(
        f"`backbone_weights` of {row.name!r} must be None (random initialization), the path of a "
        f"weights file, or a published set ({offer}), received {weights!r}, "
        "which is neither a published set nor an existing file"
    )


def _normalize(image, statistics: dict[str, Any]):
    # Channels other than red, green and blue share one mean; where the colors' means differ, the
    # adapted first convolution needs a constant (see `channels`). This does not depend on the
    # weights, so that weights of the whole model fit whatever the backbone was built with.
    constant = constant_planes(image.shape[-1], statistics.get("mean", 0.0))
    layer = ImageNormalization(**statistics, constant_channel=constant, name="preprocessing")
    return layer(image)


def _taps(row, made: graph.Graph, features, depth) -> tuple[str, ...]:
    if features is None:
        return row.features[:depth]
    if isinstance(features, str) or not isinstance(features, Iterable) or not list(features):
        raise ValueError(
            f"`backbone_features` must be a list of layer names, received {features!r}"
        )
    for tap in features:
        if tap not in made.maps:
            raise ValueError(
                f"`backbone_features` must name layers of {row.name!r}, received {tap!r}"
                + near(tap, made.maps)
            )
    return tuple(features)


def _check_order(taps: tuple[str, ...], scales: tuple[Scale, ...]) -> None:
    levels = [scale.nominal for scale in scales]
    if levels != sorted(levels):
        raise ValueError(
            "`backbone_features` must be ordered from the finest map to the coarsest, received "
            f"{list(taps)} with strides {levels}"
        )


def _load(made: graph.Graph, backbone: keras.Model, file, statistics) -> None:
    """Load a file of the published layout, or one of a backbone that segzoo saved.

    The published network is for RGB and has its published weights already where no file is given.
    """
    if made.published is None:
        load_weights(backbone, file)
        return
    network, pairs = made.published()
    if file is not None:
        try:
            load_weights(network, file)
        except ValueError as published:
            try:
                load_weights(backbone, file)
            except ValueError as own:
                raise (
                    published
                    if str(own) == str(published)
                    else ValueError(
                        f"{published}. As weights of a backbone that segzoo saved: {own}"
                    )
                ) from own
            return
    _carry_over(pairs, backbone.inputs[0].shape[-1], statistics)


def _load_pytorch(made: graph.Graph, backbone: keras.Model, torch: Reading, statistics) -> None:
    """Load a file of PyTorch's, of whose network the backbone may be a part."""
    if made.published is None:
        load(backbone, torch.file, torch.layout)
        return
    network, pairs = made.published()
    used = set(backbone.layers)
    pairs = [(old, new) for old, new in pairs if new in used]
    load(network, torch.file, torch.layout, [old for old, _ in pairs])
    _carry_over(pairs, backbone.inputs[0].shape[-1], statistics)


def _carry_over(pairs: graph.Pairs, channels: int, statistics: dict[str, Any]) -> None:
    """Copy the published network's weights into the one made anew."""
    first = next(new for _, new in pairs if new.weights)
    for old, new in pairs:
        values = old.get_weights()
        if new is first and channels != 3:
            kernel, *rest = values
            # The kernel's colors are in the order of the trained network, which is BGR for some.
            if statistics.get("reverse_channels"):
                kernel = kernel[:, :, ::-1]
            mean, std = statistics.get("mean", 0.0), statistics.get("std", 1.0)
            planes = constant_planes(channels, mean)
            values = [adapt_kernel(kernel, channels, mean, std, planes), *rest]
        elif values and values[0].shape != tuple(new.weights[0].shape):
            values[0] = np.swapaxes(values[0], 2, 3)  # grouped (h, w, 1, C) -> depthwise
        new.set_weights(values)
