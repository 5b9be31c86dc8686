"""The decision of a model as a part of its graph."""

from typing import Any

import keras
import numpy as np
from keras import ops

from segzoo._arguments import is_number, plain
from segzoo.inference.augmentation import refuse_variance


def decide(model: keras.Model, *, threshold: float = 0.5, dtype: str = "uint8") -> keras.Model:
    """Build a model that gives class numbers instead of scores.

        one class        1 where scores > threshold, otherwise 0
        several classes  argmax over the classes, the first of equal scores

    For phones and servers: one byte leaves the graph for each pixel, instead of four for each
    class. The model can be saved and exported, also to LiteRT and ONNX, which do not load
    `keras.ops.argmax`.

    Args:
        model: a `keras.Model` with scores (B, H, W, classes). If it has several outputs, the last
            one is used.
        threshold: float, for a model of one class; pass 0 for logits. Defaults to 0.5.
        dtype: integer type of the class numbers, by its name or NumPy's. Defaults to `"uint8"`.

    Returns:
        A `keras.Model` with the same input and weights, and one output (B, H, W) of `dtype`.

    Raises:
        ValueError: if the model has no scores (B, H, W, classes), or its last output is the
            variance of `test_time_augmentation`; `threshold` is not a number; or `dtype` is not an
            integer type or too small for the classes.

    Example:
        >>> import keras, segzoo
        >>> image = keras.Input((None, None, 3))
        >>> model = keras.Model(image, keras.layers.Conv2D(4, 1, activation="softmax")(image))
        >>> labels = segzoo.inference.decide(model)(keras.ops.ones((1, 32, 48, 3)))
        >>> tuple(labels.shape), keras.backend.standardize_dtype(labels.dtype)
        ((1, 32, 48), 'uint8')
    """
    outputs = list(getattr(model, "outputs", None) or [])
    shape = tuple(outputs[-1].shape) if outputs else ()
    if len(shape) != 4 or shape[3] is None:
        raise ValueError(
            "`model` must be a keras.Model with scores (B, H, W, classes), received "
            f"{type(model).__name__} with an output of shape {shape}"
        )
    refuse_variance("model", outputs[-1])
    try:
        largest = np.iinfo(dtype).max
    except (TypeError, ValueError):
        largest = -1
    if largest < max(shape[3] - 1, 1):
        raise ValueError(
            f"`dtype` must be an integer type that holds {shape[3]} class numbers, received "
            f"dtype={dtype!r}"
        )
    threshold = check_threshold(threshold)
    decision = Decision(threshold, np.dtype(dtype).name, name="decision")
    return keras.Model(model.input, decision(outputs[-1]), name=model.name)


def check_threshold(threshold: Any) -> float:
    """Return `threshold` as a float, or raise ValueError unless it is a number."""
    value = plain(threshold)
    if not is_number(value) or np.isnan(value):
        raise ValueError(f"`threshold` must be a number, received threshold={threshold!r}")
    return float(value)


@keras.saving.register_keras_serializable(package="segzoo.inference")
class Decision(keras.layers.Layer):
    """Scores (B, H, W, classes) to class numbers (B, H, W) of an integer type."""

    def __init__(self, threshold: float, integers: str, **kwargs: Any) -> None:
        super().__init__(**{"autocast": False, **kwargs})
        self.threshold = threshold
        self.integers = integers

    def call(self, scores):
        if scores.shape[-1] == 1:
            return ops.cast(scores[..., 0] > self.threshold, self.integers)
        # On TensorFlow argmax breaks ties by bit operations that ONNX Runtime and LiteRT do not
        # know; top_k, too, puts the first of equal scores first, but on PyTorch any of them.
        if keras.backend.backend() == "torch":
            return ops.cast(ops.argmax(scores, axis=-1), self.integers)
        return ops.cast(ops.top_k(scores, 1)[1][..., 0], self.integers)

    def compute_output_spec(self, scores):
        return keras.KerasTensor(scores.shape[:3], dtype=self.integers)

    def get_config(self) -> dict[str, Any]:
        config = {"threshold": self.threshold, "integers": self.integers}
        return {**super().get_config(), **config}
