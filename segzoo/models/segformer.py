"""SegFormer: a decoder of linear maps alone, on maps that have seen the whole image.

    stride 32 --> linear --> fuse --> resize --+
    stride 16 --> linear --> fuse --> resize --+-> sum -> norm -> ReLU -> dropout -> 1x1
    stride  8 --> linear --> fuse --> resize --+          -> resize to the image
    stride  4 --> linear --> fuse -------------+

Xie, Wang, Yu, Anandkumar, Alvarez, Luo, "SegFormer: Simple and Efficient Design for Semantic
Segmentation with Transformers", NeurIPS 2021, arXiv 2105.15203.
"""

import os
from collections.abc import Sequence

import keras

from segzoo.layers._arguments import positive_int
from segzoo.layers.blocks import normalization_layer
from segzoo.models._assembly import Network, check_rate
from segzoo.models._builder import builder
from segzoo.models._features import Map
from segzoo.models._style import Style
from segzoo.weights import published

# The published widths of the decoder, where they are not 256.
_WIDE = dict.fromkeys(("mitb2", "mitb3", "mitb4", "mitb5"), 768)


def segformer(maps: Sequence[Map], like, style: Style, *, filters: int, dropout: float):
    """The all-MLP decoder on maps; its own map has the size of `like`.

    The paper resizes the maps, concatenates them and fuses them by a 1x1 convolution. That
    convolution is a sum of one for each map, and a resize commutes with it, since both are linear
    and the weights of interpolation sum to 1: here each map is fused at its own size, for a third
    of the arithmetic and without a map of `4 * filters` channels at the finest size.
    """
    parts = []
    for map in reversed(maps):
        x = _linear(map.x, filters, f"linear_{map.level}")
        x = _linear(
            x,
            filters,
            f"fuse_{map.level}",
            use_bias=style.use_bias or style.normalization is None,
            # The variance of the one convolution over all maps.
            kernel_initializer=keras.initializers.VarianceScaling(2.0 / len(maps)),
            kernel_regularizer=style.kernel_regularizer,
        )
        if map.x is not like:
            x = style.resize(x, like, name=f"resize_{map.level}")
        parts.append(x)
    x = keras.layers.Add(name="fuse_sum")(parts)  # (B, H/4, W/4, filters)
    norm = normalization_layer(
        style.normalization,
        filters,
        epsilon=style.epsilon,
        groups=style.groups,
        name="fuse_norm",
    )
    x = x if norm is None else norm(x)
    x = keras.layers.Activation(style.activation, name="fuse_activation")(x)
    return keras.layers.Dropout(dropout, name="decoder_dropout")(x)


def _linear(x, filters: int, name: str, **options):
    """A linear map of each pixel's channels."""
    return keras.layers.Conv2D(filters, 1, data_format="channels_last", name=name, **options)(x)


@builder
def SegFormer(
    backbone: str | keras.Model = "mitb0",
    classes: int = 1,
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    *,
    decoder_filters: int | None = None,
    dropout: float = 0.1,
    backbone_weights: str | os.PathLike | None = "imagenet",
    backbone_features: Sequence[str] | None = None,
    weights: str | os.PathLike | None = None,
    auxiliary: int | None = None,
    activation: str | None = "auto",
    preprocessing: bool = True,
    name: str | None = None,
) -> keras.Model:
    """Build SegFormer on any backbone.

    The maps of stride 4 and coarser are decoded; a map of stride 2, which families other than Mix
    Transformers have, is not. Differs from the paper: dropout before the classifier, as in the
    authors' code.

    Args:
        backbone: a name from `segzoo.backbones.names()`, or a `keras.Model` whose outputs are
            feature maps, finest first. `"mitb0"` to `"mitb5"` are the paper's. Defaults to
            `"mitb0"`.
        classes: int >= 1, number of output channels. Defaults to 1.
        input_shape: (height, width, channels); height and width are at least 32, or None for any
            size. Defaults to (None, None, 3).
        decoder_filters: int >= 1, channels of the decoder. None means the published width: 768 on
            `"mitb2"` to `"mitb5"`, 256 on every other backbone. Defaults to None.
        dropout: rate in [0, 1), before the classifier. Defaults to 0.1.
        backbone_weights: weights of a named backbone: None for random ones, `"imagenet"`,
            `"noisy-student"` (EfficientNet), `"imagenet-nc"` (Mix Transformers) or the path of a
            weights file. The weights of Mix Transformers are NVIDIA's, for non-commercial use.
            Defaults to `"imagenet"`.
        backbone_features: names of the layers whose outputs replace the backbone's feature maps,
            finest first. Defaults to None.
        weights: path of weights of the whole model, which replace `backbone_weights`. Or the name
            of a published checkpoint on a Mix Transformer, `"ade20k"` (150 classes) or
            `"cityscapes"` (19), which are NVIDIA's, for non-commercial use. By name, or as a file
            of that layout, it is the network of segmentation_models_pytorch; with other `classes`
            than the file's its classifier starts fresh. Defaults to None.
        auxiliary: None, or the level (8, 16 or 32) of a backbone map that gets an auxiliary fully
            convolutional head; the outputs are then a list, the auxiliary output first. Defaults to
            None.
        activation: activation of the output. `"auto"` is sigmoid for one class and softmax for
            several; `"sigmoid"` is for multi-label segmentation; None gives logits. Defaults to
            `"auto"`.
        preprocessing: bool, whether a model on a named backbone takes RGB in 0..255 and normalizes
            it itself. Defaults to True.
        name: name of the model. Defaults to `"segformer"`.

    Returns:
        A `keras.Model` from (B, H, W, channels) to float32 (B, H, W, classes).

    Raises:
        ValueError: for an argument outside its range, an unknown backbone, or weights that do
            not fit.

    Example:
        >>> import segzoo
        >>> model = segzoo.models.SegFormer("mitb0", 150, backbone_weights=None)
        >>> model.output_shape, sum(weight.numpy().size for weight in model.trainable_weights)
        ((None, None, None, 150), 3752694)

    Reference:
        Xie, Wang, Yu, Anandkumar, Alvarez, Luo, "SegFormer: Simple and Efficient Design for
        Semantic Segmentation with Transformers", NeurIPS 2021, arXiv 2105.15203, figure 2 and
        equation 4.
    """
    known = published.find("SegFormer", backbone, weights)
    if known is not None:
        from segzoo.models._published_pytorch import build, segformer_filters  # needs this module

        fixed = {
            "decoder_filters": (decoder_filters, (None, segformer_filters(str(backbone)))),
            "backbone_features": (backbone_features, (None,)),
            "auxiliary": (auxiliary, (None,)),
        }
        return build(
            known,
            str(backbone),
            classes,
            input_shape,
            fixed=fixed,
            dropout=dropout,
            activation=activation,
            preprocessing=preprocessing,
            name=name,
        )
    network = Network(
        "segformer",
        classes,
        input_shape,
        activation=activation,
        weights=weights,
        auxiliary=auxiliary,
        name=name,
    )
    if decoder_filters is None:
        decoder_filters = _WIDE.get(backbone, 256) if isinstance(backbone, str) else 256
    decoder_filters = positive_int("decoder_filters", decoder_filters)
    dropout = check_rate("dropout", dropout)

    features = network.encode(
        backbone,
        backbone_weights=backbone_weights,
        backbone_features=backbone_features,
        preprocessing=preprocessing,
    )
    maps = features.from_level(4).maps
    x = segformer(maps, maps[0].x, Style(), filters=decoder_filters, dropout=dropout)
    return network.model(network.head(x))
