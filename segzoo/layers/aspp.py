"""Atrous spatial pyramid pooling, the context module of DeepLabV3 and DeepLabV3+.

             +- 1x1 --------------------------+
             +- 3x3, rate 6 ------------------+
        x ---+- 3x3, rate 12 -----------------+- concatenate - 1x1 - dropout
             +- 3x3, rate 18 -----------------+
             +- mean over the image - 1x1 ----+

Chen, Papandreou, Schroff, Adam, "Rethinking Atrous Convolution for Semantic Image Segmentation",
2017, arXiv 1706.05587, section 3.3 and figure 5.
"""

from collections.abc import Sequence
from typing import Any

import keras

from segzoo.layers._arguments import activation_function, items, positive_int, regularizer
from segzoo.layers.blocks import ConvBlock, SeparableConvBlock
from segzoo.layers.normalization import KeepsSynchronized
from segzoo.layers.resize import ResizeLike


@keras.saving.register_keras_serializable(package="segzoo.layers")
class AtrousSpatialPyramidPooling(KeepsSynchronized):
    """Parallel convolutions of several dilation rates and the mean of the map, merged by a 1x1.

    Args:
        filters: int >= 1, channels of each branch and of the output. Defaults to 256.
        dilations: ints >= 1, the rates of the 3x3 branches. Defaults to (6, 12, 18).
        separable: bool, whether the 3x3 convolutions are separable, as in DeepLabV3+. Defaults to
            False.
        dropout: rate in [0, 1), after the projection. Defaults to 0.1.
        normalization: as in `ConvBlock`. Defaults to `"batch"`. The image pooling branch has one
            pixel, which `"instance"` would erase: it takes `"layer"` there.
        activation: activation of every branch, a name or a function. Defaults to `"relu"`.
        epsilon: as in `ConvBlock`. Defaults to None.
        kernel_regularizer: regularizer of every convolution. Defaults to None.

    Call arguments:
        x: tensor (B, H, W, C), of any size.

    Returns:
        Tensor (B, H, W, filters).

    Raises:
        ValueError: if `dilations` is empty or `dropout` is outside [0, 1).

    Example:
        >>> import keras, segzoo
        >>> aspp = segzoo.layers.AtrousSpatialPyramidPooling(16, dilations=(2, 4))
        >>> tuple(aspp(keras.ops.ones((1, 9, 7, 32))).shape)
        (1, 9, 7, 16)

    Reference:
        Chen, Papandreou, Schroff, Adam, "Rethinking Atrous Convolution for Semantic Image
        Segmentation", 2017, arXiv 1706.05587, section 3.3.
    """

    def __init__(
        self,
        filters: int = 256,
        dilations: Sequence[int] = (6, 12, 18),
        *,
        separable: bool = False,
        dropout: float = 0.1,
        normalization: str | None = "batch",
        activation: str | None = "relu",
        epsilon: float | None = None,
        kernel_regularizer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        rates = items(dilations)
        if not rates:
            raise ValueError(
                f"`dilations` must be a list of at least one rate, received dilations={dilations!r}"
            )
        if not 0 <= dropout < 1:
            raise ValueError(f"`dropout` must be in [0, 1), received dropout={dropout}")
        self.filters = positive_int("filters", filters)
        self.dilations = tuple(positive_int("dilations", rate) for rate in rates)
        self.separable = separable
        self.dropout = dropout
        self.normalization = normalization
        self.activation = activation_function("activation", activation)
        self.epsilon = epsilon
        self.kernel_regularizer = regularizer("kernel_regularizer", kernel_regularizer)

        name, dtype = self.name, self.dtype_policy
        style = {
            "normalization": normalization,
            "activation": activation,
            "epsilon": epsilon,
            "kernel_regularizer": kernel_regularizer,
            "dtype": dtype,
        }
        pooled_style = {**style, "normalization": "layer"} if normalization == "instance" else style
        block = SeparableConvBlock if separable else ConvBlock
        # Attributes, not a list: `tf.train.Checkpoint` follows attributes alone.
        self.pointwise = ConvBlock(self.filters, 1, **style, name=f"{name}_1x1")
        for place, rate in enumerate(self.dilations, 1):
            branch = block(self.filters, 3, dilation_rate=rate, **style, name=f"{name}_rate_{rate}")
            setattr(self, f"branch_{place}", branch)
        self.mean = keras.layers.GlobalAveragePooling2D(
            keepdims=True, data_format="channels_last", name=f"{name}_mean", dtype=dtype
        )
        self.pooling = ConvBlock(self.filters, 1, **pooled_style, name=f"{name}_pooling")
        self.spread = ResizeLike(name=f"{name}_spread", dtype=dtype)
        self.merge = keras.layers.Concatenate(name=f"{name}_merge", dtype=dtype)
        self.project = ConvBlock(self.filters, 1, **style, name=f"{name}_project")
        self.drop = keras.layers.Dropout(dropout, name=f"{name}_dropout", dtype=dtype)

    @property
    def branches(self) -> list:
        """The branches on the map itself; version 0.1 held them in a list of this name."""
        rates = range(1, len(self.dilations) + 1)
        return [self.pointwise, *(getattr(self, f"branch_{place}") for place in rates)]

    def build(self, input_shape) -> None:
        branches = self.branches
        for branch in branches:
            branch.build(input_shape)
        self.pooling.build((input_shape[0], 1, 1, input_shape[-1]))
        self.project.build((*input_shape[:3], self.filters * (len(branches) + 1)))

    def call(self, x):
        pooled = self.spread(self.pooling(self.mean(x)), x)
        x = self.merge([*[branch(x) for branch in self.branches], pooled])
        return self.drop(self.project(x))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:3], self.filters)

    def get_config(self) -> dict[str, Any]:
        config = {
            "filters": self.filters,
            "dilations": self.dilations,
            "separable": self.separable,
            "dropout": self.dropout,
            "normalization": self.normalization,
            "activation": keras.activations.serialize(self.activation),
            "epsilon": self.epsilon,
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
        }
        return {**super().get_config(), **config}
