"""The place of `load_weights` up to version 0.1; it is `segzoo.weights.load_weights` now."""

from segzoo.weights import load_weights

__all__ = ["load_weights"]
