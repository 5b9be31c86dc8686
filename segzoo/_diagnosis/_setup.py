"""What there is to look at: the batch as arrays, and each output with what judges it."""

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from keras import ops

# Losses whose truth is no map of classes, but of distances or of anything.
_OF_NUMBERS = ("meansquared", "meanabsolute", "huber", "mse")
# Losses and metrics of Keras's own that read classes.
_OF_CLASSES = ("crossentropy", "accuracy", "iou", "dice", "tversky", "hinge")
# Of those, the ones whose classes exclude one another.
_EXCLUSIVE = ("categoricalcrossentropy", "categoricalfocalcrossentropy")
_KERAS_WORDS = ("accuracy", "acc", "crossentropy", "ce")


@dataclass(frozen=True)
class Judge:
    """A loss, a member of a sum of losses, or a metric.

    Attributes:
        source: what `compile` was given.
        role: the argument of `compile` it stood in.
        call: what scores a batch, None where that is left to Keras.
        member: whether it came with a sum that is made for overlapping classes, as `BCEDice` is.
    """

    source: Any
    role: str
    call: Any = None
    member: bool = False

    @property
    def title(self) -> str:
        """Its name in messages."""
        name = getattr(self.source, "name", None) or getattr(self.source, "__name__", None)
        word = self.source if isinstance(self.source, str) else self._kind
        return f"`{name or word}`"

    @property
    def _kind(self) -> str:
        return type(self.source).__name__

    @property
    def _word(self) -> str:
        """Its class or function, lower case without separators."""
        name = getattr(self.source, "__name__", self._kind)
        return str(self.source if isinstance(self.source, str) else name).lower().replace("_", "")

    @property
    def of_segzoo(self) -> bool:
        """Whether it is one of this library's."""
        return str(getattr(self.source, "__module__", "")).startswith("segzoo.")

    def setting(self, argument: str) -> Any:
        """The value of an argument: an attribute, or the default of a function's parameter."""
        found = getattr(self.source, argument, None)
        return _default(self.source, argument) if found is None else found

    @property
    def ignored(self) -> set[int]:
        """The values that it leaves out."""
        found = self.setting("ignore_class")
        return set() if found is None else {int(value) for value in np.ravel(found)}

    @property
    def reads_classes(self) -> bool:
        """Whether it is known to read a truth of classes."""
        known = self.of_segzoo or any(word in self._word for word in _OF_CLASSES)
        return known and not self.reads_numbers

    @property
    def reads_map(self) -> bool:
        """Whether it reads a map made of the mask, which stands behind the mask in `y`."""
        return getattr(self.source, "_reads_map", False)

    @property
    def reads_numbers(self) -> bool:
        """Whether its truth is of numbers that are no classes."""
        return self.reads_map or any(word in self._word for word in _OF_NUMBERS)

    @property
    def exclusive(self) -> bool | None:
        """Whether it takes one class at each pixel; None where that is not known."""
        multilabel = self.setting("multilabel")
        if multilabel is not None:
            return not multilabel
        return True if self._word.removeprefix("sparse") in _EXCLUSIVE else None

    @property
    def needs_several(self) -> bool:
        """Whether it is one of Keras's that is the same for every score of a single class."""
        return not self.of_segzoo and self._word.removeprefix("sparse") in _EXCLUSIVE

    @property
    def asks_multilabel(self) -> bool:
        """Whether `multilabel=True` was asked for, which some losses have by default."""
        usual = _default(type(self.source), "multilabel")
        asked = self.role != "loss" or not (usual or self.member)
        return self.setting("multilabel") is True and asked


def _default(function: Any, argument: str) -> Any:
    try:
        default = inspect.signature(function).parameters[argument].default
    except (TypeError, ValueError, KeyError):
        return None
    return None if default is inspect.Parameter.empty else default


