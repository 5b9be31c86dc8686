"""The package as a whole: who imports whom, what is public, what is registered with Keras."""

import ast
import importlib
import inspect
import pathlib
import re
import subprocess
import sys

import keras
import numpy as np
import pytest

import segzoo

ROOT = pathlib.Path(segzoo.__file__).parent
PUBLIC = ("backbones", "layers", "losses", "metrics", "models", "rle")

# A module may import the packages on its right, and, inside its own package, what `inside` allows.
EDGES = {
    "models": {"backbones", "weights", "layers"},
    "backbones": {"weights", "layers"},
    "weights": set(),
    "layers": set(),
    "losses": {"_targets", "_overlap", "_boundary"},
    "metrics": {"_targets", "_overlap", "_boundary"},
    "rle": set(),
    "_targets": set(),
    "_overlap": {"_targets"},
    "_boundary": {"_targets"},
}
FORBIDDEN = {"tensorflow", "jax", "torch", "tf_keras"}
# The one kernel that `keras.ops` has no equal for, behind a check of the backend.
ALLOWED = {("layers/normalization.py", "tensorflow.raw_ops.FusedBatchNormV3")}


def imports(path):
    """The dotted names that a module imports, at its top or inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


MODULES = sorted(p for p in ROOT.rglob("*.py") if p != ROOT / "__init__.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path):
    place = path.relative_to(ROOT).with_suffix("").parts
    for name in imports(path):
        parts = name.split(".")
        if (path.relative_to(ROOT).as_posix(), name) not in ALLOWED:
            assert parts[0] not in FORBIDDEN, f"{name}: library code imports a backend"
        if parts[0] != "segzoo":
            if place[0] == "rle":
                assert parts[0] in {*sys.stdlib_module_names, "numpy"}, name
            continue
        target = parts[1]
        if target != place[0]:
            assert target in EDGES[place[0]], f"{name} in segzoo.{place[0]}"
        elif place[0] == "models" and place[-1] != "__init__" and not place[-1].startswith("_"):
            assert len(parts) < 3 or parts[2].startswith("_"), f"{name}: one architecture another"


@pytest.mark.parametrize("module", PUBLIC)
def test_public_modules_say_what_is_public(module):
    package = getattr(segzoo, module)
    assert package.__doc__
    for name in package.__all__:
        assert inspect.getdoc(getattr(package, name)), f"segzoo.{module}.{name}"


@pytest.mark.parametrize("module", ("layers", "losses", "metrics"))
def test_classes_are_registered_under_their_module(module):
    bases = (keras.layers.Layer, keras.losses.Loss, keras.metrics.Metric)
    package = getattr(segzoo, module)
    for name in package.__all__:
        cls = getattr(package, name)
        if inspect.isclass(cls) and issubclass(cls, bases):
            key = f"segzoo.{module}>{name}"
            assert keras.saving.get_registered_name(cls) == key
            assert keras.saving.get_registered_object(key) is cls


def test_importing_segzoo_prints_nothing_and_needs_no_optional_package():
    code = (
        "import sys, segzoo; print(sorted({'efficientnet', 'skimage', 'scipy'} & {*sys.modules}))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.strip() in ("[]", "['scipy']"), run.stdout + run.stderr


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


def test_the_version_is_written_once():
    assert re.fullmatch(r"\d+\.\d+\.\d+", segzoo.__version__)
    pyproject = (ROOT.parent / "pyproject.toml").read_text()
    assert segzoo.__version__ not in pyproject


def test_library_code_never_prints_and_leaves_nothing_undone():
    for path in MODULES:
        text = path.read_text()
        assert "\nprint(" not in text and not re.search(r"\b(TODO|FIXME|XXX)\b", text), path


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_module_imports_by_itself(path):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    importlib.import_module(".".join(part for part in parts if part != "__init__"))
