"""One library's worker: builds one model, and takes a step of it whenever it is told to.

Started by `bench_models.py`, it reads a command per line and answers each with a line of JSON. It
imports its own library alone, so that the runner can start it in that library's environment.

    python model_worker.py LIBRARY CASE
"""

import ctypes
import functools
import gc
import importlib
import json
import math
import os
import sys
import time
from importlib import metadata

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# oneDNN, as PyTorch has it everywhere; TensorFlow uses it by default on CPUs of AVX-512 VNNI alone.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("SM_FRAMEWORK", "tf.keras")  # read by segmentation_models
# PyTorch's threads wait by spinning, which on a busy machine makes it ten times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
from model_cases import CASES, MEASURED


def batch(case):
    """An image batch and its targets: masks, or one-hot labels."""
    rng = np.random.default_rng(0)
    x = rng.random(case.shape, dtype="float32")
    if case.exclusive:
        labels = rng.integers(0, case.classes, case.shape[:3])
        return x, np.eye(case.classes, dtype="float32")[labels]
    return x, (rng.random((*case.shape[:3], case.classes)) < 0.5).astype("float32")


class KerasSteps:
    """Steps of a model in Keras 2 or 3: Adam on cross-entropy."""

    def __init__(self, case, make, keras):
        self.x, self.y = batch(case)
        self.make, self.keras = make, keras
        self.loss = ("categorical" if case.exclusive else "binary") + "_crossentropy"

    def clear(self):
        self.model = None
        self.keras.backend.clear_session()
        gc.collect()

    def build(self):
        self.model = self.make()
        # keras_hub adds a metric of its own unless told not to.
        self.model.compile(self.keras.optimizers.Adam(1e-4), self.loss, metrics=[])

    def train_built(self):
        """A first step whose optimizer has its variables before the step is traced."""
        self.model.optimizer.build(self.model.trainable_variables)
        return self.train()

    def predict(self):
        return self.model.predict_on_batch(self.x)

    def train(self):
        return float(self.model.train_on_batch(self.x, self.y))

    def parameters(self):
        return sum(math.prod(weight.shape) for weight in self.model.trainable_weights)


class TorchSteps:
    """The same of a PyTorch model whose outputs are logits."""

    def __init__(self, case, make, torch):
        self.torch, self.make = torch, make
        # Channels first, PyTorch's default, is also its faster layout here: `predict` takes half as
        # long again with channels last, where dilated depthwise convolutions are slow.
        self.x, self.y = (
            torch.from_numpy(array.transpose(0, 3, 1, 2).copy()) for array in batch(case)
        )

    def clear(self):
        self.model = self.optimizer = None
        gc.collect()

    def build(self):
        self.model = self.make()
        self.optimizer = self.torch.optim.Adam(self.model.parameters(), 1e-4)

    def predict(self):
        self.model.eval()
        with self.torch.inference_mode():
            return self.model(self.x).sigmoid().numpy()

    def train(self):
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.torch.nn.functional.binary_cross_entropy_with_logits(self.model(self.x), self.y)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    train_built = train  # there is nothing to trace

    def parameters(self):
        return sum(weight.numel() for weight in self.model.parameters())


def hub_deeplab(hub, shape, classes):
    """keras-hub's DeepLabV3+ as its documentation puts it together, on ResNet50."""
    encoder = hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=[3, 4, 6, 3],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="bottleneck_block",
        image_shape=shape,
    )
    backbone = hub.models.DeepLabV3Backbone(
        image_encoder=encoder,
        projection_filters=48,
        low_level_feature_key="P2",
        spatial_pyramid_pooling_key="P5",
        upsampling_size=8,
        dilation_rates=[6, 12, 18],
        image_shape=shape,
    )
    return hub.models.DeepLabV3ImageSegmenter(backbone, classes, activation="sigmoid")


def hub_segformer(hub, shape, classes):
    """keras-hub's SegFormer B0 as its documentation puts it together, with the sigmoid."""
    encoder = hub.models.MiTBackbone(
        image_shape=shape,
        num_layers=4,
        hidden_dims=[32, 64, 160, 256],
        layerwise_depths=[2, 2, 2, 2],
        layerwise_num_heads=[1, 2, 5, 8],
        layerwise_sr_ratios=[8, 4, 2, 1],
        layerwise_patch_sizes=[7, 3, 3, 3],
        layerwise_strides=[4, 2, 2, 2],
        max_drop_path_rate=0.1,
    )
    backbone = hub.models.SegFormerBackbone(image_encoder=encoder, projection_filters=256)
    logits = hub.models.SegFormerImageSegmenter(backbone, classes)
    keras = importlib.import_module("keras")
    return keras.Model(logits.input, keras.ops.sigmoid(logits.output))


HUB = {"deeplab": hub_deeplab, "segformer": hub_segformer}


def maker(library, module, name):
    """A function that builds the model of the case `name` in a library."""
    case = CASES[name]
    shape, classes = case.shape[1:], case.classes
    if library == "segzoo":
        return functools.partial(MEASURED[name], classes, shape, preprocessing=False)
    if library == "keras_hub":
        return functools.partial(HUB[case.peer], module, shape, classes)
    own = {
        "notebook": {},
        "segmentation_models": {"input_shape": shape, "classes": classes},
        "segmentation_models_pytorch": {"classes": classes},
        "segmodels_keras": {"input_shape": shape, "classes": classes, "activation": "sigmoid"},
    }
    return functools.partial(getattr(module, case.peer), **own[library], **case.peer_options)


def steps_of(library, name):
    """The steps of a case in a library, whose name has the versions that decide its speed."""
    module = importlib.import_module("notebooks" if library == "notebook" else library)
    case, make = CASES[name], maker(library, module, name)
    title = f"{library.replace('_', '-')} {getattr(module, '__version__', '')}".strip()
    if library == "segmentation_models_pytorch":
        import torch

        return TorchSteps(case, make, torch), f"{title}, PyTorch {torch.__version__}"
    import keras

    backend = keras.backend.backend()
    name = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}[backend]
    runs_on = f"{name} {importlib.import_module(backend).__version__}"
    versions = f"{title}, Keras {metadata.version('keras')}, {runs_on}"
    return KerasSteps(case, make, keras), versions


def memory(field):
    """MiB of this process: VmRSS holds now, VmHWM is the largest since the last reset."""
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def trim():
    """Give back what has been freed."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def peak_memory(step):
    """The largest MiB that the process holds during a step."""
    trim()
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    step()
    return memory("VmHWM")


def main():
    # Libraries print to standard output, so the answers keep a handle of their own.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    library, name = sys.argv[1:]
    steps, versions = steps_of(library, name)
    trim()
    idle = memory("VmRSS")
    print(json.dumps(versions), file=answers, flush=True)
    for line in sys.stdin:
        command, *step = line.split()
        if command == "memory":
            result = {"memory": peak_memory(getattr(steps, *step)) - idle}
        elif command == "parameters":
            result = {"parameters": steps.parameters()}
        else:
            start = time.perf_counter()
            getattr(steps, command)()
            result = {"time": time.perf_counter() - start}
        print(json.dumps(result), file=answers, flush=True)


if __name__ == "__main__":
    main()
