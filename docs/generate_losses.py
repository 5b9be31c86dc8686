"""Write the table of arguments in `losses.md`: `python docs/generate_losses.py`."""

import inspect
import pathlib
import sys

import keras
import numpy as np

from segzoo import losses

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from tests.cases import LOSSES
from tests.losses.helpers import as_read, make

PAGE = pathlib.Path(__file__).with_name("losses.md")
BEGIN, END = "<!-- arguments: begin -->\n", "<!-- arguments: end -->\n"
SHOWN = ("class_weights", "average", "per_image", "multilabel", "smooth", "label_smoothing")


def table() -> str:
    """One line for each loss: which of the shared arguments it has, and pixel weights."""
    lines = [
        "| | " + " | ".join(f"`{name}`" for name in SHOWN) + " | weights of pixels |",
        "| --- |" + " :-: |" * (len(SHOWN) + 1),
    ]
    for name in sorted(LOSSES):
        taken = inspect.signature(getattr(losses, name)).parameters
        marks = [argument in taken for argument in SHOWN] + [takes_pixel_weights(make(name))]
        lines.append(f"| `{name}` | " + " | ".join("yes" if mark else "" for mark in marks) + " |")
    return "\n".join(lines) + "\n"


def takes_pixel_weights(loss: keras.losses.Loss) -> bool:
    """Whether a loss takes `sample_weight` of shape (B, H, W)."""
    scores = np.full((1, 4, 4, 2), 0.5, "float32")
    truth = np.asarray(as_read(loss, np.zeros((1, 4, 4), int), 2))
    try:
        loss(truth, scores, np.ones((1, 4, 4)))
    except ValueError as error:
        if "have no weights of their own" not in str(error):
            raise
        return False
    return True


def page(text: str) -> str:
    """The page with its table made anew."""
    before, rest = text.split(BEGIN)
    return before + BEGIN + table() + END + rest.split(END)[1]


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
