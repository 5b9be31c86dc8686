"""Small networks whose scores depend on direction, and what the tests of their exports share."""

import subprocess
import sys

import keras
import numpy as np

from segzoo.layers import ConvBlock, ResizeLike


def network(shape=(None, None, 3), classes=4, activation="softmax", outputs=1):
    """A strided convolution, a nested model and a resize; made anew with the same numbers."""
    keras.utils.set_random_seed(3)
    image = keras.Input(shape, name="image")
    inner = keras.Input((None, None, 6))
    middle = keras.layers.Conv2D(6, 3, padding="same", activation="elu", name="middle")(inner)
    backbone = keras.Model(inner, middle, name="backbone")
    x = ConvBlock(6, strides=2, normalization=None, activation="elu", name="stem")(image)
    x = ResizeLike(name="enlarge")(backbone(x), image)
    heads = []
    for k in range(outputs):
        head = keras.layers.Conv2D(
            classes, 3, padding="same", kernel_initializer="normal", name=f"logits_{k}"
        )
        heads.append(keras.layers.Activation(activation, name=f"output_{k}")(head(x)))
    return keras.Model(image, heads[0] if outputs == 1 else heads, name="small")


def image(*size, seed=0):
    return np.random.default_rng(seed).uniform(0, 4, (2, *size, 3)).astype("float32")


def numbers(model, x):
    """The outputs of a model as a list of arrays."""
    outputs = keras.tree.flatten(model(x, training=False))
    return [keras.ops.convert_to_numpy(y) for y in outputs]


def run_with_segzoo_alone(code, *arguments):
    """Run code in a process that knows Keras, NumPy and `import segzoo`."""
    command = [sys.executable, "-c", "import keras, numpy as np, sys, segzoo\n" + code]
    run = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]


RELOADED = """
for path in sys.argv[1:]:
    data = np.load(path + ".npz")
    outputs = keras.tree.flatten(keras.saving.load_model(path)(data["x"]))
    for k, y in enumerate(outputs):
        np.testing.assert_allclose(keras.ops.convert_to_numpy(y), data[f"y{k}"], atol=1e-6)
"""


def reloads(models, folder):
    """Assert that saved models give the same numbers in another process."""
    paths = []
    for k, (model, x) in enumerate(models):
        paths.append(folder / f"{k}.keras")
        model.save(paths[-1])
        outputs = {f"y{i}": y for i, y in enumerate(numbers(model, x))}
        np.savez(f"{paths[-1]}.npz", x=x, **outputs)
    run_with_segzoo_alone(RELOADED, *paths)


def served(model, x, folder):
    """The outputs of a model's SavedModel."""
    import tensorflow as tf

    model.export(folder / "served", format="tf_saved_model", verbose=False)
    loaded = tf.saved_model.load(str(folder / "served"))
    return [y.numpy() for y in keras.tree.flatten(loaded.serve(x))]


def in_onnx(model, x, folder):
    """The outputs of a model in ONNX Runtime."""
    import onnxruntime

    model(x)
    model.export(folder / "model.onnx", format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(
        folder / "model.onnx", providers=["CPUExecutionProvider"]
    )
    return session.run(None, {session.get_inputs()[0].name: x})


def in_litert(model, x, folder, **options):
    """The outputs of a model in LiteRT."""
    import tensorflow as tf

    model.export(folder / "model.tflite", format="litert", verbose=False, **options)
    interpreter = tf.lite.Interpreter(str(folder / "model.tflite"))
    entry = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(entry, x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(entry, x)
    interpreter.invoke()
    return [interpreter.get_tensor(y["index"]) for y in interpreter.get_output_details()]
