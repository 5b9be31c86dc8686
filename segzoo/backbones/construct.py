"""Layers of a network that is built directly: one place for padding, dilation and epsilon.

A family's module writes its network with these, in the paper's order, and gets every output stride
and what other libraries do otherwise (`Variant`) with it.
"""

from typing import Any, NamedTuple

from keras import layers

from segzoo.backbones._rows import Variant
from segzoo.backbones.rebuild.windows import strided_padding
from segzoo.layers import GroupedConv2D, _dilated
from segzoo.layers.normalization import BatchNormalization

LAST = "channels_last"


class Stage(NamedTuple):
    """How the stride of a stage is built.

    Attributes:
        stride: as built: 1 where the output stride is reached.
        first: dilation of the window that has the stride.
        rate: dilation of the windows after it.
    """

    stride: int = 1
    first: int = 1
    rate: int = 1


class Layers:
    """Makes the layers of one network.

    Args:
        variant: what another library did otherwise.
        output_stride: strides beyond it become dilation.
        padding: of a window with a stride: `"symmetric"`, half the kernel on every side, or
            `"same"`, TensorFlow's. A window without one is padded alike on both sides.
        epsilon: of batch normalization.
        momentum: of batch normalization. Defaults to 0.9, PyTorch's.
        **convolution: further arguments of every convolution.
    """

    def __init__(
        self,
        variant: Variant,
        output_stride: int,
        *,
        padding: str = "symmetric",
        epsilon: float = 1e-5,
        momentum: float = 0.9,
        **convolution: Any,
    ):
        self.output_stride = output_stride
        self.padding = variant.padding or padding
        self.normalization = {
            "epsilon": variant.epsilon or epsilon,
            "momentum": variant.momentum or momentum,
        }
        self.whole_stage = variant.dilation == "stage"
        self.early = variant.early
        self.convolution = convolution
        self.nominal = self.actual = 1

    def stage(self, stride: int = 1) -> Stage:
        """Go on to the next stage, whose first window has a stride."""
        before = self.nominal // self.actual
        self.nominal *= stride
        built = stride if self.nominal <= self.output_stride else 1
        self.actual *= built
        rate = self.nominal // self.actual
        first = rate if self.whole_stage and built < stride else before
        return Stage(built, first, rate)

    def conv(
        self,
        x,
        filters: int,
        kernel: int,
        name: str,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        use_bias: bool = False,
    ):
        """A convolution."""
        options = {"use_bias": use_bias, "name": name, **self.convolution}
        if groups > 1:
            kind, options["groups"] = GroupedConv2D, groups
        else:
            kind = layers.Conv2D
        return self._window(x, kind, kernel, stride, dilation, filters=filters, **options)

    def depthwise(self, x, kernel: int, name: str, *, stride: int = 1, dilation: int = 1):
        """A depthwise convolution without a bias."""
        options = {
            key.replace("kernel_", "depthwise_"): value for key, value in self.convolution.items()
        }
        return self._window(
            x,
            layers.DepthwiseConv2D,
            kernel,
            stride,
            dilation,
            use_bias=False,
            name=name,
            **options,
        )

    def _window(self, x, kind, kernel, stride, dilation, **options):
        padding = "same"
        if options["name"].startswith(self.early):
            dilation = 32 // self.output_stride
        if kernel == 1:
            padding, dilation = "valid", 1
        elif stride > 1 and self.padding != "same":
            # The window's own stride is counted already.
            pad = strided_padding(kernel, stride, self.padding, self.nominal // stride)
            name = f"{options['name']}_pad"
            x = layers.ZeroPadding2D((pad, pad), data_format=LAST, name=name)(x)
            padding = "valid"
        if dilation > 1:
            kind = _dilated.KINDS.get(kind, kind)
        return kind(
            kernel_size=kernel,
            strides=stride,
            padding=padding,
            dilation_rate=dilation,
            data_format=LAST,
            **options,
        )(x)

    def norm(self, x, name: str):
        """Batch normalization."""
        return BatchNormalization(**self.normalization, name=name)(x)
