"""What the outputs of deep supervision weigh."""

from __future__ import annotations

from segzoo._arguments import integer


def deep_supervision_weights(n: int) -> list[float]:
    """Compute the `loss_weights` of `n` heads, shallowest first.

    Each head weighs half of the next finer one, and the sum is 1, as in nnU-Net (Isensee et
    al., "nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation",
    Nature Methods 18, 2021, supplementary note 2).

    Args:
        n: int >= 1, number of heads.

    Returns:
        A list of `n` numbers above 0, in rising order, whose sum is 1.

    Raises:
        ValueError: if `n` is not an integer >= 1.

    Example:
        >>> [round(weight, 3) for weight in deep_supervision_weights(4)]
        [0.067, 0.133, 0.267, 0.533]
    """
    total = 2 ** integer("n", n, 1) - 1
    return [2**head / total for head in range(n)]
