"""What differs between libraries that built one decoder, chosen once and handed to it.

The paper's builders and the readers of other libraries' checkpoints call the same decoders; a
decoder asks its `Style` for a convolution block or a resize and knows no library.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import keras

from segzoo.layers import ConvBlock, ResizeLike, SeparableConvBlock
from segzoo.layers.blocks import normalization_layer


@dataclass(frozen=True)
class Style:
    """How a decoder's blocks and resizes are made.

    Attributes:
        normalization: `"batch"`, `"group"`, `"layer"`, `"instance"` or None.
        activation: name or function of the blocks' activation, None for none.
        epsilon: of the normalizations; None means Keras's default, 1e-3.
        groups: of group normalization; None means the largest number up to 32 that leaves at
            least 8 channels to each.
        use_bias: whether convolutions have a bias; None means only where no normalization
            follows.
        kernel_regularizer: of every convolution.
        align_corners: whether bilinear resizes keep the centers of the corner pixels in place.
    """

    normalization: str | None = "batch"
    activation: Any = "relu"
    epsilon: float | None = None
    groups: int | None = None
    use_bias: bool | None = None
    kernel_regularizer: Any = None
    align_corners: bool = False

    def but(self, **changes: Any) -> "Style":
        """The same style with some fields changed."""
        return dataclasses.replace(self, **changes)

    def conv(self, x, filters: int, kernel_size: int = 3, *, name: str, **options: Any):
        """Convolution, normalization, activation: a `ConvBlock`; `options` override the style."""
        return ConvBlock(filters, kernel_size, **{**self._block, **options}, name=name)(x)

    def separable_conv(self, x, filters: int, kernel_size: int = 3, *, name: str, **options: Any):
        """The same with a `SeparableConvBlock`."""
        return SeparableConvBlock(filters, kernel_size, **{**self._block, **options}, name=name)(x)

    def transposed_conv(self, x, filters: int, kernel_size: int, *, name: str):
        """Transposed convolution of stride 2 without padding, normalization, activation."""
        bias = self.normalization is None if self.use_bias is None else self.use_bias
        x = keras.layers.Conv2DTranspose(
            filters,
            kernel_size,
            strides=2,
            padding="valid",
            data_format="channels_last",
            use_bias=bias,
            kernel_initializer="he_normal",
            kernel_regularizer=self.kernel_regularizer,
            name=name,
        )(x)
        norm = normalization_layer(
            self.normalization,
            filters,
            epsilon=self.epsilon,
            groups=self.groups,
            name=f"{name}_norm",
        )
        x = x if norm is None else norm(x)
        if self.activation is None:
            return x
        return keras.layers.Activation(self.activation, name=f"{name}_activation")(x)

    def resize(self, x, like, *, name: str, interpolation: str = "bilinear", **options: Any):
        """Bring `x` to the height and width of `like`."""
        # Aligned corners are a property of bilinear resizes alone.
        corners = self.align_corners and interpolation == "bilinear"
        return ResizeLike(interpolation, align_corners=corners, name=name, **options)(x, like)

    @property
    def _block(self) -> dict[str, Any]:
        fields = ("normalization", "activation", "epsilon", "groups", "use_bias")
        return {
            **{field: getattr(self, field) for field in fields},
            "kernel_regularizer": self.kernel_regularizer,
        }
