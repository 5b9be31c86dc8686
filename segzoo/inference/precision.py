"""The same network in 32 bits, for converters that do not take 16."""

from typing import Any

import keras
import numpy as np
from keras import ops

SIXTEEN_BIT = ("float16", "bfloat16", "mixed_float16", "mixed_bfloat16")


def in_float32(model: keras.Model) -> keras.Model:
    """Build a copy of a model in which every layer computes in float32.

    A model that was trained under `"mixed_float16"` or `"mixed_bfloat16"` keeps these policies in
    its file. LiteRT does not load what is exported from it, nor does ONNX in bfloat16; the network
    that this function returns exports like one that was trained in float32.

    Args:
        model: a `keras.Model` that can be saved: functional or sequential, with nested models and
            shared layers, or of a registered class. It is not changed.

    Returns:
        A `keras.Model` in float32 with the same architecture and layer names and a copy of the
        weights. It is not compiled. Its output is that of `model` up to the rounding of 16 bits.

    Raises:
        ValueError: if `model` is not a `keras.Model`, is not built, or is quantized.

    Example:
        >>> import keras, segzoo
        >>> image = keras.Input((None, None, 3))
        >>> half = keras.Model(image, keras.layers.Conv2D(4, 3, dtype="mixed_float16")(image))
        >>> half.dtype, half.layers[-1].compute_dtype
        ('float32', 'float16')
        >>> segzoo.inference.in_float32(half).layers[-1].compute_dtype
        'float32'
    """
    if not isinstance(model, keras.Model) or not model.built:
        raise ValueError(
            f"`model` must be a keras.Model that is built, received {type(model).__name__}"
        )
    config = _widened(keras.saving.serialize_keras_object(model))
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")  # for layers that a layer makes without a policy
    try:
        copy = keras.saving.deserialize_keras_object(config, safe_mode=False)
    finally:
        keras.config.set_dtype_policy(policy)
    if [tuple(w.shape) for w in copy.weights] != [tuple(w.shape) for w in model.weights]:
        raise ValueError(
            "`model` must be what its configuration builds, received a model whose configuration "
            f"builds other weights: {len(copy.weights)} instead of {len(model.weights)}"
        )
    for target, source in zip(copy.weights, model.weights, strict=True):
        target.assign(np.asarray(ops.convert_to_numpy(source), target.dtype))
    return copy


def _widened(config: Any) -> Any:
    """A copy of a serialized object in which every 16-bit type is float32; nothing is compiled."""
    if isinstance(config, list | tuple):
        return type(config)(map(_widened, config))
    if not isinstance(config, dict):
        return config
    kind = str(config.get("class_name"))
    if kind == "DTypePolicy":
        return {**config, "config": {"name": _wide(config["config"]["name"])}}
    if kind.endswith("DTypePolicy"):
        raise ValueError(f"`model` must not be quantized, received a model with a {kind}")
    return {
        key: _wide(value) if isinstance(value, str) and "dtype" in key else _widened(value)
        for key, value in config.items()
        if key != "compile_config"
    }


def _wide(name: str) -> str:
    """A type or policy by name, float32 instead of 16 bits."""
    return "float32" if name in SIXTEEN_BIT else name
