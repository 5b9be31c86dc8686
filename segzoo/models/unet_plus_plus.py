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

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import keras

from segzoo.layers import ConvBlock
from segzoo.models import _assembly


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
    kernel_regularizer: Any = None,
    backbone_weights: str | None = "imagenet",
    backbone_features: Sequence[str] | None = None,
    weights: str | None = None,
    activation: str | None = "auto",
    preprocessing: bool = True,
    name: str | None = None,
) -> keras.Model:
    """UNet++ with the authors' encoder, or the nested decoder on any backbone.

    A node is two 3x3 convolutions, each followed by dropout. The defaults are the authors'
    published `Nest_Net`: ELU, no normalization, dropout 0.5, transposed convolutions. On a
    backbone, level 0 is its finest map (usually stride 2), and the class scores are resized to the
    image.

    Differs from the paper, as `Nest_Net` does: ELU in place of ReLU.

    Args:
        backbone: a name from `segzoo.backbones.names()`, a `keras.Model` whose outputs are feature
            maps, finest first, or None for the authors' encoder.
        classes: int >= 1, channels of the output.
        input_shape: (height, width, channels); height and width at least 32 or None.
        filters: widths by level, finest first; with a backbone, those of the decoder's levels,
            of which the coarsest map needs none.
        deep_supervision: bool, whether every x_0_j has an output of its own.
        upsampling: `"transpose"`, a learned 2x2 convolution, `"bilinear"` or `"nearest"`.
        block_activation: activation inside the nodes.
        normalization: `"batch"`, `"group"`, `"layer"`, `"instance"` or None, in the nodes.
        dropout: rate in [0, 1), after each convolution of a node.
        kernel_regularizer: of every convolution outside the backbone; the published training
            takes `keras.regularizers.L2(1e-4)`.
        backbone_weights: of a named backbone: None, `"imagenet"`, `"noisy-student"` or the path
            of a weights file.
        backbone_features: layer names that replace the backbone's taps, finest first.
        weights: path of whole-model weights, instead of `backbone_weights`.
        activation: of the outputs. `"auto"` is sigmoid for one class and softmax for several;
            `"sigmoid"` is for multi-label; None gives logits.
        preprocessing: bool, whether a named backbone normalizes RGB in 0..255 in the graph.
        name: model name. Default: "unet_plus_plus".

    Returns:
        A `keras.Model` from (B, H, W, channels) to float32 (B, H, W, classes); with deep
        supervision to a list of them, the shallowest head first, the usual output last.
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
    shape = _assembly.check_arguments(classes, input_shape, activation)
    _assembly.check_option("upsampling", upsampling, _assembly.UPSAMPLINGS)
    _assembly.check_rate("dropout", dropout)
    widths = _assembly.check_widths("filters", filters, least=2)
    node = functools.partial(
        _node,
        dropout=dropout,
        normalization=normalization,
        activation=block_activation,
        kernel_regularizer=kernel_regularizer,
    )
    image = keras.Input(shape, name="image")

    if backbone is None:
        column, rounds_up = _first_column(image, widths, node), True
    else:
        encoder = _assembly.build_encoder(
            backbone,
            shape,
            weights=None if weights else backbone_weights,
            features=backbone_features,
            preprocessing=preprocessing,
        )
        column, rounds_up = encoder(image), encoder.rounds_up
        _check_backbone(encoder.strides, widths, upsampling)

    grid = [[x] for x in column]  # grid[i][j] is x_i_j
    for j in range(1, len(grid)):
        for i in range(len(grid) - j):
            up = _assembly.upsample(
                grid[i + 1][j - 1],
                grid[i][0],
                upsampling,
                f"up_{i}_{j}",
                filters=widths[i],
                rounds_up=rounds_up,
                kernel_regularizer=kernel_regularizer,
            )
            x = keras.layers.Concatenate(name=f"merge_{i}_{j}")([up, *grid[i]])
            grid[i].append(node(x, widths[i], f"x_{i}_{j}"))

    heads = range(1 if deep_supervision else len(grid) - 1, len(grid))
    outputs = [
        _assembly.classify(
            grid[0][j],
            image,
            classes,
            activation,
            kernel_regularizer=kernel_regularizer,
            full_size=backbone is None,
            suffix=f"_{j}" if deep_supervision else "",
        )
        for j in heads
    ]
    outputs = outputs if deep_supervision else outputs[0]
    return _assembly.assemble(image, outputs, weights, name or "unet_plus_plus")


def _node(x, filters: int, name: str, *, dropout: float, **style: Any):
    """Two convolutions, each followed by dropout; the last layer carries the node's name."""
    last = f"{name}_conv_2" if dropout else name
    for k, block in ((1, f"{name}_conv_1"), (2, last)):
        x = ConvBlock(filters, use_bias=True, **style, name=block)(x)
        if dropout:
            x = keras.layers.Dropout(dropout, name=f"{name}_dropout" if k == 1 else name)(x)
    return x


def _first_column(image, widths: Sequence[int], node) -> list:
    """x_0_0 to x_4_0: nodes with max-pooling between them."""
    column, x = [], image
    for i, filters in enumerate(widths):
        if i:
            x = keras.layers.MaxPooling2D(2, padding="same", name=f"pool_{i}")(x)
        x = node(x, filters, f"x_{i}_0")
        column.append(x)
    return column


def _check_backbone(strides: Sequence[int], widths: Sequence[int], upsampling: str) -> None:
    """A width for all maps but the last; a transposed convolution doubles sizes, no more."""
    if len(widths) < len(strides) - 1:
        raise ValueError(
            f"`filters` must have at least {len(strides) - 1} widths for a backbone with "
            f"{len(strides)} maps, received filters={tuple(widths)}"
        )
    if upsampling == "transpose" and any(b != 2 * a for a, b in itertools.pairwise(strides)):
        raise ValueError(
            "`upsampling` must be 'bilinear' or 'nearest' for a backbone whose maps do not halve "
            f"in size from one to the next, received 'transpose' with maps of strides {strides}"
        )
