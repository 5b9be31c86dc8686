"""SegFormer and UPerNet with the weights that others published, by name or as a file.

SegFormer   segmentation_models_pytorch's, with NVIDIA's weights: non-commercial use
UPerNet     Transformers', on ConvNeXt, with OpenMMLab's weights: MIT
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from segzoo.models.classes import class_names
from segzoo.models.pytorch import hugging_face, smp
from segzoo.models.pytorch._assemble import assemble
from segzoo.models.pytorch._checkpoint import Checkpoint
from segzoo.weights.published import Published
from segzoo.weights.safetensors_files import SafetensorsFile

_UPERNET_FILTERS = 512
_HEADS = {"smp-segformer": "segmentation_head.0", "transformers-upernet": "decode_head.classifier"}


def segformer_filters(backbone: str) -> int:
    """The width of the published decoder."""
    return 256 if backbone in ("mitb0", "mitb1") else 768


def build(
    known: Published,
    backbone: str,
    classes: int,
    input_shape: Sequence[int | None],
    *,
    fixed: Mapping[str, tuple[Any, tuple]],
    dropout: float,
    activation: str | None,
    preprocessing: bool,
    name: str | None,
) -> keras.Model:
    """Build the published network and load its weights; arguments as of the builders.

    Args:
        known: which weights.
        backbone: the builder's argument.
        classes: of the output. Other than the file's, the classifier starts fresh.
        input_shape: as of the builders.
        fixed: arguments that the published network settles, with what they may be.
        dropout: in front of the classifier.
        activation: as of the builders.
        preprocessing: as of the builders.
        name: as of the builders.

    Raises:
        ValueError: for an argument that the published network does not have.
    """
    for argument, (value, accepted) in fixed.items():
        if value not in accepted:
            raise ValueError(
                f"`{argument}` must be {' or '.join(map(str, accepted))} with weights of the "
                f"published network on {backbone!r}, received {argument}={value!r}"
            )
    file = SafetensorsFile(known.path())
    own = file.shapes.get(f"{_HEADS[known.network]}.weight", (classes,))[0]
    config: dict[str, Any]
    if known.network == "smp-segformer":
        config = {
            "encoder_name": backbone.replace("mitb", "mit_b"),
            "decoder_segmentation_channels": segformer_filters(backbone),
            "classes": own,
            "decoder_dropout": dropout,
        }
        recipe = smp.recipe(Checkpoint(file, config, str(file.path)), "Segformer")
    else:
        depths, widths = hugging_face.CONVNEXT[backbone.removeprefix("convnext")]
        names = class_names("ade20k") if own == 150 else map(str, range(own))
        config = {
            "id2label": dict(enumerate(names)),
            "hidden_size": _UPERNET_FILTERS,
            "classifier_dropout_prob": dropout,
            "backbone_config": {"model_type": "convnext", "depths": depths, "hidden_sizes": widths},
        }
        checkpoint = Checkpoint(file, config, str(file.path))
        recipe = hugging_face.recipe(checkpoint, "UperNetForSemanticSegmentation")
    return assemble(
        Checkpoint(file, config, str(file.path)),
        recipe,
        classes=classes,
        input_shape=input_shape,
        activation=activation,
        preprocessing=preprocessing,
        name=name,
    )
