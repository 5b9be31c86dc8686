"""Published weights files: downloaded once into Keras's cache; the error says the way on."""

import os
import pathlib

import keras


def fetch(url: str, argument: str) -> str:
    """The path of a published file in Keras's cache, downloaded there if it is missing.

    Args:
        url: where the file is published; the cache keeps its name.
        argument: the user's argument that asks for it, for the error.

    Raises:
        ValueError: if the file cannot be downloaded; says where to put it, and what else to do.
    """
    try:
        return keras.utils.get_file(
            url.rpartition("/")[2], url, cache_dir=_home(), cache_subdir="models"
        )
    except Exception as error:  # Keras raises a bare Exception
        raise download_error(url, argument, error) from error


def download_error(url: str, argument: str, error: object, file: str | None = None) -> ValueError:
    """The error of a published file that cannot be downloaded; `file` is its name in the cache.

    Example:
        >>> error = download_error("https://host.org/net.h5", "backbone_weights", "no route")
        >>> "`net.h5`" in str(error) and "`backbone_weights=None`" in str(error)
        True
    """
    return ValueError(
        f"`{argument}`: {url} could not be downloaded ({error}). Without a network, put the file "
        f"`{file or url.rpartition('/')[2]}` into {_home() / 'models'} by hand, or pass "
        f"`{argument}=None` (random initialization) or the path of a weights file"
    )


def _home() -> pathlib.Path:
    # As Keras has it, which keeps its own function for this private.
    return pathlib.Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()
