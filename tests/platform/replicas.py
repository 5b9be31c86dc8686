"""Train a builder on one device and on two, on the same global batches, and compare.

    python -m tests.platform.replicas mirrored DeepLabV3Plus FCN
    python -m tests.platform.replicas remainder DeepLabV3Plus
    python -m tests.platform.replicas workers UNetPlusPlus --float64
    KERAS_BACKEND=jax XLA_FLAGS=--xla_force_host_platform_device_count=2 \\
        python -m tests.platform.replicas jax UNet

XLA_FLAGS gives JAX two devices on a CPU. Devices are counted when a backend starts, so each
comparison has a process of its own. It prints one line per builder, and ends with an error when the
two runs differ. In some networks as small and untrained as these, float32's rounding grows to more
than the comparison allows, on one device too: `--float64` tells that from a fault.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

import keras
import numpy as np

import segzoo
from tests.cases import FIRST
from tests.platform.pictures import images, labels

COUNT, BATCH, EPOCHS, SIZE = 12, 4, 2, (40, 36)
PRECISION = [argument for argument in sys.argv if argument == "--float64"]


def synchronize(layer):
    """Let the replicas of `tf.distribute` share their batch statistics (as docs/deploy.md says)."""
    if isinstance(layer, keras.layers.BatchNormalization):
        layer.synchronized = True
    for inner in getattr(layer, "layers", None) or vars(layer).values():
        if isinstance(inner, keras.layers.Layer):
            synchronize(inner)


def network(name, synchronized=False, random_drops=False):
    """A builder with a frozen backbone, the same weights every time.

    A frozen EfficientNet still drops blocks at random in training. Two replicas of TensorFlow draw
    numbers of their own, which says nothing of losses and metrics: there we drop none.
    """
    keras.utils.set_random_seed(0)
    model = FIRST[name](3, (*SIZE, 3))
    backbone = model.get_layer("backbone")
    backbone.trainable = False
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.Dropout) and not random_drops:
            layer.rate = 0.0
    if synchronized:
        synchronize(model)
    return model


def optimizer():
    return keras.optimizers.SGD(0.05)


def loss():
    return segzoo.losses.Dice(per_image=True) + segzoo.losses.CategoricalFocal()


def metrics():
    """One of each metric whose result is a number."""
    options = {"classes": 3}
    return [
        segzoo.metrics.IoU(**options),
        segzoo.metrics.DiceScore(average="per_image", **options),
        segzoo.metrics.FScore(average="weighted", **options),
        segzoo.metrics.Precision(**options),
        segzoo.metrics.Recall(average="micro", **options),
        segzoo.metrics.PixelAccuracy(**options),
        segzoo.metrics.BoundaryF1Score(**options),
        segzoo.metrics.BoundaryIoU(**options),
    ]


def data():
    return images(COUNT, SIZE), labels(COUNT, SIZE)


def compiled(name, **options):
    model = network(name, **options)
    more = [segzoo.metrics.ThresholdSearch(5), segzoo.metrics.ConfusionMatrix(classes=3)]
    model.compile(optimizer(), loss(), metrics=[*metrics(), *more])
    return model


def fit(model):
    """Every epoch's logs, the scores of a pass of `evaluate`, and the weights."""
    x, y = data()
    logs = model.fit(x, y, batch_size=BATCH, epochs=EPOCHS, shuffle=False, verbose=0).history
    scores = model.evaluate(x, y, batch_size=BATCH, return_dict=True, verbose=0)
    return logs | {f"evaluate_{key}": value for key, value in scores.items()}, model.get_weights()


def loop(name, strategy, synchronized=False):
    """The same through a loop of one's own, that of examples/distributed.py."""
    from examples.distributed import train

    model, logs = train(
        strategy,
        lambda: network(name, synchronized),
        loss(),
        metrics,
        optimizer,
        *data(),
        BATCH,
        EPOCHS,
    )
    return {key: [epoch[key] for epoch in logs] for key in logs[0]}, model.get_weights()


