"""Semantic segmentation in pure Keras 3: models, losses, metrics and run-length masks.

The packages are loaded when they are first used: `segzoo.rle` costs NumPy's import and no more.
Every custom layer, loss and metric is registered with Keras as soon as both are imported, in either
order, so that `keras.saving.load_model(path)` needs no `custom_objects`.
"""

import importlib
from typing import TYPE_CHECKING, Any

from segzoo._loading import load_with_keras

if TYPE_CHECKING:
    from segzoo import backbones, inference, layers, losses, metrics, models, rle
    from segzoo._diagnosis import check_batch

__version__ = "0.2.0"

_PACKAGES = ("backbones", "inference", "layers", "losses", "metrics", "models")

__all__ = [
    "__version__",
    "backbones",
    "check_batch",
    "inference",
    "layers",
    "losses",
    "metrics",
    "models",
    "rle",
]


def __getattr__(name: str) -> Any:
    if name == "check_batch":
        return importlib.import_module("segzoo._diagnosis").check_batch
    if name in __all__:
        return importlib.import_module(f"segzoo.{name}")
    raise AttributeError(f"module 'segzoo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


load_with_keras(*_PACKAGES)
