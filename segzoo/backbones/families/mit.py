"""Mix Transformers, the encoders of SegFormer: attention without position codes, at any size.

    image --- 7x7/4 --> blocks --> norm --> stride 4
                          +------- 3x3/2 --> blocks --> norm --> stride 8, and so on to 32

    block     x = x + attention(norm(x));  x = x + feed_forward(norm(x))

Each stage attends to all of its pixels, over keys and values that are reduced by 8, 4, 2, 1 along
either axis, so that every stage has as many keys. The next stage starts from the normalized map.

Xie, Wang, Yu, Anandkumar, Alvarez, Luo, "SegFormer: Simple and Efficient Design for Semantic
Segmentation with Transformers", NeurIPS 2021, arXiv 2105.15203, figure 2 and table 6.
"""

from collections.abc import Sequence
from functools import partial

import keras

from segzoo.backbones._rows import Row, Variant
from segzoo.backbones.families import _papers as papers
from segzoo.layers import EfficientSelfAttention, MixFeedForward, OverlapPatchEmbedding


def mit(
    x,
    depths: Sequence[int],
    widths: Sequence[int],
    *,
    heads: Sequence[int] = (1, 2, 5, 8),
    reductions: Sequence[int] = (8, 4, 2, 1),
    expansion: int = 4,
    drop_path: float = 0.1,
    epsilon: float = 1e-6,
    embedding_epsilon: float = 1e-5,
    output_stride: int = 32,
) -> list:
    """The maps of a Mix Transformer, finest first.

    Past the output stride, strides become dilation, and keys come from the pixels alone that the
    original map had, so that at those pixels the denser map equals the original one.

    Differs from the paper: its table 6 expands the first two stages eightfold, the published
    networks, and this one, all four stages fourfold.

    Args:
        x: tensor (B, H, W, C), a normalized image.
        depths: ints >= 1, blocks of each stage.
        widths: ints >= 1, channels of each stage.
        heads: ints >= 1, heads of attention of each stage.
        reductions: ints >= 1, of keys and values of each stage.
        expansion: int >= 1, width of the feed-forward networks in units of the stage's.
        drop_path: rate in [0, 1) at which the last block's branches are dropped in training; from
            the first block, which is never dropped, it grows evenly (stochastic depth).
        epsilon: of the layer normalizations in blocks and at the end of stages.
        embedding_epsilon: of those after patch embeddings and reductions.
        output_stride: 4, 8, 16 or 32, of the last map.

    Returns:
        List of tensors (B, H / 4, W / 4, widths[0]), (B, H / 8, W / 8, widths[1]), ..., sizes
        rounded up.

    Example:
        >>> import keras
        >>> image = keras.Input((None, None, 3))
        >>> [map.shape[-1] for map in mit(image, (1, 1, 1, 1), (8, 16, 40, 64))]
        [8, 16, 40, 64]

    Reference:
        Xie, Wang, Yu, Anandkumar, Alvarez, Luo, "SegFormer: Simple and Efficient Design for
        Semantic Segmentation with Transformers", NeurIPS 2021, arXiv 2105.15203, section 3.1;
        stochastic depth: Huang et al., "Deep Networks with Stochastic Depth", ECCV 2016,
        arXiv 1603.09382.
    """
    maps = []
    stride, dilation = 1, 1
    block, last = 0, sum(depths) - 1
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True), 1):
        patch, step = (7, 4) if stage == 1 else (3, 2)
        kept = step if stride < output_stride else 1
        x = OverlapPatchEmbedding(
            width,
            patch,
            kept,
            dilation_rate=dilation,
            epsilon=embedding_epsilon,
            name=f"stage_{stage}_embedding",
        )(x)
        stride *= kept
        dilation *= step // kept
        for number in range(1, depth + 1):
            name, rate = f"stage_{stage}_block_{number}", drop_path * block / max(last, 1)
            attention = EfficientSelfAttention(
                width,
                heads[stage - 1],
                reductions[stage - 1],
                dilation_rate=dilation,
                epsilon=embedding_epsilon,
                name=f"{name}_attention",
            )
            feed_forward = MixFeedForward(
                width, expansion, dilation_rate=dilation, name=f"{name}_feed_forward"
            )
            x = _residual(x, attention, epsilon, rate)
            x = _residual(x, feed_forward, epsilon, rate)
            block += 1
        x = keras.layers.LayerNormalization(epsilon=epsilon, name=f"stage_{stage}_norm")(x)
        maps.append(x)  # (B, H/4, W/4, widths[0]) and so on
    return maps


def _residual(x, layer: keras.layers.Layer, epsilon: float, rate: float):
    """`x + layer(norm(x))`; in training an image skips the layer with probability `rate`."""
    y = layer(keras.layers.LayerNormalization(epsilon=epsilon, name=f"{layer.name}_norm")(x))
    if rate > 0:
        drop = keras.layers.Dropout(rate, (None, 1, 1, 1), name=f"{layer.name}_drop")
        y = drop(y)
    return keras.layers.Add(name=f"{layer.name}_add")([x, y])


def _maps(depths: Sequence[int], widths: Sequence[int], x, variant: Variant, output_stride: int):
    """The maps of a row, for the registry."""
    maps = mit(x, depths, widths, epsilon=variant.epsilon or 1e-6, output_stride=output_stride)
    return maps[: variant.depth]


_NARROW, _WIDE = (32, 64, 160, 256), (64, 128, 320, 512)
# Blocks and channels of each stage, and parameters.
_VARIANTS: dict[int, tuple[tuple[int, ...], tuple[int, ...], int]] = {
    0: ((2, 2, 2, 2), _NARROW, 3_319_392),
    1: ((2, 2, 2, 2), _WIDE, 13_151_424),
    2: ((3, 4, 6, 3), _WIDE, 24_196_288),
    3: ((3, 4, 18, 3), _WIDE, 44_072_128),
    4: ((3, 8, 27, 3), _WIDE, 60_842_688),
    5: ((3, 6, 40, 3), _WIDE, 81_443_008),
}

ROWS = [
    Row(
        name=f"mitb{number}",
        family="mit",
        weights=("imagenet-nc",),
        features=tuple(f"stage_{stage}_norm" for stage in (1, 2, 3, 4)),
        strides=(4, 8, 16, 32),
        channels=widths,
        parameters=parameters,
        normalization="torch",
        paper=papers.SEGFORMER,
        source=partial(_maps, depths, widths),
        files={
            "imagenet-nc": f"https://huggingface.co/smp-hub/mit_b{number}.imagenet/resolve/main/"
            "model.safetensors"
        },
    )
    for number, (depths, widths, parameters) in _VARIANTS.items()
]
