"""Checks of a builder in 16 bit and under XLA: they raise where the property does not hold."""

import contextlib

import keras
import numpy as np

import segzoo
from tests.platform.pictures import images, labels

SIZE = (47, 63)


@contextlib.contextmanager
def policy(name: str):
    """The global dtype policy, for a while."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def compiled(model, **options):
    """The model with a region loss, a pixel loss and two metrics."""
    loss = segzoo.losses.Dice() + segzoo.losses.CategoricalFocal()
    metrics = [segzoo.metrics.IoU(), segzoo.metrics.DiceScore(average="per_image")]
    model.compile(keras.optimizers.SGD(1e-2), loss, metrics=metrics, **options)
    return model


def train_step(build, dtype_policy, jit_compile=False):
    """Predict and train in `dtype_policy`; all that leaves the network is float32 and finite."""
    x, y = images(2, SIZE), labels(2, SIZE)
    with policy(dtype_policy):
        model = compiled(build(3, (*SIZE, 3)), jit_compile=jit_compile)
        prediction = model.predict(x, verbose=0)
        assert prediction.dtype == np.float32 and prediction.shape == (2, *SIZE, 3)
        np.testing.assert_allclose(prediction.sum(-1), 1, atol=1e-5)
        scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
        assert scaled == (dtype_policy == "mixed_float16")
        before = [np.array(w) for w in model.get_weights()]
        # The first scale of the loss, 2**15, may be too large: such a step is left out.
        for _ in range(4 if scaled else 1):
            logs = model.train_on_batch(x, y, return_dict=True)
            assert all(np.isfinite(float(value)) for value in logs.values()), logs
        after = model.get_weights()
        assert all(np.isfinite(w).all() for w in after)
        assert any((a != b).any() for a, b in zip(before, after, strict=True))
        assert {w.dtype.name for w in after} <= {"float32", "uint32", "int64"}
        loss = model.loss(y, keras.ops.cast(model(x), "float16"))
        assert keras.backend.standardize_dtype(loss.dtype) == "float32"
        for value in model.get_metrics_result().values():
            assert keras.backend.standardize_dtype(value.dtype) in ("float32", "float64")
    return prediction


def mixed_float16(build, folder):
    """One training step in float16, with Keras's scaling of the loss."""
    train_step(build, "mixed_float16")


def mixed_bfloat16(build, folder):
    """One training step in bfloat16."""
    train_step(build, "mixed_bfloat16")


def xla_float32(build, folder):
    """`jit_compile=True`: the same predictions as without, and a training step."""
    keras.utils.set_random_seed(1)
    model = build(3, (*SIZE, 3))
    weights, expected = model.get_weights(), model.predict(images(2, SIZE), verbose=0)

    def same_weights(*arguments):
        model = build(*arguments)
        model.set_weights(weights)
        return model

    prediction = train_step(same_weights, "float32", jit_compile=True)
    np.testing.assert_allclose(prediction, expected, atol=1e-4)


def xla_mixed(build, folder):
    """`jit_compile=True` in bfloat16 and in float16."""
    train_step(build, "mixed_bfloat16", jit_compile=True)
    train_step(build, "mixed_float16", jit_compile=True)
