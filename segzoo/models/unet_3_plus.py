"""UNet 3+: every decoder node sees every scale.

    node of level i:   encoder maps finer than i -- max-pool to i ---- 3x3, 64 --+
                       encoder map of level i ------------------------ 3x3, 64 --+- merge - 3x3
                       nodes coarser than i ------ bilinear to i ----- 3x3, 64 --+

The coarsest node is the encoder's last map.

Huang et al., "UNet 3+: A Full-Scale Connected UNet for Medical Image Segmentation", ICASSP 2020,
arXiv 2004.08790, figures 1 and 2, equation 1.
"""

import os
from collections.abc import Sequence

import keras

from segzoo._arguments import flag
from segzoo.layers import ResizeLike
from segzoo.layers._arguments import positive_int
from segzoo.models._assembly import Network, check_widths
from segzoo.models._builder import builder
from segzoo.models._features import Features
from segzoo.models._own_encoder import pooled_maps
from segzoo.models._style import Style


def paper_encoder(image, style: Style, *, filters: Sequence[int]) -> list:
    """Two 3x3 convolutions for each level, max-pooling between them; finest first."""

    def block(x, width, place):
        for k in (1, 2):
            x = style.conv(x, width, name=f"encoder_{place}_conv_{k}")
        return x

    return pooled_maps(image, block, filters=filters, pool="encoder_{}_pool")


def unet_3_plus(features: Features, style: Style, *, skip_filters: int) -> list:
    """The nodes, coarsest first: the encoder's last map, then one node for every finer level."""
    maps, count = features.maps, len(features.maps)
    nodes = {features.coarsest.level: features.coarsest.x}
    for target in reversed(maps[:-1]):
        skips = []
        for source in maps:
            place = f"skip_{source.level}_to_{target.level}"
            if source.level < target.level:
                x = _pool(source, target, place, features.rounds_up)
            elif source.level == target.level:
                x = source.x
            else:
                x = style.resize(nodes[source.level], target.x, name=f"{place}_resize")
            skips.append(style.conv(x, skip_filters, name=place))
        x = keras.layers.Concatenate(name=f"node_{target.level}_merge")(skips)
        nodes[target.level] = style.conv(x, count * skip_filters, name=f"node_{target.level}")
    return list(nodes.values())


def _pool(source, target, place: str, rounds_up: bool):
    """A finer map at the size of a coarser one."""
    factor = target.stride // source.stride
    x = source.x
    if factor > 1:
        x = keras.layers.MaxPooling2D(
            factor, padding="same", data_format="channels_last", name=f"{place}_pool"
        )(x)
    return x if rounds_up else ResizeLike(name=f"{place}_fit")(x, target.x)


@builder
def UNet3Plus(
    backbone: str | keras.Model | None = None,
    classes: int = 1,
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    *,
    filters: Sequence[int] = (64, 128, 256, 512, 1024),
    skip_filters: int = 64,
    deep_supervision: bool = False,
    normalization: str | None = "batch",
    backbone_weights: str | os.PathLike | None = "imagenet",
    backbone_features: Sequence[str] | None = None,
    weights: str | os.PathLike | None = None,
    auxiliary: int | None = None,
    activation: str | None = "auto",
    preprocessing: bool = True,
    name: str | None = None,
) -> keras.Model:
    """Build UNet 3+ with the authors' encoder, or its full-scale decoder on any backbone.

    Differs from the paper: the classification-guided module is left out; the outputs of the deep
    supervision have 3x3 convolutions before the resize, like the main output.

    Args:
        backbone: a name from `segzoo.backbones.names()`, or a `keras.Model` whose outputs are
            feature maps, finest first. None means the authors' encoder. Defaults to None.
        classes: int >= 1, number of output channels. Defaults to 1.
        input_shape: (height, width, channels); height and width are at least 32, or None for any
            size. Defaults to (None, None, 3).
        filters: widths of the encoder of `backbone=None` by level, finest first; not used with a
            backbone. Defaults to (64, 128, 256, 512, 1024).
        skip_filters: int >= 1, channels of every skip connection; a node has as many times that
            number as there are levels. Defaults to 64.
        deep_supervision: bool, whether every node has an output of its own. Defaults to False.
        normalization: `"batch"`, `"group"`, `"layer"`, `"instance"` or None, in the convolution
            blocks of the decoder and of the builder's own encoder. Defaults to `"batch"`.
        backbone_weights: weights of a named backbone: None for random ones, `"imagenet"`,
            `"noisy-student"` (EfficientNet), `"imagenet-nc"` (Mix Transformers) or the path of a
            weights file. Defaults to `"imagenet"`.
        backbone_features: names of the layers whose outputs replace the backbone's feature maps,
            finest first. Defaults to None.
        weights: path of weights of the whole model, which replace `backbone_weights`. Defaults to
            None.
        auxiliary: None, or the level (8, 16 or 32) of a backbone map that gets an auxiliary fully
            convolutional head; the outputs are then a list, the auxiliary output first. Defaults to
            None.
        activation: activation of the output. `"auto"` is sigmoid for one class and softmax for
            several; `"sigmoid"` is for multi-label segmentation; None gives logits. Defaults to
            `"auto"`.
        preprocessing: bool, whether a model on a named backbone takes RGB in 0..255 and normalizes
            it itself. Defaults to True.
        name: name of the model. Defaults to `"unet_3_plus"`.

    Returns:
        A `keras.Model` from (B, H, W, channels) to float32 (B, H, W, classes). With deep
        supervision it has a list of outputs, that of the coarsest node first, the main one last.

    Raises:
        ValueError: for an argument outside its range, an unknown backbone, a backbone without the
            maps that the decoder needs, or weights that do not fit.

    Example:
        >>> import segzoo
        >>> model = segzoo.models.UNet3Plus("resnet18", 4, backbone_weights=None)
        >>> model.output_shape
        (None, None, None, 4)

    Reference:
        Huang et al., "UNet 3+: A Full-Scale Connected UNet for Medical Image Segmentation",
        ICASSP 2020, arXiv 2004.08790, figures 1 and 2.
    """
    network = Network(
        "unet_3_plus",
        classes,
        input_shape,
        activation=activation,
        weights=weights,
        auxiliary=auxiliary,
        name=name,
    )
    widths = check_widths("filters", filters, least=2)
    skip_filters = positive_int("skip_filters", skip_filters)
    flag("deep_supervision", deep_supervision)
    # The authors' convolutions keep their biases beside the normalization.
    style = Style(normalization, use_bias=True)

    if backbone is None:
        maps = paper_encoder(network.image, style, filters=widths)
        features = network.own_encoder(maps, [2**level for level in range(len(maps))])
    else:
        features = network.encode(
            backbone,
            backbone_weights=backbone_weights,
            backbone_features=backbone_features,
            preprocessing=preprocessing,
        )
    nodes = unet_3_plus(features, style, skip_filters=skip_filters)

    full_size = features.finest.stride == 1
    if not deep_supervision:
        return network.model(network.head(nodes[-1], kernel_size=3, full_size=full_size))
    heads = [
        network.head(
            x,
            kernel_size=3,
            full_size=full_size and map is features.finest,
            suffix=f"_{map.level}",
        )
        for x, map in zip(nodes, reversed(features.maps), strict=True)
    ]
    return network.model(heads)
