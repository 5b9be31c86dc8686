"""Semantic segmentation in pure Keras 3: models, losses, metrics and run-length masks.

Importing the package registers every custom layer, loss and metric with Keras, so that
`keras.saving.load_model(path)` needs no `custom_objects`.
"""

from segzoo import backbones, layers, losses, metrics, models, rle

__version__ = "0.1.0"

__all__ = ["__version__", "backbones", "layers", "losses", "metrics", "models", "rle"]
