"""What a layout of PyTorch's is, and how a file of one gets into a Keras network.

A layout says how its files are told from others (`marks`), what the module of a Keras layer is
called in them (`modules`), and what they hold that no encoder uses (`unused`). The rest is the same
for all: a kernel is turned from PyTorch's order of axes to Keras's, every name and shape is
compared, and only then are values read and assigned, one tensor at a time.
"""

import dataclasses
import logging
import re
from collections.abc import Callable, Iterable, Mapping

import keras
import numpy as np

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
_COUNTERS = r"(.*\.)?num_batches_tracked"
# What stands beside the encoder of a whole network.
_HEADS = r"(decoder|decode_head|segmentation_head|classification_head|auxiliary_head|classifier)\."


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a family of PyTorch networks names its tensors.

    Attributes:
        name: of the layout, for the choice of a network.
        title: whose files these are, for errors and the log.
        marks: tensors that every file of the layout has.
        modules: the module, or the tensor, of each Keras layer, by the layer's path, of all paths
            in the order of the network.
        unused: a pattern of tensors that are in the files, but in no encoder.
    """

    name: str
    title: str
    marks: tuple[str, ...]
    modules: Callable[[list[str]], dict[str, str]]
    unused: str = r"(?!)"

    def prefix(self, names: Iterable[str]) -> str | None:
        """What stands before every name of the layout in a file; None in a file of another."""
        names = set(names)
        starts = (n.removesuffix(self.marks[0]) for n in names if n.endswith(self.marks[0]))
        for start in sorted(starts, key=len):
            if start[-1:] in ("", ".") and all(start + mark in names for mark in self.marks):
                return start
        return None


def by_rules(*rules: tuple[str, str | Callable[[re.Match], str]]):
    """Names by patterns: for each path the first rule that matches all of it.

    Args:
        *rules: a pattern of the path of a layer, and the module's name: a template as of
            `re.Match.expand`, or a function of the match.
    """

    def modules(paths: list[str]) -> dict[str, str]:
        found = {}
        for path in paths:
            for pattern, module in rules:
                match = re.fullmatch(pattern, path)
                if match:
                    found[path] = match.expand(module) if isinstance(module, str) else module(match)
                    break
        return found

    return modules


def load(model: keras.Model, file: SafetensorsFile, layout: Layout) -> None:
    """Load a file of a layout into a network: as a whole, or not at all.

    Args:
        model: the network.
        file: the file.
        layout: of the file.

    Raises:
        ValueError: names the first tensor that does not fit, or that nothing is known of.
    """
    prefix = layout.prefix(file) or ""
    if prefix:
        _log.info("%s: the tensors are read without their prefix %r", file.path, prefix)
    variables = variables_of(model)
    modules = layout.modules(list(dict.fromkeys(path for path, _ in variables)))
    names = {}
    for (path, variable_name), variable in variables.items():
        if path not in modules:
            raise _misfit(model, file, layout, f"layer `{path}` is in no such network")
        names[tensor_name(prefix, modules[path], variable_name)] = variable
    other = rf"{re.escape(prefix)}({layout.unused}|{_COUNTERS})"
    if prefix:
        other += rf"|(?!{re.escape(prefix)}).*"
    assign(model, file, names, unused=other, title=layout.title)


def tensor_name(prefix: str, module: str, variable: str) -> str:
    """The tensor of a variable; a module whose name ends in "=" is the tensor itself."""
    if module.endswith("="):
        return prefix + module[:-1]
    return f"{prefix}{module}.{_VARIABLES[variable]}"


def variables_of(model: keras.Model) -> dict[tuple[str, str], keras.Variable]:
    """The variables of a network by the path of their layer and their own name."""
    found: dict[tuple[str, str], keras.Variable] = {}
    for variable in model.weights:
        path, _, name = variable.path.rpartition("/")
        found[path, name] = variable
    if len(found) != len(model.weights):
        raise ValueError(f"model `{model.name}` has layers of one name")
    return found


def assign(
    model: keras.Model,
    file: SafetensorsFile,
    names: Mapping[str, keras.Variable],
    *,
    unused: str,
    title: str,
    rearrange: Mapping[str, Callable[[np.ndarray], np.ndarray]] | None = None,
) -> None:
    """Assign the tensors of a file to variables, after all of them are compared.

    Args:
        model: the network, for errors.
        file: the file.
        names: the variable of each tensor.
        unused: a pattern of tensors that may be in the file without a variable.
        title: whose layout it is, for errors.
        rearrange: what is done to a tensor of Keras's shape before it is assigned.

    Raises:
        ValueError: names the first tensor that is missing, of another shape, or unknown.
    """
    axes = {}
    for name, variable in names.items():
        if name not in file:
            raise ValueError(
                f"{file.path} does not fit `{model.name}`, nothing was loaded: it has no tensor "
                f"`{name}` of {title}; its first are {', '.join(f'`{n}`' for n in list(file)[:3])}"
            )
        axes[name] = _axes(file.shapes[name], tuple(variable.shape))
        if axes[name] is None:
            raise ValueError(
                f"{file.path} does not fit `{model.name}`, nothing was loaded: tensor `{name}` is "
                f"{file.shapes[name]}, layer `{variable.path}` takes {tuple(variable.shape)}"
            )
    known = re.compile(unused)
    for name in file:
        if name not in names and not known.fullmatch(name):
            raise ValueError(
                f"{file.path} does not fit `{model.name}`, nothing was loaded: tensor `{name}` "
                f"{file.shapes[name]} belongs to no layer"
            )
    for name, variable in names.items():
        value = file[name].transpose(axes[name]).reshape(variable.shape)
        variable.assign(rearrange[name](value) if rearrange and name in rearrange else value)


def _axes(found: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[int, ...] | None:
    """The order of axes that makes a tensor of PyTorch's one of Keras's; None where none does."""
    if len(found) < 2:
        return (0,)[: len(found)] if found == wanted else None
    # A linear layer may be a 1x1 convolution on the other side.
    if len(found) == 2 and len(wanted) == 4 and wanted[:2] == (1, 1):
        wanted = wanted[2:]
    if len(found) == 4 and len(wanted) == 2 and found[2:] == (1, 1):
        wanted = (1, 1, *wanted)
    # Convolutions OIHW -> HWIO, transposed ones IOHW -> HWOI, depthwise C1HW -> HWC1.
    for axes in ((2, 3, 1, 0), (2, 3, 0, 1)) if len(found) == 4 else ((1, 0),):
        if len(found) == len(wanted) and tuple(found[axis] for axis in axes) == wanted:
            return axes
    return None


def _misfit(model, file, layout, cause: str) -> ValueError:
    return ValueError(
        f"{file.path} does not fit `{model.name}`, nothing was loaded: {cause} ({layout.title})"
    )


_log = logging.getLogger("segzoo")
