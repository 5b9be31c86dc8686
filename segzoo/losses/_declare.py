"""How a loss is declared: the shared arguments, their meaning, and the function of a class."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any, TypedDict, TypeVar

import keras

from segzoo._arguments import ClassWeights, parameters, spelled_out

MEANINGS = {
    "from_logits": "whether `y_pred` holds logits, which a sigmoid (one class) or a softmax "
    "(several) turns into probabilities. Defaults to False.",
    "multilabel": "whether several classes may overlap: every logit has its own sigmoid, and a "
    "pixel without any class is background. Defaults to False.",
    "per_image": "whether each image is scored by itself and the scores are averaged. Defaults to "
    "False, which scores the batch as a whole.",
    "average": '`"macro"` averages the classes\' losses, `"micro"` sums their counts first. '
    'Defaults to `"macro"`.',
    "class_weights": "weights w >= 0 of the classes, a sequence, or a mapping from class to weight "
    "in which a missing class weighs 1; normalized: sum(w loss) / sum(w). Defaults to None.",
    "ignore_class": "one integer or several: labels of pixels that are left out, such as 255 in a "
    "mask of 0, 1 and 255. Defaults to None.",
    "smooth": "number >= 0 that is added to numerator and denominator, so that an empty mask "
    "predicted as empty has loss 0. "
    "Defaults to 1.0.",
    "label_smoothing": "share of the target, 0 to 1, that is spread evenly over the classes. "
    "Defaults to 0.0.",
    "name": "name of the loss. Defaults to the name of the class in snake case.",
    "reduction": '`"sum_over_batch_size"`, `"sum"`, `"mean_with_sample_weight"` or `"none"`, as in '
    '`keras.losses.Loss`. Defaults to `"sum_over_batch_size"`.',
    "dtype": "precision of the math, which is at least float32. Defaults to None.",
}


class LossOptions(TypedDict, total=False):
    """What every loss takes."""

    from_logits: bool
    ignore_class: int | Sequence[int] | None
    name: str | None
    reduction: str | None
    dtype: Any


class LovaszOptions(LossOptions, total=False):
    """What the Lovász losses take."""

    per_image: bool


class OutlineOptions(LovaszOptions, total=False):
    """What the losses take that match shapes, with their own `smooth`."""

    multilabel: bool


class ShapeOptions(OutlineOptions, total=False):
    """What the losses take that score an image's shapes as a whole."""

    smooth: float


class RegionOptions(ShapeOptions, total=False):
    """What the region losses take."""

    average: str
    class_weights: ClassWeights


class PixelOptions(LossOptions, total=False):
    """What the losses of single pixels take."""

    class_weights: ClassWeights
    label_smoothing: float


class BinaryOptions(PixelOptions, total=False):
    """What the losses take that treat each class by itself."""

    multilabel: bool


LossClass = TypeVar("LossClass", bound=type[keras.losses.Loss])


def register(cls: LossClass) -> LossClass:
    """Register a loss with Keras, and spell out and document the arguments that losses share."""
    return keras.saving.register_keras_serializable(package="segzoo.losses")(
        spelled_out(cls, MEANINGS)
    )


def as_function(
    cls: LossClass, needs: str = "", truth: str = "ops.array([[[0, 1]]])"
) -> Callable[..., Any]:
    """Return the loss as a function of `(y_true, y_pred)` and the arguments of the class.

    `needs` are the arguments, as in a call, without which its example cannot do, `truth` is the
    `y_true` of its example.
    """

    def function(y_true: Any, y_pred: Any, *, sample_weight: Any = None, **arguments: Any) -> Any:
        return cls(**arguments)(y_true, y_pred, sample_weight)

    keyword = inspect.Parameter.KEYWORD_ONLY
    own = [p.replace(kind=keyword) for n, p in parameters(cls).items() if n != "name"]
    signature = inspect.signature(function)
    data = list(signature.parameters.values())[:3]
    function.__signature__ = signature.replace(parameters=data + own)  # type: ignore[attr-defined]
    function.__name__ = function.__qualname__ = f"{snake_case(cls.__name__)}_loss"
    function.__module__ = cls.__module__
    function.__doc__ = f"""Compute `{cls.__name__}(...)(y_true, y_pred, sample_weight)`.

    Args:
        y_true: (B, H, W, C) one-hot or multi-label, or labels (B, H, W) or (B, H, W, 1).
        y_pred: (B, H, W, C) probabilities, or logits with `from_logits=True`.
        sample_weight: weights of the samples, as the class takes them. Defaults to None.
        {_described_arguments(cls)}

    Returns:
        The value of the loss, as from the class: a scalar, unless `reduction="none"`.

    Example:
        >>> from keras import ops
        >>> from segzoo import losses
        >>> truth, scores = {truth}, ops.array([[[[0.9, 0.1], [0.4, 0.6]]]])
        >>> value = losses.{function.__name__}(truth, scores{needs and f", {needs}"})
        >>> float(value) == float(losses.{cls.__name__}({needs})(truth, scores))
        True
    """
    return keras.saving.register_keras_serializable(package="segzoo.losses")(function)


def snake_case(name: str) -> str:
    """Return a class's name as that of a function: `BCEDice` is `bce_dice`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def _described_arguments(cls: type) -> str:
    """Return the arguments' lines of the class's docstring, without the name."""
    found = re.search(r"\n    Args:\n(.*?)\n\n", cls.__doc__ or "", re.DOTALL)
    lines = found.group(1).splitlines() if found else []
    return "\n".join(line for line in lines if not line.startswith("        name:")).strip()
