"""What holds for every model, whatever its architecture: one list of builders, every check."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from segzoo import losses
from tests.cases import ALL, PADDINGS, REAL, SMALL


def as_list(outputs):
    return outputs if isinstance(outputs, list | tuple) else [outputs]


def numpy(outputs):
    return [keras.ops.convert_to_numpy(output) for output in as_list(outputs)]


@pytest.mark.core
@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("size", [(64, 64), (97, 131), (32, 47)])
def test_the_output_has_the_size_of_the_input_static_or_not(name, size, rng):
    x = ALL[name].images(rng, 2, *size, 3)
    static, dynamic = ALL[name](3, (*size, 3)), ALL[name](3)
    dynamic.set_weights(static.get_weights())
    for a, b in zip(numpy(static(x)), numpy(dynamic(x)), strict=True):
        assert a.shape == (2, *size, 3)
        np.testing.assert_allclose(a, b, atol=2e-5)


@pytest.mark.parametrize("name", PADDINGS)
def test_odd_sizes_fit_whatever_the_padding_of_the_backbone(name, rng):
    size = (97, 131)
    build = PADDINGS[name]
    x = build.images(rng, 1, *size, 3)
    static, dynamic = build(3, (*size, 3), activation=None), build(3, activation=None)
    dynamic.set_weights(static.get_weights())
    a, b = numpy(static(x))[0], dynamic.predict(x, verbose=0)
    assert a.shape == (1, *size, 3)
    np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(a).max())


@pytest.mark.parametrize("name", SMALL)
def test_two_sizes_pass_through_one_predict(name, rng):
    model = ALL[name](2)
    for size in ((64, 64), (33, 250), (97, 131)):
        x = ALL[name].images(rng, 1, *size, 3)
        for a, b in zip(as_list(model.predict(x, verbose=0)), numpy(model(x)), strict=True):
            assert a.shape == (1, *size, 2)
            np.testing.assert_allclose(a, b, atol=2e-5)


@pytest.mark.parametrize("name", SMALL)
def test_a_graph_traced_without_sizes_runs_at_any_size(name, rng):
    import tensorflow as tf

    model = ALL[name](2)
    graph = tf.function(model, input_signature=[tf.TensorSpec((None, None, None, 3))])
    for size in ((64, 96), (33, 250)):
        x = ALL[name].images(rng, 2, *size, 3)
        for a, b in zip(numpy(graph(x)), numpy(model(x)), strict=True):
            np.testing.assert_allclose(a, b, atol=2e-5)


@pytest.mark.core
@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_any_number_of_channels_is_accepted(name, channels, rng):
    model = ALL[name](2, (None, None, channels))
    for output in as_list(model(ALL[name].images(rng, 1, 40, 36, channels))):
        assert tuple(output.shape) == (1, 40, 36, 2)


@pytest.mark.core
@pytest.mark.parametrize("name", SMALL)
def test_outputs_are_probabilities_unless_logits_are_asked_for(name, rng):
    x = ALL[name].images(rng, 2, 40, 36, 3)
    softmax, logits = ALL[name](3), ALL[name](3, activation=None)
    sigmoid, one = ALL[name](3, activation="sigmoid"), ALL[name](1)
    sigmoid.set_weights(softmax.get_weights())
    logits.set_weights(softmax.get_weights())
    for p, q, z in zip(numpy(softmax(x)), numpy(sigmoid(x)), numpy(logits(x)), strict=True):
        e = np.exp(z - z.max(-1, keepdims=True))
        np.testing.assert_allclose(p, e / e.sum(-1, keepdims=True), atol=1e-5)
        np.testing.assert_allclose(q, 1 / (1 + np.exp(-z)), atol=1e-5)
    for p in numpy(one(x)):
        assert p.shape[-1] == 1 and p.min() >= 0 and p.max() <= 1


@pytest.mark.parametrize("name", SMALL | REAL)
def test_every_trainable_weight_has_a_gradient(name, rng):
    import tensorflow as tf

    case = (SMALL | REAL)[name]
    model = case(3, (64, 96, 3))
    x, target = case.images(rng, 3, 64, 96, 3), rng.uniform(size=(3, 64, 96, 3))
    for training in (False, True):
        with tf.GradientTape() as tape:
            outputs = as_list(model(x, training=training))
            loss = sum(tf.reduce_sum(tf.square(y - target)) for y in outputs)
        gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
        for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
            assert gradient is not None, variable.path
            gradient = tf.convert_to_tensor(gradient).numpy()
            assert np.isfinite(gradient).all(), variable.path
            assert training or np.abs(gradient).max() > 0, variable.path


@pytest.mark.core
@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_ends_in_float32(name, policy, rng):
    keras.config.set_dtype_policy(policy)
    for output in as_list(ALL[name](2)(ALL[name].images(rng, 1, 47, 63, 3))):
        assert keras.backend.standardize_dtype(output.dtype) == "float32"
        assert np.isfinite(keras.ops.convert_to_numpy(output)).all()


@pytest.mark.core
@pytest.mark.parametrize("name", SMALL | REAL)
def test_two_builds_in_one_process_give_the_same_names(name):
    build = (SMALL | REAL)[name]
    first, second = build(2), build(2)
    assert [x.name for x in first.layers] == [x.name for x in second.layers]
    assert [w.path for w in first.weights] == [w.path for w in second.weights]


@pytest.mark.core
@pytest.mark.parametrize("name", SMALL)
def test_one_step_of_fit_changes_the_loss(name, rng):
    model = ALL[name](3)
    heads = len(model.outputs)
    model.compile(keras.optimizers.SGD(1e-2), [losses.CategoricalCrossentropy()] * heads)
    x, y = ALL[name].images(rng, 4, 47, 63, 3), rng.integers(0, 3, (4, 47, 63, 1))
    first, second = model.fit(x, [y] * heads, epochs=2, verbose=0).history["loss"]
    assert np.isfinite([first, second]).all() and first != second


@pytest.mark.parametrize("name", SMALL)
def test_training_and_prediction_compile_with_xla(name, rng):
    model = ALL[name](2, (47, 63, 3))
    heads = len(model.outputs)
    model.compile("sgd", ["sparse_categorical_crossentropy"] * heads, jit_compile=True)
    x, y = ALL[name].images(rng, 2, 47, 63, 3), rng.integers(0, 2, (2, 47, 63, 1))
    plain = numpy(model(x))
    for a, b in zip(as_list(model.predict(x, verbose=0)), plain, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)
    assert np.isfinite(np.sum(model.train_on_batch(x, [y] * heads)))


RELOAD = """
import sys, json, numpy as np
import segzoo, keras
for path in sys.argv[1:]:
    model = keras.saving.load_model(path)
    data = np.load(path + ".npz")
    outputs = model(data["x"], training=False)
    outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
    for k, y in enumerate(outputs):
        difference = np.abs(keras.ops.convert_to_numpy(y) - data[f"y{k}"]).max()
        assert difference < 1e-5, (path, k, difference)
print("equal:", len(sys.argv) - 1)
"""


@pytest.mark.core
def test_saved_models_reload_in_a_fresh_process_that_only_imports_segzoo(tmp_path, rng):
    paths = []
    for name, build in (SMALL | REAL).items():
        model, path = build(2), str(tmp_path / f"{name}.keras")
        x = build.images(rng, 1, 47, 63, 3)
        outputs = {f"y{k}": y for k, y in enumerate(numpy(model(x)))}
        model.save(path)
        np.savez(path + ".npz", x=x, **outputs)
        paths.append(path)
    run = subprocess.run(
        [sys.executable, "-c", RELOAD, *paths],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert f"equal: {len(paths)}" in run.stdout
