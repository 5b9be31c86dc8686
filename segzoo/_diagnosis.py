"""One batch, the model and what `compile` was given, looked at together before a long training.

`check_batch` collects everything that is wrong with a batch, where training would stop at the first
fault, or not stop at all. Each `_check_*` returns the sentences of one kind of fault.
"""

import collections
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from segzoo.layers import ImageNormalization

_SHOWN = 6  # values that a sentence lists


@dataclass(frozen=True)
class _Output:
    """One output of the model with its truth, losses and metrics."""

    name: str
    shape: tuple[int | None, ...]
    activation: str | None  # "sigmoid", "softmax", "linear", or None where it cannot be told
    given: np.ndarray  # the `y` of this output, with the maps behind the mask that a sum reads
    losses: tuple[Any, ...]
    metrics: tuple[Any, ...]
    loss: Any  # their sum, or the only one

    @property
    def classes(self) -> int:
        return self.shape[-1] or 1

    @property
    def maps(self) -> int:
        """How many of the losses read a map that is made of the mask."""
        return sum(getattr(loss, "_reads_map", False) for loss in self.losses)

    @property
    def only_maps(self) -> bool:
        """Whether there is no mask in `y`."""
        return self.maps == len(self.losses) > 0

    @property
    def truth(self) -> np.ndarray:
        """The mask, without the maps behind it."""
        mask = self.given.shape[-1] - self.maps * self.classes
        joined = self.maps and self.given.ndim == 4 and mask in (1, self.classes)
        return self.given[..., :mask] if joined else self.given

    @property
    def judges(self) -> tuple[Any, ...]:
        return (*self.losses, *self.metrics)

    @property
    def ignored(self) -> set[int]:
        """The values that every judge with a say about it leaves out."""
        return set().union(*(_ignored(judge) for judge in self.judges)) if self.judges else set()

    @property
    def multilabel(self) -> bool:
        """Whether several classes may hold at one pixel."""
        several = self.classes > 1
        return several and (
            self.activation == "sigmoid"
            or any(getattr(judge, "multilabel", False) for judge in self.judges)
        )


def check_batch(model: keras.Model, x: Any, y: Any, sample_weight: Any = None) -> str:
    """Look at one batch before a long training, and say everything that is wrong with it.

    Checks the image's range, size and channels against the model; the labels against the number of
    classes and against the `ignore_class` of losses and metrics; the output's activation against
    their `from_logits` and `multilabel`; the weights' shapes; and the keys of the logs. The model
    is run on the batch once; nothing is trained.

    Args:
        model: a compiled `keras.Model` from images (B, H, W, C) to class scores.
        x: one batch of images, as `fit` would get it.
        y: its truth: one array, or a list or mapping with one for each output.
        sample_weight: None, or the weights that `fit` would get: (B,), (B, H, W) or (B, H, W, 1),
            or one for each output. Defaults to None.

    Returns:
        A summary of a few lines: shapes, ranges, and the share of every class.

    Raises:
        ValueError: if anything is wrong; the message lists all that was found.

    Example:
        >>> import numpy as np
        >>> import segzoo
        >>> model = segzoo.models.UNet(None, 2, (32, 32, 1), decoder_filters=(4, 4))
        >>> model.compile("adam", segzoo.losses.Dice())
        >>> images = np.linspace(0, 1, 2048).reshape(2, 32, 32, 1)
        >>> masks = np.zeros((2, 32, 32), "uint8")
        >>> masks[:, :8] = 1
        >>> print(segzoo.check_batch(model, images, masks))
        images (2, 32, 32, 1) float64, values 0 to 1
        output: truth (2, 32, 32) uint8; share of class 0: 75 %, class 1: 25 %
        >>> segzoo.check_batch(model, images, 255 * masks)
        Traceback (most recent call last):
        ValueError: 1 fault in this batch:
        - `y` has the value 255, which is no class of 0..1 and is not ignored: losses and metrics \
take `ignore_class=255`, or replace the values by class numbers
    """
    if not isinstance(model, keras.Model) or not hasattr(model, "outputs"):
        raise ValueError(f"`model` must be a functional keras.Model, received {type(model)}")
    if not model.compiled:
        raise ValueError("`model` must be compiled: call model.compile(optimizer, loss, ...) first")
    image = _array("x", x)
    faults = _check_image(model, image)
    outputs = _outputs(model, y)
    for output in outputs:
        found = [*_check_truth(output, image), *_check_activation(output)]
        faults += [f"{output.name}: {fault}" if len(outputs) > 1 else fault for fault in found]
    faults += _check_weights(sample_weight, outputs)
    if not faults:
        faults += _check_calls(model, image, outputs)
    if faults:
        count = f"{len(faults)} fault{'s' if len(faults) > 1 else ''} in this batch:"
        raise ValueError("\n- ".join([count, *faults]))
    return "\n".join([_describe(image), *map(_describe_truth, outputs)])


