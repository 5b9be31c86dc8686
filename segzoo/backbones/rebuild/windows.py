"""What becomes of a convolution or a pool: its padding, its stride, its dilation.

Strides past the output stride become dilation (the à-trous algorithm; Chen et al. 2018, "DeepLab",
arXiv 1606.00915, section 3.1): the layer's stride is set to 1 and every later window gets wider by
as much. The dense map, read at the removed stride, is the original map.

Padding is made independent of how the network was built. Keras pads some networks (MobileNet,
NASNet) by their static size, and others not at all ('valid' stems of Xception and Inception, pools
of VGG and DenseNet), so that maps shrink by a border and lose their place. Here all of these pad
'same', as the networks' authors did or as the static size would have it: a map of stride s has
ceil(size / s) rows, whatever the size and whenever it is known. Padding that is the same for every
size (ResNet) stays as it is.
"""

from typing import NamedTuple

from segzoo.backbones._rows import Variant


class Scale(NamedTuple):
    """Pixels of the image per pixel of a map: in the original network, and as built."""

    nominal: int = 1
    actual: int = 1

    @property
    def dilation(self) -> int:
        """Distance in the map as built between two neighbors of the original map."""
        return self.nominal // self.actual


class Place(NamedTuple):
    """Where a map stands in the network: its scale, and what was done in front of it."""

    scale: Scale = Scale()
    padded: bool = False  # a padding that stays was made in front
    unpadded: bool = False  # one that does not stay was left out


class Window(NamedTuple):
    """How a window is built."""

    scale: Scale  # behind it
    stride: int
    dilation: int
    padding: str  # of the layer
    pad: tuple[tuple[int, int], tuple[int, int]] | None = None  # by a layer in front
    phase: bool = False  # whether the map is shifted by its phase first


def window(
    kernel: tuple[int, int],
    stride: int,
    padding: str,
    place: Place,
    output_stride: int,
    variant: Variant,
) -> Window:
    """Decide how a window of the published network is built.

    Args:
        kernel: of the window.
        stride: in the published network.
        padding: in the published network.
        place: of the map in front of it.
        output_stride: strides beyond it become dilation.
        variant: what a library did otherwise.
    """
    before = place.scale
    kept = before.nominal * stride <= output_stride
    after = Scale(before.nominal * stride, before.actual * (stride if kept else 1))
    built = stride if kept else 1
    dilation = before.dilation
    if not kept and variant.dilation == "stage":
        dilation = after.dilation
    if max(kernel) == 1:
        # With stride 2 a wider 'same' window on an even size reads odd pixels, this one even ones.
        phase = stride > 1 and not kept and padding == "same" and variant.padding is None
        return Window(after, built, 1, "valid", phase=phase)
    if place.padded:
        return Window(after, built, dilation, "valid")
    if not variant.rounds_up and padding == "valid" and not place.unpadded:
        return Window(after, built, dilation, "valid" if kept else "same")
    if built > 1 and variant.padding is not None:
        pads = [strided_padding(size, built, variant.padding, before.nominal) for size in kernel]
        return Window(after, built, dilation, "valid", (pads[0], pads[1]))
    if dilation > 1 and max(kernel) == 2:
        # 'same' would center the wide window between its taps, which moves the map.
        return Window(after, built, dilation, "valid", ((0, dilation), (0, dilation)))
    return Window(after, built, dilation, "same")


def strided_padding(kernel: int, stride: int, padding: str | int, nominal: int) -> tuple[int, int]:
    """Padding before and behind, along one axis, of a window with a stride.

    Args:
        kernel: of the window.
        stride: of the window.
        padding: `"symmetric"`, or the image's nominal size, as in `Variant`.
        nominal: stride of the map in front.

    Example:
        >>> strided_padding(3, 2, "symmetric", 1), strided_padding(3, 2, 224, 1)
        ((1, 1), (0, 1))
        >>> strided_padding(3, 2, 260, 4)  # on 65 rows
        (1, 1)
    """
    if padding == "symmetric":
        return (kernel // 2, kernel // 2)
    size = -(-int(padding) // nominal)
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return (total // 2, total - total // 2)
