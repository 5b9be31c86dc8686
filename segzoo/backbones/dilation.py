"""Rewrite the graph of a classifier into that of a backbone, layer by layer.

`rebuild` walks through a network and makes each layer anew. On the way

- strides past the output stride become dilation (the à-trous algorithm; Chen et al. 2018,
  "DeepLab", arXiv 1606.00915, section 3.1): the layer's stride is set to 1 and every later window
  gets wider by as much. The weights stay valid: the dense map, read at the removed stride, is the
  original map. Explicit padding grows with the window, a pool without stride is dilated too;
- padding is made independent of how the network was built. Keras pads some networks (MobileNet,
  NASNet) by their static size, and others not at all ('valid' stems of Xception and Inception,
  pools of VGG and DenseNet), so that maps shrink by a border and lose their place. Here all of
  these pad 'same', as the networks' authors did or as the static size would have it: a map of
  stride s has ceil(size / s) rows, whatever the size and whenever it is known. Padding that is the
  same for every size (ResNet) stays as it is;
- nested models are laid flat and layers that Keras numbers get the names of a first build.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
from keras import layers

from segzoo.layers.normalization import BatchNormalization
from segzoo.layers.pooling import DilatedPooling2D, PhaseShift2D

_CONVOLUTIONS = (layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D)
_POOLS = {layers.MaxPooling2D: "max", layers.AveragePooling2D: "average"}
_GLOBAL_POOLS = (layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D)


class Scale(NamedTuple):
    """Pixels of the image per pixel of a map: in the original network, and as built."""

    nominal: int = 1
    actual: int = 1

    @property
    def dilation(self) -> int:
        """Distance in the map as built between two neighbors of the original map."""
        return self.nominal // self.actual


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
    explicit_padding: bool = False,
    rename: Mapping[str, str] | None = None,
) -> Rebuilt:
    """Run a network's layers, made anew and without their weights, on an image.

    Args:
        source: a functional model with one input.
        image: (B, H, W, C), the input.
        inputs: made from `image`: what the first convolution receives.
        output_stride: strides beyond it become dilation.
        explicit_padding: whether the network's `ZeroPadding2D` layers do not depend on the size
            and stay. Otherwise they go, and the windows behind them pad 'same'.
        rename: own names for layers, by their stable names.

    Returns:
        The maps by name, their scales, and pairs (layer of `source`, new layer).
    """
    walker = _Walker(source, inputs, output_stride, explicit_padding, dict(rename or {}))
    # Public API for "call each layer in order": the model that it returns is not needed.
    keras.models.clone_model(
        source, image, clone_function=lambda layer: layer, call_function=walker
    )
    return Rebuilt(walker.maps, walker.scales, walker.layers)


def stable_names(model: keras.Model) -> dict[str, str]:
    """Map the names of a model's layers to those that a first build in a process would give.

    Keras numbers layers without a name of their own through the whole process. Within a model the
    numbers tell the order in which layers were made, so counting anew from zero gives the
    names of a first build.

    Args:
        model: a functional model.

    Returns:
        New name by present name, for every layer.
    """
    numbered = defaultdict(list)
    names = {}
    for operation in _flat(model):
        prefix, _, number = operation.name.rpartition("_")
        if not (prefix and number.isdigit()):
            prefix, number = operation.name, "0"
        # "conv2d_7" is a number given by Keras, "block2_conv_7" is a name.
        if prefix.replace("_", "") == type(operation).__name__.lower():
            numbered[prefix].append((int(number), operation.name))
        names[operation.name] = operation.name
    for prefix, found in numbered.items():
        for count, (_, name) in enumerate(sorted(found)):
            names[name] = f"{prefix}_{count}" if count else prefix
    return names


def _flat(model):
    for operation in model.operations:
        if isinstance(operation, keras.Sequential):
            yield from operation.layers
        elif not isinstance(operation, layers.InputLayer):
            yield operation


class _Walker:
    """Makes one layer anew per call; called by `clone_model` in the order of the graph."""

    def __init__(self, source, inputs, output_stride, explicit_padding, rename):
        self.inputs = inputs
        self.output_stride = output_stride
        self.explicit_padding = explicit_padding
        self.names = {old: rename.get(new, new) for old, new in stable_names(source).items()}
        self.maps: dict[str, Any] = {}
        self.scales: dict[str, Scale] = {}
        self.layers: list[tuple[Any, Any]] = []
        self._scale_of: dict[int, Scale] = {}  # by id of a tensor; `maps` keeps them alive
        self._padded: set[int] = set()

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
        x, scale = args[0], self._scale(args)
        if isinstance(operation, layers.ZeroPadding2D) and not self.explicit_padding:
            return x
        if isinstance(operation, layers.Cropping2D):
            x = self._shift(operation, x, scale)
        elif isinstance(operation, _CONVOLUTIONS) or type(operation) in _POOLS:
            x, scale = self._window(operation, x, scale)
        elif isinstance(operation, layers.ZeroPadding2D):
            pad = _times(operation.padding, scale.dilation)
            x = self._make(operation, {"padding": pad})(x)
            self._padded.add(id(x))
        else:
            x = self._make(operation)(*args, **kwargs)
            if isinstance(operation, _GLOBAL_POOLS):
                scale = Scale()  # one pixel, which fits any map
        name = self.names[operation.name]
        self.maps[name], self.scales[name], self._scale_of[id(x)] = x, scale, scale
        return x

    def _scale(self, tensors):
        return max(self._scale_of.get(id(t), Scale()) for t in keras.tree.flatten(tensors))

    def _make(self, operation, changes=None):
        """Make a layer anew from its config, with some entries changed."""
        kind, config = _own_class(operation), operation.get_config()
        if config.get("groups", 1) > 1:
            kind, config = layers.DepthwiseConv2D, _depthwise(config)
        if getattr(getattr(operation, "activation", None), "__name__", None) == "swish":
            config["activation"] = "silu"  # the same function, one that Keras can load
        config |= {"name": self.names[operation.name]} | (changes or {})
        made = kind.from_config(config)
        if isinstance(operation, layers.Layer):
            self.layers.append((operation, made))
        return made

    def _window(self, layer, x, scale):
        """Make a convolution or a pool anew: its padding, its stride, its dilation."""
        kernel = layer.pool_size if type(layer) in _POOLS else layer.kernel_size
        stride, dilation = layer.strides[0], scale.dilation
        nominal = scale.nominal * stride
        kept = nominal <= self.output_stride
        name = self.names[layer.name]
        if not kept and stride > 1 and max(kernel) == 1 and layer.padding == "same":
            x = PhaseShift2D(dilation, name=f"{name}_phase")(x)
        padding = "valid" if id(x) in self._padded or max(kernel) == 1 else "same"
        changes = {"strides": (stride if kept else 1,) * 2, "padding": padding}
        scale = Scale(nominal, scale.actual * (stride if kept else 1))
        if dilation > 1 and max(kernel) > 1 and type(layer) in _POOLS:
            made = DilatedPooling2D(kernel, dilation, _POOLS[type(layer)], name=name)
            return made(x), scale
        if dilation > 1 and max(kernel) > 1:
            changes["dilation_rate"] = (dilation,) * 2
            if max(kernel) == 2:
                # 'same' would center the wide window between its taps, which moves the map.
                pad = ((0, dilation), (0, dilation))
                x = layers.ZeroPadding2D(pad, name=f"{name}_pad")(x)
                changes["padding"] = "valid"
        return self._make(layer, changes)(x), scale

    def _shift(self, layer, x, scale):
        """Make anew NASNet's shift: pad one side (that layer was passed by), crop the other."""
        (top, _), (left, _) = crop = _times(layer.cropping, scale.dilation)
        name = f"{self.names[layer.name]}_pad"
        x = layers.ZeroPadding2D(((0, top), (0, left)), name=name)(x)
        return self._make(layer, {"cropping": crop})(x)


def _own_class(operation):
    """The class to make an operation anew in."""
    if isinstance(operation, layers.Dropout):
        # The `efficientnet` package makes its Dropout inside a function, where no loader finds it.
        return layers.Dropout
    if type(operation) is layers.BatchNormalization:
        return BatchNormalization
    return type(operation)


def _times(pairs, factor):
    return tuple(tuple(factor * side for side in pair) for pair in pairs)


def _depthwise(config):
    """Turn the config of a grouped convolution, one group per channel, into a depthwise one's.

    ConvNeXt writes its depthwise convolutions as grouped ones. TensorFlow runs those on a CPU only
    through XLA, which is slow to start and cannot be exported.
    """
    config = dict(config)
    config["depth_multiplier"] = config.pop("filters") // config.pop("groups")
    for part in ("initializer", "regularizer", "constraint"):
        config[f"depthwise_{part}"] = config.pop(f"kernel_{part}")
    return config