@dataclass(frozen=True)
class Output:
    """One output of the model with its truth and its judges.

    Attributes:
        name: as `compile` knows it.
        shape: of the tensor, with None where it is open.
        activation: "sigmoid", "softmax", "linear", another name, or None where it is unknown.
        truth: `y` as an array, with the maps behind the mask that a sum of losses reads; None
            where there is none.
        judges: the losses, sums taken apart, and the metrics.
        losses: as they were given.
        weights: of the samples, None without.
        scores: what the model gives on the batch, None before it was run.
    """

    name: str
    shape: tuple[int | None, ...]
    activation: str | None
    truth: np.ndarray | None
    judges: tuple[Judge, ...] = ()
    losses: tuple[Judge, ...] = ()
    weights: np.ndarray | None = None
    scores: Any = field(default=None, compare=False)

    @property
    def is_map(self) -> bool:
        """Whether it is a map of class scores, and its truth one of classes."""
        losses = [judge for judge in self.judges if judge.role == "loss"]
        maps_alone = bool(losses) and all(judge.reads_map for judge in losses)
        if len(self.shape) != 4 or self.truth is None or maps_alone:
            return False
        if any(judge.reads_classes for judge in self.judges):
            return True
        numbers = any(judge.reads_numbers for judge in self.judges)
        return self.activation in ("sigmoid", "softmax") and not numbers

    @property
    def mask(self) -> np.ndarray:
        """The truth of classes, without the maps behind it; of an output with a truth."""
        truth = self.truth
        assert truth is not None
        maps = sum(judge.reads_map for judge in self.judges if judge.role == "loss")
        if not maps or truth.ndim != 4:
            return truth
        channels = truth.shape[-1] - maps * self.classes
        return truth[..., :channels] if channels in (1, self.classes) else truth

    @property
    def classes(self) -> int:
        """The number of its channels."""
        return self.shape[-1] or 1

    @property
    def ignored(self) -> set[int]:
        """The values that one of the judges leaves out."""
        return set().union(*(judge.ignored for judge in self.judges))

    @property
    def overlaps(self) -> bool:
        """Whether several classes may hold at one pixel."""
        if self.classes == 1 or self.activation == "softmax":
            return False
        return self.activation == "sigmoid" or any(j.exclusive is False for j in self.judges)


def as_array(argument: str, value: Any) -> np.ndarray:
    """A batch as a NumPy array."""
    try:
        array = np.asarray(value if isinstance(value, np.ndarray) else ops.convert_to_numpy(value))
    except Exception:  # the array of what is none
        array = np.asarray(None)
    if array.ndim == 0:
        raise ValueError(
            f"`{argument}` must be an array, received {type(value)}; of a data set give one batch, "
            "as in `x, y = next(iter(dataset))`"
        )
    if array.dtype.kind not in "fiub" and "float" not in array.dtype.name:
        raise ValueError(f"`{argument}` must be numeric, received dtype {array.dtype}")
    return array


def images_of(model: keras.Model, x: Any) -> list[np.ndarray]:
    """One array for each input of the model."""
    names = [str(tensor.name) for tensor in model.inputs]
    if isinstance(x, dict) or len(names) > 1:
        x = list(_by_name("x", x, names).values())
        missing = [name for name, value in zip(names, x, strict=True) if value is None]
        if missing:
            raise ValueError(
                f"`x` has nothing for the inputs {missing}; the model's inputs are {names}"
            )
        return [as_array("x", value) for value in x]
    single = isinstance(x, list | tuple) and len(x) == 1
    return [as_array("x", x[0] if single else x)]


def outputs_of(model: keras.Model, y: Any, sample_weight: Any) -> list[Output]:
    """The outputs of the model, each with what `compile` gave it."""
    tensors = _tensors(model)
    names = list(tensors)
    truths = _by_name("y", y, names)
    weights = _by_name("sample_weight", sample_weight, names, shared=True)
    given = setup_of(model)
    losses = _by_name("loss", given.get("loss"), names, shared=True)
    metrics: dict[str, list[Judge]] = {name: [] for name in names}
    for role in ("metrics", "weighted_metrics"):
        for name, found in _by_name(role, given.get(role), names, shared=True).items():
            metrics[name] += _metrics(found, role)
    made = []
    for name, tensor in tensors.items():
        whole = tuple(_losses(losses[name]))
        judges = [part for loss in whole for part in _parts(loss)] + metrics[name]
        if truths[name] is None and judges:
            raise ValueError(f"`y` has nothing for the output {name!r}, which has a loss or metric")
        made.append(
            Output(
                name,
                tuple(tensor.shape),
                activation_of(tensor),
                None if truths[name] is None else as_array("y", truths[name]),
                tuple(judges),
                whole,
                None if weights[name] is None else as_array("sample_weight", weights[name]),
            )
        )
    return made


