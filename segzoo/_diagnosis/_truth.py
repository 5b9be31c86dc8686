"""What can be wrong with the truth: labels, or a map for each class."""

from typing import Any

import numpy as np

from segzoo._diagnosis._setup import Output

_SHOWN = 6  # values that a sentence lists
_PICTURE = "; an RGB picture of a mask? Replace its colors by class numbers"


def truth_faults(output: Output, images: np.ndarray) -> list[str]:
    """The faults of one output's truth."""
    y = output.truth
    if y is None:
        return []
    if len(y) != len(images):
        return [f"`y` has {len(y)} entries for {len(images)} images"]
    if not np.isfinite(y.astype("float64")).all():
        return ["`y` has NaN or infinite values"]
    if not output.is_map:
        return []
    y = output.mask
    shape = getattr(output.scores, "shape", output.shape)
    size = tuple(shape[1:3]) if None not in shape[1:3] else images.shape[1:3]
    found = _shape_faults(output, y, tuple(size))
    if found:
        return found
    if y.ndim == 4 and y.shape[-1] == output.classes > 1:
        return _dense_faults(output, y.astype("float64"))
    return _label_faults(output, y.astype("float64"))


def describe(output: Output) -> str:
    """A line of the summary."""
    y, classes = output.truth, output.classes
    if y is None:
        return f"{output.name}: without a truth"
    head = f"{output.name}: truth {y.shape} {y.dtype}"
    if not output.is_map:
        return f"{head}, values {y.min():.3g} to {y.max():.3g}"
    y = output.mask
    counted = ~np.isin(np.round(y), sorted(output.ignored))
    if y.ndim == 4 and y.shape[-1] == classes > 1:
        sums = np.where(counted, y, 0).sum(axis=(0, 1, 2), dtype="float64")
        shares = sums / np.maximum(counted.sum(axis=(0, 1, 2)), 1)
    else:
        labels = np.round(y[counted])
        shares = np.array([(labels == k).sum() for k in range(max(classes, 2))])
        shares = shares / max(labels.size, 1)
    shown = [f"class {k}: {100 * share:.3g} %" for k, share in enumerate(shares) if share]
    never = [str(k) for k, share in enumerate(shares) if not share]
    more = ", ..." if len(shown) > 10 else ""
    parts = [f"share of {', '.join(shown[:10])}{more}" if shown else "no pixel counts"]
    if never:
        parts.append(f"without a pixel in this batch: {', '.join(never[:10])}")
    return "; ".join([head, *parts])


def listed(values: Any) -> str:
    """Values in a row."""
    return ", ".join(f"{v:g}" if isinstance(v, float | np.floating) else str(v) for v in values)


def _shape_faults(output: Output, y: np.ndarray, size: tuple[int, ...]) -> list[str]:
    classes = output.classes
    if y.ndim == 4 and y.shape[1:3] != size and y.shape[2:] == size:
        return [f"`y` is laid out (B, C, H, W), received shape {y.shape}: move its channels last"]
    if y.ndim not in (3, 4) or y.shape[1:3] != size:
        dense = f", (B, H, W, 1) or (B, H, W, {classes})" if classes > 1 else " or (B, H, W, 1)"
        forms = f"(B, H, W){dense}"
        turned = "; height and width are exchanged" if y.shape[2:0:-1] == size else ""
        return [
            f"`y` must be {forms} for {size[0]} x {size[1]} pixels, received shape {y.shape}"
            f"{turned}"
        ]
    if y.ndim == 4 and y.shape[-1] not in (1, classes):
        return [
            f"`y` has {y.shape[-1]} channels, the model {classes} "
            f"class{'es' if classes > 1 else ''}{_PICTURE if y.shape[-1] in (3, 4) else ''}"
        ]
    return []


