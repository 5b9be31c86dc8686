"""Networks of Transformers: SegFormer on MiT, UPerNet on ConvNeXt.

Their file has the number of classes in `id2label`, and none where it is 2. Logits of SegFormer
have a quarter of the image's size and are resized to it, as its own post-processing does.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import keras

from segzoo.backbones._rows import Variant
from segzoo.models._features import Features, Map
from segzoo.models._style import Style
from segzoo.models.pytorch._architecture import EPSILON
from segzoo.models.pytorch._assemble import Recipe
from segzoo.models.pytorch._checkpoint import Checkpoint
from segzoo.models.pytorch.encoders import Encoder, convnext
from segzoo.models.segformer import segformer
from segzoo.models.upernet import upernet
from segzoo.weights.pytorch import Part

_log = logging.getLogger("segzoo")
_STYLE = Style("batch", epsilon=EPSILON)

# What a configuration must say of an encoder, by the backbone.
_MIT = {
    "mitb0": ([2, 2, 2, 2], [32, 64, 160, 256]),
    "mitb1": ([2, 2, 2, 2], [64, 128, 320, 512]),
    "mitb2": ([3, 4, 6, 3], [64, 128, 320, 512]),
    "mitb3": ([3, 4, 18, 3], [64, 128, 320, 512]),
    "mitb4": ([3, 8, 27, 3], [64, 128, 320, 512]),
    "mitb5": ([3, 6, 40, 3], [64, 128, 320, 512]),
}
CONVNEXT = {
    "tiny": ([3, 3, 9, 3], [96, 192, 384, 768]),
    "small": ([3, 3, 27, 3], [96, 192, 384, 768]),
    "base": ([3, 3, 27, 3], [128, 256, 512, 1024]),
    "large": ([3, 3, 27, 3], [192, 384, 768, 1536]),
    "xlarge": ([3, 3, 27, 3], [256, 512, 1024, 2048]),
}
_MIT_OPTIONS = {
    "sr_ratios": [8, 4, 2, 1],
    "patch_sizes": [7, 3, 3, 3],
    "strides": [4, 2, 2, 2],
    "num_attention_heads": [1, 2, 5, 8],
    "mlp_ratios": [4, 4, 4, 4],
    "hidden_act": "gelu",
    "reshape_last_stage": True,
}


def _named(table: Mapping[str, tuple], config: Mapping[str, Any], source: str) -> str:
    """The encoder of a table that has the depths and widths of a configuration."""
    found = config.get("depths"), config.get("hidden_sizes")
    for name, (depths, widths) in table.items():
        if found == (depths, widths):
            return name
    known = "; ".join(f"{name} {depths}, {widths}" for name, (depths, widths) in table.items())
    raise ValueError(
        f"{source}: `depths` and `hidden_sizes` must be those of one of {known}; received {found}"
    )


def _expect(config: Mapping[str, Any], wanted: Mapping[str, Any], source: str) -> None:
    """Raise ValueError for an option that is not as the networks that are read have it."""
    for option, value in wanted.items():
        if config.get(option, value) != value:
            raise ValueError(
                f"{source}: `{option}` must be {value}, received {option}={config[option]!r}"
            )


def _classes(config: Mapping[str, Any], source: str) -> int:
    labels = config.get("id2label", {0: "", 1: ""})
    if not isinstance(labels, Mapping) or not labels:
        raise ValueError(f"{source}: `id2label` must name the classes, received {labels!r:.80}")
    if "id2label" in config:
        names = ", ".join(f"{number} {name}" for number, name in labels.items())
        _log.info("%s: the channels are %s", source, names)
    return len(labels)


def _segformer(checkpoint: Checkpoint) -> Recipe:
    config, source = checkpoint.config, checkpoint.source
    _expect(config, _MIT_OPTIONS, source)
    filters = config.get("decoder_hidden_size", 256)

    def decode(features: Features):
        maps = features.maps[1:]
        dropout = config.get("classifier_dropout_prob", 0.1)
        return segformer(maps, maps[0].x, _STYLE, filters=filters, dropout=dropout)

    def modules(features: Features) -> dict[str, str | Part]:
        maps = features.maps[1:]
        found: dict[str, str | Part] = {"fuse_norm": "decode_head.batch_norm"}
        for place, map in enumerate(maps):
            found[f"linear_{map.level}"] = f"decode_head.linear_c.{place}.proj"
            # One layer over all maps, the deepest first.
            deepest_first = len(maps) - 1 - place
            fuse = Part("decode_head.linear_fuse", deepest_first, len(maps), axis=1)
            found[f"fuse_{map.level}"] = fuse
        return found

    return Recipe(
        title="Transformers' SegFormer",
        encoder=Encoder(
            _named(_MIT, config, source),
            Variant(epsilon=EPSILON),
            "transformers-mit",
            prefix="segformer.encoder.",
            halves=False,
        ),
        maps=4,
        channels=config.get("num_channels", 3),
        classes=_classes(config, source),
        decode=decode,
        modules=modules,
        unused=r"(?!)",
        name="segformer",
        **_COMMON,
    )


def _upernet(checkpoint: Checkpoint) -> Recipe:
    config, source = checkpoint.config, checkpoint.source
    inner = config.get("backbone_config")
    if not isinstance(inner, Mapping) or inner.get("model_type") != "convnext":
        said = inner.get("model_type") if isinstance(inner, Mapping) else inner
        raise ValueError(
            f"{source}: `backbone_config` must be of model_type 'convnext', received {said!r}"
        )
    stages = [f"stage{number}" for number in (1, 2, 3, 4)]
    _expect(inner, {"hidden_act": "gelu", "patch_size": 4, "out_features": stages}, source)
    bins = config.get("pool_scales", [1, 2, 3, 6])

    def decode(features: Features):
        maps = tuple(
            Map(
                keras.layers.LayerNormalization(epsilon=1e-6, name=f"norm_{map.level}")(map.x),
                map.level,
                map.stride,
            )
            for map in features.maps[1:]
        )
        return upernet(
            Features(features.image, maps, features.rounds_up),
            _STYLE,
            bin_sizes=bins,
            decoder_filters=config.get("hidden_size", 512),
            dropout=config.get("classifier_dropout_prob", 0.0),
        )

    def modules(features: Features) -> dict[str, str | Part]:
        found: dict[str, str | Part] = {
            "psp_conv": "decode_head.bottleneck",
            "fuse": "decode_head.fpn_bottleneck",
        }
        for place, scale in enumerate(bins):
            found[f"psp_{scale}"] = f"decode_head.psp_modules.{place}.1"
        for place, map in enumerate(features.maps[1:]):
            found[f"norm_{map.level}"] = f"backbone.hidden_states_norms.stage{place + 1}"
            found[f"lateral_{map.level}"] = f"decode_head.lateral_convs.{place}"
            found[f"fpn_{map.level}"] = f"decode_head.fpn_convs.{place}"
        return found

    encoder = replace(
        convnext(_named(CONVNEXT, inner, source)),
        layout="transformers-convnext",
        prefix="backbone.",
    )
    return Recipe(
        title="Transformers' UPerNet",
        encoder=encoder,
        maps=4,
        channels=inner.get("num_channels", 3),
        classes=_classes(config, source),
        decode=decode,
        modules=modules,
        unused=r"auxiliary_head\..*",
        name="upernet",
        **_COMMON,
    )


_COMMON: dict[str, Any] = {
    "output_stride": 32,
    "activation": None,
    "inner": ("conv", "batch_norm"),
    "head": "decode_head.classifier",
    "head_kernel": 1,
    "align_corners": False,
    "full_size": False,
    "rearrange": lambda features: {},
}
ARCHITECTURES = {
    "SegformerForSemanticSegmentation": _segformer,
    "UperNetForSemanticSegmentation": _upernet,
}


def recipe(checkpoint: Checkpoint, name: str) -> Recipe:
    """The network that a configuration describes.

    Args:
        checkpoint: opened.
        name: of the architecture, one of `ARCHITECTURES`.

    Raises:
        ValueError: for a network that is not read.
    """
    return ARCHITECTURES[name](checkpoint)
