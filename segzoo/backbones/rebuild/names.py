"""Names of layers that do not depend on what else was built in the process."""

from collections import defaultdict
from collections.abc import Iterator

import keras


def stable_names(model: keras.Model) -> dict[str, str]:
    """Map the names of a model's layers to those that a first build in a process would give.

    Keras numbers layers without a name of their own through the whole process. Within a model the
    numbers tell the order in which layers were made, so counting anew from zero gives the
    names of a first build.

    Args:
        model: a functional model.

    Returns:
        New name by present name, for every layer.
    """
    numbered = defaultdict(list)
    names = {}
    for operation in _flat(model):
        prefix, _, number = operation.name.rpartition("_")
        if not (prefix and number.isdigit()):
            prefix, number = operation.name, "0"
        # "conv2d_7" is a number given by Keras, "block2_conv_7" is a name.
        if prefix.replace("_", "") == type(operation).__name__.lower():
            numbered[prefix].append((int(number), operation.name))
        names[operation.name] = operation.name
    for prefix, found in numbered.items():
        for count, (_, name) in enumerate(sorted(found)):
            names[name] = f"{prefix}_{count}" if count else prefix
    return names


def _flat(model: keras.Model) -> Iterator[keras.Operation]:
    for operation in model.operations:
        if isinstance(operation, keras.Sequential):
            yield from operation.layers
        elif not isinstance(operation, keras.layers.InputLayer):
            yield operation
