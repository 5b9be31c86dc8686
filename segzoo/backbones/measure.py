"""The strides of a model's maps, measured by what the maps gain when the image grows.

`1024 / (rows(2048) - rows(1024))` is exact whatever a border adds or takes; no quotient of a
rounded size is.
"""

import keras

_SMALL, _LARGE = 1024, 2048


def strides(model: keras.Model) -> tuple[int, ...]:
    """The stride of each map of a model.

    Args:
        model: a functional model of one image with outputs (B, H, W, C). One of a fixed size is
            measured on an open one, or, where its layers refuse other sizes, at its own.

    Returns:
        Pixels of the image per pixel of the map, for each output.

    Raises:
        ValueError: when a map has no stride that is a power of two along both axes, or when it
            cannot be told, which is where a model refuses other sizes than its own, and a map
            does not divide that.
    """
    own = tuple(model.inputs[0].shape[1:3])
    try:
        opened = _opened(model)
        small, large = (map_sizes(opened, (size, size)) for size in (_SMALL, _LARGE))
    except Exception as error:  # whatever somebody else's layer raises at another size
        found = [] if None in own else [_divide(own, size) for size in map_sizes(model, own)]
        if not found or None in found:
            raise ValueError(
                f"the strides of `backbone` cannot be told: at another size it raises {error!r}, "
                f"and its own size {own} is not a multiple of every map's. Build it for (None, "
                "None, channels), or for a height and width that 32 divides"
            ) from error
    else:
        gains = [(b[0] - a[0], b[1] - a[1]) for a, b in zip(small, large, strict=True)]
        found = [_divide((_LARGE - _SMALL,) * 2, gain) for gain in gains]
        if None in found:
            raise ValueError(
                "the maps of `backbone` must have one stride, a power of two, along height and "
                f"width alike; they gain {gains} rows and columns when the image gains 1024"
            )
    return tuple(stride for stride in found if stride is not None)


def rounds_up(model: keras.Model, strides: tuple[int, ...]) -> bool:
    """Whether each map of stride s has ceil(size / s) rows, at every size that the model takes."""
    own = model.inputs[0].shape[1:3]
    # Rows grow by one with each `stride` rows of the image, so that two sizes tell of all.
    for size in (_SMALL, _SMALL + 1):
        image = (own[0] or size, own[1] or size)
        for sides, stride in zip(map_sizes(model, image), strides, strict=True):
            if sides != tuple(-(-side // stride) for side in image):
                return False
    return True


def map_sizes(model: keras.Model, size: tuple) -> list[tuple]:
    """Height and width of each map of an image of this size."""
    shapes = model.compute_output_shape((1, *size, model.inputs[0].shape[3]))
    return [tuple(shape[1:3]) for shape in (shapes if isinstance(shapes, list) else [shapes])]


def _opened(model: keras.Model) -> keras.Model:
    """The same layers on an image of open size."""
    image = model.inputs[0]
    if image.shape[1] is None and image.shape[2] is None:
        return model
    return keras.models.clone_model(
        model,
        keras.Input((None, None, image.shape[3]), dtype=image.dtype),
        clone_function=lambda layer: layer,
    )


def _divide(image: tuple, map_size: tuple) -> int | None:
    """The one stride of both axes, None where there is none."""
    if any(not part or whole % part for whole, part in zip(image, map_size, strict=True)):
        return None
    stride, across = (whole // part for whole, part in zip(image, map_size, strict=True))
    return stride if stride == across and stride.bit_count() == 1 else None
