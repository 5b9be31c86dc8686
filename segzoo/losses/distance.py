"""The boundary loss of Kervadec et al., and the signed distances that it reads."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Unpack

import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from segzoo._arguments import ClassWeights
from segzoo._reading import Batch, Reading
from segzoo.losses._declare import LossOptions, as_function, register
from segzoo.losses._masks import IgnoreClass, by_image, checked_spacing
from segzoo.losses._pixel import PixelMean


def signed_distance(
    mask: ArrayLike,
    classes: int | None = None,
    spacing: Sequence[float] = (1, 1),
    *,
    ignore_class: IgnoreClass = None,
) -> np.ndarray:
    """Compute the signed distance of every pixel to the border of each class, on the host.

    Inside a class it is minus the Euclidean distance to the nearest pixel outside, elsewhere the
    distance to the nearest pixel of the class, between the centers of the pixels. A class that is
    absent or everywhere has no border: its distances are 0. Ignored pixels belong to neither side:
    they are 0, and no distance is measured to them.

    Args:
        mask: array (H, W) or (H, W, 1) of 0 and 1, or of labels if `classes` is above 1; or
            (H, W, C) of 0 and 1, one-hot or multi-label. A batch is (B, H, W, 1) or (B, H, W, C).
        classes: number of classes, if the mask holds labels. Defaults to None, for masks of 0 and
            1.
        spacing: height and width of a pixel, in the unit of the result. Defaults to
            (1, 1).
        ignore_class: one integer or several: labels of pixels that are left out. Defaults to None.

    Returns:
        A float32 array (H, W, C), or (B, H, W, C): the `y_true` of `BoundaryDistance`.

    Raises:
        ValueError: if a shape or a value does not fit, or `spacing` is not above 0.

    Example:
        >>> mask = np.array([[0, 0, 1, 1, 1]])
        >>> signed_distance(mask)[..., 0]
        array([[ 2.,  1., -1., -2., -3.]], dtype=float32)

    Reference:
        Kervadec et al. 2019, arXiv 1812.07032, equation 4 (the level set of the boundary). Differs
        from the authors' code: 1 is not subtracted inside, so that the sign tells the mask.
    """
    from scipy import ndimage

    sampling = checked_spacing(spacing)

    def distances(one_hot: np.ndarray, void: np.ndarray) -> np.ndarray:
        result = np.zeros(one_hot.shape, "float32")
        for c in range(one_hot.shape[-1]):
            inside = one_hot[..., c]
            outside = ~(inside | void)
            if inside.any() and outside.any():
                to_class = ndimage.distance_transform_edt(~inside, sampling)
                to_rest = ndimage.distance_transform_edt(~outside, sampling)
                result[..., c] = np.where(void, 0, np.where(inside, -to_rest, to_class))
        return result

    return by_image(distances, mask, classes, ignore_class)


@register
class BoundaryDistance(PixelMean):
    """Boundary loss: the mean of the probability times the signed distance to the true border.

        BoundaryDistance = mean of p d

    where d = `signed_distance(mask)`: what is predicted far outside a class costs most, and what is
    predicted deep inside it lowers the loss most. A perfect prediction has the lowest loss, below
    0. An absent class costs nothing, so add this loss to a region loss: `Dice() + 0.1 *
    BoundaryDistance()` on a `y_true` that has the mask first and the distances after it
    (`Compound`).

    Args:
        multilabel: whether several classes may overlap: logits take a sigmoid each. Defaults to
            `False`.
        class_weights: weights w >= 0 of the classes, a sequence, or a mapping from class to weight
            in which a missing class weighs 1; normalized: sum(w loss) / sum(w). The paper leaves
            the background out, `{0: 0}`. Defaults to None.
        ignore_class: one integer or several: pixels that are 0 in every class, as
            `signed_distance(mask, ignore_class=...)` leaves them, are left out, and so are those
            inside a class of that number. Defaults to None.
        <shared>

    Returns:
        A scalar in the unit of the distances; (B, H, W) with `reduction="none"`.

    Raises:
        ValueError: if an argument is out of range or the shapes do not fit; if `y_true` is not a
            map of distances: not floats, not finite, or (in eager mode) a mask of 0 and 1.

    Example:
        >>> import numpy as np
        >>> mask = np.array([[0, 0, 1, 1, 1]])
        >>> distance = signed_distance(mask)[None]  # 2, 1, -1, -2, -3
        >>> near = np.array([[0, 1, 1, 1, 1.0]])[None, ..., None]
        >>> far = np.array([[1, 0, 1, 1, 1.0]])[None, ..., None]
        >>> loss = BoundaryDistance()
        >>> print(float(loss(distance, near)), float(loss(distance, far)))
        -1.0 -0.8

    Reference:
        Kervadec, Bouchtiba, Desrosiers, Granger, Dolz, Ben Ayed, "Boundary loss for highly
        unbalanced segmentation", MIDL 2019, arXiv 1812.07032, equation 5.
    """

    _reads_map = True

    def __init__(
        self,
        class_weights: ClassWeights = None,
        multilabel: bool = False,
        **options: Unpack[LossOptions],
    ):
        super().__init__(class_weights, multilabel, **options)

    @functools.cached_property
    def _reading(self) -> Reading:
        return Reading(
            multilabel=self.multilabel,
            from_logits=self.from_logits,
            ignored=self._ignored,
            dtype=self.dtype,
            probabilities=True,
            signed=True,
        )

    def weighted_losses(self, batch: Batch) -> tuple[Batch, Any, Any]:
        """Return the mean over the classes (B, H, W), and what its sum is divided by."""
        p = batch.settle(batch.scores if batch.activation is None else batch.probabilities())
        values, weights = p * batch.dense(), self._weights_of_classes(batch)
        if weights is None:
            values = ops.mean(values, axis=-1)
        else:
            values = ops.sum(values * (weights / ops.sum(weights)), axis=-1)
        valid = None if batch.valid is None else ops.cast(batch.valid, batch.dtype)
        counted = batch.counted()
        if counted is not None:
            values = values * ops.squeeze(counted, -1)
        return batch, values, self._divisor(batch, valid)


boundary_distance_loss = as_function(
    BoundaryDistance, truth="losses.signed_distance([[0, 1]], classes=2)[None]"
)
