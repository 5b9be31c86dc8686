"""UNet++, the nested U-Net with dense skips.

    x_0_0 ------ x_0_1 ------ x_0_2 ------ x_0_3 ------ x_0_4
        \\       /    \\       /    \\       /    \\       /
         x_1_0 ------ x_1_1 ------ x_1_2 ------ x_1_3
             \\       /    \\       /    \\       /
              x_2_0 ------ x_2_1 ------ x_2_2
                  \\       /    \\       /
                   x_3_0 ------ x_3_1              x_i_j: level i, column j
                       \\       /                   = H([x_i_0, ..., x_i_(j-1), up(x_(i+1)_(j-1))])
                        x_4_0                      column 0 is the encoder; x_0_j are the outputs

Zhou, Siddiquee, Tajbakhsh, Liang, "UNet++: A Nested U-Net Architecture for Medical Image
Segmentation", DLMIA 2018, arXiv 1807.10165, figure 1 and equation 1.
"""

import os
from collections.abc import Sequence
from typing import Any

import keras

from segzoo._arguments import flag
from segzoo.models._assembly import Network, check_option, check_rate, check_widths
from segzoo.models._attention import ATTENTIONS, gate_skip, recalibrate
from segzoo.models._builder import builder
from segzoo.models._features import Features
from segzoo.models._own_encoder import pooled_maps
from segzoo.models._style import Style
from segzoo.models._upsampling import UPSAMPLINGS, upsample


def unet_plus_plus(
    features: Features,
    style: Style,
    *,
    filters: Sequence[int],
    dropout: float,
    upsampling: str,
    attention: str | None = None,
) -> list:
    """The nested decoder: x_0_1, x_0_2, ..., shallowest first."""
    grid = [[map.x] for map in features.maps]  # grid[i][j] is x_i_j
    for j in range(1, len(grid)):
        for i in range(len(grid) - j):
            up = upsample(
                grid[i + 1][j - 1],
                grid[i][0],
                upsampling,
                f"up_{i}_{j}",
                filters=filters[i],
                factor=features.maps[i + 1].stride // features.maps[i].stride,
                rounds_up=features.rounds_up,
                kernel_regularizer=style.kernel_regularizer,
            )
            skip, coarser = features.maps[i], features.maps[i + 1]
            gated = gate_skip(skip, grid[i + 1][j - 1], coarser.stride, attention, f"x_{i}_{j}")
            x = keras.layers.Concatenate(name=f"merge_{i}_{j}")([up, gated, *grid[i][1:]])
            x = recalibrate(x, attention, f"merge_{i}_{j}")
            x = node(x, filters[i], style, dropout, f"x_{i}_{j}")
            grid[i].append(recalibrate(x, attention, f"x_{i}_{j}"))
    return grid[0][1:]


def node(x, filters: int, style: Style, dropout: float, name: str):
    """Two convolutions, each followed by dropout; the last layer carries the node's name."""
    last = f"{name}_conv_2" if dropout else name
    for k, block in ((1, f"{name}_conv_1"), (2, last)):
        x = style.conv(x, filters, name=block)
        if dropout:
            x = keras.layers.Dropout(dropout, name=f"{name}_dropout" if k == 1 else name)(x)
    return x


def first_column(image, style: Style, *, filters: Sequence[int], dropout: float) -> list:
    """The authors' encoder, x_0_0 to x_4_0: nodes with max-pooling between them."""

    def block(x, width, place):
        return node(x, width, style, dropout, f"x_{place}_0")

    return pooled_maps(image, block, filters=filters, pool="pool_{}")


