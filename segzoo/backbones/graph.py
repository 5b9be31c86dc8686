"""The graph of a row's network: made anew from a published one, or built directly."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import keras

from segzoo.backbones import measure
from segzoo.backbones._rows import BackboneInfo, Direct, Published, Variant
from segzoo.backbones.rebuild import Scale, rebuild
from segzoo.weights import cached_error, download_error

Pairs = list[tuple[keras.layers.Layer, keras.layers.Layer]]


class Graph(NamedTuple):
    """A network on an image.

    Attributes:
        maps: the outputs of its layers, by name.
        scales: from names of layers to the scales of their outputs.
        published: gives the network that published weights fit, for RGB, and pairs of its layers
            with those of this one; None where that is this very network.
    """

    maps: Mapping[str, keras.KerasTensor]
    scales: Callable[[Sequence[str]], tuple[Scale, ...]]
    published: Callable[[], tuple[keras.Model, Pairs]] | None


def rebuilt(
    row: BackboneInfo,
    source: Published,
    weights: str | None,
    image: keras.KerasTensor,
    x: keras.KerasTensor,
    output_stride: int,
    variant: Variant,
) -> Graph:
    """The graph of a published network, whose weights it has where `weights` names some."""
    network = _network(row, source, weights)
    made = rebuild(
        network,
        image,
        x,
        output_stride=output_stride,
        published=source,
        variant=variant,
    )
    return Graph(
        made.maps,
        lambda taps: tuple(made.scales[tap] for tap in taps),
        lambda: (network, made.layers),
    )


def direct(
    row: BackboneInfo,
    source: Direct,
    image: keras.KerasTensor,
    x: keras.KerasTensor,
    output_stride: int,
    variant: Variant,
) -> Graph:
    """The graph of a network that its family's module builds."""
    model = _model(image, source(x, variant, output_stride))

    def scales(taps):
        known = dict(zip(row.features, row.strides, strict=True))
        if known.keys() >= set(taps):
            return tuple(Scale(known[tap], min(known[tap], output_stride)) for tap in taps)
        # Layers that the row does not name are measured, here and in the undilated network.
        plain = _model(other := keras.Input((None, None, 3)), source(other, variant, 32))
        both = (
            measure.strides(keras.Model(m.inputs, [m.get_layer(tap).output for tap in taps]))
            for m in (plain, model)
        )
        return tuple(Scale(*pair) for pair in zip(*both, strict=True))

    def published():
        rgb = keras.Input((None, None, 3))
        network = _model(rgb, source(rgb, variant, output_stride))
        return network, [
            (layer, model.get_layer(layer.name)) for layer in network.layers if layer.weights
        ]

    maps = {layer.name: layer.output for layer in model.layers}
    return Graph(maps, scales, None if x.shape[-1] == 3 else published)


def _model(image, maps) -> keras.Model:
    return keras.Model(image, list(maps))


def _network(row, source: Published, weights) -> keras.Model:
    """The published network, with its published weights or without."""
    if keras.config.image_data_format() != "channels_last":
        raise ValueError(
            f"backbone {row.name!r} is made from a network that cannot be built under "
            "keras.config.image_data_format() == 'channels_first'; segzoo is channels last: call "
            "keras.config.set_image_data_format('channels_last') first (the setting may come from "
            "~/.keras/keras.json). ResNets, VGG and EfficientNets are built under either"
        )
    try:
        return source.network(weights)
    except Exception as error:
        # Keras raises a bare Exception when a download fails; its message has the address.
        url = re.search(r"https?://\S+\.h5", str(error))
        if weights is None or url is None:
            damaged = None if weights is None else cached_error("backbone_weights", error)
            if damaged is not None:
                raise damaged from error
            raise
        file = url.group().rpartition("/")[2]
        raise download_error(url.group(), "backbone_weights", error, source.cached(file)) from error
