"""What a layout of PyTorch's is, and how a file of one gets into a Keras network.

A layout says how its files are told from others (`marks`), what the module of a Keras layer is
called in them (`modules`), and what they hold that no encoder uses (`unused`). The rest is the same
for all: a kernel is turned from PyTorch's order of axes to Keras's, every name and shape is
compared, then all values are read and checked, and only then is the first one assigned.
"""

import dataclasses
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import keras
import numpy as np

from segzoo.weights._values import converted
from segzoo.weights.safetensors_files import SafetensorsFile

# The names of a variable in Keras and in PyTorch.
_VARIABLES = {
    "kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "bias": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
# What a training run leaves in any file.
COUNTERS = r"(.*\.)?num_batches_tracked"
# What stands beside the encoder of a whole network.
_BESIDE = (
    r"(decoder|decode_head|segmentation_head|classification_head|auxiliary_head|classifier)\..*"
)


class Part(NamedTuple):
    """A tensor of a file, or a part of one.

    Attributes:
        name: of the tensor, or of the module that has it.
        which: number of the part.
        parts: how many equal parts there are.
        axis: along which they lie: 0 for the outputs, 1 for the inputs.
    """

    name: str
    which: int = 0
    parts: int = 1
    axis: int = 0


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a family of PyTorch networks names its tensors.

    Attributes:
        name: of the layout, for the choice of a network.
        title: whose files these are, for errors and the log.
        marks: tensors that every file of the layout has.
        modules: the module of each Keras layer, by the layer's path, given all paths in the order
            of the network. Of a variable that PyTorch has no word for it is the tensor.
        unused: a pattern of tensors that are in the files, but in no encoder.
    """

    name: str
    title: str
    marks: tuple[str, ...]
    modules: Callable[[list[str]], Mapping[str, str | Part]]
    unused: str = r"(?!)"

    def prefix(self, names: Iterable[str]) -> str | None:
        """What stands before every name of the layout in a file; None in a file of another."""
        names = set(names)
        starts = (n.removesuffix(self.marks[0]) for n in names if n.endswith(self.marks[0]))
        for start in sorted(starts, key=len):
            if start[-1:] in ("", ".") and all(start + mark in names for mark in self.marks):
                return start
        return None


def by_rules(*rules: tuple[str, str | Callable[[re.Match], str | Part]]):
    """Names by patterns: for each path the first rule that matches all of it.

    Args:
        *rules: a pattern of the path of a layer, and the module: a template as of
            `re.Match.expand`, or a function of the match.
    """

    def modules(paths: list[str]) -> dict[str, str | Part]:
        found: dict[str, str | Part] = {}
        for path in paths:
            for pattern, module in rules:
                match = re.fullmatch(pattern, path)
                if match:
                    found[path] = match.expand(module) if isinstance(module, str) else module(match)
                    break
        return found

    return modules


def load(
    model: keras.Model,
    file: SafetensorsFile,
    layout: Layout,
    layers: Iterable[keras.layers.Layer] | None = None,
) -> None:
    """Load a file of a layout into a network: as a whole, or not at all.

    Args:
        model: the network.
        file: the file.
        layout: of the file.
        layers: those of the network that get weights. Defaults to all.

    Raises:
        ValueError: names the first tensor that does not fit, or that nothing is known of.
    """
    prefix = layout.prefix(file) or ""
    if prefix:
        _log.info("%s: the tensors are read without their prefix %r", file.path, prefix)
    wanted = None if layers is None else {id(v) for layer in layers for v in layer.weights}
    pairs = [
        (part, variable)
        for part, variable in parts_of(model.weights, layout.modules, prefix)
        if wanted is None or id(variable) in wanted
    ]
    assign(model, file, pairs, unused=unused_pattern(layout, prefix), title=layout.title)


def unused_pattern(layout: Layout, prefix: str) -> str:
    """The tensors that a file of a layout may have beyond the encoder."""
    words = prefix.split(".")[:-1]
    outside = "|".join(re.escape("".join(f"{w}." for w in words[:n])) for n in range(len(words)))
    beside = f"|({outside}){_BESIDE}" if words else ""
    return rf"{re.escape(prefix)}({layout.unused})|{COUNTERS}{beside}"


def parts_of(
    variables: Iterable[keras.Variable],
    modules: Callable[[list[str]], Mapping[str, str | Part]],
    prefix: str = "",
) -> list[tuple[Part, keras.Variable]]:
    """What each variable of a network is read from.

    Args:
        variables: of the network, in its order.
        modules: as in `Layout`.
        prefix: stands before every name.
    """
    places = [(variable, *variable.path.rpartition("/")[::2]) for variable in variables]
    found = modules(list(dict.fromkeys(path for _, path, _ in places)))
    pairs = []
    for variable, path, name in places:
        if path not in found:
            raise ValueError(f"layer `{path}` is in no network of that layout")
        module = found[path]
        part = module if isinstance(module, Part) else Part(module)
        last = f".{_VARIABLES[name]}" if name in _VARIABLES else ""
        pairs.append((part._replace(name=f"{prefix}{part.name}{last}"), variable))
    return pairs


def assign(
    model: keras.Model,
    file: SafetensorsFile,
    pairs: Sequence[tuple[Part, keras.Variable]],
    *,
    unused: str,
    title: str,
    rearrange: Mapping[str, Callable[[np.ndarray], np.ndarray]] | None = None,
) -> None:
    """Assign the tensors of a file to variables, after all of them are compared and read.

    Args:
        model: the network, for errors.
        file: the file.
        pairs: what each variable is read from.
        unused: a pattern of tensors that may be in the file without a variable.
        title: whose layout it is, for errors.
        rearrange: by the variable's path, what is done to a value of Keras's shape.

    Raises:
        ValueError: names the first tensor that is missing, of another shape, or unknown.
    """
    fits = f"{file.path} does not fit `{model.name}`, nothing was loaded"
    orders = []
    for part, variable in pairs:
        if part.name not in file:
            first = ", ".join(f"`{name}`" for name in list(file)[:3])
            raise ValueError(
                f"{fits}: it has no tensor `{part.name}` of {title}; its first are {first}"
            )
        found, wanted = file.shapes[part.name], tuple(variable.shape)
        order = _order(found, wanted, part)
        if order is None:
            raise ValueError(
                f"{fits}: tensor `{part.name}` is {found}, layer `{variable.path}` takes {wanted}"
            )
        orders.append(order)
    read, known = {part.name for part, _ in pairs}, re.compile(unused)
    for name in file:
        if name not in read and not known.fullmatch(name):
            raise ValueError(
                f"{fits}: tensor `{name}` {file.shapes[name]} belongs to no layer of {title}"
            )
    values = []
    for (part, variable), order in zip(pairs, orders, strict=True):
        value = np.split(file[part.name], part.parts, part.axis)[part.which]
        value = value.transpose(order).reshape(variable.shape)
        value = converted(file.path, f"tensor `{part.name}`", value, variable.dtype)
        change = (rearrange or {}).get(variable.path)
        values.append(change(value) if change else value)
    for (_, variable), value in zip(pairs, values, strict=True):
        variable.assign(value)


def _order(found: tuple[int, ...], wanted: tuple[int, ...], part: Part) -> tuple[int, ...] | None:
    """The order of axes that makes a tensor of PyTorch's one of Keras's; None where none does."""
    if len(found) <= part.axis or found[part.axis] % part.parts:
        return None
    found = tuple(n // part.parts if axis == part.axis else n for axis, n in enumerate(found))
    if len(found) == 1:
        return (0,) if found == wanted else None
    # A linear layer may be a 1x1 convolution on the other side.
    if len(found) == 2 and wanted[:-2] == (1, 1):
        wanted = wanted[2:]
    if len(wanted) == 2 and found[2:] == (1, 1):
        wanted = (1, 1, *wanted)
    # Convolutions OIHW -> HWIO, transposed ones IOHW -> HWOI, depthwise C1HW -> HWC1.
    for order in ((2, 3, 1, 0), (2, 3, 0, 1)) if len(found) == 4 else ((1, 0),):
        if len(found) == len(order) and tuple(found[axis] for axis in order) == wanted:
            return order
    return None


_log = logging.getLogger("segzoo")
