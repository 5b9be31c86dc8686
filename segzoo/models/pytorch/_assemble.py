"""From the description of a checkpoint's network to the model with its weights."""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from segzoo.backbones.channels import constant_planes, kernel_adapter
from segzoo.backbones.named import Built, build_row
from segzoo.backbones.registry import info
from segzoo.layers import ImageNormalization
from segzoo.layers._arguments import positive_int
from segzoo.models._assembly import check_activation, check_input_shape
from segzoo.models._features import Features
from segzoo.models._heads import head
from segzoo.models.pytorch._architecture import SizeOver, naming
from segzoo.models.pytorch._checkpoint import Checkpoint
from segzoo.models.pytorch.encoders import Encoder
from segzoo.weights.pytorch import COUNTERS, LAYOUTS, Part, assign, parts_of

_log = logging.getLogger("segzoo")


@dataclass(frozen=True)
class Recipe:
    """The network of a checkpoint.

    Attributes:
        title: what it is, for errors.
        encoder: its encoder.
        maps: how many of the encoder's maps are used, finest first.
        output_stride: of the encoder.
        channels: of the image.
        classes: of the file's classifier.
        activation: of the file's output: None for none.
        decode: from the maps to the last map.
        modules: what the file calls the decoder's layers, by their paths (`naming`).
        inner: what it calls the convolution and the normalization of a block.
        head: what it calls the classifier.
        head_kernel: of the classifier.
        align_corners: of the last resize.
        full_size: whether the last map has the image's size.
        rearrange: by the path of a variable, how its value is put into the decoder's order.
        unused: a pattern of tensors that the file may have besides.
        name: of the model.
    """

    title: str
    encoder: Encoder
    maps: int
    output_stride: int
    channels: int
    classes: int
    activation: str | None
    decode: Callable[[Features], Any]
    modules: Callable[[Features], Mapping[str, str | Part]]
    inner: tuple[str, str]
    head: str
    head_kernel: int
    align_corners: bool
    full_size: bool
    rearrange: Callable[[Features], Mapping[str, Callable]]
    unused: str
    name: str


def assemble(
    checkpoint: Checkpoint,
    recipe: Recipe,
    *,
    classes: int | None,
    input_shape: Sequence[int | None] | None,
    activation: str | None,
    preprocessing: bool,
    name: str | None,
) -> keras.Model:
    """Build the network and load its weights; arguments as `from_pytorch`."""
    classes = recipe.classes if classes is None else positive_int("classes", classes)
    check_activation(activation, classes)
    shape = _shape(input_shape, recipe.channels)

    def network(shape: tuple[int | None, int | None, int]):
        image = keras.Input(shape, name="image")
        x = _normalize(image, recipe.encoder.normalization) if preprocessing else image
        full = _encoder(recipe, tuple(x.shape[1:]))
        maps = full.model.outputs[: recipe.maps]
        backbone = keras.Model(full.model.inputs, maps, name="backbone")
        features = _features(x, recipe, backbone(x), full)
        outputs = head(
            recipe.decode(features),
            image,
            classes,
            recipe.activation or "auto" if activation == "auto" else activation,
            kernel_size=recipe.head_kernel,
            full_size=recipe.full_size,
            align_corners=recipe.align_corners,
        )
        return keras.Model(image, outputs, name=name or recipe.name), full.model, features

    model, full, features = network((*shape[:2], recipe.channels))
    _load(checkpoint, model, full, recipe, features, fresh=classes != recipe.classes)
    if shape[2] != recipe.channels:
        rgb, (model, *_) = model, network(shape)
        _adapt(model, rgb)
    return model


def _normalize(image, statistics: Mapping[str, Any]):
    constant = constant_planes(image.shape[-1], statistics["mean"])
    return ImageNormalization(**statistics, constant_channel=constant, name="preprocessing")(image)


