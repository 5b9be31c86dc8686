"""Make one layer anew from the config of the published one."""

from typing import Any

import keras
from keras import layers

from segzoo.layers import _dilated, activations
from segzoo.layers.normalization import BatchNormalization


def remake(
    operation: keras.Operation,
    changes: dict[str, Any],
    normalization: dict[str, Any] | None = None,
) -> keras.Operation:
    """Make an operation anew.

    Args:
        operation: a layer or a bare operation.
        changes: entries of its config.
        normalization: entries of the config of a batch normalization.

    Returns:
        The new operation, channels last whatever Keras's setting is.
    """
    kind, config = type(operation), operation.get_config()
    if kind is layers.BatchNormalization:
        kind = BatchNormalization
        config |= normalization or {}
    elif config.get("groups", 1) > 1 and config["groups"] == operation.input.shape[-1]:
        kind, config = layers.DepthwiseConv2D, _depthwise(config)
    elif kind is layers.Activation:
        config["activation"] = activations.get(config["activation"])  # exact GELU for ONNX
    if max(changes.get("dilation_rate", (1,))) > 1:
        kind = _dilated.KINDS.get(kind, kind)
    if "data_format" in config:
        config["data_format"] = "channels_last"
    return kind.from_config(config | changes)


def _depthwise(config: dict[str, Any]) -> dict[str, Any]:
    """Turn the config of a grouped convolution, one group per channel, into a depthwise one's.

    ConvNeXt writes its depthwise convolutions as grouped ones. TensorFlow runs those on a CPU only
    through XLA, which is slow to start and cannot be exported.
    """
    config = dict(config)
    config["depth_multiplier"] = config.pop("filters") // config.pop("groups")
    for part in ("initializer", "regularizer", "constraint"):
        config[f"depthwise_{part}"] = config.pop(f"kernel_{part}")
    return config
