"""A checkpoint that was trained in PyTorch as a `keras.Model` with the same output."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from segzoo.models.pytorch import hugging_face, smp
from segzoo.models.pytorch._assemble import Recipe, assemble
from segzoo.models.pytorch._checkpoint import Checkpoint, open_checkpoint


def from_pytorch(
    path: str | os.PathLike,
    *,
    config: Mapping[str, Any] | str | os.PathLike | None = None,
    classes: int | None = None,
    input_shape: Sequence[int | None] | None = None,
    activation: str | None = "auto",
    preprocessing: bool = True,
    name: str | None = None,
) -> keras.Model:
    """Build the network of a PyTorch checkpoint, with its weights.

    The checkpoint comes from segmentation_models_pytorch or from Transformers; PyTorch is not
    needed. The model computes what the file's network computes, even where that differs from the
    builder of the same name here, and takes any size from 32 on.

    Args:
        path: a folder with `config.json` and `model.safetensors`, as `save_pretrained` writes it;
            the safetensors file with `config.json` beside it; or `"hf://user/model"`, which needs
            the package `huggingface_hub`. A prefix that all tensors share, such as "model.", is
            taken off.
        config: configuration of a bare state dict: a mapping, or the path of a JSON file, with what
            `save_pretrained` would have written; at least `{"architecture": "Unet",
            "encoder_name": "resnet34", "classes": 1}`. What it lacks takes the default of the
            library that trained it. Defaults to None, which reads `config.json`.
        classes: int >= 1, number of output channels. If the file has another number, the
            classifier, and nothing else, starts fresh. Defaults to the file's number.
        input_shape: (height, width, channels), height and width None or at least 32. Channels
            other than three adapt the first convolution of a file of RGB, as `backbone_weights`
            does; other files keep theirs. Defaults to an open size and the file's channels.
        activation: activation of the output. `"auto"` is the file's own, or sigmoid for one class
            and softmax for several; None gives logits. Defaults to `"auto"`.
        preprocessing: bool, whether the model takes RGB in 0..255 and normalizes it with the mean
            and the standard deviation that the encoder was trained with. Defaults to True.
        name: name of the model. Defaults to that of the architecture.

    Returns:
        A `keras.Model` from (B, H, W, channels) to float32 (B, H, W, classes).

    Raises:
        FileNotFoundError: if there is nothing at `path`.
        ValueError: if the file cannot be read: a pickle, shards, an unknown architecture, encoder
            or option, a tensor that is missing, unknown or of another shape. The message names the
            file and what is wrong.

    Example:
        >>> import segzoo
        >>> def roads():
        ...     return segzoo.models.from_pytorch("checkpoints/roads")
    """
    checkpoint = open_checkpoint(path, config)
    return assemble(
        checkpoint,
        _recipe(checkpoint),
        classes=classes,
        input_shape=input_shape,
        activation=activation,
        preprocessing=preprocessing,
        name=name,
    )


def _recipe(checkpoint: Checkpoint) -> Recipe:
    config = checkpoint.config
    said = config.get("_model_class", config.get("architecture", config.get("architectures")))
    said = said[0] if isinstance(said, list) and said else said
    if isinstance(said, str) and said in smp.ARCHITECTURES:
        return smp.recipe(checkpoint, said)
    if isinstance(said, str) and said in hugging_face.ARCHITECTURES:
        return hugging_face.recipe(checkpoint, said)
    raise ValueError(
        f"{checkpoint.source}: `architecture` must be one of "
        f"{', '.join([*smp.ARCHITECTURES, *hugging_face.ARCHITECTURES])}; received {said!r}"
    )
