"""One file for each family of backbones, with its rows in `ROWS`; the registry finds them here."""

import importlib
import pkgutil
from collections.abc import Iterator

from segzoo.backbones._rows import BackboneInfo


def rows() -> Iterator[BackboneInfo]:
    """The rows of every module of this package, in the modules' alphabetical order."""
    for module in pkgutil.iter_modules(__path__):
        yield from getattr(importlib.import_module(f"{__name__}.{module.name}"), "ROWS", ())
