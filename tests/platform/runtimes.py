"""What other runtimes make of an exported model, open and fixed, and the tables of it.

    python -m tests.platform.runtimes try
    python -m tests.platform.runtimes try --only FCN --runtimes "OpenVINO"
    python -m tests.platform.runtimes table

`try` trains each builder on the quickstart's photograph and measures it in every runtime beside
Keras, a few minutes a builder on one core; the figures go into `runtimes.json` beside this file,
where those of other rows stay. `table` writes them into docs/deploy.md, between two comments.

More than the tests need, the converter in an environment of its own that is on the PATH:

    pip install openvino jax
    pip install tensorflowjs "ydf<0.14"
    npm install @tensorflow/tfjs-core @tensorflow/tfjs-converter @tensorflow/tfjs-backend-cpu
    NODE_PATH=node_modules python -m tests.platform.runtimes try --runtimes TensorFlow.js
"""

import argparse
import dataclasses
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time
import traceback

import keras
import numpy as np

from tests.cases import DOCUMENTED, REAL
from tests.platform import coins, matrix
from tests.platform.export import litert_options

PLACE = re.compile(r"(<!-- runtimes -->\n).*?(<!-- end of runtimes -->)", re.DOTALL)
# Whose releases matter, beside Keras and TensorFlow.
PACKAGES = ("onnx", "onnxruntime", "tf2onnx", "openvino", "jax")
NODES = "ONNX nodes"
SIZE = (128, 144)
RECORD = pathlib.Path(__file__).with_suffix(".json")
MODELS = {
    'UNet("mobilenetv2")': DOCUMENTED['UNet("mobilenetv2")'],
    'UNet("efficientnetlite0")': DOCUMENTED['UNet("mobilenetv2")'].on("efficientnetlite0"),
    'EffNetUNet("b0")': DOCUMENTED['EffNetUNet("b0")'],
    'UNetPlusPlus("mobilenetv2")': REAL["UNetPlusPlus-mobilenetv2"],
    # tf2onnx copies all weights at each of its passes, which takes 12 GiB for 1024 filters.
    'FCN("mobilenetv2", head_filters=128)': dataclasses.replace(
        DOCUMENTED['FCN("mobilenetv2")'], options={"head_filters": 128}
    ),
    'FPN("mobilenetv2")': DOCUMENTED['FPN("resnet50")'].on("mobilenetv2"),
    'PSPNet("mobilenetv2")': DOCUMENTED['PSPNet("resnet50")'].on("mobilenetv2"),
    'DeepLabV3Plus("mobilenetv2")': DOCUMENTED['DeepLabV3Plus("mobilenetv2")'],
    'SegFormer("mitb0")': DOCUMENTED['SegFormer("mitb0")'],
}


def signature(shape):
    return [keras.InputSpec(shape=shape, dtype="float32")]


# A runtime is a function of a model, the shape of its images and a folder for its files; it returns
# a function from images to scores.


def _onnx(model, shape, folder):
    path = folder / "model.onnx"
    if not path.exists():
        model.export(path, format="onnx", verbose=False, input_signature=signature(shape))
    return str(path)


def _session(path):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x})[0]


def onnx_float32(model, shape, folder):
    return _session(_onnx(model, shape, folder))


def onnx_float16(model, shape, folder):
    import onnx
    from onnxruntime.transformers import float16

    single = onnx.load(_onnx(model, shape, folder))
    onnx.save(float16.convert_float_to_float16(single, keep_io_types=True), folder / "half.onnx")
    return _session(folder / "half.onnx")


def onnx_int8(model, shape, folder):
    import onnx
    from onnxruntime import quantization

    single, prepared = _onnx(model, shape, folder), str(folder / "prepared.onnx")
    name = onnx.load(single).graph.input[0].name

    class Reader(quantization.CalibrationDataReader):
        images = ({name: image} for image in photograph(*SIZE, windows=True))

        def get_next(self):
            return next(self.images, None)

    quantization.quant_pre_process(single, prepared, skip_symbolic_shape=True)
    reader = Reader()
    quantization.quantize_static(prepared, folder / "int8.onnx", reader, per_channel=True)
    return _session(folder / "int8.onnx")


def openvino(model, shape, folder):
    from openvino import Core

    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = Core().compile_model(_onnx(model, shape, folder), "CPU", exact)
    return lambda x: compiled(x)[0].copy()


