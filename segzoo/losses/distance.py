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
    """Returns the signed distance of every pixel to the border of each class, on the host.

    Inside a class it is minus the Euclidean distance to the nearest pixel outside, elsewhere the
    distance to the nearest pixel of the class, between pixel centers. A class that is absent or
    everywhere has no border, and 0 all over. Ignored pixels belong to neither side: they are 0, and
    no distance is measured to them.

    Args:
        mask: (H, W) or (H, W, 1), of 0 and 1, or labels where `classes` is above 1; or (H, W, C)
            one-hot or multi-label, of 0 and 1. A batch is (B, H, W, 1) or (B, H, W, C).
        classes: number of classes of labels. Defaults to `None`, for masks of 0 and 1.
        spacing: size of a pixel along rows and columns, in the unit of the result. Defaults to
            (1, 1).
        ignore_class: an integer or several: pixels that count nowhere. Defaults to `None`.

    Returns:
        (H, W, C) float32, or (B, H, W, C): the `y_true` of `BoundaryDistance`.

    Raises:
        ValueError: for a shape or a value that does not fit, or a spacing that is not above 0.

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

    with d = `signed_distance(mask)`: what is predicted far outside a class costs most, what is
    predicted deep inside it pays most. It is lowest, and below 0, for a perfect prediction. A class
    that is absent costs nothing, so it accompanies a region loss: `Dice() + 0.1 *
    BoundaryDistance()` on a `y_true` that has the mask first and the distances after it
    (`Compound`).

    Args:
        multilabel: whether several classes may overlap: logits take a sigmoid each. Defaults to
            `False`.
        class_weights: weights w >= 0 of the classes, a sequence, or a mapping of class to weight in
            which a class left out weighs 1; normalized: sum(w loss) / sum(w). The paper leaves the
            background out, `{0: 0}`. Defaults to `None`.
        ignore_class: an integer or several: the pixels that are 0 in every class, as
            `signed_distance(mask, ignore_class=...)` leaves them, do not count, and neither do
            those inside a class of that number. Defaults to `None`.
        <shared>

    Returns:
        A scalar in the unit of the distances; (B, H, W) with `reduction="none"`.

    Raises:
        ValueError: for arguments out of range, or shapes that do not fit; for a `y_true` that is
            no map of distances: not of floats, not finite, or (in eager mode) a mask of 0 and 1.

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
        """Returns the mean over the classes (B, H, W), and what its sum is divided by."""
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
