"""A frozen backbone keeps its batch statistics, and can be unfrozen in another session."""

import keras
import numpy as np
import pytest

import segzoo

pytestmark = pytest.mark.core


def normalized_backbone():
    """Two stages, each a strided convolution and a batch normalization."""
    image = x = keras.Input((None, None, 3))
    outputs = []
    for stage in (1, 2):
        x = keras.layers.Conv2D(6, 3, strides=2, padding="same", name=f"conv_{stage}")(x)
        x = keras.layers.BatchNormalization(name=f"norm_{stage}")(x)
        outputs.append(x)
    return keras.Model(image, outputs)


def fit(model, rng):
    model.compile(keras.optimizers.SGD(0.1), segzoo.losses.BCEDice())
    x = rng.uniform(0, 1, (4, 40, 36, 3)).astype("float32")
    model.fit(x, (x[..., :1] > 0.5).astype("uint8"), batch_size=2, verbose=0)


def changed(before, after):
    return [bool((a != b).any()) for a, b in zip(before, after, strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize("builder", ["UNet", "DeepLabV3Plus"])
def test_freezing_holds_weights_and_statistics_until_a_reloaded_model_unfreezes(
    builder, rng, tmp_path
):
    model = getattr(segzoo.models, builder)(normalized_backbone(), 1)
    backbone = model.get_layer("backbone")
    backbone.trainable = False
    frozen, decoder = backbone.get_weights(), model.get_weights()
    fit(model, rng)
    assert not any(changed(frozen, backbone.get_weights()))
    assert any(changed(decoder, model.get_weights()))

    model.save(tmp_path / "model.keras")
    model = keras.saving.load_model(tmp_path / "model.keras")
    backbone = model.get_layer("backbone")
    assert not backbone.trainable_weights
    np.testing.assert_array_equal(backbone.get_weights()[0], frozen[0])
    fit(model, rng)
    assert not any(changed(frozen, backbone.get_weights()))

    backbone.trainable = True
    fit(model, rng)
    moved = dict(
        zip(
            [w.path for w in backbone.weights], changed(frozen, backbone.get_weights()), strict=True
        )
    )
    for kind in ("kernel", "gamma", "moving_mean", "moving_variance"):
        assert any(value for path, value in moved.items() if path.endswith(kind)), (kind, moved)
