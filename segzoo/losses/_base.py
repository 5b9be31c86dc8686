"""What all losses share: the base class, `a + b`, `0.5 * a`, `Compound`, and their functions."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from numbers import Real
from typing import Any, TypeVar

import keras
from keras import ops

from segzoo import _targets

_ARGUMENTS = {
    "from_logits": "whether `y_pred` holds logits: one class takes a sigmoid, several a softmax.",
    "multilabel": "whether classes may overlap: logits of several classes take a sigmoid each.",
    "per_image": "whether each image has its own score, averaged over the batch.",
    "average": '`"macro"` averages the classes\' losses, `"micro"` sums their counts first.',
    "class_weights": "weights w of the classes, normalized: sum(w loss) / sum(w).",
    "ignore_class": "an integer or several: pixels that count nowhere, as 255 in a mask of 0, 1, "
    "255.",
    "smooth": "added to numerator and denominator, >= 0: an empty mask predicted empty has loss 0.",
    "label_smoothing": "share in 0..1 of the target spread evenly over the classes.",
    "name": "the class in snake case by default.",
    "reduction": "as in `keras.losses.Loss`.",
    "dtype": "least precision of the maths, which never is below float32.",
}


class SegmentationLoss(keras.losses.Loss):
    """Base of the losses: reads the targets, reduces the values, adds and scales.

    A subclass stores every argument of `__init__` under its own name and has `call`, which returns
    what `reduction="none"` shows: (B, H, W), (B,) or a scalar.
    """

    def __init__(
        self,
        from_logits: bool = False,
        ignore_class: int | Sequence[int] | None = None,
        name: str | None = None,
        reduction: str | None = "sum_over_batch_size",
        dtype: Any = None,
    ):
        super().__init__(name=name or _snake_case(type(self).__name__), reduction=reduction)
        if dtype is not None:
            self._dtype_policy = keras.dtype_policies.get(dtype)
            self._dtype = self._dtype_policy.compute_dtype
        self.from_logits = from_logits
        self._ignored = _targets.ignored_classes(ignore_class)
        self.ignore_class = ignore_class if ignore_class is None else _plain(ignore_class)

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Returns the loss of (B, H, W, C) predictions, reduced."""
        with keras.name_scope(self.name):
            y_true, y_pred = _targets.standardize(y_true, y_pred, self._ignored, self.dtype)
            weights = _targets.pixel_weights(sample_weight, y_pred)
            values, divisor = self.call(y_true, y_pred, weights)
            if self.reduction in (None, "none"):
                return values
            total = ops.sum(values) if len(values.shape) < 2 else ops.sum(ops.sum(values, axis=-1))
            if self.reduction == "sum":
                return total
            return _mean_over_replicas(total / divisor)

    def call(self, y_true: Any, y_pred: Any, weights: Any = None) -> tuple[Any, Any]:
        """Returns the weighted values, and what their sum is divided by."""
        raise NotImplementedError

    def _mean_over_images(self, losses: Any, weights: Any) -> tuple[Any, Any]:
        """Returns the images' losses (B,) weighted by (B,), and their divisor."""
        count = ops.cast(ops.shape(losses)[0], losses.dtype)
        if weights is None:
            return losses, count
        weights = ops.broadcast_to(ops.reshape(weights, (-1,)), ops.shape(losses))
        if self.reduction == "mean_with_sample_weight":
            count = _nonzero(ops.sum(weights))
        return losses * weights, count

    def _only_image_weights(self, weights: Any, per_image: bool) -> None:
        if weights is not None and not (per_image and weights.shape[1] == 1 == weights.shape[2]):
            raise ValueError(
                f"`{type(self).__name__}` orders or matches pixels, which have no weights of their "
                f"own: `sample_weight` must be (B,) with `per_image=True`, received "
                f"{'pixel' if weights.shape[1] != 1 else 'image'} weights with "
                f"per_image={per_image}"
            )

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of `__init__`."""
        return {name: getattr(self, name) for name in _parameters(type(self))}

    def __repr__(self) -> str:
        changed = (
            f"{name}={getattr(self, name)!r}"
            for name, parameter in _parameters(type(self)).items()
            if name not in ("name", "dtype") and getattr(self, name) != parameter.default
        )
        return f"{type(self).__name__}({', '.join(changed)})"

    def __add__(self, other: Any) -> Compound:
        return Compound([self, other]) if isinstance(other, keras.losses.Loss) else NotImplemented

    def __radd__(self, other: Any) -> Any:
        if isinstance(other, Real) and other == 0:  # where `sum` begins
            return self
        return Compound([other, self]) if isinstance(other, keras.losses.Loss) else NotImplemented

    def __mul__(self, factor: Any) -> Compound:
        return Compound([self], [float(factor)]) if isinstance(factor, Real) else NotImplemented

    __rmul__ = __mul__


@keras.saving.register_keras_serializable(package="segzoo.losses")
class Compound(SegmentationLoss):
    """Weighted sum of losses, which is what `a + b`, `0.5 * a` and `sum([...])` make.

        Compound = sum_k weights_k losses_k

    Args:
        losses: `keras.losses.Loss` objects, segzoo's or not. A `Compound` among them is
            taken apart.
        weights: one finite number each, 1 by default.
        name: the parts' names joined by default.

    Attributes:
        parts: the losses, without their weights: `metrics=loss.parts` logs each.

    Returns:
        The sum of the parts, each reduced by itself; a part gets `sample_weight` as it came.

    Raises:
        ValueError: if there is no loss, something else than a loss, or not one weight each.

    Example:
        >>> from segzoo.losses import BinaryFocal, Dice
        >>> loss = Dice() + 0.5 * BinaryFocal()
        >>> loss
        Dice() + 0.5 * BinaryFocal()
        >>> [part.name for part in loss.parts]
        ['dice', 'binary_focal']
    """

    def __init__(
        self,
        losses: Iterable[keras.losses.Loss],
        weights: Sequence[float] | None = None,
        name: str | None = None,
    ):
        losses = list(losses)
        weights = [1.0] * len(losses) if weights is None else [float(w) for w in weights]
        if not losses or not all(isinstance(loss, keras.losses.Loss) for loss in losses):
            raise ValueError(
                f"`losses` must hold keras.losses.Loss objects, received losses={losses}"
            )
        if len(weights) != len(losses) or not all(abs(w) < float("inf") for w in weights):
            raise ValueError(
                f"`weights` must be one finite number for each of the {len(losses)} losses, "
                f"received weights={weights}"
            )
        self.parts: list[keras.losses.Loss] = []
        self.weights: list[float] = []
        for loss, weight in zip(losses, weights, strict=True):
            nested = type(loss) is Compound
            self.parts += loss.parts if nested else [loss]
            self.weights += [weight * w for w in loss.weights] if nested else [weight]
        super().__init__(name=name or "_plus_".join(part.name for part in self.parts))

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Returns the weighted sum of the parts."""
        terms = []
        for part, weight in zip(self.parts, self.weights, strict=True):
            fitting = sample_weight
            if fitting is not None and not isinstance(part, SegmentationLoss):
                fitting = ops.convert_to_tensor(fitting)
                if len(_targets.weights_shape(fitting)) == 1:  # Keras would take (B,) as columns
                    fitting = ops.reshape(fitting, (-1, 1, 1))
            terms.append(weight * part(y_true, y_pred, fitting))
        return sum(terms[1:], terms[0])

    def get_config(self) -> dict[str, Any]:
        """Returns the serialized parts, their weights and the name."""
        parts = [keras.saving.serialize_keras_object(part) for part in self.parts]
        return {"losses": parts, "weights": self.weights, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Compound:
        """Returns the loss of a `get_config`."""
        losses = [keras.saving.deserialize_keras_object(part) for part in config["losses"]]
        return cls(**{**config, "losses": losses})

    def __repr__(self) -> str:
        terms = (
            _repr(part) if weight == 1 else f"{weight:g} * {_repr(part)}"
            for part, weight in zip(self.parts, self.weights, strict=True)
        )
        return " + ".join(terms)


LossClass = TypeVar("LossClass", bound=type[SegmentationLoss])


def register(cls: LossClass) -> LossClass:
    """Registers a loss with Keras and documents the arguments that losses share."""
    own = cls.__doc__ or ""
    shared = "\n".join(
        f"        {name}: {_ARGUMENTS[name]}"
        for name in _parameters(cls)
        if f"        {name}:" not in own and name in _ARGUMENTS
    )
    cls.__doc__ = own.replace("        <shared>", shared)
    return keras.saving.register_keras_serializable(package="segzoo.losses")(cls)


def as_function(cls: LossClass) -> Callable[..., Any]:
    """Returns the loss as a function of `(y_true, y_pred)` and the arguments of the class."""

    def function(y_true: Any, y_pred: Any, *, sample_weight: Any = None, **arguments: Any) -> Any:
        return cls(**arguments)(y_true, y_pred, sample_weight)

    keyword = inspect.Parameter.KEYWORD_ONLY
    own = [p.replace(kind=keyword) for n, p in _parameters(cls).items() if n != "name"]
    signature = inspect.signature(function)
    data = list(signature.parameters.values())[:3]
    function.__signature__ = signature.replace(parameters=data + own)  # type: ignore[attr-defined]
    function.__name__ = function.__qualname__ = f"{_snake_case(cls.__name__)}_loss"
    function.__module__ = cls.__module__
    function.__doc__ = f"""Returns `{cls.__name__}(...)(y_true, y_pred, sample_weight)`.

    The arguments are those of `{cls.__name__}`.

    Example:
        >>> from keras import ops
        >>> from segzoo import losses
        >>> labels, scores = ops.array([[[0, 1]]]), ops.array([[[[0.9, 0.1], [0.4, 0.6]]]])
        >>> value = losses.{function.__name__}(labels, scores)
        >>> float(value) == float(losses.{cls.__name__}()(labels, scores))
        True
    """
    return keras.saving.register_keras_serializable(package="segzoo.losses")(function)


def at_least(name: str, value: float, least: float = 0.0, most: float = float("inf")) -> float:
    """Returns `value` if it is within the bounds, else raises ValueError."""
    if not least <= value <= most or value == float("inf"):
        bounds = f">= {least:g}" if most == float("inf") else f"from {least:g} to {most:g}"
        raise ValueError(f"`{name}` must be {bounds}, received {name}={value}")
    return value


def checked_class_weights(class_weights: Any) -> list[float] | None:
    """Returns the weights as a list, or raises ValueError."""
    if class_weights is None:
        return None
    weights = [float(w) for w in class_weights]
    if not all(0 <= w < float("inf") for w in weights) or not sum(weights) > 0:
        raise ValueError(
            "`class_weights` must be numbers >= 0 that do not sum to 0, "
            f"received class_weights={weights}"
        )
    return weights


def weights_of_classes(class_weights: list[float] | None, y_pred: Any) -> Any:
    """Returns the weights as a tensor (C,), or `None`."""
    if class_weights is None:
        return None
    classes = y_pred.shape[-1]
    if len(class_weights) != classes:
        raise ValueError(
            f"`class_weights` must have one weight for each of the {classes} class(es), "
            f"received class_weights={class_weights}"
        )
    return ops.convert_to_tensor(class_weights, dtype=y_pred.dtype)


def several_classes(loss: SegmentationLoss, y_pred: Any, instead: str) -> None:
    """Raises ValueError if `y_pred` has one class only."""
    if y_pred.shape[-1] == 1:
        raise ValueError(
            f"`{type(loss).__name__}` needs several exclusive classes, received y_pred of shape "
            f"{tuple(y_pred.shape)}; for one class use `{instead}`"
        )


class _Mean(keras.losses.Loss):
    def call(self, y_true: Any, y_pred: Any) -> Any:
        return y_pred


def _mean_over_replicas(value: Any) -> Any:
    """Lets Keras divide by the number of replicas, which it does for means of a batch."""
    value = ops.reshape(value, (1,))
    return _Mean(dtype=keras.backend.standardize_dtype(value.dtype))(value, value)


def _nonzero(x: Any) -> Any:
    return ops.where(x == 0, ops.ones_like(x), x)


def _parameters(cls: type) -> dict[str, inspect.Parameter]:
    """Returns the parameters of `__init__` but `self`."""
    parameters = inspect.signature(cls.__init__).parameters  # type: ignore[misc]
    return {name: parameter for name, parameter in parameters.items() if name != "self"}


def _repr(loss: keras.losses.Loss) -> str:
    return repr(loss) if isinstance(loss, SegmentationLoss) else f"{type(loss).__name__}()"


def _plain(value: Any) -> Any:
    return [int(v) for v in value] if isinstance(value, Iterable) else int(value)


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
