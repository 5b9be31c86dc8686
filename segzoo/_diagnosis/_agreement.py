"""Whether model, losses, metrics and weights agree, in what they say and when they are called."""

import collections
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from segzoo._diagnosis._setup import Judge, Output, setup_of
from segzoo._diagnosis._truth import listed

# Of Keras's metrics of classes, those that take scores.
_TAKE_SCORES = (
    keras.metrics.BinaryIoU,
    keras.metrics.OneHotIoU,
    keras.metrics.OneHotMeanIoU,
)


def setup_faults(model: keras.Model) -> list[str]:
    """Arguments of `compile` that stand in each other's place."""
    weights = setup_of(model).get("loss_weights")
    entries = keras.tree.flatten(weights)
    if all(isinstance(entry, int | float | None) for entry in entries):
        return []
    return [
        f"`loss_weights` must be numbers, received {weights!r}: the third argument of `compile` is "
        "`loss_weights` in Keras 3, so write `metrics=`"
    ]


def activation_faults(output: Output) -> list[str]:
    """The output's activation against `from_logits` and `multilabel`."""
    if len(output.shape) != 4:
        return []
    faults, made = [], _made(output)
    for judge in output.judges:
        logits, who = judge.setting("from_logits"), judge.title
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
        if judge.asks_multilabel and made == "softmax":
            faults.append(
                f"the model ends in a softmax, whose classes exclude one another, but {who} has "
                "`multilabel=True`: build the model with activation='sigmoid'"
            )
        if judge.exclusive and made == "sigmoid" and output.classes > 1:
            faults.append(
                f"the model ends in a sigmoid for each of {output.classes} classes, but {who} "
                "takes them as exclusive: give it `multilabel=True`, or take one for overlapping "
                "classes"
            )
        if judge.needs_several and output.classes == 1:
            faults.append(
                f"{who} compares several classes, and the model has one: take "
                "`segzoo.losses.BinaryCrossentropy()`"
            )
        metric = judge.source
        cuts = isinstance(metric, keras.metrics.IoU) and not isinstance(metric, _TAKE_SCORES)
        if cuts and getattr(metric, "sparse_y_pred", True):
            faults.append(
                f"{who} of Keras takes class numbers and cuts scores to integers: take "
                "`segzoo.metrics.IoU()`"
            )
    return faults


def weight_faults(outputs: Sequence[Output]) -> list[str]:
    """The shapes and values of `sample_weight`, and who can use them."""
    faults: list[str] = []
    for output in outputs:
        weights, truth = output.weights, output.truth
        if weights is None or truth is None:
            continue
        pixels = truth.shape[:3] if len(output.shape) == 4 else truth.shape[:1]
        accepted = (pixels[:1], pixels, (*pixels, 1)) if len(pixels) == 3 else (pixels,)
        if weights.shape not in accepted:
            shapes = " or ".join(map(str, accepted))
            faults.append(f"`sample_weight` must be {shapes}, received shape {weights.shape}")
        elif not np.isfinite(weights.astype("float64")).all() or weights.min() < 0:
            faults.append("`sample_weight` has NaN, infinite or negative values")
        for judge in output.judges:
            if judge.role == "weighted_metrics" and _gives_one_number(judge.source):
                faults.append(
                    f"{judge.title} cannot stand in `weighted_metrics`: Keras multiplies what a "
                    "function gives for each pixel by the weights, and it gives one number. Take a "
                    "metric class, a pixel loss with reduction='none', or `metrics`"
                )
    return faults


def call_faults(model: keras.Model, x: Any, y: Any, weights: Any, outputs: Sequence[Output]):
    """Every loss and metric called once; and the keys of the logs."""
    faults: list[str] = []
    for output in outputs:
        scores = ops.convert_to_numpy(output.scores)
        if not np.isfinite(scores.astype("float64")).all():
            faults.append(f"the model's output {output.name!r} has NaN or infinite values")
    keys: list[str] = []
    for output in [] if faults else outputs:
        before = f"{output.name}: " if len(outputs) > 1 else ""
        for judge in (*output.losses, *(j for j in output.judges if j.role != "loss")):
            if judge.call is None or output.truth is None:
                continue
            weighted = judge.role != "metrics"
            try:
                value = judge.call(
                    output.truth,
                    output.scores,
                    sample_weight=output.weights if weighted else None,
                )
            except Exception as error:
                faults.append(f"{before}{judge.title}: {shortened(error)}")
                continue
            if judge.role == "loss" and not np.isfinite(ops.convert_to_numpy(value)).all():
                faults.append(f"{before}{judge.title} is NaN or infinite on this batch")
            prefix = f"{output.name}_" if len(outputs) > 1 else ""
            if judge.role != "loss":
                keys += _keys(judge, value, prefix, keys)
    doubled = [key for key, count in collections.Counter(keys).items() if count > 1]
    if doubled:
        faults.append(
            f"two metrics write the keys {listed(doubled[:6])} of the logs, where one overwrites "
            "the other: give each a `name` of its own"
        )
    return faults or _loss_faults(model, x, y, weights)


def shortened(error: Exception) -> str:
    """What an error says, without the whole batch that some libraries print."""
    text = str(error)
    return text if len(text) <= 600 else f"{text[:600]} ..."


def _made(output: Output) -> str | None:
    """The activation; "linear" too where the scores cannot be probabilities."""
    if output.activation is None and output.scores is not None:
        scores = ops.convert_to_numpy(output.scores)
        return "linear" if scores.min() < 0 or scores.max() > 1 + 1e-3 else None
    return output.activation


def _gives_one_number(source: Any) -> bool:
    """Whether a function, or a loss in place of one, averages over the pixels itself."""
    if isinstance(source, keras.losses.Loss):
        return source.reduction not in (None, "none")
    return str(getattr(source, "__module__", "")).startswith("segzoo.") and not isinstance(
        source, keras.metrics.Metric
    )


def _keys(judge: Judge, value: Any, prefix: str, taken: list[str]) -> list[str]:
    """The keys that Keras writes for a metric: those of a mapping as they are, others numbered."""
    if isinstance(value, dict):
        return list(value)
    name = f"{prefix}{judge.call.name}"
    return [] if name in taken else [name]


def _loss_faults(model: keras.Model, x: Any, y: Any, weights: Any) -> list[str]:
    """What Keras itself says of the whole loss, its weights and the forms of truth and weights."""
    if type(model).compute_loss is not keras.Model.compute_loss or model.loss is None:
        return []
    try:
        scores = model(x, training=False)
        model.compute_loss(x=x, y=y, y_pred=scores, sample_weight=weights, training=False)
    except Exception as error:
        return [f"the loss of `compile`: {shortened(error)}"]
    finally:
        model.reset_metrics()
    return []
