"""Load a weights file into a model: as a whole, or not at all."""

import logging
import math
from collections.abc import Callable, Sequence
from os import PathLike

import keras
import numpy as np

from segzoo.weights._config import first_difference
from segzoo.weights._files import File, open_file
from segzoo.weights._layers import Layer, first_layer, model_layers
from segzoo.weights._pairing import Pair, Pairing, Rules, pair_weights
from segzoo.weights._values import WeightsFileError, converted, reading

# The layer that normalizes an image: without weights, but not without meaning.
_NORMALIZES = "image_normalization"


def load_weights(
    model: keras.Model,
    path: str | PathLike,
    *,
    surplus: Sequence[str] | None = None,
    fresh: Sequence[str] = (),
    adapt: Callable[[np.ndarray], np.ndarray] | None = None,
) -> None:
    """Load a weights file of any Keras layout, or raise and leave the model as it was.

    The file may be Keras 3's `.weights.h5` or `.keras`, or Keras 2's `.h5`, weights alone or a
    whole model; its content decides, not its name. The state of an optimizer is left out.

    Args:
        model: a functional or sequential `keras.Model` that is built; models inside it are
            followed.
        path: the weights file.
        surplus: prefixes of the names of layers that the file may have and the model lacks; `()`
            for none. None takes the model as a part of the file's: layers after those of the model,
            such as a classifier, and around it, such as a decoder, are left out. Defaults to None.
        fresh: prefixes of the names of the classifier's layers, which keep the model's values if
            the file has another number of classes; the log says so. Defaults to none.
        adapt: function that makes the kernel of the model's first convolution from the file's, if
            the file's is of an RGB network and the model has other channels. Defaults to None, for
            kernels that must fit.

    Raises:
        FileNotFoundError: if there is no file at `path`.
        ValueError: if the file is not a weights file, is truncated or damaged, holds what a weights
            file does not need, or does not fit the model; the message names the first layer that
            does not fit, and both shapes.

    Example:
        >>> import os, tempfile
        >>> import keras
        >>> from segzoo.weights import load_weights
        >>> def network():
        ...     return keras.Sequential([keras.Input((8,)), keras.layers.Dense(2, name="score")])
        >>> source, target = network(), network()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "any.weights.h5")
        ...     source.save_weights(path)
        ...     load_weights(target, path)
        >>> bool((source.get_weights()[0] == target.get_weights()[0]).all())
        True
    """
    if not hasattr(model, "inputs"):
        raise ValueError(
            f"`model` must be a functional or sequential keras.Model, received {model.name!r} of "
            f"class {type(model).__name__}, whose graph is not known"
        )
    size = sum(math.prod(v.shape) * 4 for v in model.variables)
    with open_file(path, first_layer(model), 4 * size) as file:
        wanted = model_layers(model, file.layout, file.ordered)
        rules = Rules(surplus, fresh, adapt is not None)
        try:
            pairing = pair_weights(model.name, wanted, file.layers, file.path, rules)
        except WeightsFileError:
            if file.layout != "safetensors":
                raise
            raise WeightsFileError(
                file.path,
                f"is a file of PyTorch's, not one of model `{model.name}`, nothing was loaded: a "
                "whole network is read by `segzoo.models.from_pytorch`, an encoder as "
                "`backbone_weights`",
            ) from None
        _check_build(model, wanted, file, whole=surplus is not None)
        # All values are read and checked before the first one is assigned.
        values = [(pair.variable, _value(file, pair, adapt)) for pair in pairing.pairs]
    for variable, value in values:
        variable.assign(value)
    for layer in wanted:
        if hasattr(layer.owner, "finalize_state"):  # `Normalization` computes with copies
            layer.owner.finalize_state()
    if pairing.fresh:
        _log_fresh(file, pairing)


def _check_build(model: keras.Model, wanted: list[Layer], file: File, whole: bool) -> None:
    """Refuse a file of a model that was built otherwise, as far as the file tells."""
    difference = ""
    with reading(file.path, "how its model was built"):
        kinds = file.kinds()
        theirs = list(kinds.values()).count(_NORMALIZES)
        mine = [layer.kind for layer in wanted].count(_NORMALIZES)
        if whole and kinds and theirs != mine:
            difference = (
                f"the model {'normalizes' if mine else 'does not normalize'} the image, the file's "
                f"{'does' if theirs else 'does not'}; build it with `preprocessing={theirs > 0}`"
            )
        if file.config and not difference:
            outputs = set(getattr(model, "output_names", ()))
            difference = first_difference([x.owner for x in wanted], outputs, file.config)
    if difference:
        raise WeightsFileError(
            file.path, f"does not fit model `{model.name}`, nothing was loaded: {difference}"
        )


def _value(file: File, pair: Pair, adapt: Callable | None) -> np.ndarray:
    name = f"layer `{pair.layer.path}`, whose `{pair.tensor.name}`"
    value = pair.tensor.read()
    dtype = pair.variable.dtype
    if pair.colors and adapt is not None:
        value = adapt(converted(file.path, name, value, dtype))
    return converted(file.path, name, value, dtype)


def _log_fresh(file: File, pairing: Pairing) -> None:
    layers = ", ".join(f"`{layer.path}`" for layer, _ in pairing.fresh)
    ours, theirs = (next(iter(layer.weights.values())).shape[-1] for layer in pairing.fresh[0])
    logging.getLogger("segzoo").warning(
        "%s has weights for %d classes, the model has %d: its classifier %s starts fresh, "
        "all other layers are loaded",
        *(file.path, theirs, ours, layers),
    )


def layer_shapes(path: str | PathLike) -> dict[str, list[tuple[int, ...]]]:
    """Return the shapes of what is in a weights file of any layout.

    Args:
        path: the weights file.

    Returns:
        The shapes of each layer's weights, by the layer's name; models inside the file's model
        are followed.
    """
    with open_file(path) as file:
        return {
            layer.name: [tuple(weight.shape) for weight in layer.weights.values()]
            for layer in file.layers
            if layer.weights
        }
