"""EfficientNet B0 to B7 and L2 of the `efficientnet` package, one row each.

Differs from the package: residual blocks are dropped in training at the paper's rate, which grows
to 0.2 at the last block. The package counts a scaled network's blocks, but divides by the number
of B0's, so that B7 drops up to two thirds and L2's rate exceeds 1, which Keras rejects.
"""

import math
from functools import partial
from types import SimpleNamespace
from typing import Any

import keras

from segzoo.backbones._rows import Published, Row
from segzoo.backbones.families import _papers as papers

# Where a stage expands before its stride: the widest maps of the finer resolution, the taps of
# the usual EfficientNet U-Net.
_FEATURES = (
    "block2a_expand_activation",
    "block3a_expand_activation",
    "block4a_expand_activation",
    "block6a_expand_activation",
    "top_activation",
)

_DROP_RATE = 0.2
_B0_REPEATS = (1, 2, 2, 3, 3, 4, 1)

# Width and depth factor, resolution; channels of the taps; parameters up to the last one.
_VARIANTS: dict[str, tuple[tuple, tuple[int, ...], int]] = {
    "b0": ((1.0, 1.0, 224), (96, 144, 240, 672, 1280), 4_049_564),
    "b1": ((1.0, 1.1, 240), (96, 144, 240, 672, 1280), 6_575_232),
    "b2": ((1.1, 1.2, 260), (96, 144, 288, 720, 1408), 7_768_562),
    "b3": ((1.2, 1.4, 300), (144, 192, 288, 816, 1536), 10_783_528),
    "b4": ((1.4, 1.8, 380), (144, 192, 336, 960, 1792), 17_673_816),
    "b5": ((1.6, 2.2, 456), (144, 240, 384, 1056, 2048), 28_513_520),
    "b6": ((1.8, 2.6, 528), (192, 240, 432, 1200, 2304), 40_960_136),
    "b7": ((2.0, 3.1, 600), (192, 288, 480, 1344, 2560), 64_097_680),
    "l2": ((4.3, 5.3, 800), (432, 624, 1056, 2880, 5504), 475_894_996),
}


def _network(variant: str, weights: str | None) -> keras.Model:
    import efficientnet.model

    (width, depth, resolution), _, _ = _VARIANTS[variant]
    blocks = sum(math.ceil(depth * repeats) for repeats in _B0_REPEATS)
    # The package takes its Keras as an argument. Passing it here, and not importing
    # `efficientnet.tfkeras`, works on every backend and leaves Keras's global registry alone.
    its_keras: dict[str, Any] = {
        "backend": SimpleNamespace(
            backend=keras.backend.backend,
            image_data_format=keras.config.image_data_format,
            sigmoid=keras.ops.sigmoid,
        ),
        "layers": keras.layers,
        "models": keras.models,
        "utils": keras.utils,
    }
    return efficientnet.model.EfficientNet(
        width,
        depth,
        resolution,
        drop_connect_rate=_DROP_RATE * sum(_B0_REPEATS) / blocks,
        model_name=f"efficientnet-{variant}",
        include_top=False,
        weights=weights,
        input_shape=(224, 224, 3),
        **its_keras,
    )


def _remake(layer: keras.layers.Layer, kind: type, config: dict) -> tuple[type, dict]:
    """What the package makes inside functions, where no loader finds it, as Keras has it."""
    if issubclass(kind, keras.layers.Dropout):
        kind = keras.layers.Dropout
    if getattr(getattr(layer, "activation", None), "__name__", None) == "swish":
        config["activation"] = "silu"
    return kind, config


ROWS = [
    Row(
        name=f"efficientnet{variant}",
        family="efficientnet",
        weights=() if variant == "l2" else ("imagenet", "noisy-student"),
        features=_FEATURES,
        strides=(2, 4, 8, 16, 32),
        channels=channels,
        parameters=parameters,
        normalization="torch",
        paper=papers.NOISY_STUDENT if variant == "l2" else papers.EFFICIENTNET,
        squeeze_excite=True,
        source=Published(partial(_network, variant), remake=_remake),
    )
    for variant, (_, channels, parameters) in _VARIANTS.items()
]
