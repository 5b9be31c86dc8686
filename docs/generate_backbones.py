"""Write `backbones.md` from the registry: `python docs/generate_backbones.py`."""

import pathlib

from segzoo import backbones
from segzoo.backbones._rows import NORMALIZATIONS

PAGE = pathlib.Path(__file__).with_name("backbones.md")

HEAD = """\
# Backbones

<!-- Written by docs/generate_backbones.py from segzoo.backbones; edit that, not this page. -->

Every model takes one of these names as `backbone=`, and any other `keras.Model` whose outputs are
feature maps. A backbone is a model of its own too:

```python
from segzoo import backbones

backbone = backbones.build("resnet50", weights=None, output_stride=16)
print([tuple(map.shape) for map in backbone.outputs])
```

**Feature maps.** The taps are named layers, finest first; `backbone_features=[...]` chooses others.
A map of stride s has ceil(size / s) rows at any size, static or open, so that a decoder can align
it with the image. For this reason the padding of some networks differs from the published one:

- networks whose padding depends on a static size (MobileNet, NASNet) pad 'same', as a network built
  for that size would;
- networks with a 'valid' stem (Xception, Inception, Inception-ResNet, NASNet) and pools or
  convolutions that drop an odd last row (VGG, DenseNet, ConvNeXt) pad 'same' too, and SENet's pool
  keeps its odd last row. The weights stay valid; features differ near the border only.

**Output stride.** `output_stride=16` or `8` turns the later strides into dilation. The weights stay
valid: the dense map, read at the removed stride, is the map of output stride 32, at every position
and within float error: read from the first pixel of each group, or from the last where a network
that pads 'same' halves a map of even size. This holds for every local operator. A
squeeze-and-excite gate (the networks marked *gates*) is a mean over the whole map, and stays the
mean over what is now a denser map: there the identity holds with the gates held constant. Even
windows (VGG, DenseNet, ConvNeXt) reach right and down, as they do with their stride. In a Mix
Transformer all pixels of the denser map attend to the pixels of the original one. NASNet has 32
only: `DeepLabV3Plus`, `DeepLabV3`, `PSPNet` and `PAN` take it with `output_stride=32`.

**Channels.** With pretrained weights and other than three channels the first convolution is
adapted: a gray image gives the response of the RGB network, and so does an image that repeats gray
or RGB in its channels. Channels beyond RGB are normalized with the mean of the RGB statistics.
Where the colors' means differ (*caffe*, *torch*), a constant channel is appended to the normalized
image, which keeps the response exact up to the border.

**Weights.** `backbone_weights="imagenet"` and `"noisy-student"` are downloaded once into Keras's
cache. The path of a `.weights.h5`, `.keras` or Keras 2 `.h5` file works for every backbone, that of
a `.safetensors` file for [many](weights.md#encoders-trained-in-pytorch).
Mix Transformers have `"imagenet-nc"`, NVIDIA's weights for non-commercial use; nothing loads them
unless that name is given.

**Random weights.** With `weights=None`, batch normalization has a momentum of 0.9. Keras's 0.99
(0.999 in MobileNetV2 and V3) still carries the initial variance after a few hundred steps, so that
a network trained from scratch scores well in training and at chance in validation. Networks with
published weights keep their own.

**Which ResNet.** `"resnet50"` is Keras's, with Keras's weights: BGR, biases, the stride in the
first 1x1 convolution. `"resnet50v1_5"` is torchvision's and timm's: RGB, no biases, the stride in
the 3x3. `"resnext50"` and `"resnext101"` are 32x4d and 32x8d. Grouped convolutions are computed as
a few ordinary ones on TensorFlow's CPU, which has no gradient of them
(`segzoo.layers.GroupedConv2D`).

**Normalization** is the first layer (`preprocessing=True`): RGB in 0..255 of any type goes in.
With `preprocessing=False` you normalize the image yourself.

"""


def normalization_table() -> str:
    """One line per normalization, as a formula."""
    lines = ["| normalization | what the network sees |", "| --- | --- |"]
    for name, statistics in NORMALIZATIONS.items():
        mean, std = (
            "(" + ", ".join(f"{value:g}" for value in values) + ")"
            if isinstance(values, tuple)
            else f"{values:g}"
            for values in (statistics["mean"], statistics["std"])
        )
        order = ", in the order blue, green, red" if "reverse_channels" in statistics else ""
        lines.append(f"| {name} | (image - {mean}) / {std}{order} |")
    return "\n".join(lines)


def table() -> str:
    """One line per backbone."""
    lines = [
        "| name | parameters | taps: stride, channels, layer | weights | normalization "
        "| output strides | paper |",
        "| --- | ---: | --- | --- | --- | --- | --- |",
    ]
    for name in backbones.names():
        row = backbones.info(name)
        taps = "<br>".join(
            f"{stride}: {channels} `{layer}`"
            for stride, channels, layer in zip(row.strides, row.channels, row.features, strict=True)
        )
        strides = ", ".join(map(str, row.output_strides))
        if row.squeeze_excite:
            strides += " (gates)"
        weights = ", ".join(row.weights) or "a file"
        paper = f"{row.paper.title} ({row.paper.year}), arXiv {row.paper.arxiv}"
        lines.append(
            f"| `{name}` | {row.parameters:,} | {taps} | {weights} | {row.normalization} "
            f"| {strides} | {paper} |"
        )
    return "\n".join(lines)


def page() -> str:
    """The whole page."""
    return HEAD + normalization_table() + "\n\n" + table() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
