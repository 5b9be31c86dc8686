"""Prediction of images of any size, tile by tile, in the memory of a band of tiles."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from segzoo._arguments import flag
from segzoo.inference._band import Band
from segzoo.inference._grid import Grid, is_int, window_weights
from segzoo.inference.augmentation import refuse_variance
from segzoo.inference.decision import check_threshold


def predict_tiles(
    predict: keras.Model | Callable[[np.ndarray], Any],
    image: Any,
    *,
    tile_size: int | tuple[int, int] = 512,
    overlap: float | int = 0.25,
    window: Any = "gaussian",
    trim: int = 0,
    batch_size: int = 4,
    labels: bool = False,
    threshold: float = 0.5,
    out: Any = None,
    verbose: int = 1,
) -> Any:
    """Predict an image of any size from overlapping tiles.

    The scores of a pixel are the mean over the tiles that cover it, weighted by its place in each:

        scores = sum(w scores of the tile) / sum(w)

    Tiles begin every (tile - overlap) pixels, and the last one ends flush with the image. An image
    that is smaller than a tile is continued by reflection at the bottom and on the right, and the
    result is cropped. All batches have the shape (batch_size, h, w, C), so that nothing is compiled
    twice; the last one is filled up with copies of the last tile. The memory needed is that of the
    scores of one row of tiles, as high as a tile and as wide as the image.

    Args:
        predict: a `keras.Model` of one image, or any callable from an array (N, h, w, C) of the
            image's type to scores (N, h, w, classes). If it has several outputs, the last one is
            used; of a mapping that is the last of its sorted keys, as in `model.outputs`.
        image: array (H, W, C) of integers or floats, or anything that is sliced like one: a memory
            map, zarr, h5py. Each tile is read once.
        tile_size: int, or (height, width), a size that the model takes; those of `segzoo.models`
            need at least 32 pixels. Defaults to 512.
        overlap: what neighboring tiles share: a float in [0, 1), as a share of the tile, or an
            int, in pixels. Defaults to 0.25.
        window: the weight of each pixel of a tile: `"constant"`; `"hann"`, sin² from edge to edge;
            `"gaussian"`, with a standard deviation of an eighth of the tile; or an array (h, w) of
            weights above 0. Defaults to `"gaussian"`.
        trim: int, number of pixels along the edges of a tile, inside the image, that are not used
            at all, because the end of the tile shows in them. If it is at least the reach of a
            network without strides, the result is that of the whole image (an image that had to be
            continued differs within the reach of its border). At most half the overlap. Defaults to
            0.
        batch_size: int >= 1, tiles that are predicted at once. Defaults to 4.
        labels: bool, whether to return class numbers instead of scores: the class of the largest
            score, or, with one class, 1 above `threshold`. They are decided row of tiles by row of
            tiles, so that the scores of the whole image are never held. Defaults to False.
        threshold: float, for `labels` with one class. Defaults to 0.5.
        out: array that takes the result, or anything that is sliced like one: floats for scores,
            integers for labels. Defaults to None, for a new array.
        verbose: 1 for Keras's progress bar, 2 for one line, 0 for none. Defaults to 1.

    Returns:
        `out`, or a new array: scores (H, W, classes) in float32, or class numbers (H, W) in uint8,
        uint16 from 257 classes on.

    Raises:
        ValueError: if the image is not (H, W, C); a model of fixed size does not take the tile; the
            overlap is a whole tile; the window has another shape or a weight that is not above 0;
            `trim` is more than half the overlap; `out` has another shape or kind; a prediction is
            not (N, h, w, classes); or what `labels` would decide is a variance.

    Example:
        >>> import numpy as np, segzoo
        >>> image = np.random.default_rng(0).integers(0, 256, (70, 90, 3), "uint8")
        >>> def brightness(batch):  # any callable: a keras.Model, a tf.function, an ONNX session
        ...     return batch.mean(axis=-1, keepdims=True) / 255
        >>> scores = segzoo.inference.predict_tiles(brightness, image, tile_size=32, verbose=0)
        >>> scores.shape, bool(np.allclose(scores, brightness(image), atol=1e-6))
        ((70, 90, 1), True)
        >>> mask = segzoo.inference.predict_tiles(
        ...     brightness, image, tile_size=32, labels=True, verbose=0
        ... )
        >>> mask.shape, mask.dtype
        ((70, 90), dtype('uint8'))
    """
    height, width, channels = _image_shape(image)
    grid = Grid.of((height, width), tile_size, overlap, trim)
    weights = window_weights(window, grid.tile)
    if not is_int(batch_size) or batch_size < 1:
        raise ValueError(f"`batch_size` must be an int >= 1, received batch_size={batch_size!r}")
    threshold = check_threshold(threshold)
    flag("labels", labels)
    _check_predict(predict, (int(batch_size), *grid.tile, channels), labels)
    _check_out(out, (height, width), labels)
    run = predict.predict_on_batch if isinstance(predict, keras.Model) else predict

    progress = keras.utils.Progbar(len(grid), verbose=verbose, unit_name="tile")
    predictions = _predictions(run, image, grid, int(batch_size))
    first = next(predictions)  # says how many classes there are
    out = _make_out(out, (height, width), first[1].shape[-1], labels)
    dtype = np.dtype("float32") if labels else np.result_type("float32", out.dtype)
    band = Band(grid.rows.tile, width, first[1].shape[-1], dtype)
    done = 0
    for places, scores in itertools.chain([first], predictions):
        for (y, x), tile in zip(places, scores, strict=False):  # the last batch is filled up
            if y > band.top:
                _write(band, y, out, labels, threshold)
            rows, columns = grid.rows.used(y), grid.columns.used(x)
            part = tile[rows, columns], weights[rows, columns]
            band.add(y + rows.start, x + columns.start, *part)
        done += len(places)
        progress.update(done)
    _write(band, height, out, labels, threshold)
    return out


def _predictions(
    run: Callable[[np.ndarray], Any], image: Any, grid: Grid, batch_size: int
) -> Iterator[tuple[list[tuple[int, int]], np.ndarray]]:
    """Batches of tiles, all of one shape, as (where the tiles begin, their scores)."""
    places = list(grid)
    for start in range(0, len(places), batch_size):
        here = places[start : start + batch_size]
        tiles = [_read(image, *place, *grid.tile) for place in here]
        tiles += tiles[-1:] * (batch_size - len(tiles))
        batch = np.stack(tiles)
        yield here, _scores(run(batch), batch.shape)


def _read(image: Any, y: int, x: int, height: int, width: int) -> np.ndarray:
    """One tile (height, width, C), continued by reflection where the image is smaller."""
    tile = np.asarray(image[y : y + height, x : x + width])
    missing = height - tile.shape[0], width - tile.shape[1]
    if any(missing):
        tile = np.pad(tile, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="reflect")
    return tile


def _scores(prediction: Any, batch_shape: tuple[int, ...]) -> np.ndarray:
    """The last output of a prediction as an array (N, h, w, classes), checked."""
    prediction = (keras.tree.flatten(prediction) or [None])[-1]
    scores = ops.convert_to_numpy(prediction) if ops.is_tensor(prediction) else prediction
    scores = np.asarray(scores)
    if scores.ndim != 4 or scores.shape[:3] != batch_shape[:3]:
        raise ValueError(
            f"`predict` must give scores (N, h, w, classes) of the tiles' size, received an array "
            f"of shape {scores.shape} and type {scores.dtype} for tiles {batch_shape}. A model "
            "that decides already is not blended: pass the one that gives scores, with labels=True"
        )
    return scores


def _write(band: Band, row: int, out: Any, labels: bool, threshold: float) -> None:
    """Write the band's rows above `row` to the result."""
    for start, scores in band.leave(row):
        rows = slice(start, start + len(scores))
        if not labels:
            out[rows] = scores.astype(out.dtype, copy=False)
        elif scores.shape[-1] == 1:
            out[rows] = (scores[..., 0] > threshold).astype(out.dtype)
        else:
            out[rows] = scores.argmax(axis=-1).astype(out.dtype)


