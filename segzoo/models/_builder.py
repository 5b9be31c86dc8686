"""What every builder does with a call: it names near arguments, and checks those that all share."""

import difflib
import functools
import inspect
import os
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec

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
    "decoder_attention_type": "`attention`",
    "encoder_depth": "`backbone_features`, which picks the maps",
    "encoder_freeze": "`model.get_layer('backbone').trainable = False`",
    "encoder_output_stride": "`output_stride`",
    "aux_params": "`auxiliary`",
}


def builder(function: Callable[P, keras.Model]) -> Callable[P, keras.Model]:
    """Check the arguments that all builders have; name near ones where one is unknown."""
    parameters = inspect.signature(function).parameters
    known = list(parameters)
    default = parameters[known[0]].default

    @functools.wraps(function)
    def build(*args: P.args, **kwargs: P.kwargs) -> keras.Model:
        for argument in kwargs:
            if argument not in known:
                raise TypeError(_unknown(function.__name__, argument, known))
        given = {**dict(zip(known, args, strict=False)), **kwargs}
        for argument, check in _CHECKS.items():
            if argument in given:
                check(argument, given[argument])
        if given.get("backbone_features") is not None and given.get(known[0], default) is None:
            raise ValueError(
                "`backbone_features` must be None with `backbone=None`, since the builder's own "
                f"encoder is used as a whole; received {given['backbone_features']!r}"
            )
        return function(*args, **kwargs)

    return build


def check_flag(argument: str, value: bool) -> bool:
    """`value` as a bool, or ValueError: a text such as "no" would count as true."""
    if type(value).__name__ not in ("bool", "bool_"):
        raise ValueError(f"`{argument}` must be True or False, received {argument}={value!r}")
    return bool(value)


def _check_file(argument: str, value: Any) -> None:
    if not (value is None or isinstance(value, str | os.PathLike)):
        raise ValueError(
            f"`{argument}` must be None, the name of published weights or the path of a weights "
            f"file, received {argument}={value!r}"
        )


def _check_names(argument: str, value: Any) -> None:
    listed = isinstance(value, Iterable) and not isinstance(value, str | bytes)
    if value is not None and not (listed and all(isinstance(name, str) for name in value)):
        raise ValueError(
            f"`{argument}` must be None or a list of layer names, received {argument}={value!r}"
        )


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "backbone_weights": _check_file,
    "backbone_features": _check_names,
    "weights": _check_file,
    "preprocessing": check_flag,
}


def _unknown(name: str, argument: str, known: list[str]) -> str:
    if argument in _ELSEWHERE:
        hint = f"segzoo has {_ELSEWHERE[argument]} for it"
    else:
        near = difflib.get_close_matches(argument, known, n=3, cutoff=0.6)
        listed = ", ".join(f"`{word}`" for word in near or known)
        hint = f"did you mean {listed}?" if near else f"its arguments are {listed}"
    return f"{name}() has no argument `{argument}`: {hint}"
