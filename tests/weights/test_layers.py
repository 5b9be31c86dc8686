"""The layers of a model are named as Keras names them in its files: every layer of the library."""

import keras
import numpy as np
import pytest

from segzoo.weights import load_weights, open_file
from segzoo.weights._layers import model_layers
from tests.cases import LAYERS, TWO_INPUTS, make_layer


def models():
    """One model of every layer with weights, each in front of a convolution, and a nested model."""
    image = keras.Input((8, 8, 3), name="image")
    outputs = []
    for name in LAYERS:
        if name.partition("-")[0] in (*TWO_INPUTS, "ImageNormalization"):
            continue
        layer = make_layer(name)
        outputs.append(keras.layers.GlobalMaxPooling2D()(layer(image)))
    heads = keras.layers.MultiHeadAttention(2, 3, name="attention")
    tokens = keras.layers.Reshape((64, 3))(image)
    outputs.append(keras.layers.GlobalMaxPooling1D()(heads(tokens, tokens)))
    inner = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(3, 1, name="inner")(inner)
    nested = keras.Model(inner, keras.layers.BatchNormalization()(x), name="nested")
    outputs.append(keras.layers.GlobalMaxPooling2D()(nested(image)))
    return keras.Model(image, keras.layers.Concatenate()(outputs), name="all")


@pytest.fixture(scope="module")
def pair():
    return models(), models()


def test_every_weight_has_the_name_that_keras_gives_it(tmp_path, pair):
    source, _ = pair
    source.save_weights(tmp_path / "a.weights.h5")
    with open_file(tmp_path / "a.weights.h5") as file:
        have = {
            (layer.path, layer.rank): {k: tuple(w.shape) for k, w in layer.weights.items()}
            for layer in file.layers
        }
    want = {
        (layer.path, layer.rank): {k: tuple(w.shape) for k, w in layer.weights.items()}
        for layer in model_layers(source, "keras3", ordered=False)
    }
    assert have == want
    assert sum(map(len, want.values())) == len(source.weights)


@pytest.mark.parametrize("ending", ["weights.h5", "keras", "h5"])
def test_every_layer_comes_back(tmp_path, rng, pair, ending):
    source, target = pair
    source.set_weights([rng.uniform(1, 2, w.shape) for w in source.get_weights()])
    path = tmp_path / f"a.{ending}"
    (source.save_weights if ending == "weights.h5" else source.save)(path)
    load_weights(target, path, surplus=())
    for a, b in zip(target.get_weights(), source.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
