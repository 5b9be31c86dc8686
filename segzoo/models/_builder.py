"""What every builder does with a call: it names near arguments, and checks those that all share."""

import functools
import inspect
import os
from collections.abc import Callable
from typing import Any, ParamSpec

import keras

from segzoo._arguments import flag, refuse_unknown
from segzoo.layers._arguments import activation_function, items, regularizer
from segzoo.weights.published import CHECKPOINTS

P = ParamSpec("P")

# What other libraries call an argument, and what it may be here.
_NAMES = {
    "encoder_name": ("backbone", "variant"),
    "backbone_name": ("backbone", "variant"),
    "encoder_weights": ("backbone_weights",),
    "encoder_features": ("backbone_features",),
    "num_classes": ("classes",),
    "decoder_channels": ("decoder_filters", "filters"),
    "decoder_segmentation_channels": ("decoder_filters",),
    "decoder_pyramid_channels": ("pyramid_filters",),
    "pyramid_block_filters": ("pyramid_filters",),
    "psp_out_channels": ("decoder_filters",),
    "decoder_block_type": ("upsampling",),
    "decoder_interpolation": ("upsampling",),
    "decoder_use_batchnorm": ("normalization",),
    "decoder_use_norm": ("normalization",),
    "decoder_attention_type": ("attention",),
    "decoder_atrous_rates": ("aspp_dilations",),
    "encoder_output_stride": ("output_stride",),
    "downsample_factor": ("output_stride",),
    "aux_params": ("auxiliary",),
}
_ELSEWHERE = {word: {name: f"`{name}`" for name in ours} for word, ours in _NAMES.items()} | {
    "in_channels": {"input_shape": "the last entry of `input_shape`"},
    "encoder_depth": {"backbone_features": "`backbone_features`, the maps to take"},
    "encoder_freeze": {"backbone_weights": "`model.get_layer('backbone').trainable = False`"},
}


def builder(function: Callable[P, keras.Model]) -> Callable[P, keras.Model]:
    """Check the arguments that all builders have; name near ones where one is unknown."""
    parameters = inspect.signature(function).parameters
    known = list(parameters)
    default = parameters[known[0]].default

    @functools.wraps(function)
    def build(*args: P.args, **kwargs: P.kwargs) -> keras.Model:
        refuse_unknown(function.__name__, kwargs, known, _ELSEWHERE)
        given = {**dict(zip(known, args, strict=False)), **kwargs}
        for argument, check in _CHECKS.items():
            if argument in given:
                check(argument, given[argument])
        if given.get("backbone_features") is not None and given.get(known[0], default) is None:
            raise ValueError(
                "`backbone_features` must be None with `backbone=None`, since the builder's own "
                f"encoder is used as a whole; received {given['backbone_features']!r}"
            )
        _check_loaded(given.get(known[0], default), given.get("backbone_weights"))
        _check_published(function.__name__, given.get("weights"))
        return function(*args, **kwargs)

    return build


def _check_file(argument: str, value: Any) -> None:
    if not (value is None or isinstance(value, str | os.PathLike)):
        raise ValueError(
            f"`{argument}` must be None, the name of published weights or the path of a weights "
            f"file, received {argument}={value!r}"
        )


def _check_names(argument: str, value: Any) -> None:
    names = items(value)
    if value is not None and not (names and all(isinstance(name, str) for name in names)):
        raise ValueError(
            f"`{argument}` must be None or a list of layer names, received {argument}={value!r}"
        )


def _check_name(argument: str, value: Any) -> None:
    if not (value is None or (isinstance(value, str) and value)):
        raise ValueError(f"`{argument}` must be None or a text, received {argument}={value!r}")


def _check_loaded(backbone: Any, weights: Any) -> None:
    """Weights that nothing would load must not pass in silence; the default may."""
    own = backbone is None
    if (own or isinstance(backbone, keras.Model)) and weights not in (None, "imagenet"):
        raise ValueError(
            f"`backbone_weights` must be left out with {'None' if own else 'a keras.Model'} as "
            "`backbone`: they are loaded into a named backbone alone, received "
            f"backbone_weights={weights!r}. A file of the whole model is `weights`"
        )


def _check_published(name: str, weights: Any) -> None:
    """A word that is no file must be a published checkpoint of the builder."""
    known = {row.name for row in CHECKPOINTS if row.builder == name}
    word = isinstance(weights, str) and not {".", "/", os.sep} & set(weights)
    if word and weights not in known and not os.path.exists(weights):
        offer = f" or the name of a published checkpoint ({', '.join(sorted(known))})"
        raise ValueError(
            f"`weights` must be the path of a file of the whole model{offer if known else ''}, "
            f"received weights={weights!r}; weights of the backbone alone are `backbone_weights`"
        )


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "backbone_weights": _check_file,
    "backbone_features": _check_names,
    "weights": _check_file,
    "preprocessing": flag,
    "block_activation": activation_function,
    "kernel_regularizer": regularizer,
    "name": _check_name,
}
