"""`decide` beside NumPy's decision on the scores, in Keras and in every runtime."""

import keras
import numpy as np
import pytest

from segzoo.inference import decide, predict_tiles, test_time_augmentation
from tests.inference.networks import (
    image,
    in_litert,
    in_onnx,
    network,
    numbers,
    served,
)


def decision(scores, threshold=0.5):
    if scores.shape[-1] == 1:
        return scores[..., 0] > threshold
    return scores.argmax(axis=-1)


def identity(classes):
    scores = keras.Input((None, None, classes))
    return keras.Model(scores, keras.layers.Identity()(scores))


@pytest.mark.core
@pytest.mark.parametrize("classes", [1, 2, 4])
@pytest.mark.parametrize("dtype", ["uint8", "int32"])
def test_it_is_numpys_decision(classes, dtype):
    model = network(classes=classes, activation="sigmoid")
    decided = decide(model, threshold=0.45, dtype=dtype)
    (scores,), (found,) = numbers(model, image(21, 34)), numbers(decided, image(21, 34))
    assert found.dtype == dtype == decided.output.dtype and decided.output_shape[1:] == (None, None)
    np.testing.assert_array_equal(found, decision(scores, 0.45))
    assert len(np.unique(found)) > 1
    assert decided.predict(image(21, 34), verbose=0).dtype == dtype


# Whole numbers of a small range: most pixels have ties, and many lie on the threshold.
TIES = np.random.default_rng(0).integers(0, 3, (1, 30, 40, 6)).astype("float32")


@pytest.mark.core
def test_of_equal_scores_the_first_wins_and_the_threshold_is_not_above_itself():
    np.testing.assert_array_equal(numbers(decide(identity(6)), TIES)[0], TIES.argmax(axis=-1))
    (found,) = numbers(decide(identity(1), threshold=1), TIES[..., :1])
    np.testing.assert_array_equal(found, TIES[..., 0] > 1)


@pytest.mark.slow
@pytest.mark.parametrize("run", [served, in_onnx, in_litert])
@pytest.mark.parametrize("classes", [1, 4])
def test_exports_decide_alike(run, classes, tmp_path):
    model = network(classes=classes, activation="sigmoid")
    decided = decide(model)
    (found,) = run(decided, image(21, 34), tmp_path)
    (scores,) = numbers(model, image(21, 34))
    assert found.dtype == np.uint8 and len(np.unique(found)) > 1
    near = np.sort(
        np.concatenate([scores, np.full_like(scores, 0.5)], -1) if classes == 1 else scores
    )
    clear = near[..., -1] - near[..., -2] > 1e-5
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(found[clear], decision(scores)[clear])


@pytest.mark.parametrize("run", [served, in_onnx, in_litert])
def test_exports_break_ties_alike(run, tmp_path):
    (found,) = run(decide(identity(6)), TIES, tmp_path)
    np.testing.assert_array_equal(found, TIES.argmax(axis=-1))


@pytest.mark.slow
@pytest.mark.parametrize("classes", [1, 4])
def test_int8_decides_as_its_own_scores_do(classes, tmp_path):
    import tensorflow as tf

    model, x = network((21, 34, 3), classes, "sigmoid"), image(21, 34)[:1]
    options = {
        "optimizations": [tf.lite.Optimize.DEFAULT],
        "representative_dataset": lambda: ([image(21, 34, seed=k)[:1]] for k in range(4)),
        "input_signature": [keras.InputSpec(shape=(1, 21, 34, 3), dtype="float32")],
    }
    (scores,) = in_litert(model, x, tmp_path, **options)
    (found,) = in_litert(decide(model), x, tmp_path, **options)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, decision(scores))


def test_the_last_of_several_outputs_is_decided():
    model = network(outputs=3)
    (found,) = numbers(decide(model), image(21, 34))
    np.testing.assert_array_equal(found, decision(numbers(model, image(21, 34))[-1]))


def test_the_weights_are_those_of_the_model():
    model = network()
    assert all(a is b for a, b in zip(decide(model).weights, model.weights, strict=True))


@pytest.mark.parametrize(
    ("argument", "options"),
    [
        ("dtype", {"dtype": "float32"}),
        ("dtype", {"dtype": "labels"}),
        ("dtype", {"dtype": "int8", "model": identity(129)}),
        ("dtype", {"model": identity(257)}),
        ("threshold", {"threshold": "high"}),
        ("threshold", {"threshold": float("nan")}),
        ("model", {"model": "model.keras"}),
        ("model", {"model": keras.Sequential([keras.layers.Conv2D(1, 1)])}),
        ("model", {"model": decide(identity(3))}),
    ],
)
def test_what_cannot_be_right_is_an_error_that_names_the_argument(argument, options):
    with pytest.raises(ValueError, match=f"^`{argument}`"):
        decide(**{"model": network(), **options})


@pytest.mark.parametrize("dtype", [np.uint8, np.dtype("int32"), int])
def test_a_type_of_numpy_is_saved_by_its_name(dtype, tmp_path):
    model = decide(network(), dtype=dtype)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.output.dtype == model.output.dtype == np.dtype(dtype).name


def test_a_threshold_may_be_a_tensor():
    scores = np.array([[[[0.3], [0.6]]]], "float32")
    found = decide(identity(1), threshold=keras.ops.convert_to_tensor(0.5))(scores)
    np.testing.assert_array_equal(found, [[[0, 1]]])


def test_a_variance_is_not_decided(tmp_path):
    spread = test_time_augmentation(network(), spread=True)
    nested = keras.Model(spread.input, spread(spread.input))
    spread.save(tmp_path / "model.keras")
    for model in (spread, nested, keras.saving.load_model(tmp_path / "model.keras")):
        with pytest.raises(ValueError, match=r"^`model`.*variance.*outputs\[0\]"):
            decide(model)
        with pytest.raises(ValueError, match=r"^`predict`.*variance"):
            predict_tiles(model, image(40, 50)[0], tile_size=32, labels=True, verbose=0)
    decide(keras.Model(spread.input, spread.outputs[0]))
    variances = predict_tiles(spread, image(40, 50)[0], tile_size=32, verbose=0)
    assert variances.max() <= 0.25


def test_of_a_mapping_all_take_the_same_output():
    x = keras.Input((None, None, 3))
    last, first = (keras.layers.Conv2D(n, 1, name=f"of_{n}")(x) for n in (2, 3))
    model = keras.Model(x, {"b": last, "a": first})
    for m in (model, test_time_augmentation(model)):
        scores = predict_tiles(m, image(40, 50)[0], tile_size=32, verbose=0)
        assert scores.shape[-1] == m.outputs[-1].shape[-1] == 2
        x = image(32, 32)
        decided, scores = numbers(decide(m), x)[0], keras.tree.flatten(m(x))[-1]
        np.testing.assert_array_equal(decided, decision(keras.ops.convert_to_numpy(scores)))


def test_256_classes_fit_into_a_byte():
    assert decide(identity(256)).output.dtype == "uint8"


def test_tiles_of_decisions_are_an_error_that_says_what_to_do():
    with pytest.raises(ValueError, match=r"^`predict`.*labels=True"):
        predict_tiles(decide(network()), image(40, 50)[0], tile_size=32, verbose=0)
