"""Networks of segmentation_models_pytorch: encoder, decoder, head, and what files call them."""

import logging
from typing import Any

from segzoo.models.pytorch._architecture import Architecture, style_of
from segzoo.models.pytorch._assemble import Recipe
from segzoo.models.pytorch._checkpoint import Checkpoint
from segzoo.models.pytorch.deeplab import DEEPLAB_V3, DEEPLAB_V3_PLUS
from segzoo.models.pytorch.encoders import encoder
from segzoo.models.pytorch.fpn import FPN
from segzoo.models.pytorch.linknet import LINKNET
from segzoo.models.pytorch.manet import MANET
from segzoo.models.pytorch.pan import PAN
from segzoo.models.pytorch.pspnet import PSPNET
from segzoo.models.pytorch.segformer import SEGFORMER
from segzoo.models.pytorch.unet import UNET, UNET_PLUS_PLUS
from segzoo.models.pytorch.upernet import UPERNET

ARCHITECTURES: dict[str, Architecture] = {
    "Unet": UNET,
    "UnetPlusPlus": UNET_PLUS_PLUS,
    "MAnet": MANET,
    "Linknet": LINKNET,
    "FPN": FPN,
    "PSPNet": PSPNET,
    "DeepLabV3": DEEPLAB_V3,
    "DeepLabV3Plus": DEEPLAB_V3_PLUS,
    "PAN": PAN,
    "UPerNet": UPERNET,
    "Segformer": SEGFORMER,
}

# Options of every architecture, and their defaults.
_COMMON = {
    "encoder_name": "resnet34",
    "encoder_depth": None,
    "encoder_weights": "imagenet",
    "in_channels": 3,
    "classes": 1,
    "activation": None,
    "aux_params": None,
}
# What earlier releases called an option.
_FORMER = {
    "decoder_use_batchnorm": "decoder_use_norm",
    "psp_use_batchnorm": "decoder_use_norm",
    "upscale_mode": "decoder_interpolation",
}
_ACTIVATIONS = {None: None, "identity": None, "sigmoid": "sigmoid"}
_ACTIVATIONS |= {"softmax": "softmax", "softmax2d": "softmax"}
_log = logging.getLogger("segzoo")


def recipe(checkpoint: Checkpoint, name: str) -> Recipe:
    """The network that a configuration describes.

    Args:
        checkpoint: opened.
        name: of the architecture, one of `ARCHITECTURES`.

    Raises:
        ValueError: for an option or an encoder that is not read.
    """
    architecture = ARCHITECTURES[name]
    options = _options(checkpoint, name, architecture)
    found = encoder(options["encoder_name"], options["encoder_weights"])
    output_stride = options.get("encoder_output_stride", 32)
    if output_stride < 32 and not found.dilates:
        raise ValueError(
            f"{checkpoint.source}: `encoder_name` of {name} must be an encoder that can be "
            f"dilated, received encoder_name={options['encoder_name']!r}"
        )
    style = style_of(options.get("decoder_use_norm", "batchnorm"))
    modules, rearrange = architecture.modules, architecture.rearrange
    return Recipe(
        title=f"{name} of segmentation_models_pytorch",
        encoder=found,
        maps=options["encoder_depth"] - (0 if found.halves else 1),
        output_stride=output_stride,
        channels=options["in_channels"],
        classes=options["classes"],
        activation=_ACTIVATIONS[options["activation"]],
        decode=lambda features: architecture.decode(features, style, options),
        modules=lambda features: modules(features, options) if modules else {},
        inner=architecture.inner,
        head="segmentation_head.0",
        head_kernel=architecture.head_kernel,
        align_corners=True,
        full_size=architecture.stride is None,
        rearrange=lambda features: rearrange(features, options) if rearrange else {},
        unused=rf"{architecture.unused}|classification_head\..*",
        name=name.lower(),
    )


def _options(checkpoint: Checkpoint, architecture: str, row: Architecture) -> dict[str, Any]:
    """The options of a configuration, with the defaults of those that it lacks."""
    known = {**_COMMON, **row.options, "encoder_depth": row.depth}
    if row.output_strides:
        known["encoder_output_stride"] = row.output_strides[0]
    if row.stride is not None:
        known["upsampling"] = row.upsampling
    given = {}
    for option, value in checkpoint.config.items():
        option = _FORMER.get(option, option) if _FORMER.get(option) in known else option
        if option.startswith("_") or option == "architecture":
            continue
        if option not in known:
            raise ValueError(
                f"{checkpoint.source}: `{option}` is not an option of {architecture} that is read; "
                f"those are {', '.join(known)}"
            )
        given[option] = value
    options = {**known, **given}
    for option, least, most in (
        ("encoder_depth", row.least_depth, 5),
        ("in_channels", 1, None),
        ("classes", 1, None),
    ):
        value = options[option]
        if type(value) is not int or value < least or (most and value > most):
            raise ValueError(
                f"{checkpoint.source}: `{option}` must be an int from {least} "
                f"{f'to {most}' if most else 'on'}, received {option}={value!r}"
            )
    if options["activation"] not in _ACTIVATIONS:
        raise ValueError(
            f"{checkpoint.source}: `activation` must be one of {list(_ACTIVATIONS)}, received "
            f"activation={options['activation']!r}"
        )
    stride = options.get("encoder_output_stride", 32)
    if row.output_strides and stride not in row.output_strides:
        raise ValueError(
            f"{checkpoint.source}: `encoder_output_stride` of {architecture} must be one of "
            f"{sorted(row.output_strides)}, received encoder_output_stride={stride!r}"
        )
    if row.stride is not None:
        needed = row.stride(options["encoder_depth"], stride)
        if options["upsampling"] not in (None, needed):
            raise ValueError(
                f"{checkpoint.source}: `upsampling` must be {needed} with these options, so that "
                f"the output has the image's size; received upsampling={options['upsampling']!r}"
            )
    if options["aux_params"] is not None:
        _log.warning("%s: the classification head is left out", checkpoint.source)
    return options
