"""Draw each architecture from its Keras graph into `docs/images/`.

    python docs/figures/architectures.py

Nothing is drawn by hand: boxes are the layers of the built model, grouped by the place in their
names; arrows are the tensors between them; a box's height on the page is its stride, and a box with
several outputs (the backbone) becomes one box for each.
"""

import itertools
import os
import re
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from segzoo.models import FCN, DeepLabV3Plus, UNet, UNetPlusPlus

IMAGES = Path(__file__).parents[1] / "images"
SIZE = 256
COLORS = {
    "image": "#f1f3f5",
    "backbone": "#d0ebff",
    "convolution": "#d3f9d8",
    "pyramid": "#fff3bf",
    "score": "#ffe3e3",
    "output": "#ffc9c9",
}
MODELS = {
    "unet": (UNet("resnet50", 1, (SIZE, SIZE, 3), backbone_weights=None), "U-Net on ResNet50"),
    "unet_plus_plus": (
        UNetPlusPlus(None, 1, (SIZE, SIZE, 3), deep_supervision=True),
        "UNet++ with deep supervision",
    ),
    "deeplab_v3_plus": (
        DeepLabV3Plus("resnet50", 1, (SIZE, SIZE, 3), backbone_weights=None),
        "DeepLabV3+ on ResNet50, output stride 16",
    ),
    "fcn": (
        FCN("vgg16", 21, (SIZE, SIZE, 3), backbone_weights=None),
        "FCN-8s on VGG16, 21 classes",
    ),
}


def group(name: str) -> str:
    """The place in a model that a layer belongs to: the box that it is drawn in."""
    for pattern, place in (
        (r"(x_\d+_\d+)_.*", r"\1"),
        (r"(?:up|merge)_(\d+)_(\d+)(?:_fit)?", r"x_\1_\2"),
        (r"pool_(\d+)", r"x_\1_0"),
        (r"(decoder_\d+)_.*", r"\1"),
        (r"decoder_(?:resize|merge|conv_\d)", "decoder"),
        (r"aspp_(?:mean|pooling|spread)", "aspp_pooling"),
        (r"aspp_(?:merge|project|dropout)", "aspp_project"),
        (r"(?:conv|dropout)_[67]|score_32", "score_32"),
        (r"(?:upsample|fuse)_(\d+)(?:_fit)?", r"fuse_\1"),
        (r"(?:logits|output)(_\d)?(?:_resize)?", r"output\1"),
        (r"fuse_1", "output"),
    ):
        if re.fullmatch(pattern, name):
            name = re.sub(pattern, place, name)
    return name


def kind(place: str) -> str:
    if place == "image":
        return "image"
    if place.startswith("backbone"):
        return "backbone"
    if place.startswith("output"):
        return "output"
    if place.startswith(("score", "fuse")):
        return "score"
    return "pyramid" if place.startswith("aspp") else "convolution"


def read_graph(model):
    """Boxes {place: (stride, channels)} and arrows {(place, place)} of a model."""
    place_of, boxes, arrows = {}, {}, []

    def box(place, tensor):
        boxes[place] = (round(SIZE / tensor.shape[1]), tensor.shape[-1])

    for layer in model.layers:
        node = (
            layer._inbound_nodes[-1] if isinstance(layer, keras.Model) else layer._inbound_nodes[0]
        )
        places = [f"backbone_{k}" for k in range(len(node.output_tensors))]
        if not isinstance(layer, keras.Model):
            places = [group(layer.name)] * len(node.output_tensors)
        for place, tensor in zip(places, node.output_tensors, strict=True):
            place_of[id(tensor)] = place
            box(place, tensor)
        for source in node.input_tensors:
            arrows += [(place_of[id(source)], place) for place in places]
    arrows = list(dict.fromkeys((a, b) for a, b in arrows if a != b))
    maps = [place for place in boxes if place.startswith("backbone_")]
    for finer, coarser in itertools.pairwise(maps):  # the backbone is a chain
        arrows.remove(("image", coarser))
        arrows.append((finer, coarser))
    # `ResizeLike` and its kin read the image's size alone.
    arrows = [(a, b) for a, b in arrows if a != "image" or b in ("backbone_0", "x_0_0")]
    sources = {a for a, _ in arrows} | {b for _, b in arrows if b.startswith("output")}
    used = {place: value for place, value in boxes.items() if place in sources}
    return used, [(a, b) for a, b in arrows if a in used and b in used]


def lay_out(boxes, arrows):
    """Columns by the longest way from the image, rows by stride; neighbors are moved apart."""
    column = dict.fromkeys(boxes, 0)
    for _ in boxes:
        for a, b in arrows:
            column[b] = max(column[b], column[a] + 1)
    rows = sorted({stride for stride, _ in boxes.values()})
    shared = {}
    for place, (stride, _) in boxes.items():
        shared.setdefault((column[place], stride), []).append(place)
    height, top = {}, 0.0
    for stride in rows:
        most = max(len(places) for (_, s), places in shared.items() if s == stride)
        height[stride] = top + (most - 1) / 2
        top += most
    return {
        place: (column, -height[stride] + (len(places) - 1) / 2 - k)
        for (column, stride), places in shared.items()
        for k, place in enumerate(places)
    }, {stride: -height[stride] for stride in rows}


def draw(name, model, title):
    boxes, arrows = read_graph(model)
    where, rows = lay_out(boxes, arrows)
    last = max(x for x, _ in where.values())
    low, high = min(y for _, y in where.values()), max(y for _, y in where.values())
    figure, axis = plt.subplots(figsize=(1.55 * last + 2.9, 0.95 * (high - low) + 1.9))
    for a, b in arrows:
        (xa, ya), (xb, yb) = where[a], where[b]
        skips = ya == yb and xb - xa > 1
        axis.add_patch(
            FancyArrowPatch(
                (xa + 0.36, ya) if xb > xa and not skips else (xa + 0.2, ya + 0.24),
                (xb - 0.38, yb) if not skips else (xb - 0.2, yb + 0.27),
                connectionstyle=f"arc3,rad={-0.16 if skips else 0}",
                arrowstyle="-|>",
                mutation_scale=9,
                linewidth=1,
                color="#868e96",
                zorder=1,
            )
        )
    for place, (x, y) in where.items():
        axis.add_patch(
            FancyBboxPatch(
                (x - 0.36, y - 0.22),
                0.72,
                0.44,
                boxstyle="round,pad=0.02,rounding_size=0.06",
                facecolor=COLORS[kind(place)],
                edgecolor="#495057",
                linewidth=0.8,
                zorder=2,
            )
        )
        label = re.sub(r"^backbone_\d+$", "backbone", place)
        label = label.replace("aspp_", "aspp ").replace("rate_", "rate ")
        axis.text(
            x, y, f"{label}\n{boxes[place][1]}", ha="center", va="center", fontsize=8, zorder=3
        )
    for stride, y in rows.items():
        axis.text(
            -0.75, y, f"stride {stride}", ha="right", va="center", fontsize=8, color="#868e96"
        )
    axis.set_xlim(-1.5, last + 0.6)
    longest = max(
        (where[b][0] - where[a][0] for a, b in arrows if where[a][1] == where[b][1] == high),
        default=1,
    )
    axis.set_ylim(low - 0.5, high + 0.35 + 0.13 * longest)  # room for the arcs
    axis.set_title(f"{title}: boxes with their channels", fontsize=10)
    axis.axis("off")
    figure.savefig(IMAGES / f"{name}.png", dpi=100, bbox_inches="tight")
    plt.close(figure)


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    for name, (model, title) in MODELS.items():
        draw(name, model, title)
