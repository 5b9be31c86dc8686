"""What only the TensorFlow backend has: unknown shapes, graphs, strategies, fresh processes."""

import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import tensorflow as tf

from segzoo import metrics
from tests.metrics.test_training import (
    compiled,
    dataset,
    every_metric,
    expected_logs,
    small_model,
)

ALL = [*every_metric(), metrics.ConfusionMatrix(normalize="true")]


def floats(result):
    if isinstance(result, dict):
        return {key: float(value) for key, value in result.items()}
    return {"": np.asarray(result)}


# The others are traced with fixed sizes in test_hostile.py, with open ones in the slow tests.
QUICK = ("iou", "boundary_f1_score", "best_iou")


@pytest.mark.parametrize(
    "index",
    [
        pytest.param(k, id=metric.name, marks=[] if metric.name in QUICK else [pytest.mark.slow])
        for k, metric in enumerate(ALL)
    ],
)
@pytest.mark.parametrize("jit_compile", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_graphs_of_any_size_agree_with_eager_mode(index, jit_compile, rng):
    make = ALL[index].from_config
    eager, graph = make(ALL[index].get_config()), make(ALL[index].get_config())
    signature = [tf.TensorSpec((None,) * 3, tf.int32), tf.TensorSpec((None,) * 3 + (3,))]

    @tf.function(jit_compile=jit_compile, input_signature=signature)
    def update(y_true, y_pred):
        graph.update_state(y_true, y_pred)

    for shape in ((2, 6, 7), (1, 61, 9), (3, 5, 5))[: 1 if jit_compile else 3]:
        y_true = rng.integers(0, 3, shape).astype("int32")
        y_pred = rng.random((*shape, 3)).astype("float32")
        update(tf.constant(y_true), tf.constant(y_pred))
        eager.update_state(y_true, y_pred)
    expected = floats(eager.result())
    for key, value in floats(graph.result()).items():
        np.testing.assert_allclose(value, expected[key], rtol=1e-9)


def test_a_boundary_of_dynamic_width_is_rounded_as_a_static_one(rng):
    # 0.1 times the diagonal of 45x60 is 7.5, which both round to 8
    y_true, y_pred = rng.random((2, 1, 45, 60, 1)) < 0.95
    static, dynamic = metrics.BoundaryIoU(0.1), metrics.BoundaryIoU(0.1)
    signature = [tf.TensorSpec((None, None, None, 1))] * 2

    @tf.function(input_signature=signature)
    def update(y_true, y_pred):
        dynamic.update_state(y_true, y_pred)

    update(*(tf.cast(y, tf.float32) for y in (y_true, y_pred)))
    static.update_state(y_true, y_pred)
    assert float(dynamic.result()) == float(static.result())


FRESH = """
import json, sys
import numpy as np
import tensorflow as tf
devices = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], devices)
import keras
import segzoo

data = np.load(sys.argv[2])

def evaluate(model):
    options = {"sample_weight": data["w"], "batch_size": 4, "return_dict": True, "verbose": 0}
    logs = model.evaluate(data["x"], data["y"], **options)
    return {key: float(value) for key, value in logs.items()}

logs = {"one": evaluate(keras.saving.load_model(sys.argv[1]))}
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    model = keras.saving.load_model(sys.argv[1])
logs["two"] = evaluate(model)
model.fit(data["x"], data["y"], batch_size=4, verbose=0)
logs["refitted"] = evaluate(model)
logs["replicas"] = strategy.num_replicas_in_sync
matrix = segzoo.metrics.ConfusionMatrix(classes=3)
print(json.dumps(logs))
"""


@pytest.mark.slow
def test_a_fresh_process_and_two_replicas_give_the_same_values(rng, tmp_path):
    x, y = dataset(rng, images=8)
    weights = rng.random(y.shape).astype("float32")
    model = small_model()
    model.compile(
        "sgd",
        "sparse_categorical_crossentropy",
        metrics=every_metric(),
        weighted_metrics=[metrics.IoU(average=None, name="weighted")],
    )
    expected = model.evaluate(
        x, y, batch_size=4, sample_weight=weights, return_dict=True, verbose=0
    )
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "data.npz", x=x, y=y, w=weights)
    command = [sys.executable, "-c", textwrap.dedent(FRESH)]
    command += [str(tmp_path / "model.keras"), str(tmp_path / "data.npz")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    logs = json.loads(done.stdout.splitlines()[-1])
    assert logs["replicas"] == 2
    for run in ("one", "two"):
        for key, value in expected.items():
            assert logs[run][key] == pytest.approx(value, abs=1e-6), (run, key)
    assert set(logs["refitted"]) == set(expected)


@pytest.mark.slow
def test_fit_compiles_with_xla(rng):
    x, y = dataset(rng)
    model = small_model()
    some = [metrics.IoU(average=None), metrics.ThresholdSearch(5), metrics.BoundaryIoU()]
    compiled(model, metrics=some, jit_compile=True)
    fit = model.fit(x, y, batch_size=4, validation_data=(x, y), verbose=0)
    expected = expected_logs(y, model.predict(x, verbose=0))
    for key in ("iou", "boundary_iou"):
        assert fit.history[f"val_{key}"][-1] == pytest.approx(expected[key], abs=1e-6)


def test_targets_of_another_rank_after_the_first_step_are_named(rng):
    x, y = dataset(rng)
    model = small_model()
    compiled(model, metrics=[metrics.IoU()])
    model.train_on_batch(x, y)
    with pytest.raises(ValueError, match=r"`y_true` .* known rank.* call `compile` again"):
        model.train_on_batch(x, y[..., None])
    compiled(model, metrics=[metrics.IoU()])
    model.train_on_batch(x, y[..., None])


def test_weights_of_unknown_rank_are_named():
    metric = metrics.IoU(classes=3)

    @tf.function(input_signature=[tf.TensorSpec(None)])
    def update(weights):
        metric.update_state(tf.zeros((2, 4, 5), tf.int32), tf.zeros((2, 4, 5, 3)), weights)

    with pytest.raises(ValueError, match="`sample_weight` must have one rank"):
        update(tf.ones(2))
