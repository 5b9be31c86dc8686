"""Load a weights file into a model: as a whole, or not at all."""

from os import PathLike

import keras

from segzoo.weights._files import open_file
from segzoo.weights._layers import model_layers
from segzoo.weights._pairing import pair_weights


def load_weights(model: keras.Model, path: str | PathLike) -> None:
    """Load a weights file of any Keras layout, or raise and leave the model as it was.

    The file may be Keras 3's `.weights.h5` or `.keras`, or Keras 2's `.h5`, weights alone or a
    whole model; its content tells, not its name. Layers behind those of the model, such as a
    classifier top, and the state of an optimizer are left out.

    Args:
        model: a built `keras.Model`; models inside it are followed.
        path: the weights file.

    Raises:
        FileNotFoundError: if there is no file at `path`.
        ValueError: if the file is no weights file, is truncated, or does not fit the model; the
            message names the first layer that does not fit, and both shapes.

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
    first = next((f"layer `{layer.name}`" for layer in model_layers(model, "")), "the first layer")
    with open_file(path, first) as file:
        wanted = model_layers(model, file.layout)
        pairs = pair_weights(model.name, wanted, file.layers, file.path)
        values = [(variable, tensor.read()) for tensor, variable in pairs]
    for variable, value in values:
        variable.assign(value)
    for layer in wanted:
        if hasattr(layer.owner, "finalize_state"):  # `Normalization` computes with copies
            layer.owner.finalize_state()


def layer_shapes(path: str | PathLike) -> dict[str, list[tuple[int, ...]]]:
    """What is in a weights file of any layout.

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
        }
