"""Masks as run lengths: Kaggle strings, integer lists and COCO counts, in NumPy alone.

A run list names the foreground of a mask as pairs of start and length, counted along the columns
(`order="F"`) or the rows (`order="C"`) from 1 or 0 (`start`). Inside the module every dialect
becomes the same thing, the *edges*: the sorted positions at which the scan changes between
background and foreground, an int64 array `[start, end, start, end, ...]` counted from 0.

    text, lists  <-> _runs.py   <-> edges <-> _pixels.py <-> masks
    COCO counts  <-> coco.py    <-> edges <-> algebra.py (area, union, ... without pixels)
"""

from segzoo.rle.algebra import area, bbox, complement, intersection, iou, union
from segzoo.rle.coco import from_coco, to_coco
from segzoo.rle.labels import decode_labels, encode_labels
from segzoo.rle.masks import decode, decode_classes, encode, encode_classes

__all__ = [
    "area",
    "bbox",
    "complement",
    "decode",
    "decode_classes",
    "decode_labels",
    "encode",
    "encode_classes",
    "encode_labels",
    "from_coco",
    "intersection",
    "iou",
    "to_coco",
    "union",
]
