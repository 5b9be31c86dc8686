"""Batch normalization in one kernel, or with the statistics of all replicas.

Keras 3 writes batch normalization as some ten elementwise operations, on TensorFlow too, where a
fused kernel exists: it reads the map fewer times, and a model of fifty such layers is traced in a
fraction of the time. The variance that Keras's replicas share is the mean of the squares less the
square of the mean, which loses the digits that the two have in common; here it is the mean of the
squared deviations, as on one device. On other backends, and elsewhere, the layer is Keras's.
This file and `_dilated.py` import a backend, because `keras.ops` has no equal.
"""

from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

if keras.backend.backend() == "tensorflow":
    from tensorflow import distribute
    from tensorflow.raw_ops import FusedBatchNormV3
else:
    distribute = FusedBatchNormV3 = None


@keras.saving.register_keras_serializable(package="segzoo.layers")
class BatchNormalization(keras.layers.BatchNormalization):
    """Batch normalization with the fused kernel of TensorFlow.

    A map (B, H, W, C) with the channels last, without mask or renormalization, takes the fused
    kernel; anything else is computed by Keras. Weights and numbers are the same as those of
    `keras.layers.BatchNormalization`. With `synchronized` the statistics in training are those of
    all replicas, to the same accuracy as those of one device. An empty batch, such as a replica's
    share of a last batch that is smaller than the number of replicas, leaves the running statistics
    as they are; in Keras's layer they become NaN.

    Args:
        **kwargs: arguments of `keras.layers.BatchNormalization`, with its defaults.

    Call arguments:
        inputs: tensor (B, ..., C).
        training: bool, whether to take the statistics of the batch and update the running ones.
        mask: bool tensor (B, ...), which entries count; None for all.

    Returns:
        Tensor of the shape of `inputs`, in the layer's compute dtype.

    Example:
        >>> import keras, segzoo
        >>> layer = segzoo.layers.BatchNormalization(momentum=0.9)
        >>> tuple(layer(keras.ops.ones((2, 5, 7, 3))).shape)
        (2, 5, 7, 3)

    Reference:
        Ioffe, Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing
        Internal Covariate Shift", ICML 2015, arXiv 1502.03167, algorithm 1.
    """

    def call(self, inputs, training=None, mask=None):
        learning = bool(training and self.trainable)
        if learning and self.synchronized and self._counts_all(mask):
            return self._with_all_replicas(inputs)
        # A replica without an image takes part in what all compute together, and in nothing else.
        learning = learning and (self.synchronized or inputs.shape[0] != 0)
        if not self._fits(inputs, mask):
            return self._by_keras(inputs, learning, mask)
        channels = inputs.shape[-1]
        outputs, mean, variance, *_ = FusedBatchNormV3(
            x=inputs,
            scale=ops.convert_to_tensor(self.gamma) if self.scale else ops.ones(channels),
            offset=ops.convert_to_tensor(self.beta) if self.center else ops.zeros(channels),
            mean=[] if learning else ops.convert_to_tensor(self.moving_mean),
            variance=[] if learning else ops.convert_to_tensor(self.moving_variance),
            epsilon=self.epsilon,
            is_training=learning,
        )
        if learning:
            # The kernel gives the unbiased variance, Keras keeps the biased one.
            count = ops.cast(ops.size(inputs) // channels, variance.dtype)
            variance *= ops.maximum(count - 1.0, 1.0) / count
            self._remember(mean, variance, count)
        return outputs

    def _with_all_replicas(self, inputs):
        """Normalize by the mean and variance over the batches of all replicas."""
        x = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        axis = self.axis % len(inputs.shape)
        axes = [a for a in range(len(inputs.shape)) if a != axis]
        count = ops.cast(ops.size(x) // x.shape[axis], x.dtype)
        sums = _over_replicas(ops.append(ops.sum(x, axes), count))
        count = sums[-1]
        mean = sums[:-1] / ops.maximum(count, 1)
        shape = [-1 if a == axis else 1 for a in range(len(inputs.shape))]
        squares = ops.sum(ops.square(x - ops.reshape(mean, shape)), axes)
        variance = _over_replicas(squares) / ops.maximum(count, 1)
        self._remember(mean, variance, count)
        outputs = ops.batch_normalization(
            x, mean, variance, axis, self.beta, self.gamma, self.epsilon
        )
        return ops.cast(outputs, inputs.dtype)

    def _remember(self, mean, variance, count):
        """Move the running statistics towards those of a batch, unless it was empty."""
        for average, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            updated = average * self.momentum + value * (1.0 - self.momentum)
            average.assign(ops.where(count > 0, updated, average))

    def _by_keras(self, inputs, learning, mask):
        """Keras's own computation; the statistics of an empty batch are taken back."""
        # No statistics, those of all replicas together, or a batch known not to be empty.
        if not learning or self.synchronized or inputs.shape[0]:
            return super().call(inputs, training=learning, mask=mask)
        averages = (self.moving_mean, self.moving_variance)
        before = [ops.copy(average) for average in averages]
        outputs = super().call(inputs, training=True, mask=mask)
        empty = ops.equal(ops.shape(inputs)[0], 0)
        for average, value in zip(averages, before, strict=True):
            average.assign(ops.where(empty, value, average))
        return outputs

    def _counts_all(self, mask) -> bool:
        """Whether a batch's plain mean and variance are asked for, on TensorFlow."""
        renorm = getattr(self, "renorm", False)  # newer than the oldest Keras
        return distribute is not None and mask is None and not renorm

    def _fits(self, inputs, mask) -> bool:
        """Whether the fused kernel computes what Keras would."""
        return (
            self._counts_all(mask)
            and len(inputs.shape) == 4
            and self.axis in (-1, 3)
            and self.variable_dtype == "float32"
            and keras.backend.standardize_dtype(inputs.dtype) in ("float16", "bfloat16", "float32")
        )


def _over_replicas(x):
    """The sum over all replicas; outside of a strategy's step the tensor itself."""
    context = distribute.get_replica_context()
    return x if context is None else context.all_reduce(distribute.ReduceOp.SUM, x)


class KeepsSynchronized(keras.layers.Layer):
    """A layer of layers whose file says whether its batch normalizations are `synchronized`.

    That is set on a layer that is built already, so it is no argument of the layer around it.
    """

    def get_build_config(self) -> dict[str, Any] | None:
        config = super().get_build_config()
        if any(norm.synchronized for norm in _batch_normalizations(self)):
            return {**(config or {}), "synchronized": True}
        return config

    def build_from_config(self, config: dict[str, Any]) -> None:
        if config.get("synchronized"):
            for norm in _batch_normalizations(self):
                norm.synchronized = True
        super().build_from_config(config)


def _batch_normalizations(layer: keras.layers.Layer) -> Iterator[keras.layers.BatchNormalization]:
    """Yield the batch normalizations among the attributes of a layer, and among theirs."""
    # On PyTorch the layers among a layer's attributes are in `_modules` alone.
    for inner in (*vars(layer).values(), *getattr(layer, "_modules", {}).values()):
        if isinstance(inner, keras.layers.BatchNormalization):
            yield inner
        elif isinstance(inner, keras.layers.Layer):
            yield from _batch_normalizations(inner)
