"""Models saved by one backend or version, opened by another.

    KERAS_BACKEND=jax python -m tests.platform.portable write FOLDER [BUILDER ...]
    KERAS_BACKEND=torch python -m tests.platform.portable read FOLDER [BUILDER ...]

`write` puts a model, an image and the model's output into FOLDER for every builder. `read` opens
each file in a process that imports nothing but segzoo, compares the outputs and trains one step.
"""

import pathlib
import sys

import keras
import numpy as np

import segzoo


def write(folder, names):
    """Save every builder, trained for one step, with the output for an image."""
    from tests.cases import FIRST
    from tests.platform.pictures import images, labels

    folder.mkdir(parents=True, exist_ok=True)
    for name in names or FIRST:
        keras.utils.set_random_seed(0)
        model = compiled(FIRST[name](3))
        model.train_on_batch(images(2), labels(2))
        model.save(folder / f"{name}.keras")
        x = images(1)
        y, backend = model.predict(x, verbose=0), keras.backend.backend()
        np.savez(folder / f"{name}.npz", x=x, y=y, backend=backend)


def compiled(model):
    """The model ready to train, by optimizer, loss and metric that every backend has."""
    loss = segzoo.losses.Dice(per_image=True) + segzoo.losses.CategoricalFocal()
    model.compile(keras.optimizers.SGD(0.01), loss, metrics=[segzoo.metrics.IoU(classes=3)])
    return model


def read(folder, names):
    """Open every builder's file: the same output to 1e-4, and a finite training step.

    Returns what opening needs, for the table.
    """
    options = {}
    for path in [folder / f"{name}.keras" for name in names] or sorted(folder.glob("*.keras")):
        data = np.load(path.with_suffix(".npz"))
        if data["backend"] == "torch" != keras.backend.backend():
            # Keras on PyTorch saves optimizers of its own, which are not there on other backends.
            options = {"compile": False}
        model = keras.saving.load_model(path, **options)
        if options:
            compiled(model)
        np.testing.assert_allclose(model.predict(data["x"], verbose=0), data["y"], atol=1e-4)
        y = np.zeros(data["x"].shape[:3], "int32")
        logs = model.train_on_batch(data["x"], y, return_dict=True)
        assert all(np.isfinite(float(value)) for value in logs.values()), logs
        print(f"{path.stem}: opened by Keras {keras.__version__} on {keras.backend.backend()}")
    return "with `compile=False`" if options else None


if __name__ == "__main__":
    {"write": write, "read": read}[sys.argv[1]](pathlib.Path(sys.argv[2]), sys.argv[3:])
