"""When the packages are loaded: run lengths by themselves, everything else together with Keras.

`import segzoo` has to be cheap, because `segzoo.rle` needs NumPy alone, and still
`keras.saving.load_model` has to find the classes of a file that was saved with segzoo. Keras looks
them up among the registered classes and nowhere else, so they must be registered by the time that
Keras can be used:

    Keras was imported before      the packages are loaded by `import segzoo`
    Keras is imported afterwards   they are loaded at the end of that import
    it never is                    they are not loaded

For the second row a finder stands first among those that Python asks for a module. It finds nothing
itself; it lets the import of Keras, or of a package here that imports Keras, load the rest, too.
"""

import importlib
import importlib.abc
import importlib.util
import sys
from importlib.machinery import ModuleSpec
from typing import Any

_WITHOUT_KERAS = ("rle", "_loading")


def load_with_keras(*packages: str) -> None:
    """Load packages of segzoo as soon as Keras, or anything here that needs Keras, is imported."""
    modules = [f"segzoo.{package}" for package in packages]
    if "keras" in sys.modules:
        _load(modules)
    else:
        sys.meta_path.insert(0, _WithKeras(modules))


def _load(modules: list[str]) -> None:
    for module in modules:
        importlib.import_module(module)


class _WithKeras(importlib.abc.MetaPathFinder):
    """Has the first import of Keras, or of a module here that needs it, load `modules` as well."""

    def __init__(self, modules: list[str]):
        self.modules = modules

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        top, _, rest = name.partition(".")
        needs_keras = top == "segzoo" and rest.partition(".")[0] not in _WITHOUT_KERAS
        if not (name == "keras" or needs_keras):
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        specs = (finder.find_spec(name, path, target) for finder in others)
        spec = next(filter(None, specs), None)
        if spec and spec.loader:
            spec.loader = _ThenTheRest(spec.loader, self)
        return spec


class _ThenTheRest(importlib.abc.Loader):
    """Loads a module as its own loader does, and then the finder's modules."""

    def __init__(self, loader: Any, finder: _WithKeras):
        self.loader, self.finder = loader, finder

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)  # for those who look for a module and do not import it

    def create_module(self, spec: ModuleSpec) -> Any:
        return self.loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        module.__loader__ = module.__spec__.loader = self.loader
        first = self.finder in sys.meta_path
        if first:
            sys.meta_path.remove(self.finder)  # what is imported on the way goes its usual way
        try:
            self.loader.exec_module(module)
        except BaseException:
            if first:
                sys.meta_path.insert(0, self.finder)  # the next attempt may succeed
            raise
        if first:
            _load(self.finder.modules)
