"""Nothing in a weights file is trusted: what is refused, and how that is said.

A file comes from a stranger, a broken download or a full disk. Every value is read, checked and
converted before the first one is assigned; whatever a library raises on the way becomes one
ValueError that names the file.
"""

import contextlib
import os
from collections.abc import Iterator

import ml_dtypes
import numpy as np

from segzoo.weights._cache import advice

# Numbers of up to 8 bytes; `ml_dtypes` gives NumPy the 16 bit format of its own.
_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


class WeightsFileError(ValueError):
    """Error of a weights file that is refused; the message names the file."""

    __module__ = "segzoo.weights"  # where tracebacks find it

    def __init__(self, path: str | os.PathLike, why: str) -> None:
        super().__init__(f"{os.fspath(path)} {why}{advice(path)}")


@contextlib.contextmanager
def reading(path: str | os.PathLike, what: str) -> Iterator[None]:
    """Turn what is raised for a damaged file into an error that names the file.

    Damage shows as almost anything: HDF5 alone raises OSError, RuntimeError, KeyError, TypeError
    and ValueError, and names and sizes that are garbage fail wherever they are used.
    """
    try:
        yield
    except WeightsFileError:
        raise
    except ValueError as error:
        if os.fspath(path) in str(error):  # refused with a message of its own
            raise
        raise _damaged(path, what, error) from error
    except Exception as error:
        raise _damaged(path, what, error) from error


def _damaged(path: str | os.PathLike, what: str, error: Exception) -> WeightsFileError:
    why = str(error) or type(error).__name__
    return WeightsFileError(
        path, f"is truncated or damaged: {what} cannot be read, nothing was loaded ({why[:300]})"
    )


def check_dtype(path: str | os.PathLike, name: str, dtype: np.dtype) -> None:
    """Refuse an array of anything but real numbers of up to 8 bytes, before it is read."""
    dtype = np.dtype(dtype)
    if dtype != _BFLOAT16 and not (dtype.kind in "fiu" and dtype.itemsize <= 8):
        raise WeightsFileError(
            path,
            f"cannot be loaded: `{name}` is an array of {dtype}, expected real numbers of up to 64 "
            "bits",
        )


def converted(path: str | os.PathLike, name: str, value: np.ndarray, dtype: str) -> np.ndarray:
    """The value of a file as an array of a variable's type; refuse one that it cannot hold.

    Args:
        path: the file, for the error.
        name: the layer and its weight, for the error.
        value: what the file has.
        dtype: the variable's, as Keras names it.

    Raises:
        ValueError: for other than real numbers, NaN or infinity, numbers out of the type's range,
            and integers that it would round.
    """
    check_dtype(path, name, value.dtype)
    # The backend rounds to bfloat16 itself; its range is that of float32.
    target = np.dtype("float32" if dtype == "bfloat16" else dtype)
    if value.dtype == _BFLOAT16:
        value = value.astype("float32")
    if not np.isfinite(value).all():
        raise WeightsFileError(path, f"cannot be loaded: {name} holds NaN or infinity")
    with np.errstate(over="ignore", invalid="ignore"):
        result = value.astype(target)
    exact = value.dtype.kind == "f" and target.kind == "f"
    if not (np.isfinite(result).all() if exact else np.array_equal(result, value)):
        raise WeightsFileError(
            path,
            f"cannot be loaded: {name} holds values of {value.dtype} that {dtype} cannot hold",
        )
    return result
