"""Convolution blocks: convolution, normalization and activation as one layer.

`ConvBlock` is the plain one; `SeparableConvBlock` splits it into a depthwise and a pointwise
convolution, as in Chollet, "Xception", 2017, arXiv 1610.02357.
"""

from typing import Any

import keras

from segzoo.layers import _dilated, activations
from segzoo.layers._arguments import activation_function, positive_int, regularizer
from segzoo.layers.normalization import BatchNormalization, KeepsSynchronized

NORMALIZATIONS = ("batch", "group", "layer", "instance", None)


def normalization_layer(
    kind: str | None,
    channels: int,
    *,
    epsilon: float | None = None,
    groups: int | None = None,
    **kwargs: Any,
):
    """The layer behind a `normalization` argument, None for None.

    `"group"` takes the largest number of groups up to 32 that leaves at least 8 channels to each
    (Wu and He, "Group Normalization", 2018, arXiv 1803.08494), or `groups`. `"layer"` normalizes
    the channels of each pixel, `"instance"` each channel of each image. `epsilon` of None means
    Keras's default, 1e-3.
    """
    _check_normalization(kind)
    if epsilon is not None:
        kwargs["epsilon"] = epsilon
    if kind == "batch":
        # Keras's momentum of 0.99 still carries the initial variance after hundreds of steps,
        # so that a short training scores well in training and at zero in validation.
        return BatchNormalization(momentum=0.9, **kwargs)
    if kind == "group":
        if groups is None:
            most = min(32, max(1, channels // 8))
            groups = next(g for g in range(most, 0, -1) if channels % g == 0)
        return keras.layers.GroupNormalization(groups, **kwargs)
    if kind == "layer":
        return keras.layers.LayerNormalization(**kwargs)
    if kind == "instance":
        return keras.layers.GroupNormalization(-1, **kwargs)
    return None


def _check_normalization(kind: Any) -> None:
    if not (kind is None or isinstance(kind, str)) or kind not in NORMALIZATIONS:
        raise ValueError(
            f"`normalization` must be one of {NORMALIZATIONS}, received normalization={kind!r}"
        )


class _Block(KeepsSynchronized):
    """What both blocks share: their arguments, and sublayers that run one after the other.

    Every sublayer is an attribute of its own, since `tf.train.Checkpoint` follows attributes and
    not lists.
    """

    # The attributes that hold the sublayers, in the order of the computation.
    _places: tuple[str, ...] = ()

    def __init__(
        self,
        filters: int,
        kernel_size: int = 3,
        *,
        strides: int = 1,
        dilation_rate: int = 1,
        normalization: str | None = "batch",
        activation: str | None = "relu",
        epsilon: float | None = None,
        groups: int | None = None,
        use_bias: bool | None = None,
        kernel_initializer: Any = "he_normal",
        kernel_regularizer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filters = positive_int("filters", filters)
        self.kernel_size = positive_int("kernel_size", kernel_size)
        self.strides = positive_int("strides", strides)
        self.dilation_rate = positive_int("dilation_rate", dilation_rate)
        if self.strides > 1 and self.dilation_rate > 1:
            raise ValueError(
                "`strides` and `dilation_rate` cannot both be above 1, received "
                f"strides={strides}, dilation_rate={dilation_rate}"
            )
        if epsilon is not None and not epsilon > 0:
            raise ValueError(f"`epsilon` must be above 0 or None, received epsilon={epsilon!r}")
        _check_normalization(normalization)
        self.normalization = normalization
        self.activation = activation_function("activation", activation)
        self.epsilon = epsilon
        self.groups = None if groups is None else positive_int("groups", groups)
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = regularizer("kernel_regularizer", kernel_regularizer)

    def _norm(self, channels: int, place: str = ""):
        # Group, layer and instance normalization have the same weights: their names tell files
        # apart. A batch normalization has others.
        said = "" if self.normalization == "batch" else f"{self.normalization}_"
        return normalization_layer(
            self.normalization,
            channels,
            epsilon=self.epsilon,
            groups=self.groups,
            name=f"{place}{said}norm",
            dtype=self.dtype_policy,
        )

    def _activation(self, name: str):
        if self.activation is keras.activations.linear:
            return None
        function = activations.get(self.activation)
        return keras.layers.Activation(function, name=name, dtype=self.dtype_policy)

    @property
    def sublayers(self) -> list[keras.layers.Layer]:
        """The layers of the block, in order.

        Version 0.1 held them in a list of this name; so Keras finds them in its files too.
        """
        found = (getattr(self, place, None) for place in self._places)
        return [layer for layer in found if layer is not None]

    @property
    def _needs_bias(self) -> bool:
        """A bias in front of a normalization has no effect, so by default it is left out."""
        return self.normalization is None if self.use_bias is None else self.use_bias

    def build(self, input_shape) -> None:
        self._channels = input_shape[-1]
        for layer in self.sublayers:
            layer.build(input_shape)
            input_shape = layer.compute_output_shape(input_shape)

    def call(self, x):
        if x.shape[-1] != self._channels:  # None where Keras traces after both numbers were fed
            raise ValueError(
                f"the block {self.name!r} must get {self._channels} "
                f"channel{'s' * (self._channels != 1)}, received shape {tuple(x.shape)}; as the "
                "first block of a model it gets the images, whose channels are the last entry of "
                "the model's `input_shape`"
            )
        for layer in self.sublayers:
            x = layer(x)
        return x

    def compute_output_shape(self, input_shape):
        sizes = [None if n is None else -(-n // self.strides) for n in input_shape[1:3]]
        return (input_shape[0], *sizes, self.filters)

    def get_config(self) -> dict[str, Any]:
        config = {
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "dilation_rate": self.dilation_rate,
            "normalization": self.normalization,
            "activation": keras.activations.serialize(self.activation),
            "epsilon": self.epsilon,
            "groups": self.groups,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
        }
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable(package="segzoo.layers")
class ConvBlock(_Block):
    """Convolution with `"same"` padding, normalization and activation.

    Args:
        filters: int >= 1, number of output channels.
        kernel_size: int >= 1, height and width of the kernel. Defaults to 3.
        strides: int >= 1, along height and width. Defaults to 1.
        dilation_rate: int >= 1; not together with strides above 1. Defaults to 1.
        normalization: `"batch"`, `"group"`, `"layer"`, `"instance"` or None. Defaults to `"batch"`,
            with momentum 0.9.
        activation: a name, a function, or None for no activation. Defaults to `"relu"`.
        epsilon: float > 0, epsilon of the normalization; None means Keras's default, 1e-3. Defaults
            to None.
        groups: int >= 1, groups of the group normalization; None means the largest number up to 32
            that leaves at least 8 channels to each. Defaults to None.
        use_bias: bool; None means a bias only where no normalization follows. Defaults to None.
        kernel_initializer: initializer of the kernel. Defaults to `"he_normal"`.
        kernel_regularizer: regularizer of the kernel. Defaults to None.

    Call arguments:
        x: tensor (B, H, W, C).

    Returns:
        Tensor (B, ceil(H / strides), ceil(W / strides), filters).

    Raises:
        ValueError: if a size is below 1, strides are combined with dilation, or the normalization
            is unknown.

    Example:
        >>> import keras, segzoo
        >>> block = segzoo.layers.ConvBlock(8, strides=2, normalization="group")
        >>> tuple(block(keras.ops.ones((2, 33, 20, 3))).shape)
        (2, 17, 10, 8)
    """

    _places = ("conv", "norm", "act")

    def __init__(self, filters: int, kernel_size: int = 3, **kwargs: Any) -> None:
        super().__init__(filters, kernel_size, **kwargs)
        kind = _dilated.Conv2D if self.dilation_rate > 1 else keras.layers.Conv2D
        self.conv = kind(
            self.filters,
            self.kernel_size,
            strides=self.strides,
            padding="same",
            data_format="channels_last",
            dilation_rate=self.dilation_rate,
            use_bias=self._needs_bias,
            kernel_initializer=self.kernel_initializer,
            kernel_regularizer=self.kernel_regularizer,
            name="conv",
            dtype=self.dtype_policy,
        )
        self.norm = self._norm(self.filters)
        self.act = self._activation("activation")


@keras.saving.register_keras_serializable(package="segzoo.layers")
class SeparableConvBlock(_Block):
    """Depthwise convolution, then a 1x1 convolution, each with normalization and activation.

    This is the separable convolution of DeepLabV3+, which follows the aligned Xception in
    normalizing and activating after the depthwise half too.

    Args:
        filters: int >= 1, number of output channels.
        kernel_size: int >= 1, of the depthwise half. Defaults to 3.
        strides: int >= 1, of the depthwise half. Defaults to 1.
        dilation_rate: int >= 1, of the depthwise half. Defaults to 1.
        normalization: as in `ConvBlock`. Defaults to `"batch"`.
        activation: a name, a function, or None for no activation. Defaults to `"relu"`.
        epsilon: as in `ConvBlock`. Defaults to None.
        groups: as in `ConvBlock`. Defaults to None.
        use_bias: bool; None means a bias only where no normalization follows. Defaults to None.
        kernel_initializer: initializer of both kernels. Defaults to `"he_normal"`.
        kernel_regularizer: regularizer of the pointwise kernel; the published training leaves the
            depthwise kernels free. Defaults to None.

    Call arguments:
        x: tensor (B, H, W, C).

    Returns:
        Tensor (B, ceil(H / strides), ceil(W / strides), filters).

    Raises:
        ValueError: if an argument is out of range, as in `ConvBlock`.

    Example:
        >>> import keras, segzoo
        >>> block = segzoo.layers.SeparableConvBlock(8, dilation_rate=6)
        >>> tuple(block(keras.ops.ones((2, 33, 20, 4))).shape)
        (2, 33, 20, 8)

    Reference:
        Chen, Zhu, Papandreou, Schroff, Adam, "Encoder-Decoder with Atrous Separable Convolution
        for Semantic Image Segmentation", ECCV 2018, arXiv 1802.02611, section 3.1 and figure 4.
    """

    _places = (
        "depthwise",
        "depthwise_norm",
        "depthwise_act",
        "pointwise",
        "pointwise_norm",
        "pointwise_act",
    )

    def __init__(self, filters: int, kernel_size: int = 3, **kwargs: Any) -> None:
        super().__init__(filters, kernel_size, **kwargs)

    def build(self, input_shape) -> None:
        # Made here, not in `__init__`: group normalization needs to know the input's channels.
        dilated = self.dilation_rate > 1
        kind = _dilated.DepthwiseConv2D if dilated else keras.layers.DepthwiseConv2D
        self.depthwise = kind(
            self.kernel_size,
            strides=self.strides,
            padding="same",
            data_format="channels_last",
            dilation_rate=self.dilation_rate,
            use_bias=self._needs_bias,
            depthwise_initializer=self.kernel_initializer,
            name="depthwise",
            dtype=self.dtype_policy,
        )
        self.depthwise_norm = self._norm(input_shape[-1], "depthwise_")
        self.depthwise_act = self._activation("depthwise_activation")
        self.pointwise = keras.layers.Conv2D(
            self.filters,
            1,
            data_format="channels_last",
            use_bias=self._needs_bias,
            kernel_initializer=self.kernel_initializer,
            kernel_regularizer=self.kernel_regularizer,
            name="pointwise",
            dtype=self.dtype_policy,
        )
        self.pointwise_norm = self._norm(self.filters, "pointwise_")
        self.pointwise_act = self._activation("pointwise_activation")
        super().build(input_shape)