def _label_faults(output: Output, y: np.ndarray) -> list[str]:
    kept = y[~np.isin(y, sorted(output.ignored))]
    if output.classes == 1 and kept.size and kept.min() >= 0 and kept.max() <= 1:
        found = np.unique(kept)
        # A soft mask, but of 1 / 255 and nothing between that and 1.
        if np.isclose(found[found > 0], 1 / 255).any() and len(found) <= 3:
            return [
                f"`y` has the values {listed(found)}: a mask of 0 and 1 that was divided by 255? "
                "Labels are class numbers as they are"
            ]
        return []
    # Up to its rounding, as losses and metrics read it.
    whole = np.abs(kept - np.round(kept)) <= 1e-3
    if not whole.all():
        return [
            "`y` has labels that are no whole numbers, such as "
            f"{listed(np.unique(kept[~whole])[:_SHOWN])}: was it resized with bilinear "
            "interpolation, or divided by 255? Labels need the nearest neighbor"
        ]
    return _range_faults(output, np.unique(np.round(y)).astype("int64").tolist())


def _range_faults(output: Output, present: list[int]) -> list[str]:
    """Labels that are no class, and who does not leave them out."""
    most = max(output.classes, 2) - 1
    beyond = [value for value in present if not 0 <= value <= most]
    readers = [j for j in output.judges if j.reads_classes or j.ignored] or list(output.judges)
    strict = {value: [j.title for j in readers if value not in j.ignored] for value in beyond}
    wrong = [value for value in beyond if strict[value] or not readers]
    if not wrong:
        return []
    values = "the value" if len(wrong) == 1 else "the values"
    which = "is" if len(wrong) == 1 else "are"
    ignore = wrong[0] if len(wrong) == 1 else tuple(wrong[:_SHOWN])
    start = f"`y` has {values} {listed(wrong[:_SHOWN])}, which {which} no class of 0..{most}"
    if set(wrong) <= output.ignored:  # by some
        who = ", ".join(dict.fromkeys(title for value in wrong for title in strict[value]))
        return [f"{start} and not ignored by {who}: give it `ignore_class={ignore}` too"]
    hint = ""
    if most == 1 and 127 < wrong[-1] <= 255 and (len(wrong) > 1 or 1 not in present):
        soft = ", or `y / 255` for a soft mask" if len(wrong) > 1 and output.classes == 1 else ""
        hint = f"; if 255 is the object, `y > 127`{soft}"
    elif wrong == [most + 1] and 0 not in present:
        hint = "; if the classes begin at 1, `y - 1`"
    return [
        f"{start} and {which} not ignored: losses and metrics take `ignore_class={ignore}`, or "
        f"replace the values by class numbers{hint}"
    ]


def _dense_faults(output: Output, y: np.ndarray) -> list[str]:
    void = np.isin(y, sorted(output.ignored - {0, 1}))
    outside = ~void & ((y < 0) | (y > 1))
    if outside.any():
        return [
            "`y` must be in 0..1 where it has one channel for each class, received values such as "
            f"{listed(np.unique(y[outside])[:_SHOWN])}{_PICTURE if y.shape[-1] == 3 else ''}"
        ]
    exclusive = [judge.title for judge in output.judges if judge.exclusive]
    total = np.where(void, 0, y).sum(axis=-1)
    faults, several = [], 100 * (total > 1 + 1e-3).mean()
    if several and output.activation == "softmax":
        faults.append(
            f"`y` has several classes at {several:.3g} % of the pixels, but the model's classes "
            "exclude one another: overlapping classes need activation='sigmoid' and "
            "`multilabel=True` in losses and metrics"
        )
    elif several and exclusive:
        faults.append(
            f"`y` has several classes at {several:.3g} % of the pixels, but {', '.join(exclusive)} "
            f"take{'s' * (len(exclusive) == 1)} them as exclusive: give `multilabel=True`, or a "
            "loss of overlapping classes such as `BCEDice`"
        )
    none = 100 * ((total == 0) & ~void.any(axis=-1)).mean()
    takes_one = output.activation == "softmax" or bool(exclusive)
    if none and takes_one and not output.overlaps and not output.ignored:
        faults.append(
            f"`y` has no class at {none:.3g} % of the pixels, where every prediction counts as "
            "wrong: give `ignore_class` to leave them out, or a class of their own"
        )
    return faults
