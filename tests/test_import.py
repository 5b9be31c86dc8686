"""What importing the package costs, and what it registers: processes of their own."""

import subprocess
import sys

import keras
import numpy as np
import pytest

import segzoo
from tests.test_package import PUBLIC


def run(code, *paths):
    """Run code in a fresh process and return what it printed."""
    command = [sys.executable, "-c", code, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_run_lengths_cost_the_import_of_numpy_alone():
    loaded = run(
        "import sys; before = {*sys.modules}; from segzoo import rle; rle.encode([[0, 1]]); "
        "print({name.split('.')[0] for name in {*sys.modules} - before}"
        " - {*sys.stdlib_module_names})"
    )
    assert loaded == "{'numpy', 'segzoo'}" or loaded == "{'segzoo', 'numpy'}", loaded


def test_load_model_finds_every_class_when_segzoo_is_imported_before_keras(tmp_path):
    path = tmp_path / "model.keras"
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, segzoo.layers.ConvBlock(2)(inputs))
    metrics = [segzoo.metrics.IoU(), segzoo.metrics.dice_coef]
    model.compile("sgd", segzoo.losses.Dice(), metrics=metrics)
    model.evaluate(np.zeros((1, 8, 8, 3)), np.zeros((1, 8, 8)), verbose=0)
    model.save(path)
    found = run(
        "import segzoo, sys, importlib.util\n"
        "assert importlib.util.find_spec('keras').origin and 'keras' not in sys.modules\n"
        "import keras\n"
        "model = keras.saving.load_model(sys.argv[1])\n"
        "print(type(model.layers[1]).__module__, type(model.loss).__module__)\n"
        "print(*sorted(n for n in keras.saving.get_custom_objects() if n.startswith('segzoo.')))",
        path,
    )
    classes, names = found.splitlines()[-2:]
    assert classes == "segzoo.layers.blocks segzoo.losses.region"
    # Those that `import segzoo` registered here, where Keras was imported before.
    here = (name for name in keras.saving.get_custom_objects() if name.startswith("segzoo."))
    assert names.split() == sorted(here)


def test_an_import_of_keras_that_fails_may_be_tried_again(tmp_path):
    (tmp_path / "keras.py").write_text("raise ImportError('no backend')")
    found = run(
        "import sys; sys.path.insert(0, sys.argv[1]); import segzoo\n"
        "for name in 'keras', 'segzoo.losses', 'keras':\n"
        "    try: __import__(name)\n"
        "    except ImportError as error: print(error)\n"
        "print(sum(type(finder).__module__ == 'segzoo._loading' for finder in sys.meta_path))",
        tmp_path,
    )
    assert found.split("\n") == ["no backend"] * 3 + ["1"]


def test_the_package_lists_what_it_loads_later_and_refuses_other_names():
    assert {*PUBLIC} <= {*dir(segzoo)}
    with pytest.raises(AttributeError, match="module 'segzoo' has no attribute 'loses'"):
        _ = segzoo.loses


@pytest.mark.slow
def test_without_tensorflow_a_model_is_built_trained_saved_and_opened_on_jax(tmp_path):
    code = """
import os, sys
os.environ["KERAS_BACKEND"] = "jax"
sys.modules["tensorflow"] = None  # what an environment without it answers
import keras, numpy as np, segzoo
model = segzoo.models.UNet(None, 1, (32, 32, 1), decoder_filters=(8, 4))
model.compile("adam", segzoo.losses.BCEDice(), metrics=[segzoo.metrics.IoU()])
x = np.random.default_rng(0).uniform(size=(4, 32, 32, 1)).astype("float32")
model.fit(x, x > 0.5, batch_size=2, verbose=0)
model.save(sys.argv[1])
again = keras.saving.load_model(sys.argv[1])
np.testing.assert_allclose(again.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-6)
tiles = segzoo.inference.predict_tiles(again, x[0], tile_size=32, verbose=0)
print(keras.backend.backend(), tiles.shape)
"""
    assert run(code, tmp_path / "model.keras").splitlines()[-1] == "jax (32, 32, 1)"
