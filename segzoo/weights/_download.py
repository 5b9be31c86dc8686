"""Published weights files: downloaded once into Keras's cache; the error says what to do.

A download is written beside its place, checked, and then moved there: what has the file's name is
the whole file, also for a second process that asks for it meanwhile.
"""

import hashlib
import json
import logging
import os
import pathlib
import re
import shutil
import threading
import urllib.request

from segzoo.weights import _cache
from segzoo.weights._files import open_file

_SECONDS = 60  # without an answer


def fetch(url: str, argument: str, *, sha256: str | None = None) -> str:
    """Return the path of a published file in Keras's cache, downloading it if it is missing.

    Args:
        url: where the file is published; the cache keeps its repository and its name.
        argument: the user's argument that asks for it, for the error.
        sha256: SHA-256 of the file, if its publisher gives it. Defaults to None.

    Raises:
        ValueError: if the file cannot be downloaded, saying where to put it and what else to do; or
            if what arrives is not the file.

    Example:
        >>> import pathlib, tempfile
        >>> from segzoo.weights import fetch
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     page = pathlib.Path(folder, "net.h5")
        ...     _ = page.write_text("<html>Sign in</html>")
        ...     try:
        ...         fetch(page.as_uri(), "weights")
        ...     except ValueError as error:
        ...         print("is not a weights file" in str(error))
        True
    """
    place = cached_path(url)
    if place.exists():
        return str(place)
    flat = _cache.models() / place.name
    if flat.exists() and place.name not in _COMMON:
        return str(flat)  # as Keras itself keeps it, and version 0.1 did
    part: pathlib.Path | None = None
    try:
        part = _download(url, place)
        _check(part, sha256)
        os.replace(part, place)
    except Exception as error:
        why = str(error).replace(str(part), "what came") or repr(error)
        raise download_error(url, argument, why) from error
    finally:
        if part is not None:
            part.unlink(missing_ok=True)
    return str(place)


# Names that many repositories have: what is found under one alone may be another's.
_COMMON = {"model.safetensors", "config.json"}


def cached_path(url: str) -> pathlib.Path:
    """The place of a published file in the cache: `models/<repository>/<file>`.

    Example:
        >>> from segzoo.weights._download import cached_path
        >>> path = cached_path("https://huggingface.co/org/net/resolve/main/model.safetensors")
        >>> path.parts[-4:]
        ('models', 'org', 'net', 'model.safetensors')
    """
    host, *folders, file = re.sub(r"^\w+://|[?#].*$", "", url).split("/")
    owned = host in ("github.com", "huggingface.co") and len(folders) >= 2
    repository = folders[:2] if owned else [host or "files"]
    safe = [re.sub(r"[^\w.-]|^\.+", "_", part) for part in (*repository, file)]
    return _cache.models().joinpath(*safe)


def _download(url: str, place: pathlib.Path) -> pathlib.Path:
    """The file that `url` gives, beside its place."""
    logging.getLogger("segzoo").info("downloading %s", url)
    request = urllib.request.Request(url, headers={"User-Agent": "segzoo"})
    part = place.with_name(f".{place.stem}-{os.getpid()}-{threading.get_ident()}{place.suffix}")
    with urllib.request.urlopen(request, timeout=_SECONDS) as reply:
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("wb") as stream:
                shutil.copyfileobj(reply, stream, 1 << 20)
            announced = reply.headers.get("Content-Length")
            size = part.stat().st_size
            if announced is not None and int(announced) != size:
                raise ValueError(f"the reply was cut short: {size} of {announced} bytes arrived")
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    return part


def _check(path: pathlib.Path, sha256: str | None) -> None:
    """Refuse what is not the file: a page of a network that wants a sign-in, or a part."""
    if path.suffix == ".json":
        json.loads(path.read_bytes())
    else:
        with open_file(path):
            pass
    if sha256 is not None:
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if found != sha256:
            raise ValueError(f"its SHA-256 is {found}, expected {sha256}")


def download_error(url: str, argument: str, error: object, file: str | None = None) -> ValueError:
    """Return the error of a published file that cannot be downloaded.

    Args:
        url: where it is published.
        argument: the user's argument that asks for it.
        error: what happened.
        file: its name in Keras's cache, where Keras itself looks for it. Defaults to its place in
            the cache of `fetch`.

    Example:
        >>> error = download_error("https://host.org/net.h5", "backbone_weights", "no route")
        >>> "`net.h5`" in str(error) and "`backbone_weights=None`" in str(error)
        True
    """
    place = _cache.models() / file if file else cached_path(url)
    return ValueError(
        f"`{argument}`: {url} could not be downloaded ({error}). Without a network, put the file "
        f"`{place.name}` into {place.parent} by hand, or pass `{argument}=None` (random "
        "initialization) or the path of a weights file"
    )


def cached_error(argument: str, error: Exception) -> ValueError | None:
    """Return the error of a cached file that Keras could not load, or None if it read none.

    Args:
        argument: the user's argument that asks for it.
        error: what Keras raised.
    """
    path = _cache.file_behind(error)
    if not path:
        return None
    return ValueError(
        f"`{argument}`: the cached file {path} is damaged, or not the file of this network "
        f"({error}). Delete it, so that it is downloaded again, or pass `{argument}=None` (random "
        "initialization) or the path of a weights file"
    )
