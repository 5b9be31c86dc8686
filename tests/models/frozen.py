"""What the library gave before its inside was moved, kept in `tests/data`.

    python -m tests.models.frozen outputs [CASE ...]   # models.json: all cases, or those named
    python -m tests.models.frozen weights              # weights files in the layout of version 0.1

For every small case `models.json` holds the number of parameters, the layers that hold weights, in
order, and some of the logits at two sizes. Weights follow from the layers' names and shapes, so
that they are the same wherever a layer stands; float64, so that they are the same on every machine.
Who changes an output on purpose runs the first command for the cases concerned, and says why where
it is committed. The weights files are never written again: later versions have to read them.
"""

import argparse
import contextlib
import gzip
import json
import pathlib
import tempfile
import zlib

import keras
import numpy as np

from tests.cases import ALL

DATA = pathlib.Path(__file__).parents[1] / "data"
OUTPUTS = DATA / "models.json"
SIZES = ((64, 96), (47, 61))
VALUES = 12
# The weights files, compressed: two of whole models, by their cases, one of a published backbone.
FILES = {"unet.weights.h5": "UNet", "deeplab.keras": "DeepLabV3Plus-separable"}
BACKBONE, BACKBONE_FILE = "mobilenetv2", "mobilenetv2.weights.h5"


@contextlib.contextmanager
def float64():
    """Models built inside compute in float64, but for the layers that say otherwise."""
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    try:
        yield
    finally:
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")


def layers_with_weights(model, prefix=""):
    """Every layer of a model that holds weights, with its name; models inside are followed."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from layers_with_weights(layer, f"{prefix}{layer.name}/")
        elif layer.weights:
            yield prefix + layer.name, layer


def keyed_weights(model):
    """Every weight with a name that does not depend on the layer's inside: its kind and shape."""
    for name, layer in layers_with_weights(model):
        seen: dict[str, int] = {}
        for weight in layer.weights:
            key = f"{name} {weight.name} {tuple(weight.shape)}"
            seen[key] = seen.get(key, 0) + 1
            yield f"{key} {seen[key]}", weight


def fill(model):
    """Give every weight values that follow from its name and shape, of a fit size for its kind."""
    for key, weight in keyed_weights(model):
        rng = np.random.default_rng(zlib.crc32(key.encode()))
        shape, kind = tuple(weight.shape), weight.name
        if kind in ("gamma", "moving_variance"):
            values = rng.uniform(0.8, 1.2, shape)
        elif len(shape) > 1:
            inputs = shape[:-1] if kind != "depthwise_kernel" else shape[:2]
            values = rng.normal(size=shape) * np.sqrt(2 / np.prod(inputs))
        else:
            values = rng.normal(size=shape) * 0.1
        weight.assign(values)


def outputs(name):
    """What is kept of a case."""
    with float64():
        model = ALL[name](3, activation=None)
    fill(model)
    record = {
        "parameters": model.count_params(),
        "layers": [name for name, _ in layers_with_weights(model)],
    }
    for size in SIZES:
        x = ALL[name].images(np.random.default_rng(0), 1, *size, 3)
        result = model(x, training=False)
        heads = result if isinstance(result, list | tuple) else [result]
        flat = [keras.ops.convert_to_numpy(y).ravel() for y in heads]
        picked = [y[:: len(y) // VALUES + 1] for y in flat]
        record["x".join(map(str, size))] = [[float(f"{v:.9g}") for v in y] for y in picked]
    return record


def pattern(key, shape, kind):
    """Values of few digits that a compressed file holds in few bytes."""
    factor = (1 + zlib.crc32(key.encode()) % 997) / 997
    values = (np.arange(np.prod(shape)) % 7 - 3).reshape(shape) * factor
    return np.abs(values) + 1 if kind == "moving_variance" else values


def fill_pattern(model):
    """Give every weight its pattern."""
    for key, weight in keyed_weights(model):
        weight.assign(pattern(key, tuple(weight.shape), weight.name))


def build_backbone(**options):
    """The published backbone of the third file."""
    from segzoo import backbones

    return backbones.build(BACKBONE, **options)


def write_weights():
    """Write the weights files."""
    models = {file: ALL[name](2) for file, name in FILES.items()}
    for model in models.values():
        fill(model)
    models[BACKBONE_FILE] = build_backbone(weights=None)
    fill_pattern(models[BACKBONE_FILE])
    for file, model in models.items():
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, file)
            model.save(path) if file.endswith(".keras") else model.save_weights(path)
            (DATA / f"{file}.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))


def unpack(file, folder):
    """The path of a weights file, unpacked into a folder."""
    path = pathlib.Path(folder, file)
    path.write_bytes(gzip.decompress((DATA / f"{file}.gz").read_bytes()))
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["outputs", "weights"])
    parser.add_argument("cases", nargs="*", help="of the table; all unless named")
    options = parser.parse_args()
    if options.what == "weights":
        write_weights()
        return
    kept = json.loads(OUTPUTS.read_text()) if OUTPUTS.exists() else {}
    kept |= {name: outputs(name) for name in options.cases or ALL}
    lines = [f"{json.dumps(name)}: {json.dumps(kept[name])}" for name in sorted(kept)]
    OUTPUTS.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
