"""Where downloads are kept: in Keras's folder, by repository and file name."""

import os
import pathlib
import tempfile
import traceback


def home() -> pathlib.Path:
    """The folder that Keras keeps downloads in.

    Keras has it in a private function: `KERAS_HOME` or `~/.keras`, and where that cannot be
    written, `.keras` in the folder of temporary files.
    """
    user = pathlib.Path("~").expanduser()
    # Both as Keras has them, `/tmp` among them, which may be another than Python's.
    temporary = pathlib.Path("/tmp" if os.path.isdir("/tmp") else tempfile.gettempdir(), ".keras")
    own = os.environ.get("KERAS_HOME")
    base = pathlib.Path(own).expanduser() if own else user / ".keras"
    parent = base if base.exists() else next(p for p in base.parents if p.exists())
    return base if os.access(parent, os.W_OK) else temporary


def models() -> pathlib.Path:
    """The folder of weights files."""
    return home() / "models"


def advice(path: str | os.PathLike) -> str:
    """What to do about a file that is refused: delete one that was downloaded."""
    inside = models().resolve() in pathlib.Path(path).absolute().parents
    return f". It is a cached download: delete {os.fspath(path)} to have it again" if inside else ""


def file_behind(error: BaseException) -> str:
    """The cached file that somebody else's code was reading when it failed; empty for none.

    Neither Keras nor the `efficientnet` package name it in their errors, h5py's or their own.
    """
    found = ""
    folder = str(models())
    for frame, _ in traceback.walk_tb(error.__traceback__):
        for value in frame.f_locals.values():
            if isinstance(value, str) and value.startswith(folder) and os.path.isfile(value):
                found = value
    return found