@builder
def UNetPlusPlus(
    backbone: str | keras.Model | None = None,
    classes: int = 1,
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    *,
    filters: Sequence[int] = (32, 64, 128, 256, 512),
    deep_supervision: bool = False,
    upsampling: str = "transpose",
    block_activation: str = "elu",
    normalization: str | None = None,
    dropout: float = 0.5,
    attention: str | None = None,
    kernel_regularizer: Any = None,
    backbone_weights: str | os.PathLike | None = "imagenet",
    backbone_features: Sequence[str] | None = None,
    weights: str | os.PathLike | None = None,
    auxiliary: int | None = None,
    activation: str | None = "auto",
    preprocessing: bool = True,
    name: str | None = None,
) -> keras.Model:
    """Build UNet++ with the authors' encoder, or its nested decoder on any backbone.

    A node is two 3x3 convolutions, each followed by dropout. The defaults are the authors'
    published `Nest_Net`: ELU, no normalization, dropout 0.5, transposed convolutions. On a
    backbone, level 0 is its finest map (usually stride 2), and the class scores are resized to the
    image.

    Differs from the paper, as `Nest_Net` does: ELU instead of ReLU.

    Args:
        backbone: a name from `segzoo.backbones.names()`, or a `keras.Model` whose outputs are
            feature maps, finest first. None means the authors' encoder. Defaults to None.
        classes: int >= 1, number of output channels. Defaults to 1.
        input_shape: (height, width, channels); height and width are at least 32, or None for any
            size. Defaults to (None, None, 3).
        filters: widths by level, finest first; with a backbone, those of the decoder's levels, of
            which the coarsest map needs none. Defaults to (32, 64, 128, 256, 512).
        deep_supervision: bool, whether every x_0_j has an output of its own. Defaults to False.
        upsampling: `"bilinear"`, `"nearest"` or `"transpose"`, a learned 2x2 convolution. Defaults
            to `"transpose"`.
        block_activation: activation of the convolution blocks, a name or a function. Defaults to
            `"elu"`.
        normalization: `"batch"`, `"group"`, `"layer"`, `"instance"` or None, in the convolution
            blocks of the decoder and of the builder's own encoder. Defaults to None.
        dropout: rate in [0, 1), after each convolution of a node. Defaults to 0.5.
        attention: None; `"scse"`, concurrent squeeze and excitation (Roy et al. 2018) of each
            node's concatenated maps and of its output; or `"gate"`, the gates of Attention U-Net
            (Oktay et al. 2018) on the encoder's maps, driven by the map that is enlarged. Defaults
            to None.
        kernel_regularizer: regularizer of every convolution outside the backbone. The published
            training takes `keras.regularizers.L2(1e-4)`. Defaults to None.
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
        name: name of the model. Defaults to `"unet_plus_plus"`.

    Returns:
        A `keras.Model` from (B, H, W, channels) to float32 (B, H, W, classes); with deep
        supervision to a list of them, the shallowest head first, the main output last.
        `keras.Model(model.input, model.outputs[k])` is the pruned network of depth k + 1.

    Raises:
        ValueError: for an argument outside its range, an unknown backbone, or weights that do
            not fit.

    Example:
        >>> import segzoo
        >>> model = segzoo.models.UNetPlusPlus(None, 4, (64, 96, 1), filters=(8, 16, 32))
        >>> model.output_shape
        (None, 64, 96, 4)

    Reference:
        Zhou, Siddiquee, Tajbakhsh, Liang, "UNet++: A Nested U-Net Architecture for Medical Image
        Segmentation", DLMIA 2018, arXiv 1807.10165, equation 1.
    """
    network = Network(
        "unet_plus_plus",
        classes,
        input_shape,
        activation=activation,
        weights=weights,
        auxiliary=auxiliary,
        name=name,
    )
    upsampling = check_option("upsampling", upsampling, UPSAMPLINGS)
    attention = check_option("attention", attention, ATTENTIONS)
    dropout = check_rate("dropout", dropout)
    flag("deep_supervision", deep_supervision)
    widths = check_widths("filters", filters, least=2)
    style = Style(
        normalization, block_activation, kernel_regularizer=kernel_regularizer, use_bias=True
    )

    if backbone is None:
        column = first_column(network.image, style, filters=widths, dropout=dropout)
        features = network.own_encoder(column, [2**level for level in range(len(column))])
    else:
        features = network.encode(
            backbone,
            backbone_weights=backbone_weights,
            backbone_features=backbone_features,
            preprocessing=preprocessing,
        )
        _check_backbone(features, widths)
    nodes = unet_plus_plus(
        features,
        style,
        filters=widths,
        dropout=dropout,
        upsampling=upsampling,
        attention=attention,
    )

    options = {"kernel_regularizer": kernel_regularizer, "full_size": features.finest.stride == 1}
    if deep_supervision:
        heads = [network.head(x, suffix=f"_{j}", **options) for j, x in enumerate(nodes, 1)]
        return network.model(heads)
    return network.model(network.head(nodes[-1], **options))


def _check_backbone(features: Features, widths: Sequence[int]) -> None:
    """A width for all maps but the last."""
    least = len(features.maps) - 1
    if len(widths) < least:
        raise ValueError(
            f"`filters` must have at least {least} widths for a backbone with "
            f"{least + 1} maps, received filters={tuple(widths)}"
        )