# What there is to look at


def _array(argument: str, value: Any) -> np.ndarray:
    """A batch as a NumPy array."""
    try:
        array = np.asarray(value if isinstance(value, np.ndarray) else ops.convert_to_numpy(value))
    except Exception as error:
        raise ValueError(f"`{argument}` must be an array, received {type(value)}") from error
    if array.dtype.kind not in "fiub" and "float" not in array.dtype.name:
        raise ValueError(f"`{argument}` must be numeric, received dtype {array.dtype}")
    return array


def _outputs(model: keras.Model, y: Any) -> list[_Output]:
    """The outputs of the model, each with what `compile` gave it."""
    names = list(model.output_names)
    truths = _by_output("y", y, names)
    losses = _by_output("loss", model.loss, names, shared=True)
    config = model.get_compile_config() or {}
    metrics: dict[str, list[Any]] = {name: [] for name in names}
    for key in ("metrics", "weighted_metrics"):
        for name, found in _by_output(key, config.get(key), names, shared=True).items():
            metrics[name] += _restored(found)
    return [
        _Output(
            name,
            tuple(tensor.shape),
            _activation(tensor),
            _array("y", truths[name]),
            tuple(_parts(losses[name])),
            tuple(metrics[name]),
            losses[name],
        )
        for name, tensor in zip(names, model.outputs, strict=True)
    ]


def _by_output(argument: str, value: Any, names: Sequence[str], shared: bool = False) -> dict:
    """What belongs to each output, from the forms that Keras takes."""
    is_config = isinstance(value, dict) and "class_name" in value
    if isinstance(value, dict) and not is_config:
        unknown = sorted(set(value) - set(names))
        if unknown:
            raise ValueError(f"`{argument}` names the outputs {unknown}, the model has {names}")
        return {name: value.get(name) for name in names}
    if len(names) == 1:
        single = isinstance(value, list | tuple) and len(value) == 1 and argument in ("y", "loss")
        return {names[0]: value[0] if single else value}
    if isinstance(value, list | tuple) and len(value) == len(names):
        return dict(zip(names, value, strict=True))
    if shared and (value is None or not isinstance(value, list | tuple)):
        return dict.fromkeys(names, value)
    raise ValueError(
        f"`{argument}` must be a list of {len(names)}, one for each output of the model "
        f"({', '.join(names)}); the same truth for all is `[y] * {len(names)}`"
    )


def _restored(config: Any) -> list[Any]:
    """Metrics made anew from what `compile` keeps of them; those that cannot be are left out."""
    if config is None:
        return []
    if isinstance(config, list | tuple):
        return [metric for entry in config for metric in _restored(entry)]
    try:
        metric = keras.saving.deserialize_keras_object(config)
    except Exception:  # a user's own function or class, about which nothing is known
        return []
    return [keras.metrics.get(metric) if isinstance(metric, str) else metric]


def _parts(loss: Any) -> Iterator[Any]:
    """A loss, or the members of a sum."""
    if loss is None:
        return
    for part in getattr(loss, "parts", None) or [loss]:
        yield keras.losses.get(part) if isinstance(part, str) else part


def _activation(tensor: Any) -> str | None:
    """The name of the activation that made an output."""
    operation = tensor._keras_history.operation
    activation = getattr(operation, "activation", None)
    return getattr(activation, "__name__", None)


def _ignored(judge: Any) -> set[int]:
    ignored = getattr(judge, "ignore_class", None)
    if ignored is None:
        return set()
    return {int(value) for value in np.ravel(ignored)}


def _title(judge: Any) -> str:
    return str(getattr(judge, "name", None) or getattr(judge, "__name__", type(judge).__name__))


# What can be wrong


