"""What an error says of a value: the value, cut short, and the dialect that it is written in.

Run lengths come in more dialects than this package reads. Which one a refused value is written in
can mostly be told from its shape, and so the error names it together with what reads it.
"""

import json
import reprlib
from collections.abc import Mapping
from itertools import islice
from typing import Any

import numpy as np

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 60

_COCO = "it holds COCO's run lengths, which `from_coco` reads"
_COMPRESSED = (
    "it looks like COCO's compressed counts, which `from_coco` reads together with their size"
)
_ANNOTATION = 'it is a whole COCO annotation, whose mask is `annotation["segmentation"]`'
_FILE = "it is a whole COCO file: pycocotools' `COCO(path).annToMask(annotation)` reads its masks"
_JSON = "it is JSON text, which `json.loads` reads"
_POLYGON = (
    "it is a polygon, not run lengths: pycocotools' `merge(frPyObjects(polygons, height, width))` "
    "turns polygons into COCO's run lengths"
)
_LABEL_STUDIO = (
    "it is Label Studio's brush format, which packs RGBA pixels into bits: "
    "`label_studio_sdk.converter.brush.decode_rle(rle).reshape(height, width, 4)[..., 3]` reads it"
)
_CVAT = (
    "it is CVAT's format, counts along the rows of the mask's box: with the box's width and height "
    '`from_coco({"size": [width, height], "counts": counts}).T` reads the counts as integers'
)


def short(value: Any) -> str:
    """Return the representation of any value in at most 60 characters."""
    try:
        text = _REPR.repr(value)
    except (ValueError, RecursionError):  # an integer of too many digits
        text = type(value).__name__
    return text if len(text) <= 60 else text[:57] + "..."


def hint(value: Any) -> str:
    """Return "; it is ..., which ... reads it" for a value of a known dialect, "" for others."""
    found = _dialect(value)
    return f"; {found}" if found else ""


def _dialect(value: Any) -> str:
    if isinstance(value, Mapping):
        return _of_mapping(value)
    if isinstance(value, str):
        value = value.encode("ascii", "replace")
    if isinstance(value, (bytes, bytearray)):
        return _of_text(bytes(value).strip())
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], Mapping):
        return _of_mapping(value[0])
    if isinstance(value, (list, tuple, np.ndarray)):
        return _of_numbers(value)
    return ""


def _of_mapping(value: Mapping[Any, Any]) -> str:
    keys = set(value)
    if {"size", "counts"} <= keys:
        return _COCO
    if {"images", "annotations"} <= keys:
        return _FILE
    if "segmentation" in keys:
        return _ANNOTATION
    if "left" in keys and keys & {"rle", "points"}:
        return _CVAT
    inner = value["value"] if isinstance(value.get("value"), Mapping) else value
    return _LABEL_STUDIO if "rle" in inner else ""


def _of_text(text: bytes) -> str:
    if text[:1] in (b"{", b"[", b'"'):
        try:
            json.loads(text)
        except (ValueError, RecursionError):
            return ""
        return _JSON
    words = text.split(b",")
    if len(words) > 1 and all(word.strip().isdigit() for word in words):
        return _CVAT
    # The characters of COCO's counts are "0" to "o"; the last one ends a number.
    letters = not text.isdigit() and all(48 <= character < 112 for character in text)
    return _COMPRESSED if letters and len(text) > 5 and text[-1] < 80 else ""


def _of_numbers(value: Any) -> str:
    numbers = _flat(value)
    if numbers is None and not getattr(value, "ndim", 1):
        return ""
    if numbers is None:
        # Several polygons: lists of coordinates.
        rows = [_flat(row) for row in islice(value, 8)]
        polygons = [row is not None and row.size >= 6 and not row.size % 2 for row in rows]
        return _POLYGON if polygons and all(polygons) else ""
    if numbers.dtype.kind == "f":
        return _POLYGON if numbers.size >= 6 and not numbers.size % 2 else ""
    if numbers.size > 4:
        counts, (left, top, right, bottom) = numbers[:-4], numbers[-4:].tolist()
        box = max(right - left + 1, 0) * max(bottom - top + 1, 0)
        if box and int(counts.sum()) == box:
            return f"{_CVAT}, without the last four, the box's left, top, right and bottom"
        # 32 bits for the count of values, 4 for each pixel, then 5 bits for their width, 8 less 1.
        head = numbers[:5].tolist()
        if numbers.min() >= 0 and numbers.max() < 256 and head[4] >> 3 == 7:
            return "" if head[3] % 4 else _LABEL_STUDIO
    return ""


def _flat(value: Any) -> np.ndarray | None:
    """Return a flat list of integers or floats as an array, `None` for anything else."""
    try:
        numbers = np.asarray(value)
    except (ValueError, OverflowError):
        return None
    return numbers if numbers.ndim == 1 and numbers.dtype.kind in "iuf" else None
