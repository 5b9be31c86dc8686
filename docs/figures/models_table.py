"""The table of `docs/models.md`: parameters, operations, reach and CPU time of the models.

    python docs/figures/models_table.py                                   # print all rows
    python docs/figures/models_table.py --write --only 'FPN("resnet50")'  # put one into the page

- Parameters: `Model.count_params()` for one class on RGB.
- Operations: multiplications and additions of all convolutions and matrix products in the graph of
  one 256x256 image, counted from the shapes.
- Reach: a single bright column goes through the network with its kernels made positive and all
  biases zero; the columns of the output that are not zero are those it reaches. Two values where
  the mean of the image is one branch of an atrous pyramid: without that branch, and in brackets
  the whole image. No number for what else takes statistics of the whole image, or attends to it.
- CPU and build time: CPU seconds of one `predict_on_batch` of 1x256x256x3, and of the builder,
  divided by those of `UNet("mobilenetv2")`. Each model alternates with it, and the median of the
  ratios is printed, so that a busy machine changes little.
"""

import argparse
import gc
import os
import pathlib
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

from segzoo.layers import (
    AdaptiveAveragePooling2D,
    EfficientSelfAttention,
    PositionAttention,
    ResizeLike,
)

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))
from tests.cases import DOCUMENTED

PAGE = pathlib.Path(__file__).parents[1] / "models.md"
# Layers from which every pixel takes something of all of them. `PAN` adds the mean of the image.
WHOLE = (AdaptiveAveragePooling2D, EfficientSelfAttention, PositionAttention)
FIRST = DOCUMENTED['UNet("mobilenetv2")']  # whose time the others' are divided by


def operations(case) -> float:
    """Multiplications plus additions for one 256x256 image."""
    model = case(1, (256, 256, 3))
    function = tf.function(lambda x: model(x, training=False))
    graph = function.get_concrete_function(tf.TensorSpec((1, 256, 256, 3), "float32")).graph
    total = 0
    for op in graph.get_operations():
        if op.type in ("Conv2D", "DepthwiseConv2dNative"):
            kernel, result = op.inputs[1].shape, op.outputs[0].shape
            per_value = np.prod(kernel[:3]) if op.type == "Conv2D" else np.prod(kernel[:2])
        elif op.type == "Conv2DBackpropInput":  # a transposed convolution, seen from its input
            kernel, result = op.inputs[1].shape, op.inputs[2].shape
            per_value = np.prod(kernel[:3])
        elif op.type in ("MatMul", "BatchMatMulV2"):
            result = op.outputs[0].shape
            per_value = op.inputs[0].shape[-1]
        else:
            continue
        total += 2 * int(per_value) * int(np.prod(result))
    return total


def reach(case, width: int = 3072) -> str:
    """Columns of the output that one column of the input changes."""
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    try:
        model = case(1, preprocessing=False, activation=None)
    finally:
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")
    for variable in model.variables:
        if keras.backend.is_float_dtype(variable.dtype):
            kernel = len(variable.shape) > 1
            one = variable.path.split("/")[-1] in ("gamma", "moving_variance")
            value = 1.0 / np.prod(variable.shape[:-1]) if kernel else float(one)
            variable.assign(np.full(variable.shape, value))
    names = [layer.name for layer in model.layers]
    nested = [inner for layer in model.layers for inner in getattr(layer, "layers", [layer])]
    if "fpa_mean" in names or any(isinstance(layer, WHOLE) for layer in nested):
        return "whole image"
    if any("group_norm" in variable.path for variable in model.variables):
        return "whole image"  # a group is normalized by statistics of all of it
    last = "logits" if "logits" in names else "upsample_1_fit"
    cut = keras.Model(model.input, model.get_layer(last).output)
    # Open sizes: resizing to fixed ones is float32 inside TensorFlow.
    open_sizes = [tf.TensorSpec((1, None, None, 3), "float64")]
    scores = tf.function(lambda x: cut(x, training=False), input_signature=open_sizes)
    image = np.zeros((1, 32, width, 3))
    image[:, :, width // 2 + 5] = 1e100  # no rounding to zero on the longest way

    def columns():
        positive = (np.asarray(scores(image)) > 0).astype("float32")
        return np.flatnonzero((np.asarray(ResizeLike()(positive, image)) > 0).any(axis=(0, 1, 3)))

    reached = columns()
    whole = len(reached) == width
    if whole:
        for variable in model.variables:
            if "aspp_pooling" in variable.path and "kernel" in variable.path:
                variable.assign(np.zeros(variable.shape))
        reached = columns()
    if len(reached) == width:
        return f"over {width}"
    return f"{reached[-1] - reached[0] + 1}{' (whole image)' if whole else ''}"


def timed(function, *arguments) -> float:
    """Seconds of CPU time, of all threads: other programs on the machine change it little."""
    start = time.process_time()
    function(*arguments)
    return time.process_time() - start


def row(label: str, image, first: keras.Model, rounds: int) -> str:
    """The line of a model; `first` is the one that it alternates with."""
    case = DOCUMENTED[label]
    model = case(1)
    model.predict_on_batch(image)
    times = [
        timed(model.predict_on_batch, image) / timed(first.predict_on_batch, image)
        for _ in range(rounds)
    ]
    builds = [timed(case, 1) / timed(FIRST, 1) for _ in range(3)]
    parameters = model.count_params() / 1e6
    del model
    gc.collect()
    cells = (
        f"`{label}`",
        f"{parameters:.1f}",
        f"{operations(case) / 1e9:.1f}",
        reach(case),
        f"{np.median(times):.1f}",
        f"{np.median(builds):.1f}",
    )
    return f"| {' | '.join(cells)} |"


def write(label: str, line: str) -> None:
    """Put a row into the page, in place of the older one."""
    start = f"| `{label}` |"
    lines = PAGE.read_text().splitlines()
    PAGE.write_text("\n".join(line if old.startswith(start) else old for old in lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9, help="timings of each model")
    parser.add_argument(
        "--only", nargs="*", default=DOCUMENTED, help="rows, as calls; all by default"
    )
    parser.add_argument("--write", action="store_true", help="put the rows into docs/models.md")
    arguments = parser.parse_args()

    image = np.random.default_rng(0).uniform(0, 255, (1, 256, 256, 3)).astype("float32")
    first = FIRST(1)
    first.predict_on_batch(image)
    print("| model | parameters, M | operations, G | reach, pixels | CPU time | build time |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for label in arguments.only:
        line = row(label, image, first, arguments.rounds)
        print(line, flush=True)
        if arguments.write:
            write(label, line)
        keras.backend.clear_session()


if __name__ == "__main__":
    main()