def _litert(kind):
    def runtime(model, shape, folder):
        import tensorflow as tf

        path, options = str(folder / f"{kind}.tflite"), litert_options(kind)
        if kind == "int8":
            options["representative_dataset"] = lambda: (
                [x] for x in photograph(*SIZE, windows=True)
            )
        model.export(
            path, format="litert", verbose=False, input_signature=signature(shape), **options
        )
        interpreter = tf.lite.Interpreter(path, num_threads=1)
        entry, end = interpreter.get_input_details(), interpreter.get_output_details()
        allocated = None

        def run(x):
            nonlocal allocated
            if allocated != x.shape:
                interpreter.resize_tensor_input(entry[0]["index"], x.shape)
                interpreter.allocate_tensors()
                allocated = x.shape
            interpreter.set_tensor(entry[0]["index"], x)
            interpreter.invoke()
            return interpreter.get_tensor(end[0]["index"])

        return run

    return runtime


def _served(folder):
    import tensorflow as tf

    served = tf.saved_model.load(str(folder))
    return lambda x: served.serve(x).numpy()


def _export(model, shape, folder):
    path = folder / "served"
    if not path.exists():
        model.export(path, format="tf_saved_model", verbose=False, input_signature=signature(shape))
    return path


def saved_model(model, shape, folder):
    return _served(_export(model, shape, folder))


def tensorflow_js(model, shape, folder):
    served, web = str(_export(model, shape, folder)), str(folder / "web")
    process(["tensorflowjs_converter", "--input_format=tf_saved_model", served, web])
    node = subprocess.Popen(
        ["node", pathlib.Path(__file__).with_suffix(".js"), web],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def run(x):
        x.tofile(folder / "images.bin")
        node.stdin.write(json.dumps([str(folder / "images.bin"), x.shape, f"{folder}/scores.bin"]))
        node.stdin.write("\n")
        node.stdin.flush()
        shape = json.loads(node.stdout.readline() or '"stopped"')
        if isinstance(shape, str):
            raise RuntimeError(shape)
        return np.fromfile(folder / "scores.bin", "float32").reshape(shape)

    return run


ON_JAX = """
import json, sys
import keras, segzoo
spec = keras.InputSpec(shape=json.loads(sys.argv[3]), dtype="float32")
options = {"input_signature": [spec], "jax2tf_kwargs": {"with_gradient": False}}
model = keras.saving.load_model(sys.argv[1], compile=False)
model.export(sys.argv[2], format="tf_saved_model", verbose=False, **options)
"""


def saved_model_from_jax(model, shape, folder):
    model.save(folder / "model.keras")
    arguments = [str(folder / "model.keras"), str(folder / "jax"), json.dumps(shape)]
    process([sys.executable, "-c", ON_JAX, *arguments], KERAS_BACKEND="jax")
    return _served(folder / "jax")


def telling(message):
    """The line of an error that says what is wrong: not the last where a backend adds advice."""
    message = re.sub(r"\x1b\[\d*m|\S*/site-packages/\S+ ", "", message)  # colors, paths
    lines = message.strip().splitlines() or ["no message"]
    return next((line for line in lines if re.match("Cannot |.*inconclusive", line)), lines[-1])


def process(command, **environment):
    """Run a command, whose messages are the error's."""
    environment = {**os.environ, **environment}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)


FLOAT32 = {
    "ONNX Runtime": onnx_float32,
    "OpenVINO": openvino,
    "LiteRT": _litert("float32"),
    "SavedModel": saved_model,
    "SavedModel from JAX": saved_model_from_jax,
    "TensorFlow.js": tensorflow_js,
}
SMALLER = {
    "ONNX Runtime, float16": onnx_float16,
    "ONNX Runtime, int8": onnx_int8,
    "LiteRT, float16": _litert("float16"),
    "LiteRT, int8": _litert("int8"),
}
RUNTIMES = FLOAT32 | SMALLER


def photograph(height, width, windows=False):
    """The corner of the unseen part of the photograph, or of the six windows of all of it."""
    *_, unseen, others = coins.photograph()
    images = others if windows else [unseen]
    return [np.ascontiguousarray(x[:, :height, :width], "float32") for x in images]


def trained(name, folder):
    """A builder after two passes over the crops; kept in the folder."""
    path = folder / f"{list(MODELS).index(name)}.keras"
    if not path.exists():
        keras.utils.set_random_seed(0)
        model = MODELS[name](1, (None, None, 1))
        coins.train(model, scale=1)
        model.save(path)
    return keras.saving.load_model(path, compile=False)


