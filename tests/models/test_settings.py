"""Global settings of Keras, and TensorFlow's checkpoints: models and layers work as ever."""

import ast
import os
import pathlib
import re
import subprocess
import sys

import keras
import numpy as np
import pytest

import segzoo
from tests.cases import LAYERS, SMALL, TINY, TWO_INPUTS, make_layer

NAMES = [*TINY, "UNet-own-transpose", "UNetPlusPlus-own-deep"]
QUICK = ["UNet-own-transpose"]
OTHERS = [name for name in NAMES if name not in QUICK]
# Layers and operations that ask Keras's settings where the channels are unless they are told.
PLACED = re.compile(
    r"(keras\.layers|ops)\.(\w*Conv2D\w*|\w*Pooling2D|ZeroPadding2D|Cropping2D|UpSampling2D"
    r"|(depthwise_|separable_)?conv(_transpose)?|(max|average)_pool|image\.\w+)"
)
slow, deep = pytest.mark.slow, [pytest.mark.slow, pytest.mark.deep]
ROOT = pathlib.Path(segzoo.__file__).parent


def numpy(outputs):
    outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
    return [keras.ops.convert_to_numpy(output) for output in outputs]


def around(name):
    """A model of one layer."""
    layer, image = make_layer(name), keras.Input((9, 14, 3))
    small = keras.layers.AveragePooling2D(2, data_format="channels_last")(image)
    inputs = (small, image) if name.startswith("ResizeLike") else (image, small)
    return keras.Model(
        image, layer(*inputs) if layer.__class__.__name__ in TWO_INPUTS else layer(image)
    )


def with_weights():
    """Every layer that has weights, and every builder: the name, and a function that builds it."""
    for name in LAYERS:
        yield name, lambda name=name: around(name)
    for name in NAMES:
        yield name, lambda name=name: SMALL[name](2)


@pytest.mark.slow
def test_a_checkpoint_of_tensorflow_restores_every_weight_of_every_layer_and_builder(tmp_path):
    import tensorflow as tf

    for name, build in with_weights():
        model = build()
        before = [keras.ops.convert_to_numpy(weight) for weight in model.weights]
        path = tf.train.Checkpoint(model=model).write(os.fspath(tmp_path / name))
        for weight in model.weights:
            weight.assign(keras.ops.full_like(weight, 0.125))
        tf.train.Checkpoint(model=model).read(path).assert_existing_objects_matched()
        for weight, kept in zip(model.weights, before, strict=True):
            np.testing.assert_array_equal(
                keras.ops.convert_to_numpy(weight), kept, err_msg=f"{name}: {weight.path}"
            )


# Each file and its data are of a process in which channels come last.
CHANNELS_FIRST = """
import sys
import numpy as np
import keras
keras.config.set_image_data_format("channels_first")
from tests.cases import SMALL
from tests.models.test_settings import numpy
for path in sys.argv[1:]:
    data = np.load(path + ".npz")
    def same(model, name):
        for k, y in enumerate(numpy(model(data["x"]))):
            np.testing.assert_allclose(y, data[f"y{k}"], atol=1e-5, err_msg=name)
    saved = keras.saving.load_model(path)
    same(saved, path)
    model = SMALL[str(data["name"])](2)
    model.set_weights(saved.get_weights())
    same(model, path)
    for layer in model._flatten_layers():
        assert getattr(layer, "data_format", "channels_last") == "channels_last", layer.path
    heads = len(model.outputs)
    model.compile("sgd", ["mse"] * heads, run_eagerly=True)
    loss = model.train_on_batch(data["x"], [data["x"][..., :2] / 255] * heads)
    assert np.isfinite(loss).all()
    model.save(path)
    for a, b in zip(numpy(keras.saving.load_model(path)(data["x"])), numpy(model(data["x"]))):
        np.testing.assert_allclose(a, b, atol=1e-5)
print("equal:", len(sys.argv) - 1)
"""


