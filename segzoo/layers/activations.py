"""Activations that Keras has in a form that does not export everywhere."""

import math

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="segzoo.layers")
def gelu(x):
    """Compute the exact Gaussian error linear unit, in the form that exports to ONNX.

    `gelu(x) = x / 2 * (1 + erf(x / sqrt(2)))`

    Keras writes the same function with the complementary error function, which is
    an operation of TensorFlow but not of ONNX. The two differ by rounding, 6e-8 for abs(x) < 1.

    Args:
        x: float tensor of any shape.

    Returns:
        Tensor of the shape and type of `x`.

    Example:
        >>> import keras, segzoo
        >>> y = segzoo.layers.gelu(keras.ops.array([-1.0, 0.0, 1.0]))
        >>> [round(float(value), 4) for value in y]
        [-0.1587, 0.0, 0.8413]

    Reference:
        Hendrycks, Gimpel, "Gaussian Error Linear Units (GELUs)", 2016, arXiv 1606.08415, section 2.
    """
    return 0.5 * x * (1.0 + ops.erf(x * math.sqrt(0.5)))


def get(identifier):
    """`keras.activations.get`, with `gelu` in place of Keras's exact form.

    Args:
        identifier: name, config or function of an activation, or None.

    Returns:
        The function.

    Example:
        >>> from segzoo.layers import activations
        >>> activations.get("gelu") is activations.gelu, activations.get("relu").__name__
        (True, 'relu')
    """
    function = keras.activations.get(identifier)
    return gelu if function is keras.activations.gelu else function
