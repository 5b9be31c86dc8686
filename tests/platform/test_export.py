"""Exported models give Keras's numbers in other runtimes; .ci/matrix tries every combination."""

import importlib.util
import pathlib

import keras
import numpy as np
import pytest

import segzoo
from tests.platform import export
from tests.platform.builders import TINY

EXAMPLE = pathlib.Path(__file__).parents[2] / "examples" / "quickstart.py"


def test_saved_models_of_every_builder_load_with_tensorflow_alone(tmp_path):
    models = [(f"{name}-dynamic", build(3), "dynamic") for name, build in TINY.items()]
    models.append(("UNet-static", TINY["UNet"](3, (*export.STATIC, 3)), "static"))
    jobs = [export.write_saved_model(m, tmp_path / name, kind) for name, m, kind in models]
    export.run_with_tensorflow_alone(jobs)


@pytest.mark.parametrize("name", TINY)
def test_onnx_runs_at_any_size(name, tmp_path):
    export.onnx_agrees(TINY[name](3), tmp_path, export.SIZES["dynamic"])


def test_onnx_of_a_fixed_size(tmp_path):
    export.onnx_agrees(TINY["UNet"](3, (*export.STATIC, 3)), tmp_path, export.SIZES["static"])


@pytest.mark.parametrize("name", TINY)
def test_litert_of_a_fixed_size(name, tmp_path):
    model = TINY[name](3, (*export.STATIC, 3))
    export.litert_agrees(model, tmp_path, export.SIZES["static"], "float32")


def test_litert_runs_at_any_size(tmp_path):
    export.litert_agrees(TINY["UNet"](3), tmp_path, export.SIZES["dynamic"], "float32")


def test_litert_stores_float16(tmp_path):
    model = TINY["DeepLabV3Plus"](3)
    export.litert_agrees(model, tmp_path, export.SIZES["dynamic"], "float16")


def test_int8_decides_99_of_100_pixels_of_the_quickstart_alike(tmp_path):
    import tensorflow as tf

    spec = importlib.util.spec_from_file_location("quickstart", EXAMPLE)
    quickstart = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(quickstart)
    photograph = quickstart.data.coins()
    mask = quickstart.label_coins(photograph)
    left = slice(None, quickstart.SPLIT)
    crops, masks = quickstart.random_crops(
        photograph[:, left], mask[:, left], 160, 96, np.random.default_rng(0)
    )
    crops = (crops / 255).astype("float32")
    model = segzoo.models.UNet(None, 1, (None, None, 1), decoder_filters=(128, 64, 32, 16))
    model.compile(keras.optimizers.Adam(2e-3), segzoo.losses.BCEDice())
    model.fit(crops, masks, batch_size=8, epochs=2, verbose=0)

    image = (photograph[None, :, quickstart.SPLIT :, None] / 255).astype("float32")
    windows = [photograph[None, ::flip, x : x + 144, None] for x in (0, 48, 96) for flip in (1, -1)]
    path = tmp_path / "coins.tflite"
    model.export(
        path,
        format="litert",
        verbose=False,
        input_signature=[keras.InputSpec(shape=image.shape, dtype="float32")],
        optimizations=[tf.lite.Optimize.DEFAULT],
        representative_dataset=lambda: ([(w / 255).astype("float32")] for w in windows),
    )
    decided = export.run_litert(path, image) > 0.5
    expected = model.predict(image, verbose=0) > 0.5
    assert 0.2 < expected.mean() < 0.8
    assert (decided == expected).mean() >= 0.99
