"""EfficientNet B0 to B7 and L2 of the `efficientnet` package, one row each."""

from functools import partial
from types import SimpleNamespace

import keras

from segzoo.backbones._rows import Paper, Row

_PAPER = Paper(
    "Mingxing Tan, Quoc V. Le",
    "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
    2019,
    "1905.11946",
)

# Where a stage expands before its stride: the widest maps of the finer resolution, the taps of
# the usual EfficientNet U-Net.
_FEATURES = (
    "block2a_expand_activation",
    "block3a_expand_activation",
    "block4a_expand_activation",
    "block6a_expand_activation",
    "top_activation",
)

# Channels of the taps, parameters up to the last one.
_SIZES = {
    "b0": ((96, 144, 240, 672, 1280), 4_049_564),
    "b1": ((96, 144, 240, 672, 1280), 0),
    "b2": ((96, 144, 288, 720, 1408), 0),
    "b3": ((144, 192, 288, 816, 1536), 0),
    "b4": ((144, 192, 336, 960, 1792), 0),
    "b5": ((144, 240, 384, 1056, 2048), 0),
    "b6": ((192, 240, 432, 1200, 2304), 0),
    "b7": ((192, 288, 480, 1344, 2560), 0),
    "l2": ((432, 624, 1056, 2880, 5504), 0),
}


def _source(variant: str, weights: str | None) -> keras.Model:
    import efficientnet.model

    # The package takes its Keras as an argument. Passing it here, and not importing
    # `efficientnet.tfkeras`, works on every backend and leaves Keras's global registry alone.
    backend = SimpleNamespace(
        backend=keras.backend.backend,
        image_data_format=keras.config.image_data_format,
        sigmoid=keras.ops.sigmoid,
    )
    return getattr(efficientnet.model, f"EfficientNet{variant.upper()}")(
        include_top=False,
        weights=weights,
        input_shape=(224, 224, 3),
        backend=backend,
        layers=keras.layers,
        models=keras.models,
        utils=keras.utils,
    )


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
        paper=_PAPER,
        source=partial(_source, variant),
    )
    for variant, (channels, parameters) in _SIZES.items()
]
