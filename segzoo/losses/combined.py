"""Sums of losses that have a name of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from segzoo._arguments import ClassWeights
from segzoo.losses._base import Compound, SegmentationLoss
from segzoo.losses._declare import as_function, register
from segzoo.losses.binary import BinaryCrossentropy
from segzoo.losses.region import Dice


@register
class BCEDice(Compound):
    """Binary cross-entropy plus Dice loss.

        BCEDice = BinaryCrossentropy + Dice

    Each class is taken by itself, as in `BinaryCrossentropy`. `average="micro"` gives the form that
    many notebooks have for several classes, one Dice over the pixels of all of them.

    Args:
        multilabel: whether several classes may overlap. `False` lets logits of several classes take
            a softmax instead of a sigmoid each. Defaults to True.
        <shared>

    Attributes:
        parts: the two losses; `metrics=loss.parts` logs each of them.

    Returns:
        A scalar >= 0, the sum of both means.

    Raises:
        ValueError: if an argument is out of range or the shapes do not fit.

    Example:
        >>> import numpy as np
        >>> mask = np.array([[[[1.0], [1.0], [0.0], [0.0]]]])
        >>> loss = BCEDice()
        >>> print(float(loss(mask, mask)), [part.name for part in loss.parts])
        0.0 ['binary_crossentropy', 'dice']

    Reference:
        Isensee, Petersen, Klein, et al., "nnU-Net: Self-adapting Framework for U-Net-Based Medical
        Image Segmentation", 2018, arXiv 1809.10486, section 2.3.
    """

    def __init__(
        self,
        from_logits: bool = False,
        multilabel: bool = True,
        per_image: bool = False,
        average: str = "macro",
        class_weights: ClassWeights = None,
        ignore_class: int | Sequence[int] | None = None,
        label_smoothing: float = 0.0,
        smooth: float = 1.0,
        name: str | None = None,
        reduction: str | None = "sum_over_batch_size",
        dtype: Any = None,
    ):
        common: dict[str, Any] = {
            "from_logits": from_logits,
            "multilabel": multilabel,
            "class_weights": class_weights,
            "ignore_class": ignore_class,
            "reduction": reduction,
            "dtype": dtype,
        }
        entropy = BinaryCrossentropy(label_smoothing=label_smoothing, **common)
        dice = Dice(per_image=per_image, average=average, smooth=smooth, **common)
        super().__init__([entropy, dice], name=name or "bce_dice")
        self.reduction = reduction
        self._dtype_policy, self._dtype = dice._dtype_policy, dice._dtype
        for argument in ("from_logits", "multilabel", "per_image", "average", "smooth"):
            setattr(self, argument, getattr(dice, argument))
        self.class_weights = dice.class_weights
        self.ignore_class = dice.ignore_class
        self.label_smoothing = entropy.label_smoothing

    get_config = SegmentationLoss.get_config
    __repr__ = SegmentationLoss.__repr__

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> BCEDice:
        """Return the loss of a `get_config`."""
        return cls(**config)


bce_dice_loss = as_function(BCEDice)