@pytest.mark.parametrize(
    "names",
    [pytest.param(QUICK, id="quick", marks=slow), pytest.param(OTHERS, id="others", marks=deep)],
)
def test_models_build_train_and_load_where_keras_is_set_to_channels_first(names, tmp_path, rng):
    paths = []
    for name in names:
        model, path = SMALL[name](2), os.fspath(tmp_path / f"{name}.keras")
        x = SMALL[name].images(rng, 2, 35, 46, 3)
        outputs = {f"y{k}": y for k, y in enumerate(numpy(model(x)))}
        model.save(path)
        np.savez(path + ".npz", x=x, name=name, **outputs)
        paths.append(path)
    run = subprocess.run(
        [sys.executable, "-c", CHANNELS_FIRST, *paths],
        capture_output=True,
        text=True,
        cwd=ROOT.parent,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONPATH": os.fspath(ROOT.parent)},
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert f"equal: {len(paths)}" in run.stdout


def test_every_layer_computes_the_same_where_keras_is_set_to_channels_first(rng):
    x = rng.normal(size=(2, 9, 14, 3)).astype("float32")
    for name in LAYERS:
        model = around(name)
        keras.config.set_image_data_format("channels_first")
        try:
            other = around(name)
            other.set_weights(model.get_weights())
            changed = numpy(other(x))[0]
        finally:
            keras.config.set_image_data_format("channels_last")
        np.testing.assert_allclose(changed, numpy(model(x))[0], atol=1e-6, err_msg=name)


def test_every_layer_and_operation_is_told_where_the_channels_are():
    for path in [*ROOT.glob("layers/*.py"), *ROOT.glob("models/**/*.py"), ROOT / "_boundary.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and PLACED.fullmatch(ast.unparse(node.func)):
                told = [k.arg for k in node.keywords]
                assert {"data_format", None} & set(told), (path.name, node.lineno)


@pytest.fixture(params=["float16", pytest.param("bfloat16", marks=slow)])
def floatx(request):
    """The type of Keras's floats during a test."""
    policy = keras.config.dtype_policy()
    keras.config.set_floatx(request.param)
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy(policy)


@pytest.mark.parametrize(
    "names",
    [pytest.param(["FPN"], id="quick", marks=slow), pytest.param(NAMES, id="all", marks=deep)],
)
def test_two_sizes_pass_through_a_model_whatever_floatx_is(names, floatx):
    for name in names:
        model = SMALL[name](2, (None, 48, 3))
        for rows in (33, 40):
            for output in model.predict(np.zeros((1, rows, 48, 3)), verbose=0):
                assert np.isfinite(np.asarray(output, "float32")).all()


def test_a_resize_of_one_open_side_gives_the_same_numbers_whatever_floatx_is(floatx, rng):
    x = rng.uniform(size=(1, 300, 7, 2)).astype("float32")
    for name in (
        "AdaptiveAveragePooling2D",
        "ResizeLike-corners",
        "ResizeLike-nearest",
        "Upsample",
    ):
        image = keras.Input((None, 7, 2), dtype="float32")
        layer = make_layer(name)
        small = keras.layers.AveragePooling2D(2, dtype="float32")(image)
        y = layer(small, image) if name.startswith("Resize") else layer(image)
        model = keras.Model(image, y)
        for rows in (270, 300):  # past 256 every second integer is a bfloat16
            given = np.asarray(numpy(model(x[:, :rows]))[0], "float32")
            layer.dtype_policy = "float32"
            wanted = numpy(model(x[:, :rows]))[0]
            layer.dtype_policy = floatx
            np.testing.assert_allclose(given, wanted, atol=0.02, err_msg=name)


def test_every_range_of_integers_has_a_type():
    """`keras.ops.arange` of Python's integers otherwise counts as wide as floatx is."""
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "ops.arange":
                assert "dtype" in [argument.arg for argument in node.keywords], (path, node.lineno)
