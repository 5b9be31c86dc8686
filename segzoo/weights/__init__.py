"""The one door for weights: files of every layout, downloads, published checkpoints.

What a file is, is read from it before anything is built (`open_file`). Which of its layers belongs
to which of a model is settled before the first value is assigned: a file fits as a whole, or
changes nothing (`load_weights`). The package knows layers and tensors, no architecture.
"""

from segzoo.weights import published
from segzoo.weights._download import cached_error, download_error, fetch
from segzoo.weights._files import File, open_file
from segzoo.weights._layers import Layer, Tensor
from segzoo.weights._loading import layer_shapes, load_weights
from segzoo.weights._values import WeightsFileError

__all__ = [
    "File",
    "Layer",
    "Tensor",
    "WeightsFileError",
    "cached_error",
    "download_error",
    "fetch",
    "layer_shapes",
    "load_weights",
    "open_file",
    "published",
]