def compare(name, one, many):
    """Assert equal logs and weights, but for the order of float32 sums.

    That order may tip a pixel on the edge of a decision, one of the 17280: the scores' tolerance.
    """
    (logs, weights), (other_logs, other_weights) = one, many
    assert set(logs) == set(other_logs)
    for key, value in logs.items():
        value, other = np.asarray(value, "float64"), np.asarray(other_logs[key], "float64")
        assert np.isfinite(value).all(), (name, key)
        tolerance = 2 if "confusion" in key else 1e-5 if "loss" in key else 1e-3
        np.testing.assert_allclose(value, other, atol=tolerance, err_msg=f"{name}: {key}")
    for a, b in zip(weights, other_weights, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)
    print(f"{name}: one device and two agree, loss {logs['loss']}")


def mirrored(names):
    """`tf.distribute.MirroredStrategy` with `fit`."""
    strategy = two_replicas()
    for name in names:
        with strategy.scope():
            model = compiled(name, synchronized=True)
        compare(name, fit(compiled(name)), fit(model))


def remainder(names):
    """A last batch of which one replica has no image: nothing is NaN, every image counts once."""
    strategy = two_replicas()
    x, y = (values[: BATCH + 1] for values in data())
    for name in names:
        with strategy.scope():
            many = compiled(name, synchronized=True)
        many.fit(x, y, batch_size=BATCH, epochs=EPOCHS, verbose=0)
        assert all(np.isfinite(w).all() for w in many.get_weights()), name
        one = compiled(name)
        one.set_weights(many.get_weights())
        scores = [
            model.evaluate(x, y, batch_size=BATCH, return_dict=True, verbose=0)
            for model in (one, many)
        ]
        compare(name, *((score, many.get_weights()) for score in scores))


def two_replicas():
    """A strategy for two halves of the CPU."""
    import tensorflow as tf

    halves = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], halves)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    assert strategy.num_replicas_in_sync == 2
    return strategy


def jax(names):
    """`keras.distribution.DataParallel` with `fit`.

    One program for both devices, so batch statistics and random numbers are those of one device.
    """
    for name in names:
        one = fit(compiled(name, random_drops=True))
        distribution = keras.distribution.DataParallel()
        assert len(keras.distribution.list_devices()) == 2
        with distribution.scope():
            many = fit(compiled(name, random_drops=True))
        compare(name, one, many)


def workers(names):
    """`MultiWorkerMirroredStrategy` around a loop of one's own: two processes on loopback."""
    import tensorflow as tf

    from examples.distributed import free_addresses

    for name in names:
        cluster = {"worker": free_addresses(2)}
        with tempfile.TemporaryDirectory() as folder:
            processes = []
            for index in range(2):
                task = {"cluster": cluster, "task": {"type": "worker", "index": index}}
                command = [sys.executable, "-m", __spec__.name, "worker", name, folder, *PRECISION]
                environment = {**os.environ, "TF_CONFIG": json.dumps(task)}
                processes.append(subprocess.Popen(command, env=environment))
            one = loop(name, tf.distribute.get_strategy())
            assert [process.wait() for process in processes] == [0, 0]
            for index in range(2):
                logs = json.loads(pathlib.Path(folder, f"{index}.json").read_text())
                with np.load(pathlib.Path(folder, f"{index}.npz")) as weights:
                    compare(name, one, (logs, [weights[key] for key in weights]))


def worker(arguments):
    """One of the two processes."""
    import tensorflow as tf

    name, folder = arguments
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    assert strategy.num_replicas_in_sync == 2
    logs, weights = loop(name, strategy, synchronized=True)
    index = strategy.cluster_resolver.task_id
    np.savez(pathlib.Path(folder, f"{index}.npz"), *weights)
    pathlib.Path(folder, f"{index}.json").write_text(json.dumps(logs))


if __name__ == "__main__":
    if PRECISION:
        keras.config.set_dtype_policy("float64")
    mode, *names = (argument for argument in sys.argv[1:] if argument not in PRECISION)
    {known.__name__: known for known in (mirrored, remainder, jax, workers, worker)}[mode](names)
