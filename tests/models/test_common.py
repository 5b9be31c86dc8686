"""What holds for every model, whatever its architecture: the table of cases, every check.

The first form of each builder is checked by default, the variants in the slow tests. Checks that
change nothing share one model.
"""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from segzoo import losses
from tests.cases import PADDINGS, REAL, SMALL, TINY, each

# What follows the head is the same for every builder: one head, several heads, and a resize.
FEW = {name: TINY[name] for name in ("UNet", "UNet3Plus", "DeepLabV3Plus")}


def as_list(outputs):
    return outputs if isinstance(outputs, list | tuple) else [outputs]


def numpy(outputs):
    return [keras.ops.convert_to_numpy(output) for output in as_list(outputs)]


_MODELS: dict[str, keras.Model] = {}


def shared(case):
    """The case's model of open size with three logits, built once; to be left as it is."""
    if repr(case) not in _MODELS:
        _MODELS[repr(case)] = case(3, activation=None)
    return _MODELS[repr(case)]


def assert_close(ours, theirs, tolerance=2e-5):
    """Every output agrees, relative to its largest value."""
    for a, b in zip(as_list(ours), as_list(theirs), strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance * max(1, np.abs(b).max()))


@pytest.mark.core
@pytest.mark.parametrize("case", each("sizes"))
def test_a_fixed_and_an_open_size_give_the_same_names_and_numbers(case, rng):
    size = (97, 131)
    x = case.images(rng, 2, *size, 3)
    dynamic, static = shared(case), case(3, (*size, 3), activation=None)
    assert [layer.name for layer in static.layers] == [layer.name for layer in dynamic.layers]
    assert [w.path for w in static.weights] == [w.path for w in dynamic.weights]
    static.set_weights(dynamic.get_weights())
    y = numpy(static(x))
    assert all(a.shape == (2, *size, 3) for a in y)
    assert_close(y, numpy(dynamic(x)))


@pytest.mark.core
@pytest.mark.parametrize("case", each("sizes"))
@pytest.mark.parametrize("size", [(64, 64), (32, 47)], ids=str)
def test_the_output_has_the_size_of_the_input(case, size, rng):
    for y in numpy(shared(case)(case.images(rng, 1, *size, 3))):
        assert y.shape == (1, *size, 3)


@pytest.mark.parametrize("case", each("sizes", {}, PADDINGS))
def test_odd_sizes_fit_whatever_the_padding_of_the_backbone(case, rng):
    size = (97, 131)
    x = case.images(rng, 1, *size, 3)
    static, dynamic = case(3, (*size, 3), activation=None), case(3, activation=None)
    dynamic.set_weights(static.get_weights())
    # Both in a graph: op by op, attention lets the rounding of MANet's 3e-5 through.
    a, b = static.predict(x, verbose=0), dynamic.predict(x, verbose=0)
    assert a.shape == (1, *size, 3)
    np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(a).max())


@pytest.mark.parametrize("case", each("sizes", TINY, {}))
@pytest.mark.parametrize(
    "backbone", ["rounding-down", pytest.param("tiny-dilated", marks=pytest.mark.slow)]
)
def test_a_backbone_that_rounds_down_or_is_dilated_fits_too(case, backbone, rng):
    model = case.on(backbone)(2)
    for y in numpy(model(case.images(rng, 1, 47, 63, 3))):
        assert y.shape == (1, 47, 63, 2)


@pytest.mark.parametrize("case", each("sizes", {}))
def test_several_sizes_pass_through_one_predict(case, rng):
    model = shared(case)
    for size in ((64, 64), (33, 250), (97, 131)):
        x = case.images(rng, 1, *size, 3)
        assert_close(model.predict(x, verbose=0), numpy(model(x)))


@pytest.mark.slow
@pytest.mark.parametrize("case", each("sizes"))
def test_a_graph_traced_without_sizes_runs_at_any_size(case, rng):
    import tensorflow as tf

    model = shared(case)
    graph = tf.function(model, input_signature=[tf.TensorSpec((None, None, None, 3))])
    for size in ((64, 96), (33, 250)):
        x = case.images(rng, 2, *size, 3)
        assert_close(numpy(graph(x)), numpy(model(x)))


@pytest.mark.core
@pytest.mark.parametrize("case", each("channels"))
@pytest.mark.parametrize("channels", [pytest.param(1, marks=pytest.mark.slow), 5])
def test_any_number_of_channels_is_accepted_and_one_class_is_a_probability(case, channels, rng):
    model = case(1, (None, None, channels))
    for p in numpy(model(case.images(rng, 1, 40, 36, channels))):
        assert p.shape == (1, 40, 36, 1)
        assert 0 < p.min() < p.max() < 1


