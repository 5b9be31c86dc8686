"""Test-time augmentation as a model: the mean over flipped, turned and scaled images."""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import keras
from keras import ops

from segzoo._arguments import flag, is_number
from segzoo.layers._arguments import items
from segzoo.layers.resize import ResizeLike, resize

# The eight symmetries of a square, as numpy.rot90 and numpy.flip name them:
# (exchange rows and columns first, then reverse the rows, reverse the columns).
SYMMETRIES = {
    "identity": (False, False, False),
    "hflip": (False, False, True),
    "vflip": (False, True, False),
    "rot90": (True, True, False),
    "rot180": (False, True, True),
    "rot270": (True, False, True),
    "transpose": (True, False, False),
    "antitranspose": (True, True, True),
}
INVERSES = {**{name: name for name in SYMMETRIES}, "rot90": "rot270", "rot270": "rot90"}
GROUPS = {"flips": ("identity", "hflip", "vflip", "rot180"), "d4": tuple(SYMMETRIES)}
AVERAGES = ("mean", "geometric")
TINY = 1.1754944e-38  # the smallest normal float32


def test_time_augmentation(
    model: keras.Model,
    *,
    transforms: str | Sequence[str] = "flips",
    scales: Sequence[float] = (1.0,),
    average: str = "mean",
    spread: bool = False,
) -> keras.Model:
    """Build a model that averages another one over transformed images.

        mean       y = 1/n sum_k turn_back_k(model(transform_k(x)))
        geometric  y = exp(1/n sum_k log turn_back_k(model(transform_k(x)))), over exclusive
                   classes divided by its sum

    Every output is transformed back before it is averaged. The model runs once for each scale and
    transform, one after the other. The result is a model like any other, with the same weights: it
    can be saved, exported and given to `predict_tiles`.

    Args:
        model: a `keras.Model` from one image (B, H, W, C) to scores (B, H, W, classes), or to
            several outputs of that kind, each of which is averaged.
        transforms: `"flips"` (identity, hflip, vflip, rot180), `"d4"` (all eight), or a list of
            `"identity"`, `"hflip"` (left and right exchanged), `"vflip"`, `"rot90"`, `"rot180"`,
            `"rot270"` (counterclockwise, as `numpy.rot90`), `"transpose"`, `"antitranspose"`. A
            list is taken as it is, so name `"identity"` if it is to count. Defaults to
            `"flips"`.
        scales: factors > 0 of height and width, with each of which every transform runs. The image
            is resized bilinearly, and the scores are resized back. Factors other than 1 need a
            model of open size. Defaults to (1.0,).
        average: `"mean"` or `"geometric"`. The geometric mean needs probabilities: a model whose
            output ends in a softmax (exclusive classes) or a sigmoid. Defaults to `"mean"`.
        spread: bool, whether to add the variance of the scores over the n runs (the sum of squares
            divided by n) as a second output, after the model's own. Defaults to False.

    Returns:
        A `keras.Model` with the same input. Its output is that of the model, averaged; with several
        outputs, or with `spread`, it is a list: first all averages, then all variances. What takes
        the last output of a model would then take a variance: `keras.Model(m.input, m.outputs[0])`
        gives the average alone.

    Raises:
        ValueError: if an argument is unknown or empty; a transform exchanges height and width on a
            fixed size that is not square; a model of fixed size is scaled; or the geometric mean is
            asked of what are not known to be probabilities.

    Example:
        >>> import keras, segzoo
        >>> image = keras.Input((None, None, 3))
        >>> model = keras.Model(image, keras.layers.Conv2D(4, 3, padding="same")(image))
        >>> averaged = segzoo.inference.test_time_augmentation(model, transforms="d4", spread=True)
        >>> scores, variance = averaged(keras.ops.ones((1, 32, 48, 3)))
        >>> tuple(scores.shape), tuple(variance.shape)
        ((1, 32, 48, 4), (1, 32, 48, 4))
    """
    names, factors = _check_transforms(transforms), _check_scales(scales)
    if average not in AVERAGES:
        raise ValueError(f"`average` must be one of {AVERAGES}, received average={average!r}")
    flag("spread", spread)
    image = _check_model(model, names, factors)
    exclusive = [average == "geometric" and _is_exclusive(output) for output in model.outputs]

    turn = {name: Symmetry(name, name=name) for name in SYMMETRIES}
    runs = []
    for k, factor in enumerate(factors):
        scaled = image if factor == 1 else Rescale(factor, name=f"scale_{k}")(image)
        for name in names:
            outputs = keras.tree.flatten(model(turn[name](scaled)))
            outputs = [turn[INVERSES[name]](output) for output in outputs]
            if factor != 1:
                outputs = [ResizeLike(dtype=_at_least_32_bit(y))(y, image) for y in outputs]
            runs.append(outputs)

    means, variances = [], []
    for k, outputs in enumerate(zip(*runs, strict=True)):
        dtype = _at_least_32_bit(outputs[0])
        if average == "mean":
            mean = keras.layers.Average(name=f"mean_{k}", dtype=dtype)
        else:
            mean = GeometricMean(exclusive[k], name=f"mean_{k}", dtype=dtype)
        means.append(mean(list(outputs)))
        if spread:
            variances.append(Variance(name=f"variance_{k}", dtype=dtype)(list(outputs)))
    results = means + variances
    result = results[0] if len(results) == 1 else results
    return keras.Model(image, result, name=f"{model.name}_augmented")


