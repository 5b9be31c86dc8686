"""Walk through a published network and make each of its layers anew."""

from dataclasses import replace
from typing import Any, NamedTuple

import keras
from keras import layers

from segzoo.backbones._rows import Published, Variant
from segzoo.backbones.rebuild.names import stable_names
from segzoo.backbones.rebuild.remake import remake
from segzoo.backbones.rebuild.windows import Place, Scale, window
from segzoo.layers.pooling import DilatedPooling2D, PhaseShift2D

_CONVOLUTIONS = (layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D)
_POOLS = {layers.MaxPooling2D: "max", layers.AveragePooling2D: "average"}
_GLOBAL_POOLS = (layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D)


class Rebuilt(NamedTuple):
    """A network made anew: its maps by layer name, and which layer came from which."""

    maps: dict[str, keras.KerasTensor]
    scales: dict[str, Scale]
    layers: list[tuple[keras.layers.Layer, keras.layers.Layer]]


def rebuild(
    source: keras.Model,
    image: keras.KerasTensor,
    inputs: keras.KerasTensor,
    *,
    output_stride: int,
    published: Published | None = None,
    variant: Variant | None = None,
) -> Rebuilt:
    """Run a network's layers, made anew and without their weights, on an image.

    Args:
        source: a functional model with one input.
        image: (B, H, W, C), the input.
        inputs: made from `image`: what the first convolution receives.
        output_stride: strides beyond it become dilation.
        published: what is particular to the network: explicit padding, names, layers.
        variant: what another library did otherwise.

    Returns:
        The maps by name, their scales, and pairs (layer of `source`, new layer).
    """
    rules = published or Published(network=lambda weights: source)
    walker = _Walker(source, inputs, output_stride, rules, variant or Variant())
    # Public API for "call each layer in order": the model that it returns is not needed.
    keras.models.clone_model(
        source, image, clone_function=lambda layer: layer, call_function=walker
    )
    return Rebuilt(walker.maps, walker.scales, walker.layers)


class _Walker:
    """Makes one layer anew per call; called by `clone_model` in the order of the graph."""

    def __init__(self, source, inputs, output_stride, rules, variant):
        self.inputs = inputs
        self.output_stride = output_stride
        self.rules = rules
        self.variant = variant
        numbers = {"momentum": variant.momentum, "epsilon": variant.epsilon}
        self.normalization = {key: n for key, n in numbers.items() if n is not None}
        rename = rules.rename
        self.names = {old: rename.get(new, new) for old, new in stable_names(source).items()}
        self.maps: dict[str, keras.KerasTensor] = {}
        self.scales: dict[str, Scale] = {}
        self.layers: list[tuple[Any, Any]] = []
        self.places: dict[keras.KerasTensor, Place] = {}

    def __call__(self, operation, *args, **kwargs):
        if isinstance(operation, keras.Sequential):
            x = args[0]
            for layer in operation.layers:
                x = self(layer, x)
            return x
        if isinstance(operation, layers.Rescaling | layers.Normalization):
            return args[0]  # the backbone's normalization has its own place, in front
        if not self.maps:
            args = (self.inputs,)  # the first layer
        x, place = args[0], self._place(args)
        if isinstance(operation, layers.ZeroPadding2D):
            if not self.rules.stays(operation):
                self.places[x] = place._replace(unpadded=True)
                return x
            pad = tuple(
                tuple(side * place.scale.dilation for side in pair) for pair in operation.padding
            )
            x = self._make(operation, padding=pad)(x)
            place = Place(place.scale, padded=True)
        elif isinstance(operation, _CONVOLUTIONS) or type(operation) in _POOLS:
            x, scale = self._window(operation, x, place)
            place = Place(scale)
        else:
            x = self._make(operation)(*args, **kwargs)
            # One pixel fits any map.
            place = Place() if isinstance(operation, _GLOBAL_POOLS) else Place(place.scale)
        name = self.names[operation.name]
        self.maps[name], self.scales[name], self.places[x] = x, place.scale, place
        return x

    def _place(self, arguments) -> Place:
        """The place of the first argument, at the coarsest scale of all."""
        tensors = [x for x in keras.tree.flatten(arguments) if isinstance(x, keras.KerasTensor)]
        places = [self.places.get(tensor, Place()) for tensor in tensors]
        return places[0]._replace(scale=max(place.scale for place in places))

    def _make(self, operation, **changes):
        changes["name"] = self.names[operation.name]
        made = remake(operation, changes, self.normalization)
        if isinstance(operation, layers.Layer):
            self.layers.append((operation, made))
        return made

    def _window(self, layer, x, place):
        """Make a convolution or a pool anew."""
        pools = type(layer) in _POOLS
        kernel = layer.pool_size if pools else layer.kernel_size
        variant = replace(self.variant, padding=None) if pools else self.variant
        made = window(kernel, layer.strides[0], layer.padding, place, self.output_stride, variant)
        name = self.names[layer.name]
        if made.phase:
            x = PhaseShift2D(place.scale.dilation, name=f"{name}_phase")(x)
        if pools and made.dilation > 1:
            pool = DilatedPooling2D(kernel, made.dilation, _POOLS[type(layer)], name=name)
            return pool(x), made.scale
        if made.pad is not None:
            x = layers.ZeroPadding2D(made.pad, data_format="channels_last", name=f"{name}_pad")(x)
        changes = {"strides": (made.stride,) * 2, "padding": made.padding}
        if made.dilation > 1:
            changes["dilation_rate"] = (made.dilation,) * 2
        return self._make(layer, **changes)(x), made.scale
