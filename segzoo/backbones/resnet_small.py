"""ResNet18 and ResNet34, which Keras lacks (He et al. 2015, arXiv 1512.03385, table 1).

Two 3x3 convolutions per block, stride in the first, 1x1 convolution on the shortcut where the
shape changes. Padding is symmetric and the same for every size. Layers are named like those of
Keras's ResNet50.
"""

from functools import partial

import keras
from keras import layers

from segzoo.backbones import _papers as papers
from segzoo.backbones._rows import Row

_BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}
_PARAMETERS = {"resnet18": 11_186_112, "resnet34": 21_301_696}


def _conv_norm(x, filters, kernel, stride, name):
    if kernel > 1:
        x = layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad")(x)
    x = layers.Conv2D(
        filters,
        kernel,
        strides=stride,
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)
    return layers.BatchNormalization(epsilon=1e-5, name=f"{name}_bn")(x)


def _block(x, filters, stride, name):
    shortcut = x
    if stride > 1 or x.shape[-1] != filters:
        shortcut = _conv_norm(x, filters, 1, stride, f"{name}_0")
    x = _conv_norm(x, filters, 3, stride, f"{name}_1")
    x = layers.Activation("relu", name=f"{name}_1_relu")(x)
    x = _conv_norm(x, filters, 3, 1, f"{name}_2")
    x = layers.Add(name=f"{name}_add")([shortcut, x])
    return layers.Activation("relu", name=f"{name}_out")(x)


def _source(name: str, weights: None) -> keras.Model:
    image = keras.Input((224, 224, 3))
    x = _conv_norm(image, 64, 7, 2, "conv1")
    x = layers.Activation("relu", name="conv1_relu")(x)  # (B, 112, 112, 64)
    x = layers.ZeroPadding2D(1, name="pool1_pad")(x)
    x = layers.MaxPooling2D(3, strides=2, name="pool1_pool")(x)  # (B, 56, 56, 64)
    for stage, blocks in enumerate(_BLOCKS[name], start=2):
        filters = 64 * 2 ** (stage - 2)
        for block in range(1, blocks + 1):
            stride = 2 if block == 1 and stage > 2 else 1
            x = _block(x, filters, stride, f"conv{stage}_block{block}")
    return keras.Model(image, x, name=name)


ROWS = [
    Row(
        name=name,
        family="resnet",
        weights=(),
        features=(
            "conv1_relu",
            *(f"conv{stage}_block{count}_out" for stage, count in enumerate(blocks, start=2)),
        ),
        strides=(2, 4, 8, 16, 32),
        channels=(64, 64, 128, 256, 512),
        parameters=_PARAMETERS[name],
        normalization="torch",
        paper=papers.RESNET,
        source=partial(_source, name),
        explicit_padding=True,
    )
    for name, blocks in _BLOCKS.items()
]