# The name would make pytest collect the function where a test module imports it.
test_time_augmentation.__test__ = False  # type: ignore[attr-defined]


def _at_least_32_bit(x) -> str:
    """The type to average `x` in."""
    return keras.backend.result_type(x.dtype, "float32")


def _check_transforms(transforms: Any) -> tuple[str, ...]:
    """The names behind the `transforms` argument."""
    names = GROUPS.get(transforms) if isinstance(transforms, str) else transforms
    known = tuple(SYMMETRIES)  # unlike a dict asked for what cannot be hashed
    if isinstance(names, list | tuple) and names and all(name in known for name in names):
        return tuple(names)
    raise ValueError(
        f"`transforms` must be one of {tuple(GROUPS)} or a list of {tuple(SYMMETRIES)}, received "
        f"transforms={transforms!r}"
    )


def _check_scales(scales: Any) -> tuple[float, ...]:
    """The factors of the `scales` argument."""
    factors = items(scales) or []
    numbers = [f for f in factors if is_number(f) and 0 < f < math.inf]
    if not factors or len(numbers) < len(factors):
        raise ValueError(
            f"`scales` must be a list of finite factors above 0, received scales={scales!r}"
        )
    return tuple(map(float, numbers))


def _check_model(model: Any, names: tuple[str, ...], factors: tuple[float, ...]):
    """A new input like that of `model`, checked to take all the runs."""
    inputs = list(getattr(model, "inputs", None) or [])
    shapes = [tuple(tensor.shape) for tensor in inputs]
    outputs = [tuple(tensor.shape) for tensor in model.outputs] if inputs else []
    if len(shapes) != 1 or len(shapes[0]) != 4 or any(len(shape) != 4 for shape in outputs):
        raise ValueError(
            "`model` must be a keras.Model from one image (B, H, W, C) to scores "
            f"(B, H, W, classes), received {type(model).__name__} with inputs {shapes} and outputs "
            f"{outputs}"
        )
    height, width = shapes[0][1:3]
    exchanging = [name for name in names if SYMMETRIES[name][0]]
    if exchanging and height != width:
        raise ValueError(
            f"`transforms` that exchange height and width, {exchanging}, need an open or a square "
            f"size, received a model of input {shapes[0]}; 'flips' keeps the size"
        )
    if (height, width) != (None, None) and any(factor != 1 for factor in factors):
        raise ValueError(
            f"`scales` other than 1 need a model of open size, received scales={factors} and a "
            f"model of input {shapes[0]}"
        )
    return keras.Input(batch_shape=shapes[0], dtype=inputs[0].dtype, name=inputs[0].name)


def refuse_variance(argument: str, output: Any) -> None:
    """Raise ValueError where the output to be decided is a variance that `spread=True` added."""
    if isinstance(_maker(output), Variance):
        raise ValueError(
            f"`{argument}` must give scores to decide, received a model whose last output is the "
            "variance of test_time_augmentation(..., spread=True); "
            "`keras.Model(m.input, m.outputs[0])` gives the average alone"
        )