def measure(runtime, model, folder, seconds=2):
    """Difference, share of the pixels decided alike, milliseconds and nodes, fixed and open."""
    (image,) = photograph(*SIZE)
    images = [image, *photograph(97, 83)]
    kinds = {"fixed": (image.shape, images[:1]), "open": ((None, None, None, 1), images)}
    runs, found, times = {}, {}, {kind: [] for kind in kinds}
    for kind, (shape, images) in kinds.items():
        place = folder / kind
        place.mkdir(exist_ok=True)
        scores = [keras.ops.convert_to_numpy(model(x, training=False)) for x in images]
        try:
            run = RUNTIMES[runtime](model, shape, place)
            pairs = [(run(x), y) for x, y in zip(images, scores, strict=True)]
        except Exception as error:
            traceback.print_exc()
            found[kind] = {"fails": f"{type(error).__name__}: {telling(str(error))}"[:300]}
            continue
        runs[kind] = run
        found[kind] = {
            "difference": max(float(np.abs(x - y).max()) for x, y in pairs),
            "alike": min(float(((x > 0.5) == (y > 0.5)).mean()) for x, y in pairs),
        }
        if runtime == "ONNX Runtime":
            import onnx

            found[kind]["nodes"] = len(onnx.load(place / "model.onnx").graph.node)
    end = time.perf_counter() + seconds
    while runs and time.perf_counter() < end:  # in turn, so that both have the same machine
        for kind, run in runs.items():
            start = time.perf_counter()
            run(image)
            times[kind].append(time.perf_counter() - start)
    for kind in runs:
        found[kind]["ms"] = round(1000 * statistics.median(times[kind]), 2)
    return found


def attempt(names, runtimes, folder):
    """Measure one after the other, and write each down at once."""
    for name in names:
        model = trained(name, folder)
        with tempfile.TemporaryDirectory() as files:
            for runtime in runtimes:
                found = measure(runtime, model, pathlib.Path(files))
                print(f"{name}: {runtime}: {found}", flush=True)
                record = json.loads(RECORD.read_text()) if RECORD.exists() else {"builders": {}}
                record["builders"].setdefault(name, {})[runtime] = found
                record["versions"] = matrix.versions(*PACKAGES)
                RECORD.write_text(json.dumps(record, indent=1) + "\n")


def tables(record):
    """Differences, decisions and costs, and what fails."""
    builders = {name: record["builders"][name] for name in MODELS if name in record["builders"]}

    def table(columns, cell):
        lines = ["| | " + " | ".join(columns) + " |", "| --- |" + " ---: |" * len(columns)]
        for name, row in builders.items():
            cells = (cell(row, column) for column in columns)
            lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
        return "\n".join(lines)

    def both(form):
        """A cell with a figure of the fixed and of the open file."""

        def cell(row, runtime):
            kinds = row.get(runtime, {}).values()
            return ", ".join("fails" if "fails" in k else form(k) for k in kinds) or "not tried"

        return cell

    def cost(row, column):
        if column == NODES:
            return both(lambda k: str(k["nodes"]))(row, "ONNX Runtime")
        times = [kind.get("ms") for kind in row.get(column, {}).values()]
        return f"{times[1] / times[0]:.2f}" if len(times) == 2 and all(times) else "-"

    failures = {}
    for name, row in builders.items():
        for runtime, kinds in row.items():
            for kind, found in kinds.items():
                if "fails" in found:
                    failures.setdefault((runtime, kind, found["fails"]), []).append(f"`{name}`")
    parts = [
        "Float32: the largest difference from Keras.",
        table(FLOAT32, both(lambda k: f"{k['difference']:.0e}")),
        "16 and 8 bits: the share of the pixels that are decided as by Keras, in percent.",
        table(SMALLER, both(lambda k: f"{100 * k['alike']:.1f}")),
        "The price of an open size: nodes, and the time beside that of the fixed file.",
        table([NODES, *FLOAT32], cost),
    ]
    if failures:
        lines = (
            f"- {runtime}, {kind}: {', '.join(names)}: `{message}`"
            for (runtime, kind, message), names in failures.items()
        )
        parts += ["What fails:", "\n".join(lines)]
    return "\n\n".join([*parts, "Tried on " + ", ".join(record["versions"]) + "."])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    trying = commands.add_parser("try", help="measure builders in runtimes")
    trying.add_argument("--only", default="", help="builders whose call contains this text")
    trying.add_argument("--runtimes", nargs="+", default=list(RUNTIMES), choices=RUNTIMES)
    trying.add_argument("--models", type=pathlib.Path, help="folder of the trained networks")
    commands.add_parser("table", help="write the tables into docs/deploy.md")
    options = parser.parse_args()
    if options.command == "try":
        with tempfile.TemporaryDirectory() as folder:
            names = [name for name in MODELS if options.only in name]
            attempt(names, options.runtimes, options.models or pathlib.Path(folder))
        return
    text, page = tables(json.loads(RECORD.read_text())), matrix.PAGE.read_text()
    matrix.PAGE.write_text(PLACE.sub(lambda match: f"{match[1]}{text}\n{match[2]}", page))


if __name__ == "__main__":
    main()
