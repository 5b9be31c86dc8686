"""Streaming metrics that mean the same whatever the batches, and distances between outlines."""

from segzoo.metrics.boundary import BoundaryF1Score, BoundaryIoU
from segzoo.metrics.calibration import CalibrationError
from segzoo.metrics.confusion import ConfusionMatrix
from segzoo.metrics.functional import boundary_f1_score, counts, dice_coef, f_score, iou_score
from segzoo.metrics.region import DiceScore, FScore, IoU, PixelAccuracy, Precision, Recall
from segzoo.metrics.surface import average_surface_distance, hausdorff_distance, surface_dice
from segzoo.metrics.threshold import ThresholdSearch

__all__ = [
    "BoundaryF1Score",
    "BoundaryIoU",
    "CalibrationError",
    "ConfusionMatrix",
    "DiceScore",
    "FScore",
    "IoU",
    "PixelAccuracy",
    "Precision",
    "Recall",
    "ThresholdSearch",
    "average_surface_distance",
    "boundary_f1_score",
    "counts",
    "dice_coef",
    "f_score",
    "hausdorff_distance",
    "iou_score",
    "surface_dice",
]