def setup_of(model: keras.Model) -> dict[str, Any]:
    """What `compile` was given, by argument."""
    given = getattr(getattr(model, "_compile_config", None), "config", None)
    return given or {"loss": model.loss}


def by_output(model: keras.Model, scores: Any) -> dict[str, Any]:
    """What a call of the model gave, by the names of the outputs."""
    if isinstance(scores, dict):
        return scores
    several = isinstance(scores, list | tuple)
    return dict(zip(_tensors(model), scores if several else [scores], strict=True))


def _tensors(model: keras.Model) -> dict[str, Any]:
    """The output tensors under the names by which Keras asks for losses."""
    if isinstance(model.output, dict):
        return dict(model.output)
    return dict(zip(model.output_names, model.outputs, strict=True))


def _by_name(argument: str, value: Any, names: Sequence[str], shared: bool = False) -> dict:
    """What belongs to each input or output, from the forms that Keras takes."""
    if isinstance(value, dict):
        unknown = sorted(set(value) - set(names))
        if unknown:
            raise ValueError(f"`{argument}` names {unknown}, the model has {list(names)}")
        return {name: value.get(name) for name in names}
    if len(names) == 1:
        single = isinstance(value, list | tuple) and len(value) == 1 and argument in ("y", "loss")
        return {names[0]: value[0] if single else value}
    if isinstance(value, list | tuple) and len(value) == len(names):
        return dict(zip(names, value, strict=True))
    if shared and (value is None or not isinstance(value, list | tuple)):
        return dict.fromkeys(names, value)
    which = "input" if argument == "x" else "output"
    same = f"; the same truth for all is `[y] * {len(names)}`" if argument == "y" else ""
    raise ValueError(
        f"`{argument}` must be a list of {len(names)}, one for each {which} of the model "
        f"({', '.join(names)}){same}"
    )


def _losses(loss: Any) -> Iterator[Judge]:
    if loss is None:
        return
    if isinstance(loss, type) or (isinstance(loss, str) and loss.lower() not in _KERAS_WORDS):
        loss = keras.losses.get(loss)
    yield Judge(loss, "loss", loss if isinstance(loss, keras.losses.Loss) else None)


def _parts(loss: Judge) -> Iterator[Judge]:
    """A loss, or the members of a sum."""
    usual = _default(type(loss.source), "multilabel") is True
    for part in getattr(loss.source, "parts", None) or [loss.source]:
        yield Judge(part, "loss", member=usual)


def _metrics(given: Any, role: str) -> list[Judge]:
    """The metrics, of which a copy scores the batch: those in use keep their counts."""
    if given is None:
        return []
    if isinstance(given, list | tuple):
        return [judge for entry in given for judge in _metrics(entry, role)]
    if isinstance(given, str):
        if given.lower() in _KERAS_WORDS:  # what Keras takes for it depends on the shapes
            return [Judge(given, role)]
        given = keras.metrics.get(given)
    if isinstance(given, type):  # `metrics=[IoU]`, of which Keras makes one
        given = given()
    try:
        if isinstance(given, keras.metrics.Metric):
            return [Judge(given, role, type(given).from_config(given.get_config()))]
        name = getattr(given, "name", None) or getattr(given, "__name__", None)
        return [Judge(given, role, keras.metrics.MeanMetricWrapper(given, name))]
    except Exception:  # a user's own, which cannot be copied
        return [Judge(given, role)]


def activation_of(tensor: Any) -> str | None:
    """The name of the activation that made an output."""
    operation, _, place = tensor._keras_history
    if isinstance(operation, keras.Model):  # a model in the model
        inner = getattr(operation, "outputs", None)
        return activation_of(inner[place]) if inner else None
    if type(operation).__name__ in ("Sigmoid", "Softmax"):
        return type(operation).__name__.lower()
    return getattr(getattr(operation, "activation", None), "__name__", None)