@pytest.mark.core
@pytest.mark.parametrize("case", each("activation", FEW))
def test_outputs_are_probabilities_unless_logits_are_asked_for(case, rng):
    x = case.images(rng, 2, 40, 36, 3)
    logits, softmax, sigmoid = shared(case), case(3), case(3, activation="sigmoid")
    for model in (softmax, sigmoid):
        model.set_weights(logits.get_weights())
    for p, q, z in zip(numpy(softmax(x)), numpy(sigmoid(x)), numpy(logits(x)), strict=True):
        e = np.exp(z - z.max(-1, keepdims=True))
        np.testing.assert_allclose(p, e / e.sum(-1, keepdims=True), atol=1e-5)
        np.testing.assert_allclose(q, 1 / (1 + np.exp(-z)), atol=1e-5)


def take_statistics(model, x):
    """Give every batch normalization the statistics of this batch, so that no ReLU is dead."""
    norms = [layer for layer in model._flatten_layers() if hasattr(layer, "moving_mean")]
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
    model(x, training=True)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum


@pytest.mark.parametrize("case", each("gradients", TINY, SMALL | REAL))
def test_every_trainable_weight_has_a_gradient(case, rng):
    import tensorflow as tf

    model = case(3, (64, 96, 3))
    x, target = case.images(rng, 3, 64, 96, 3), rng.uniform(size=(3, 64, 96, 3))
    for weight in model.trainable_variables:  # a ReLU of one channel is dead half of the time
        if len(weight.shape) == 4 and weight.shape[-1] == 1:
            weight.assign(keras.ops.abs(weight))
    take_statistics(model, x)
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
@pytest.mark.parametrize("case", each("mixed precision"))
@pytest.mark.parametrize(
    "policy", ["mixed_float16", pytest.param("mixed_bfloat16", marks=pytest.mark.slow)]
)
def test_mixed_precision_ends_in_float32(case, policy, rng):
    keras.config.set_dtype_policy(policy)
    for output in as_list(case(2)(case.images(rng, 1, 47, 63, 3))):
        assert keras.backend.standardize_dtype(output.dtype) == "float32"
        assert np.isfinite(keras.ops.convert_to_numpy(output)).all()


@pytest.mark.core
@pytest.mark.parametrize("case", each("training"))
def test_a_step_of_fit_logs_the_loss_and_lowers_it(case, rng):
    model, loss = case(3), losses.CategoricalCrossentropy()
    heads = len(model.outputs)
    # The slow tests train in a graph, under XLA. JAX compiles every operation of an eager step.
    eager = keras.backend.backend() == "tensorflow"
    # A step so short that the loss falls along it, however steep it is.
    step = keras.optimizers.SGD(1e-3, global_clipnorm=1.0)
    model.compile(step, [loss] * heads, run_eagerly=eager)
    x, y = case.images(rng, 2, 47, 63, 3), rng.integers(0, 3, (2, 47, 63, 1))
    expected = sum(float(loss(y, p)) for p in as_list(model(x, training=True)))
    first, second = model.fit(x, [y] * heads, epochs=2, verbose=0).history["loss"]
    if not any(isinstance(layer, keras.layers.Dropout) for layer in model.layers):
        assert first == pytest.approx(expected, rel=1e-4)
        assert second < first
    assert np.isfinite([first, second]).all()


@pytest.mark.parametrize("case", each("XLA", {}, TINY))
def test_training_and_prediction_compile_with_xla(case, rng):
    model = case(2, (47, 63, 3))
    heads = len(model.outputs)
    model.compile("sgd", ["sparse_categorical_crossentropy"] * heads, jit_compile=True)
    x, y = case.images(rng, 2, 47, 63, 3), rng.integers(0, 2, (2, 47, 63, 1))
    plain = numpy(model(x))
    assert_close(model.predict(x, verbose=0), plain)
    assert np.isfinite(np.sum(model.train_on_batch(x, [y] * heads)))


RELOAD = """
import sys, numpy as np
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


def reload(cases, folder, rng):
    """Save every case and load it in a process that imports segzoo and nothing else of ours."""
    paths = []
    for name, case in cases.items():
        model, path = case(2), str(folder / f"{name}.keras")
        x = case.images(rng, 1, 47, 63, 3)
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


@pytest.mark.core
def test_every_builder_saves_and_loads_in_a_fresh_process_that_only_imports_segzoo(tmp_path, rng):
    reload(TINY, tmp_path, rng)


@pytest.mark.slow
def test_every_variant_saves_and_loads_in_a_fresh_process(tmp_path, rng):
    variants = {name: case for name, case in SMALL.items() if name not in TINY}
    reload(variants | REAL, tmp_path, rng)