def _adapt(model: keras.Model, rgb: keras.Model) -> None:
    """Give a model the weights of the same network for RGB, its first convolution adapted."""
    adapt = kernel_adapter(model)
    for variable, source in zip(model.weights, rgb.weights, strict=True):
        value = keras.ops.convert_to_numpy(source)
        variable.assign(value if value.shape == variable.shape else adapt(value))


def _shape(input_shape, channels: int) -> tuple[int | None, int | None, int]:
    if input_shape is None:
        return None, None, channels
    shape = check_input_shape(input_shape)
    if channels not in (3, shape[2]):
        raise ValueError(
            f"`input_shape` must be (height, width, {channels}), as the file has {channels} "
            f"channels and only a file of RGB is adapted to others; received "
            f"input_shape={input_shape}"
        )
    return shape


def _encoder(recipe: Recipe, shape: tuple[int | None, int | None, int]) -> Built:
    """The encoder with all of its maps, also those that are not used."""
    return build_row(
        info(recipe.encoder.backbone),
        weights=None,
        input_shape=shape,
        output_stride=recipe.output_stride,
        preprocessing=False,
        features=recipe.encoder.features,
        variant=recipe.encoder.variant,
        pretrained=True,
    )


def _features(x, recipe: Recipe, maps: Any, full: Built) -> Features:
    maps = list(maps) if isinstance(maps, list | tuple) else [maps]
    levels = [scale.nominal for scale in full.scales[: recipe.maps]]
    strides = [scale.actual for scale in full.scales[: recipe.maps]]
    if not recipe.encoder.halves:
        maps = [SizeOver(2, name="half")(x), *maps]
        levels, strides = [2, *levels], [2, *strides]
    return Features.of(x, maps, levels, strides, rounds_up=False)


def _load(
    checkpoint: Checkpoint,
    model: keras.Model,
    full: keras.Model,
    recipe: Recipe,
    features: Features,
    fresh: bool,
) -> None:
    """Read the weights, whatever stands before their names."""
    prefix = _prefix(checkpoint, f"{recipe.head}.weight")
    layout = next(layout for layout in LAYOUTS if layout.name == recipe.encoder.layout)
    inside = {id(variable) for variable in model.get_layer("backbone").weights}
    outside = [variable for variable in model.weights if id(variable) not in inside]
    of_encoder = parts_of(full.weights, layout.modules, prefix + recipe.encoder.prefix)
    modules = naming({**recipe.modules(features), "logits": recipe.head}, recipe.inner)
    pairs = [pair for pair in of_encoder if id(pair[1]) in inside]
    pairs += parts_of(outside, modules, prefix)

    start = re.escape(prefix)
    unused = [COUNTERS, f"{start}({recipe.unused})"]
    unused.append(rf"{start}{re.escape(recipe.encoder.prefix)}({layout.unused})")
    # Deeper stages than are used, which the file has all the same.
    unused += [re.escape(part.name) for part, v in of_encoder if id(v) not in inside]
    if fresh:
        names = {f"{prefix}{recipe.head}.{last}" for last in ("weight", "bias")}
        pairs = [pair for pair in pairs if pair[0].name not in names]
        unused += [re.escape(name) for name in names]
        _log.warning(
            "%s has weights for %d classes: the classifier `logits` starts fresh, all other "
            "layers are loaded",
            checkpoint.file.path,
            recipe.classes,
        )
    assign(
        model,
        checkpoint.file,
        pairs,
        unused="|".join(unused),
        title=recipe.title,
        rearrange=recipe.rearrange(features),
    )


def _prefix(checkpoint: Checkpoint, mark: str) -> str:
    """What stands before all names: "model." of a wrapper, for example."""
    for name in checkpoint.file:
        start = name.removesuffix(mark)
        if name.endswith(mark) and start[-1:] in ("", "."):
            if start:
                _log.info("%s: the tensors are read without %r", checkpoint.file.path, start)
            return start
    return ""
