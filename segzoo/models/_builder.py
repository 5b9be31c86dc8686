"""What a call of a builder answers to an argument that it does not have."""

import difflib
import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec

import keras

P = ParamSpec("P")

# What other libraries call our arguments.
_ELSEWHERE = {
    "encoder_name": "`backbone`",
    "backbone_name": "`backbone`",
    "encoder_weights": "`backbone_weights`",
    "encoder_features": "`backbone_features`",
    "in_channels": "`input_shape`, whose last entry is the number of channels",
    "num_classes": "`classes`",
    "decoder_channels": "`decoder_filters`",
    "decoder_block_type": "`upsampling`",
    "decoder_use_batchnorm": "`normalization`",
    "encoder_depth": "`backbone_features`, which picks the maps",
    "encoder_freeze": "`model.get_layer('backbone').trainable = False`",
    "encoder_output_stride": "`output_stride`",
    "aux_params": "`auxiliary`",
}


def builder(function: Callable[P, keras.Model]) -> Callable[P, keras.Model]:
    """Name near arguments, and other libraries' words for ours, where one is unknown."""
    known = list(inspect.signature(function).parameters)

    @functools.wraps(function)
    def build(*args: P.args, **kwargs: P.kwargs) -> keras.Model:
        for argument in kwargs:
            if argument not in known:
                raise TypeError(_unknown(function.__name__, argument, known))
        return function(*args, **kwargs)

    return build


def _unknown(name: str, argument: str, known: list[str]) -> str:
    if argument in _ELSEWHERE:
        hint = f"segzoo has {_ELSEWHERE[argument]} for it"
    else:
        near = difflib.get_close_matches(argument, known, n=3, cutoff=0.6)
        listed = ", ".join(f"`{word}`" for word in near or known)
        hint = f"did you mean {listed}?" if near else f"its arguments are {listed}"
    return f"{name}() has no argument `{argument}`: {hint}"
