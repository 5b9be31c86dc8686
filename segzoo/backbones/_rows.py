"""What the registry knows of a backbone."""

from collections.abc import Callable
from dataclasses import dataclass, field

import keras

# Input normalizations by name: mean and standard deviation of red, green and blue in 0..255.
_IMAGENET_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)
NORMALIZATIONS: dict[str, dict] = {
    "caffe": {"mean": (123.68, 116.779, 103.939), "std": 1.0, "reverse_channels": True},
    "tf": {"mean": 127.5, "std": 127.5},
    "torch": {"mean": (0.485 * 255, 0.456 * 255, 0.406 * 255), "std": _IMAGENET_STD},
    "tf128": {"mean": 128.0, "std": 128.0},
}


@dataclass(frozen=True)
class Paper:
    """Where a network was published.

    Attributes:
        authors: as the paper lists them.
        title: of the paper.
        year: of its publication.
        arxiv: its arXiv id.

    Example:
        >>> from segzoo import backbones
        >>> backbones.info("vgg16").paper.year
        2014
    """

    authors: str
    title: str
    year: int
    arxiv: str


@dataclass(frozen=True)
class BackboneInfo:
    """One row of the registry: what a backbone is, without building it.

    Attributes:
        name: the name that `build` and every model take.
        family: networks of one paper and one construction.
        weights: names of published weights, `()` when there are none.
        features: the layers whose outputs are the feature maps, finest first.
        strides: of the feature maps at output stride 32.
        channels: of the feature maps.
        parameters: of the backbone up to the last feature map, for RGB.
        normalization: `"caffe"` (BGR minus the ImageNet mean), `"tf"` (-1..1), `"torch"` (minus
            the ImageNet mean, over its standard deviation) or `"tf128"` (`image / 128 - 1`).
        paper: authors, title, year and arXiv id.
        output_strides: what `build(output_stride=...)` accepts.
        squeeze_excite: whether the network has gates that are a mean over the whole map. They stay
            the mean over the denser map of a smaller output stride.

    Example:
        >>> from segzoo import backbones
        >>> row = backbones.info("vgg16")
        >>> row.family, row.normalization, row.strides
        ('vgg', 'caffe', (2, 4, 8, 16, 32))
    """

    name: str
    family: str
    weights: tuple[str, ...]
    features: tuple[str, ...]
    strides: tuple[int, ...]
    channels: tuple[int, ...]
    parameters: int
    normalization: str
    paper: Paper
    output_strides: tuple[int, ...] = (8, 16, 32)
    squeeze_excite: bool = False
    # How to build it: the network with its published weights or None, for RGB of a fixed size;
    # whether its explicit padding is the same for every size; names for layers that Keras numbers.
    source: Callable[[str | None], keras.Model] = field(kw_only=True, repr=False, compare=False)
    explicit_padding: bool = field(default=False, kw_only=True, repr=False)
    rename: tuple[tuple[str, str], ...] = field(default=(), kw_only=True, repr=False)


Row = BackboneInfo
