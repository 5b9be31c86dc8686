"""Throughput and memory on a GPU, beside segmentation_models_pytorch.

DeepLabV3+ and UNet++ on ResNet50 at 512x512 in float32, bfloat16 and float16: images per second
forward and in training with Adam, the first step, and the most memory held. Prediction ends with
class numbers on the host. Every case runs in a process of its own, so that one library's memory is
not in the other's way.

    KERAS_BACKEND=torch python tests/benchmarks/bench_gpu.py --peer
    KERAS_BACKEND=jax python tests/benchmarks/bench_gpu.py

`--peer` adds segmentation_models_pytorch with the same backbone, compiled and channels-last. It
needs `pip install torch segmentation-models-pytorch`. The peer's UNet++ has one block more than
segzoo's, at full size; segzoo normalizes the image in its graph, the peer does not.

Without a GPU it runs too: `--size 64 --batches 1 --steps 1` shows that everything works.
"""

import argparse
import itertools
import json
import os
import resource
import subprocess
import sys
import time

CLASSES = 21
MODELS = ("DeepLabV3Plus", "UNetPlusPlus")
PRECISIONS = ("float32", "bfloat16", "float16")
# UNet++ as the peer has it: the same widths at strides 2 to 16, nearest upsampling, normalized.
OPTIONS = {
    "DeepLabV3Plus": {"separable": True},
    "UNetPlusPlus": {
        "filters": (32, 64, 128, 256),
        "upsampling": "nearest",
        "normalization": "batch",
        "block_activation": "relu",
        "dropout": 0.0,
    },
}


def keras_steps(name, precision, batch, size):
    """Prediction and training of segzoo on one batch; both wait for the device."""
    import keras
    import numpy as np

    import segzoo

    policy = precision if precision == "float32" else f"mixed_{precision}"
    keras.config.set_dtype_policy(policy)
    model = getattr(segzoo.models, name)(
        "resnet50",
        CLASSES,
        (size, size, 3),
        backbone_weights=None,
        activation=None,
        **OPTIONS[name],
    )
    loss = segzoo.losses.CategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, jit_compile=True)
    model.optimizer.build(model.trainable_variables)
    decided = keras.Model(model.input, keras.ops.argmax(model.output, axis=-1))
    decided.compile(jit_compile=True)
    rng = np.random.default_rng(0)
    x = keras.ops.convert_to_tensor(rng.uniform(0, 255, (batch, size, size, 3)).astype("float32"))
    y = keras.ops.convert_to_tensor(rng.integers(0, CLASSES, (batch, size, size)).astype("int32"))
    return lambda: decided.predict_on_batch(x), lambda: float(model.train_on_batch(x, y))


def peer_steps(name, precision, batch, size):
    """The same of segmentation_models_pytorch; float16 without a loss scale, which times alike."""
    import segmentation_models_pytorch as peer
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = getattr(peer, {"UNetPlusPlus": "UnetPlusPlus"}.get(name, name))(
        "resnet50", encoder_weights=None, classes=CLASSES
    )
    model = torch.compile(model.to(device, memory_format=torch.channels_last))
    optimizer = torch.optim.Adam(model.parameters())
    x = torch.rand(batch, 3, size, size, device=device).to(memory_format=torch.channels_last)
    y = torch.randint(0, CLASSES, (batch, size, size), device=device)

    def cast():
        half = precision != "float32"
        return torch.autocast(device, getattr(torch, precision) if half else None, enabled=half)

    def predict():
        model.eval()
        with torch.inference_mode(), cast():
            return model(x).argmax(1).int().cpu()

    def train():
        model.train()
        optimizer.zero_grad(set_to_none=True)
        with cast():
            loss = torch.nn.functional.cross_entropy(model(x).float(), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return predict, train


def memory_in_use():
    """The most memory held so far, in MiB: the GPU's, without one that of the process."""
    if os.environ.get("KERAS_BACKEND") == "jax":
        import jax

        in_use = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    else:
        import torch

        in_use = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
    return in_use / 2**20 if in_use else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def measure(library, name, precision, batch, size, steps):
    """Images per second of both steps, the first call's seconds, and the memory."""
    steps_of = {"segzoo": keras_steps, "peer": peer_steps}[library]
    predict, train = steps_of(name, precision, batch, size)
    result = {}
    for label, call in (("predict", predict), ("train", train)):
        start = time.perf_counter()
        call()
        result[f"first {label} s"] = time.perf_counter() - start
        for _ in range(3):
            call()
        start = time.perf_counter()
        for _ in range(steps):
            call()
        result[f"{label} images/s"] = batch * steps / (time.perf_counter() - start)
    result["peak MiB"] = memory_in_use()
    print(json.dumps(result))


def in_a_process(library, name, precision, batch, size, steps):
    """`measure` in a fresh process; None when it fails, as it does for want of memory."""
    command = [sys.executable, __file__, "--measure", library, name, precision, str(batch)]
    environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    if library == "peer":
        environment["KERAS_BACKEND"] = "torch"
    command += ["--size", str(size), "--steps", str(steps)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    if run.returncode:
        reason = run.stderr.strip().splitlines()[-1][:120]
        print(f"{name}, {precision}, batch {batch}, {library}: {reason}")
        return None
    return json.loads(run.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--precisions", nargs="+", default=PRECISIONS, choices=PRECISIONS)
    parser.add_argument("--size", type=int, default=512, help="height and width of an image")
    parser.add_argument("--steps", type=int, default=20, help="timed steps")
    parser.add_argument("--peer", action="store_true", help="segmentation_models_pytorch beside it")
    parser.add_argument("--measure", nargs=4, metavar=("LIBRARY", "MODEL", "PRECISION", "BATCH"))
    options = parser.parse_args()
    if options.measure:
        library, name, precision, batch = options.measure
        measure(library, name, precision, int(batch), options.size, options.steps)
        return
    if os.environ.get("KERAS_BACKEND") not in ("jax", "torch"):
        parser.error("set KERAS_BACKEND to jax or torch")
    libraries = ("segzoo", "peer") if options.peer else ("segzoo",)
    cases = itertools.product(options.models, options.precisions, options.batches, libraries)
    for name, precision, batch, library in cases:
        result = in_a_process(library, name, precision, batch, options.size, options.steps)
        if result is not None:
            figures = ", ".join(f"{key} {value:.1f}" for key, value in result.items())
            print(f"{name}, {precision}, batch {batch}, {library}: {figures}", flush=True)


if __name__ == "__main__":
    main()