def _check_image(model: keras.Model, x: np.ndarray) -> list[str]:
    shape = model.inputs[0].shape
    height, width, channels = shape[1:]
    if x.ndim != 4:
        return [f"`x` must be (B, H, W, {channels}), received shape {x.shape}"]
    faults = []
    if x.size == 0:
        return [f"`x` is empty, received shape {x.shape}"]
    if x.shape[-1] != channels:
        first = x.shape[1] == channels
        hint = "; it is laid out (B, C, H, W): move its channels last" if first else ""
        faults.append(f"`x` has {x.shape[-1]} channels, the model takes {channels}{hint}")
    fixed = [(got, due) for got, due in zip(x.shape[1:3], (height, width), strict=True) if due]
    if any(got != due for got, due in fixed):
        faults.append(f"`x` is {x.shape[1]} x {x.shape[2]}, the model takes {height} x {width}")
    elif min(x.shape[1:3]) < 32:
        faults.append(f"`x` is {x.shape[1]} x {x.shape[2]}, at least 32 x 32 is needed")
    values = x.astype("float64")
    if not np.isfinite(values).all():
        return [*faults, "`x` has NaN or infinite values"]
    low, high = values.min(), values.max()
    if _normalizes_bytes(model) and (high <= 1 or high > 255.5 or low < 0):
        faults.append(
            f"`x` has values {low:g} to {high:g}, but the model normalizes 0..255 by itself: give "
            "the image in 0..255, or build the model with `preprocessing=False`"
        )
    return faults


def _normalizes_bytes(model: keras.Model) -> bool:
    """Whether a backbone of the model normalizes RGB in 0..255."""
    return any(
        _normalizes_bytes(layer)
        if isinstance(layer, keras.Model)
        else isinstance(layer, ImageNormalization)
        for layer in model.layers
    )


def _check_truth(output: _Output, image: np.ndarray) -> list[str]:
    y, classes = output.truth, output.classes
    if output.only_maps:
        return []  # which their losses look at
    size = image.shape[1:3] if image.ndim == 4 else None
    if y.ndim == 4 and size and y.shape[1:3] != size and y.shape[2:] == size:
        return [f"`y` is laid out (B, C, H, W), received shape {y.shape}: move its channels last"]
    if y.ndim not in (3, 4) or (size and y.shape[1:3] != size) or len(y) != len(image):
        return [
            f"`y` must be (B, H, W), (B, H, W, 1) or (B, H, W, {classes}) for images of shape "
            f"{image.shape}, received shape {y.shape}"
        ]
    values = y.astype("float64")
    if not np.isfinite(values).all():
        return ["`y` has NaN or infinite values"]
    if y.ndim == 4 and y.shape[-1] not in (1, classes):
        picture = "; an RGB picture of a mask? Replace its colors by class numbers"
        return [
            f"`y` has {y.shape[-1]} channels, the model {classes} "
            f"class{'es' if classes > 1 else ''}{picture if y.shape[-1] in (3, 4) else ''}"
        ]
    if y.ndim == 4 and y.shape[-1] == classes > 1:
        return _check_dense(output, values)
    return _check_labels(output, values)


def _check_labels(output: _Output, y: np.ndarray) -> list[str]:
    classes = max(output.classes, 2)
    # Up to its rounding, as losses and metrics read it.
    whole = np.abs(y - np.round(y)) <= 1e-3
    if output.classes == 1 and y.min() >= 0 and y.max() <= 1:
        return []  # a soft mask
    if not whole.all():
        found = np.unique(y[~whole])[:_SHOWN]
        return [
            f"`y` has labels that are no whole numbers, such as {_listed(found)}: was it resized "
            "with bilinear interpolation, or divided by 255? Labels need the nearest neighbor"
        ]
    present = np.unique(np.round(y)).astype("int64")
    wrong = [int(v) for v in present if not 0 <= v < classes and v not in output.ignored]
    if not wrong:
        return []
    values = "the value" if len(wrong) == 1 else "the values"
    which = "is" if len(wrong) == 1 else "are"
    ignore = wrong[0] if len(wrong) == 1 else tuple(wrong[:_SHOWN])
    return [
        f"`y` has {values} {_listed(wrong[:_SHOWN])}, which {which} no class of 0..{classes - 1} "
        f"and {which} not ignored: losses and metrics take `ignore_class={ignore}`, or replace the "
        "values by class numbers"
    ]


def _check_dense(output: _Output, y: np.ndarray) -> list[str]:
    if y.min() < 0 or y.max() > 1:
        found = np.unique(y[(y < 0) | (y > 1)])[:_SHOWN]
        hint = "; an RGB picture of a mask? Replace its colors by class numbers"
        return [
            f"`y` must be in 0..1 where it has one channel for each class, received values such as "
            f"{_listed(found)}{hint if y.shape[-1] == 3 else ''}"
        ]
    if output.multilabel:
        return []
    faults, total = [], y.sum(axis=-1)
    if (total > 1 + 1e-3).any():
        share = 100 * (total > 1 + 1e-3).mean()
        faults.append(
            f"`y` has several classes at {share:.3g} % of the pixels, but the model's classes "
            "exclude one another: overlapping classes need activation='sigmoid' and "
            "`multilabel=True` in losses and metrics"
        )
    if (total == 0).any() and not output.ignored:
        share = 100 * (total == 0).mean()
        faults.append(
            f"`y` has no class at {share:.3g} % of the pixels, where every prediction counts as "
            "wrong: give `ignore_class` to leave them out, or a class of their own"
        )
    return faults