def _make_out(out: Any, size: tuple[int, int], classes: int, labels: bool) -> Any:
    """The array of the result, now that the number of classes is known."""
    largest = max(classes - 1, 1)
    if out is None:
        dtype = np.min_scalar_type(largest) if labels else np.dtype("float32")
        return np.empty(size if labels else (*size, classes), dtype)
    if labels and np.iinfo(out.dtype).max < largest:
        raise ValueError(
            f"`out` must have a type that holds {classes} classes, received {out.dtype}"
        )
    if not labels and tuple(out.shape) != (*size, classes):
        raise ValueError(
            f"`out` must have the shape of the scores, {(*size, classes)}, received "
            f"{tuple(out.shape)}"
        )
    return out


def _check_out(out: Any, size: tuple[int, int], labels: bool) -> None:
    """Raise ValueError where `out` cannot be right, whatever the number of classes."""
    if out is None:
        return
    shape, dtype = tuple(getattr(out, "shape", ())), getattr(out, "dtype", None)
    kind, wanted = (np.integer, "integers") if labels else (np.floating, "floats")
    what = "class numbers (H, W)" if labels else "scores (H, W, classes)"
    if dtype is None or not np.issubdtype(np.dtype(dtype), kind):
        raise ValueError(f"`out` must be an array of {wanted} for {what}, received {dtype}")
    if shape[:2] != size or len(shape) != (2 if labels else 3):
        raise ValueError(
            f"`out` must have the image's height and width, {size}, and take {what}; received an "
            f"array of shape {shape}"
        )
    if not getattr(getattr(out, "flags", None), "writeable", True):
        raise ValueError("`out` must be writable, received an array that is read-only")


def _image_shape(image: Any) -> tuple[int, int, int]:
    """Height, width and channels of `image`."""
    shape = tuple(getattr(image, "shape", ()))
    if len(shape) != 3 or 0 in shape:
        raise ValueError(
            "`image` must be one image (H, W, C) of at least one pixel, an array or anything "
            f"sliced like one; received {type(image).__name__} of shape {shape}. A gray image is "
            "image[..., None], a batch is predicted image by image"
        )
    height, width, channels = map(int, shape)
    return height, width, channels


def _check_predict(predict: Any, batch_shape: tuple[int, ...], labels: bool) -> None:
    """Raise ValueError where a model cannot take the batches; a callable is asked at once."""
    if not callable(predict):
        raise ValueError(
            "`predict` must be a keras.Model or a callable from a batch of tiles to scores, "
            f"received {type(predict).__name__}"
        )
    inputs = getattr(predict, "inputs", None) if isinstance(predict, keras.Model) else None
    if not inputs:
        return
    shapes = [tuple(tensor.shape) for tensor in inputs]
    if len(shapes) != 1 or len(shapes[0]) != 4:
        raise ValueError(
            "`predict` must be a model of one image (B, H, W, C), received a model with inputs of "
            f"shapes {shapes}"
        )
    fixed = [size in (None, given) for size, given in zip(shapes[0], batch_shape, strict=True)]
    for name, fits in (
        ("tile_size", fixed[1] and fixed[2]),
        ("image", fixed[3]),
        ("batch_size", fixed[0]),
    ):
        if not fits:
            raise ValueError(
                f"`{name}` must fit the model's input {shapes[0]}, received batches of shape "
                f"{batch_shape}"
            )
    if labels:
        refuse_variance("predict", predict.outputs[-1])
