"""Losses of semantic segmentation, each a class and a function of the same math.

A class is a `keras.losses.Loss` for `compile`; its function has the class's arguments. Losses add
and scale: `Dice() + 0.5 * BinaryFocal()`.
"""

from segzoo.losses._base import Compound
from segzoo.losses.binary import (
    BinaryCrossentropy,
    BinaryFocal,
    binary_crossentropy_loss,
    binary_focal_loss,
)
from segzoo.losses.boundary import (
    BoundaryF1,
    CenterlineDice,
    boundary_f1_loss,
    centerline_dice_loss,
)
from segzoo.losses.categorical import (
    CategoricalCrossentropy,
    CategoricalFocal,
    categorical_crossentropy_loss,
    categorical_focal_loss,
)
from segzoo.losses.combined import BCEDice, bce_dice_loss
from segzoo.losses.deep import deep_supervision_weights
from segzoo.losses.distance import (
    BoundaryDistance,
    boundary_distance_loss,
    signed_distance,
)
from segzoo.losses.hard import OHEM, ohem_loss
from segzoo.losses.lovasz import (
    LovaszHinge,
    LovaszSoftmax,
    lovasz_hinge_loss,
    lovasz_softmax_loss,
)
from segzoo.losses.region import (
    Dice,
    FocalTversky,
    Jaccard,
    Tversky,
    dice_loss,
    focal_tversky_loss,
    jaccard_loss,
    tversky_loss,
)
from segzoo.losses.region_variants import (
    MCC,
    GeneralizedDice,
    LogCoshDice,
    generalized_dice_loss,
    log_cosh_dice_loss,
    mcc_loss,
)
from segzoo.losses.skeletons import (
    SkeletonRecall,
    skeleton,
    skeleton_recall_loss,
)

__all__ = [
    "MCC",
    "OHEM",
    "BCEDice",
    "BinaryCrossentropy",
    "BinaryFocal",
    "BoundaryDistance",
    "BoundaryF1",
    "CategoricalCrossentropy",
    "CategoricalFocal",
    "CenterlineDice",
    "Compound",
    "Dice",
    "FocalTversky",
    "GeneralizedDice",
    "Jaccard",
    "LogCoshDice",
    "LovaszHinge",
    "LovaszSoftmax",
    "SkeletonRecall",
    "Tversky",
    "bce_dice_loss",
    "binary_crossentropy_loss",
    "binary_focal_loss",
    "boundary_distance_loss",
    "boundary_f1_loss",
    "categorical_crossentropy_loss",
    "categorical_focal_loss",
    "centerline_dice_loss",
    "deep_supervision_weights",
    "dice_loss",
    "focal_tversky_loss",
    "generalized_dice_loss",
    "jaccard_loss",
    "log_cosh_dice_loss",
    "lovasz_hinge_loss",
    "lovasz_softmax_loss",
    "mcc_loss",
    "ohem_loss",
    "signed_distance",
    "skeleton",
    "skeleton_recall_loss",
    "tversky_loss",
]