def _check_activation(output: _Output) -> list[str]:
    faults, made = [], output.activation
    for judge in output.judges:
        logits = getattr(judge, "from_logits", None)
        multilabel = getattr(judge, "multilabel", None)
        who = f"`{_title(judge)}`"
        if logits is False and made == "linear":
            faults.append(
                f"the model gives logits (activation=None), but {who} takes probabilities: give it "
                "`from_logits=True`"
            )
        if logits and made in ("sigmoid", "softmax"):
            faults.append(
                f"the model ends in a {made}, but {who} has `from_logits=True`: leave it out, or "
                "build the model with activation=None"
            )
        if multilabel and made == "softmax":
            faults.append(
                f"the model ends in a softmax, whose classes exclude one another, but {who} has "
                "`multilabel=True`: build the model with activation='sigmoid'"
            )
        if multilabel is False and made == "sigmoid" and output.classes > 1:
            faults.append(
                f"the model ends in a sigmoid for each of {output.classes} classes, but {who} "
                "takes them as exclusive: give it `multilabel=True`"
            )
    return faults


def _check_weights(sample_weight: Any, outputs: Sequence[_Output]) -> list[str]:
    if sample_weight is None:
        return []
    given = _by_output("sample_weight", sample_weight, [o.name for o in outputs], shared=True)
    faults = []
    for output in outputs:
        if given[output.name] is None:
            continue
        weights, pixels = _array("sample_weight", given[output.name]), output.truth.shape[:3]
        if weights.shape not in (pixels[:1], pixels, (*pixels, 1)):
            faults.append(
                f"`sample_weight` must be {pixels[:1]}, {pixels} or {(*pixels, 1)}, received shape "
                f"{weights.shape}"
            )
        elif not np.isfinite(weights.astype("float64")).all() or weights.min() < 0:
            faults.append("`sample_weight` has NaN, infinite or negative values")
    return faults


def _check_calls(model: keras.Model, x: np.ndarray, outputs: Sequence[_Output]) -> list[str]:
    """Run the model, every loss and every metric once; and compare the keys of the logs."""
    scores = model(x, training=False)
    scores = list(scores) if isinstance(scores, list | tuple) else [scores]
    faults: list[str] = []
    keys: collections.Counter[str] = collections.Counter()
    for output, predicted in zip(outputs, scores, strict=True):
        if not np.isfinite(ops.convert_to_numpy(predicted)).all():
            faults.append("the model's output has NaN or infinite values")
            continue
        # Parts that share one truth are called one by one, for a sentence each.
        losses = (output.loss,) if output.maps else output.losses
        for judge in (*losses, *output.metrics):
            try:
                value = judge(output.given, predicted)
            except Exception as error:
                faults.append(f"`{_title(judge)}`: {error}")
                continue
            if isinstance(judge, keras.metrics.Metric) and isinstance(value, dict):
                keys.update(value.keys())
    doubled = [key for key, count in keys.items() if count > 1]
    if doubled:
        faults.append(
            f"two metrics write the keys {_listed(doubled[:_SHOWN])} of the logs, where one "
            "overwrites the other: give each a `name` of its own"
        )
    return faults


# The summary


def _listed(values: Any) -> str:
    return ", ".join(f"{v:g}" if isinstance(v, float | np.floating) else str(v) for v in values)


def _describe(x: np.ndarray) -> str:
    low, high = float(x.min()), float(x.max())
    return f"images {x.shape} {x.dtype}, values {low:.3g} to {high:.3g}"


def _describe_truth(output: _Output) -> str:
    y, classes = output.truth, output.classes
    head = f"{output.name}: truth {y.shape} {y.dtype}"
    if output.only_maps:
        return head
    if y.ndim == 4 and y.shape[-1] == classes > 1:
        shares = y.astype("float64").mean(axis=(0, 1, 2))
    else:
        counted = ~np.isin(np.round(y), sorted(output.ignored))
        labels = np.round(y[counted])
        shares = np.array([(labels == k).mean() for k in range(max(classes, 2))])
    shown = [f"class {k}: {100 * share:.3g} %" for k, share in enumerate(shares) if share]
    never = [str(k) for k, share in enumerate(shares) if not share]
    parts = [f"share of {', '.join(shown[:10])}{', ...' if len(shown) > 10 else ''}"]
    if never:
        parts.append(f"without a pixel in this batch: {', '.join(never[:10])}")
    return "; ".join([head, *parts])
