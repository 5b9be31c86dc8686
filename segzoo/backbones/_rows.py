"""What the registry knows of a backbone, and how a row says to build one.

A network is either `Published` as a `keras.Model`, which is made anew layer by layer (`rebuild`),
or built directly by a function of its family's module, `(x, variant, output_stride) -> maps`, from
a normalized image to its feature maps.
"""

from collections.abc import Callable, Mapping, Sequence
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

# Published weights that are not for every use, by their name.
TERMS = {"imagenet-nc": "NVIDIA's, for non-commercial use"}


@dataclass(frozen=True)
class Variant:
    """What another library did otherwise in a network of the same layers.

    The default is the row's own network. Files that were trained with another library's network
    give their numbers in that network alone, so that what reads them says how it was built.

    Attributes:
        padding: of strided convolutions. None is the row's own rule; `"symmetric"` adds half the
            kernel on every side, as PyTorch's networks do; an int is the nominal size of the image
            for which the padding was computed once, under TensorFlow's rule, whatever comes in.
        dilation: of the first window of a stage whose stride was removed. `"exact"` takes the rate
            in front of that stride, so that the dense map contains the original one; `"stage"`
            takes the whole stage's rate.
        early: starts of the names of layers that have the dilation of the last stage although they
            stand in front of its stride, where that stride was removed.
        epsilon: of batch normalization. None is the row's own.
        momentum: of batch normalization. None is the row's own.
        depth: how many of the feature maps there are, finest first. None is all.
        rounds_up: False leaves windows without padding as they were published (pools of SENet,
            patches of ConvNeXt), so that maps lose what does not fill a window.
    """

    padding: str | int | None = None
    dilation: str = "exact"
    early: tuple[str, ...] = ()
    epsilon: float | None = None
    momentum: float | None = None
    depth: int | None = None
    rounds_up: bool = True


@dataclass(frozen=True)
class Paper:
    """The paper that a network was published in.

    Attributes:
        authors: its authors, as it lists them.
        title: its title.
        year: the year of its publication.
        arxiv: its number on arXiv.

    Example:
        >>> from segzoo import backbones
        >>> backbones.info("vgg16").paper.year
        2014
    """

    authors: str
    title: str
    year: int
    arxiv: str


def none_stays(layer: keras.layers.Layer) -> bool:
    """Of a network that pads by its static size: no `ZeroPadding2D` stays."""
    return False


def every_stays(layer: keras.layers.Layer) -> bool:
    """Of a network whose explicit padding is the same for every size: all of it stays."""
    return True


@dataclass(frozen=True)
class Published:
    """A network that a library publishes as a `keras.Model`.

    Attributes:
        network: from the name of published weights, or None, to the network, for RGB of a fixed
            size.
        stays: whether a `ZeroPadding2D` layer does not depend on the size and stays.
        rename: own names for layers that Keras numbers, by those of a first build.
        cached: the name of a published file in Keras's cache, from that of its address.
    """

    network: Callable[[str | None], keras.Model]
    stays: Callable[[keras.layers.Layer], bool] = none_stays
    rename: Mapping[str, str] = field(default_factory=dict)
    cached: Callable[[str], str] = str


Direct = Callable[[keras.KerasTensor, Variant, int], Sequence[keras.KerasTensor]]


@dataclass(frozen=True)
class BackboneInfo:
    """One row of the registry: what a backbone is, without building it.

    Attributes:
        name: the name that `build` and every builder take.
        family: the family, networks of one paper and one construction.
        weights: names of the published weights, `()` if there are none.
        features: the layers whose outputs are the feature maps, finest first.
        strides: strides of the feature maps at output stride 32.
        channels: channels of the feature maps.
        parameters: number of parameters up to the last feature map, for RGB.
        normalization: `"caffe"` (BGR minus the ImageNet mean), `"tf"` (-1..1), `"torch"` (minus
            the ImageNet mean, over its standard deviation) or `"tf128"` (`image / 128 - 1`).
        paper: authors, title, year and arXiv id.
        output_strides: the values that `build(output_stride=...)` accepts.
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
    # How to build it, and where the published weights of a network that is built directly are.
    source: Published | Direct = field(kw_only=True, repr=False, compare=False)
    files: Mapping[str, str] = field(default_factory=dict, kw_only=True, repr=False, compare=False)


Row = BackboneInfo