def _maker(output: Any) -> Any:
    """The layer that made a model's output, also that of a model in the model."""
    operation, _, index = output._keras_history
    return _maker(operation.outputs[index]) if isinstance(operation, keras.Model) else operation


def _is_exclusive(output) -> bool:
    """Whether the classes of a model's output exclude one another: True behind a softmax."""
    operation = _maker(output)
    activation = getattr(operation, "activation", None)
    if isinstance(operation, keras.layers.Softmax) or activation is keras.activations.softmax:
        return True
    if activation is keras.activations.sigmoid:
        return False
    raise ValueError(
        "`average` of 'geometric' needs probabilities, a model whose last layer is a softmax or a "
        f"sigmoid; received one that ends in {operation.name!r}, {type(operation).__name__}. "
        "'mean' averages any scores"
    )


@keras.saving.register_keras_serializable(package="segzoo.inference")
class Symmetry(keras.layers.Layer):
    """One of the eight symmetries of a square, done to images (B, H, W, C)."""

    def __init__(self, transform: str, **kwargs: Any) -> None:
        super().__init__(**{"autocast": False, **kwargs})
        self.transform = transform

    def call(self, x):
        exchange, rows, columns = SYMMETRIES[self.transform]
        if exchange:
            x = ops.transpose(x, (0, 2, 1, 3))
        for axis, reverse in ((1, rows), (2, columns)):
            if reverse:
                x = ops.flip(x, axis=axis)  # one at a time: Keras 3.8 takes no list on TensorFlow
        return x

    def compute_output_spec(self, x):
        batch, height, width, channels = x.shape
        if SYMMETRIES[self.transform][0]:
            height, width = width, height
        return keras.KerasTensor((batch, height, width, channels), dtype=x.dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "transform": self.transform}


@keras.saving.register_keras_serializable(package="segzoo.inference")
class Rescale(keras.layers.Layer):
    """Resize images (B, H, W, C) bilinearly by a factor; sizes are rounded, and at least 1.

    The factor is taken as the nearest fraction with a denominator of up to 1000, so that all
    backends and exports compute the same sizes, in whole numbers.
    """

    def __init__(self, factor: float, **kwargs: Any) -> None:
        super().__init__(**{"autocast": False, **kwargs})
        self.factor = factor
        self.ratio = Fraction(factor).limit_denominator(1000).as_integer_ratio()

    def call(self, x):
        sizes = [self._scaled(size) for size in ops.shape(x)[1:3]]
        if keras.backend.is_float_dtype(x.dtype):
            return resize(x, *sizes)
        return ops.cast(ops.round(resize(ops.cast(x, "float32"), *sizes)), x.dtype)

    def _scaled(self, size):
        """A side's new length, an int where the old one is."""
        numerator, denominator = self.ratio
        scaled = (2 * numerator * size + denominator) // (2 * denominator)
        return max(1, scaled) if isinstance(size, int) else ops.maximum(scaled, 1)

    def compute_output_spec(self, x):
        batch, *sizes, channels = x.shape
        sizes = [None if size is None else self._scaled(size) for size in sizes]
        return keras.KerasTensor((batch, *sizes, channels), dtype=x.dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "factor": self.factor}


class _OfRuns(keras.layers.Layer):
    """A number for each score, from a list of scores of one shape."""

    def compute_output_shape(self, shapes):
        return shapes[0]


@keras.saving.register_keras_serializable(package="segzoo.inference")
class GeometricMean(_OfRuns):
    """The geometric mean of probabilities; divided by its sum where classes are exclusive."""

    def __init__(self, exclusive: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.exclusive = exclusive

    def call(self, runs):
        # The smallest normal number stands for 0, whose logarithm would not be finite.
        logs = [ops.log(ops.maximum(run, TINY)) for run in runs]
        mean = sum(logs[1:], start=logs[0]) / len(logs)
        return ops.softmax(mean, axis=-1) if self.exclusive else ops.exp(mean)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "exclusive": self.exclusive}


@keras.saving.register_keras_serializable(package="segzoo.inference")
class Variance(_OfRuns):
    """The mean square of the scores' distances from their mean."""

    def call(self, runs):
        mean = sum(runs[1:], start=runs[0]) / len(runs)
        squares = [ops.square(run - mean) for run in runs]
        return sum(squares[1:], start=squares[0]) / len(runs)
