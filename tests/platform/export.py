"""Checks of exported models: each runs in the other runtime and agrees with Keras to 1e-4."""

import json
import subprocess
import sys

import keras
import numpy as np

from tests.platform.pictures import images

STATIC = (47, 63)
SIZES = {"static": [STATIC], "dynamic": [STATIC, (64, 40)]}

# Run by a process of its own, in which importing Keras or segzoo fails.
WITH_TENSORFLOW_ALONE = """
import json, sys
sys.modules["keras"] = sys.modules["segzoo"] = None
import numpy as np
import tensorflow as tf
for folder, data in json.loads(sys.argv[1]):
    loaded = tf.saved_model.load(folder)
    data = np.load(data)
    for size in {name[1:] for name in data}:
        difference = np.abs(loaded.serve(data["x" + size]).numpy() - data["y" + size]).max()
        assert difference < 1e-4, (folder, size, difference)
"""


def both_shapes(build):
    """The same network with a fixed and with an open height and width."""
    dynamic = build(3, (None, None, 3))
    static = build(3, (*STATIC, 3))
    static.set_weights(dynamic.get_weights())
    return {"static": static, "dynamic": dynamic}


def agrees(run, model, sizes, batch=1):
    """Assert that `run` gives what the model gives, for images of all sizes."""
    for size in sizes:
        x = images(batch, size)
        expected = keras.ops.convert_to_numpy(model(x, training=False))
        np.testing.assert_allclose(run(x), expected, atol=1e-4)


def write_saved_model(model, target, kind, **options):
    """Export a model with images and outputs beside it: a job of `run_with_tensorflow_alone`."""
    model.export(target, format="tf_saved_model", verbose=False, **options)
    data = {}
    for height, width in SIZES[kind]:
        x = images(1, (height, width))
        data |= {f"x{height}": x, f"y{height}": keras.ops.convert_to_numpy(model(x))}
    np.savez(f"{target}.npz", **data)
    return str(target), f"{target}.npz"


def run_with_tensorflow_alone(jobs):
    """Load SavedModels in a process that imports TensorFlow and nothing of ours."""
    command = [sys.executable, "-c", WITH_TENSORFLOW_ALONE, json.dumps(jobs)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]


def saved_model(build, folder):
    """SavedModel, fixed and open sizes, loaded without Keras and segzoo."""
    models = both_shapes(build).items()
    run_with_tensorflow_alone([write_saved_model(m, folder / kind, kind) for kind, m in models])


def onnx_agrees(model, folder, sizes, batch=1):
    import onnx
    import onnxruntime

    path = str(folder / "model.onnx")
    model(images(1, sizes[0]))  # Keras exports to ONNX what was called once
    model.export(path, format="onnx", verbose=False)
    onnx.checker.check_model(path, full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    agrees(lambda x: session.run(None, {name: x})[0], model, sizes, batch)


def onnx(build, folder):
    """ONNX, fixed and open sizes, checked by onnx and run by onnxruntime."""
    for kind, model in both_shapes(build).items():
        onnx_agrees(model, folder, SIZES[kind])


def run_litert(path, x):
    """The output of a LiteRT model for one image of any size."""
    import tensorflow as tf

    interpreter = tf.lite.Interpreter(str(path))
    entry = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(entry, x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(entry, x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def litert_options(kind):
    """What `model.export(format="litert")` needs for each kind of numbers."""
    import tensorflow as tf

    quantized = {"optimizations": [tf.lite.Optimize.DEFAULT]}
    half = {**quantized, "target_spec": {"supported_types": [tf.float16]}}
    return {"float32": {}, "float16": half, "int8": quantized}[kind]


def litert_agrees(model, folder, sizes):
    """Write a LiteRT file in float32 and assert that it gives Keras's numbers; return its path."""
    path = folder / "model.tflite"
    model.export(path, format="litert", verbose=False, **litert_options("float32"))
    agrees(lambda x: run_litert(path, x), model, sizes)
    return path


def rounded_to_half(source, target):
    """Copy a LiteRT file with every float32 number that it stores rounded to float16."""
    from tensorflow.lite.python import schema_py_generated as schema
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model(str(source))
    tensors = [tensor for graph in model.subgraphs for tensor in graph.tensors]
    for index in {t.buffer for t in tensors if t.type == schema.TensorType.FLOAT32}:
        data = model.buffers[index].data
        if data is not None and len(data):
            numbers = np.frombuffer(bytes(data), "float32").astype("float16")
            model.buffers[index].data = numbers.astype("float32").view("uint8")
    flatbuffer_utils.write_model(model, str(target))


def litert_float16_agrees(model, folder, sizes):
    """Assert that a float16 file is the float32 file, its numbers rounded to half.

    Not Keras's weights rounded: the converter folds batch normalization into kernels first.
    """
    single = litert_agrees(model, folder, sizes)
    half, rounded = folder / "half.tflite", folder / "rounded.tflite"
    model.export(half, format="litert", verbose=False, **litert_options("float16"))
    assert half.stat().st_size < single.stat().st_size
    rounded_to_half(single, rounded)
    for size in sizes:
        x = images(1, size)
        np.testing.assert_allclose(run_litert(half, x), run_litert(rounded, x), atol=1e-5)


def litert_float32(build, folder):
    """LiteRT, fixed and open sizes."""
    for kind, model in both_shapes(build).items():
        litert_agrees(model, folder, SIZES[kind])


def litert_float16(build, folder):
    """LiteRT with float16 weights, fixed and open sizes."""
    for kind, model in both_shapes(build).items():
        litert_float16_agrees(model, folder, SIZES[kind])
