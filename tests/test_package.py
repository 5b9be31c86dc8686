"""The package as a whole: who imports whom, what is public, what is registered with Keras."""

import ast
import importlib
import inspect
import pathlib
import re
import sys

import keras
import pytest

import segzoo

ROOT = pathlib.Path(segzoo.__file__).parent
PUBLIC = [name for name in segzoo.__all__ if inspect.ismodule(getattr(segzoo, name))]

# Who may import whom: one line for each package or file of `segzoo`. An edge that nothing uses is
# an error, like one that is not here.
EDGES = {
    "models": {"_arguments", "backbones", "weights", "layers"},
    "backbones": {"weights", "layers"},
    "weights": set(),
    "inference": {"_arguments", "layers"},
    "layers": set(),
    "losses": {"_arguments", "_boundary", "_counts", "_inputs", "_numerics", "_reading"},
    "metrics": {"_arguments", "_boundary", "_counts", "_numerics", "_reading", "_targets"},
    "rle": set(),
    "_loading": set(),
    "_diagnosis": {"layers"},
    "_counts": {"_numerics", "_reading"},
    "_reading": {"_inputs", "_numerics", "_targets"},
    "_inputs": {"_numerics"},
    "_targets": {"_numerics"},
    "_boundary": set(),
    "_arguments": set(),
    "_numerics": set(),
}
# What a module may import from elsewhere when it is loaded: the standard library and these.
OUTSIDE = {"keras", "numpy", "h5py", "ml_dtypes", "safetensors"}
# Packages that are held to less.
NARROW = {"rle": {"numpy"}}
# What is imported inside the function that needs it, by the file that does: optional packages, and
# the one kernel that `keras.ops` has no equal for, behind a check of the backend.
INSIDE = {
    ("layers/_dilated.py", "tensorflow"),
    ("layers/normalization.py", "tensorflow"),
    ("losses/distance.py", "scipy"),
    ("losses/skeletons.py", "scipy"),
    ("metrics/surface.py", "scipy"),
    ("models/pytorch/_checkpoint.py", "huggingface_hub"),
}

MODULES = sorted(p for p in ROOT.rglob("*.py") if p != ROOT / "__init__.py")
NAMES = {path: path.relative_to(ROOT).as_posix() for path in MODULES}
TREES = {path: ast.parse(path.read_text()) for path in MODULES}


def imported(nodes):
    """The dotted names that some nodes import."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def when_loaded(node):
    """The nodes that run when a module is loaded: none inside a function or a branch.

    A branch is a choice of what is there, so what it imports is named like a function's.
    """
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.Lambda | ast.If | ast.Try):
            yield child
            yield from when_loaded(child)


def package_of(path):
    """The package or file of `segzoo` that a module belongs to."""
    return path.relative_to(ROOT).with_suffix("").parts[0]


def edges(path):
    """The packages of `segzoo` beside its own that a module imports, anywhere in it."""
    parts = [name.split(".") for name in imported(ast.walk(TREES[path]))]
    return {part[1] for part in parts if part[0] == "segzoo"} - {package_of(path)}


@pytest.mark.parametrize("path", MODULES, ids=NAMES.get)
def test_imports_point_down(path):
    assert edges(path) <= EDGES[package_of(path)]


def test_every_edge_that_is_allowed_is_used():
    used = {package: set() for package in map(package_of, MODULES)}
    for path in MODULES:
        used[package_of(path)] |= edges(path)
    assert used == EDGES


def test_one_architecture_never_imports_another():
    for path in MODULES:
        if package_of(path) == "models" and not path.name.startswith("_"):
            for name in imported(ast.walk(TREES[path])):
                part = name.removeprefix("segzoo.models.")
                known = part == name or part.startswith("_")
                if path.parent.name == "pytorch":  # composes decoders, never calls a builder
                    known |= part.rpartition(".")[2].islower() or part.startswith("pytorch.")
                assert known, f"{path.name} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=NAMES.get)
def test_loading_a_module_needs_no_optional_package(path):
    allowed = NARROW.get(package_of(path), OUTSIDE) | {"segzoo"} | set(sys.stdlib_module_names)
    loaded = {name.split(".")[0] for name in imported(when_loaded(TREES[path]))}
    assert loaded <= allowed


def test_what_is_imported_inside_functions_is_known():
    known = OUTSIDE | {"segzoo"} | set(sys.stdlib_module_names)
    found = {
        (NAMES[path], name.split(".")[0])
        for path, tree in TREES.items()
        for name in imported(ast.walk(tree))
    }
    assert {(path, name) for path, name in found if name not in known} == INSIDE


def test_library_code_never_prints_and_leaves_nothing_undone():
    for path, tree in TREES.items():
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        assert "print" not in names, NAMES[path]
        assert not re.search(r"\b(TODO|FIXME|XXX)\b", path.read_text()), NAMES[path]


@pytest.mark.parametrize("module", PUBLIC)
def test_public_modules_say_what_is_public(module):
    package = getattr(segzoo, module)
    assert package.__doc__
    assert sorted(set(package.__all__)) == sorted(package.__all__)
    for name in package.__all__:
        assert inspect.getdoc(getattr(package, name)), f"segzoo.{module}.{name}"


def test_every_public_class_of_keras_is_registered_under_its_module():
    bases = (keras.layers.Layer, keras.losses.Loss, keras.metrics.Metric)
    found = 0
    for module in PUBLIC:
        for name in getattr(segzoo, module).__all__:
            cls = getattr(getattr(segzoo, module), name)
            if inspect.isclass(cls) and issubclass(cls, bases):
                key = f"segzoo.{module}>{name}"
                assert keras.saving.get_registered_name(cls) == key
                assert keras.saving.get_registered_object(key) is cls
                found += 1
    assert found >= 37


def test_the_version_is_written_once():
    assert re.fullmatch(r"\d+\.\d+\.\d+", segzoo.__version__)
    pyproject = (ROOT.parent / "pyproject.toml").read_text()
    assert segzoo.__version__ not in pyproject


def test_every_module_is_loaded_with_the_package_or_by_itself():
    for path in MODULES:
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        assert importlib.import_module(name).__doc__, name
