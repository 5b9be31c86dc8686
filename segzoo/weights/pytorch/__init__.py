"""Files of PyTorch's libraries: how each family of networks names its tensors, and how they load.

A file of each layout below becomes weights of the same network in Keras. Which network a file is
of is for the caller to say where the names do not tell (`efficientnet`).
"""

from segzoo.weights.pytorch import convnext, efficientnet, mit, mobilenet, resnet
from segzoo.weights.pytorch._layouts import COUNTERS, Layout, Part, assign, load, parts_of
from segzoo.weights.safetensors_files import SafetensorsFile

LAYOUTS = (
    resnet.TORCHVISION,
    resnet.SENET,
    mobilenet.TORCHVISION,
    convnext.TIMM,
    convnext.FEATURES,
    convnext.TRANSFORMERS,
    efficientnet.TIMM,
    efficientnet.LUKEMELAS,
    mit.SMP,
    mit.TRANSFORMERS,
)


def layout_of(file: SafetensorsFile) -> Layout:
    """The layout of a file, told by its tensors.

    Args:
        file: the file.

    Raises:
        ValueError: for a file of none; lists the layouts.
    """
    for layout in LAYOUTS:
        if layout.prefix(file) is not None:
            return layout
    names = ", ".join(f"`{name}`" for name in list(file)[:3])
    raise ValueError(
        f"{file.path} has no layout that is read: its first tensors are {names}. Those that are "
        "read are " + "; ".join(layout.title for layout in LAYOUTS)
    )


__all__ = ["COUNTERS", "LAYOUTS", "Layout", "Part", "assign", "layout_of", "load", "parts_of"]
