"""One batch, the model and what `compile` was given, looked at together before a long training.

`check_batch` collects everything that is wrong with a batch, where training would stop at the first
fault, or not stop at all. Each `..._faults` returns the sentences of one kind of fault.
"""

import dataclasses
from typing import Any

import keras

from segzoo._diagnosis import _agreement, _image, _setup, _truth


def check_batch(model: keras.Model, x: Any, y: Any, sample_weight: Any = None) -> str:
    """Look at one batch before a long training, and say everything that is wrong with it.

    Checks the image's range, size and channels against the model; the labels against the number of
    classes and against the `ignore_class` of losses and metrics; the output's activation against
    their `from_logits` and `multilabel`; the weights' shapes; and the keys of the logs. The model
    is run on the batch, every loss and metric called once; nothing is trained, and the metrics in
    use keep no count of it. An output whose losses read no classes, such as a classification or a
    regression, is held to its number of images alone.

    Args:
        model: a compiled `keras.Model` from images (B, H, W, C) to class scores.
        x: one batch of images, as `fit` would get it; a list or mapping for several inputs.
        y: its truth: one array, or a list or mapping with one for each output.
        sample_weight: None, or the weights that `fit` would get: (B,), (B, H, W) or (B, H, W, 1),
            or one for each output. Defaults to None.

    Returns:
        A summary of a few lines: shapes, ranges, and the share of every class.

    Raises:
        ValueError: if anything is wrong; the message lists all that was found.

    Example:
        >>> import numpy as np
        >>> import segzoo
        >>> model = segzoo.models.UNet(None, 2, (32, 32, 1), decoder_filters=(4, 4))
        >>> model.compile("adam", segzoo.losses.Dice())
        >>> images = np.linspace(0, 1, 2048).reshape(2, 32, 32, 1)
        >>> masks = np.zeros((2, 32, 32), "uint8")
        >>> masks[:, :8] = 1
        >>> print(segzoo.check_batch(model, images, masks))
        images (2, 32, 32, 1) float64, values 0 to 1
        output: truth (2, 32, 32) uint8; share of class 0: 75 %, class 1: 25 %
        >>> segzoo.check_batch(model, images, 255 * masks)
        Traceback (most recent call last):
        ValueError: 1 fault in this batch:
        - `y` has the value 255, which is no class of 0..1 and is not ignored: losses and metrics \
take `ignore_class=255`, or replace the values by class numbers; if 255 is the object, `y > 127`
    """
    if not isinstance(model, keras.Model) or not hasattr(model, "outputs"):
        raise ValueError(f"`model` must be a functional keras.Model, received {type(model)}")
    if not model.compiled:
        raise ValueError("`model` must be compiled: call model.compile(optimizer, loss, ...) first")
    images = _setup.images_of(model, x)
    outputs = _setup.outputs_of(model, y, sample_weight)
    faults = _image.image_faults(model, images) + _agreement.setup_faults(model)
    if not faults:
        try:
            scores = _setup.by_output(model, model(x, training=False))
            outputs = [dataclasses.replace(o, scores=scores[o.name]) for o in outputs]
        except Exception as error:
            faults.append(f"the model cannot take `x`: {_agreement.shortened(error)}")
    for output in outputs:
        found = [
            *_truth.truth_faults(output, images[0]),
            *_agreement.activation_faults(output),
        ]
        faults += [f"{output.name}: {fault}" if len(outputs) > 1 else fault for fault in found]
    faults += _agreement.weight_faults(outputs)
    if not faults:
        faults += _agreement.call_faults(model, x, y, sample_weight, outputs)
    if faults:
        count = f"{len(faults)} fault{'s' if len(faults) > 1 else ''} in this batch:"
        raise ValueError("\n- ".join([count, *faults]))
    summary = [_image.describe(model, image) for image in images]
    return "\n".join([*summary, *map(_truth.describe, outputs)])
