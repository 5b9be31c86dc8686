"""What an architecture of segmentation_models_pytorch is, in the library's parts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from segzoo.models._features import Features
from segzoo.models._style import Style
from segzoo.weights.pytorch import Part

# Batch normalization everywhere in PyTorch has this epsilon where nothing else is said.
EPSILON = 1e-5


@dataclass(frozen=True)
class Architecture:
    """One architecture: its options, its decoder, and what its file calls the decoder's layers.

    Attributes:
        options: the decoder's options and their defaults.
        decode: from the maps, a style and the options to the last map.
        modules: the modules of the decoder's layers, by their paths. A layer that is not among
            them is called as its module.
        head_kernel: of the head's convolution.
        depth: of the encoder, where the configuration says nothing.
        least_depth: the smallest.
        stride: of the last map, from depth and output stride; None for the image's own size.
        upsampling: that the head has where the configuration says nothing; None for what fits.
        output_strides: those that the encoder may have, the default first; empty for 32 alone.
        rearrange: by the path of a variable, how its value is put into the decoder's order.
        unused: a pattern of tensors of the decoder that do nothing.
        inner: what the file calls the convolution and the normalization of a block.
    """

    options: Mapping[str, Any]
    decode: Callable[[Features, Style, Mapping[str, Any]], Any]
    modules: Callable[[Features, Mapping[str, Any]], Mapping[str, str | Part]] | None = None
    head_kernel: int = 3
    depth: int = 5
    least_depth: int = 3
    stride: Callable[[int, int], int] | None = None
    upsampling: int | None = None
    output_strides: tuple[int, ...] = ()
    rearrange: Callable[[Features, Mapping[str, Any]], dict[str, Callable]] | None = None
    unused: str = r"(?!)"
    inner: tuple[str, str] = ("0", "1")


@keras.saving.register_keras_serializable(package="segzoo.models")
class SizeOver(keras.layers.Layer):
    """A map without channels of floor(size / factor) rows and columns: its size alone matters.

    Args:
        factor: int >= 1.

    Call arguments:
        x: tensor (B, H, W, C).

    Returns:
        Tensor (B, H // factor, W // factor, 0).

    Example:
        >>> import keras
        >>> from segzoo.models.pytorch._architecture import SizeOver
        >>> tuple(SizeOver(2)(keras.ops.ones((1, 5, 8, 3))).shape)
        (1, 2, 4, 0)
    """

    def __init__(self, factor: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x):
        last = self.factor - 1
        return x[:, last :: self.factor, last :: self.factor, :0]

    def compute_output_shape(self, x_shape):
        sizes = [None if n is None else n // self.factor for n in x_shape[1:3]]
        return (x_shape[0], *sizes, 0)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "factor": self.factor}


_INTERPOLATIONS = {"nearest": "nearest_floor", "bilinear": "bilinear"}


def interpolation(options: Mapping[str, Any]) -> str:
    """The interpolation of a decoder, in the words of `ResizeLike`."""
    if options["decoder_interpolation"] not in _INTERPOLATIONS:
        raise ValueError(
            f"`decoder_interpolation` must be one of {list(_INTERPOLATIONS)}, received "
            f"decoder_interpolation={options['decoder_interpolation']!r}"
        )
    return _INTERPOLATIONS[options["decoder_interpolation"]]


def widths(options: Mapping[str, Any], depth: int) -> list[int]:
    """The widths of a decoder's stages, one for each halving of the encoder."""
    filters = options["decoder_channels"]
    if not isinstance(filters, list | tuple) or len(filters) != depth:
        raise ValueError(
            "`decoder_channels` must be one width for each of the "
            f"{depth} stages of `encoder_depth`, received decoder_channels={filters}"
        )
    return list(filters)


def style_of(use_norm: Any, epsilon: float = EPSILON) -> Style:
    """The style of a decoder, from its option `decoder_use_norm`.

    Args:
        use_norm: a bool, a name, or a mapping with a name under "type".
        epsilon: of the normalization, where the option says nothing.

    Raises:
        ValueError: for a normalization that is not read.
    """
    options = dict(use_norm) if isinstance(use_norm, Mapping) else {"type": use_norm}
    kind = options.pop("type", None)
    kind = {True: "batchnorm", False: "identity"}.get(kind, kind)
    kind = kind.lower() if isinstance(kind, str) else kind
    epsilon = options.pop("eps", epsilon)
    if kind == "identity":
        return Style(None)
    affine = options.pop("affine", kind == "batchnorm")
    # What concerns training alone, or is said once more.
    options = {k: v for k, v in options.items() if (k, v) not in _DEFAULTS and k != "momentum"}
    if kind == "batchnorm" and affine and not options:
        return Style("batch", epsilon=epsilon)
    if kind == "instancenorm" and affine and not options:
        return Style("instance", epsilon=epsilon)
    raise ValueError(
        "`decoder_use_norm` must be 'batchnorm', 'identity' or {'type': 'instancenorm', 'affine': "
        f"True}}, with `eps` and `momentum` at most; received decoder_use_norm={use_norm!r}"
    )


_DEFAULTS = (("track_running_stats", True),)


# The convolutions of gates, inside their layers.
_INNER = {
    "squeeze": "1",
    "excite": "3",
    "channel_gate/squeeze": "cSE.1",
    "channel_gate/excite": "cSE.3",
    "pixel_gate": "sSE.0",
}


def naming(
    modules: Mapping[str, str | Part], inner: tuple[str, str] = ("0", "1")
) -> Callable[[list[str]], dict[str, Part]]:
    """What a file calls the layers of a decoder.

    A layer that is called as its module has hyphens where the file has dots, which Keras does not
    take on every backend.

    Args:
        modules: of layers that are not called as their modules, by their paths.
        inner: what the file calls the convolution and the normalization of a block.
    """

    def module(path: str) -> Part:
        layer, _, block = path.partition("/")
        if block.endswith("norm"):  # "batch_norm", "instance_norm", …
            path = f"{layer}/norm"
        found = modules.get(path, modules.get(layer, layer))
        part = found if isinstance(found, Part) else Part(found)
        suffix = ""
        if block and path not in modules:
            suffix = "." + _INNER.get(block, inner[block != "conv"])
        return part._replace(name=part.name.replace("-", ".") + suffix)

    return lambda paths: {path: module(path) for path in paths}


def permuted(sizes: Sequence[int], order: Sequence[int]) -> Callable[[np.ndarray], np.ndarray]:
    """Put the inputs of a kernel, those of maps in a row, into another order of the maps.

    Args:
        sizes: channels of each map, in the file's order.
        order: the maps by their place in the file, in the order in which they are wanted.
    """
    ends = np.cumsum(sizes)
    places = np.concatenate([np.arange(ends[n] - sizes[n], ends[n]) for n in order])
    return lambda kernel: kernel[..., places, :]
