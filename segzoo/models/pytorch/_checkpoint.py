"""A checkpoint of PyTorch's: its weights, opened, and its configuration, read."""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from segzoo.weights.safetensors_files import SafetensorsFile

_WEIGHTS, _CONFIG = "model.safetensors", "config.json"
_HUB = "hf://"


class Checkpoint(NamedTuple):
    """The tensors of a checkpoint, and what its configuration says."""

    file: SafetensorsFile
    config: dict[str, Any]
    source: str  # what the configuration was read from, for errors


def open_checkpoint(
    path: str | os.PathLike, config: Mapping[str, Any] | str | os.PathLike | None
) -> Checkpoint:
    """Open a checkpoint.

    Args:
        path: a folder, a safetensors file, or `"hf://user/model"`.
        config: of a file without a configuration: a mapping, or the path of a JSON file.

    Raises:
        ValueError: names the file and what is wrong with it.
    """
    folder, weights = _locate(path, needs_config=config is None)
    if isinstance(config, Mapping):
        found, source = dict(config), "`config`"
    else:
        place = folder / _CONFIG if config is None else pathlib.Path(config)
        found, source = _read(place, weights, given=config is not None), str(place)
    return Checkpoint(SafetensorsFile(weights), found, source)


def _locate(path: str | os.PathLike, needs_config: bool) -> tuple[pathlib.Path, pathlib.Path]:
    """The folder of the configuration and the file of the weights."""
    if not isinstance(path, str | os.PathLike):
        raise ValueError(
            "`path` must be a folder, a safetensors file or 'hf://user/model', received "
            f"path={path!r}"
        )
    if os.fspath(path).startswith(_HUB):
        return _download(os.fspath(path), needs_config)
    place = pathlib.Path(path)
    if not place.exists():
        raise FileNotFoundError(f"there is no folder or file at {place}")
    if not place.is_dir():
        return place.parent, place
    if (place / _WEIGHTS).exists():
        return place, place / _WEIGHTS
    others = sorted(file.name for file in place.iterdir() if file.name.startswith(("model", "pyt")))
    for name in (f"{_WEIGHTS}.index.json", *others):
        if (place / name).is_file():
            SafetensorsFile(place / name)  # says what to do about shards and pickles
    raise ValueError(
        f"{place} has no file `{_WEIGHTS}`, which `save_pretrained` writes; it has {others[:5]}"
    )


def _download(path: str, needs_config: bool) -> tuple[pathlib.Path, pathlib.Path]:
    try:
        import huggingface_hub
    except ImportError as error:
        raise ValueError(
            f"{path} needs the package huggingface_hub: `pip install huggingface_hub`, or download "
            "the repository and pass its folder"
        ) from error
    repository = path.removeprefix(_HUB)
    try:
        weights = pathlib.Path(huggingface_hub.hf_hub_download(repository, _WEIGHTS))
        if needs_config:
            return pathlib.Path(
                huggingface_hub.hf_hub_download(repository, _CONFIG)
            ).parent, weights
    except Exception as error:
        raise ValueError(
            f"{path}: `{_WEIGHTS}` and `{_CONFIG}` of the repository could not be downloaded "
            f"({error}). Without a network, pass the path of a folder with both"
        ) from error
    return weights.parent, weights


def _read(place: pathlib.Path, weights: pathlib.Path, given: bool) -> dict[str, Any]:
    if not place.is_file():
        raise ValueError(
            f"`config` must be a mapping or the path of a JSON file; there is no file at {place}"
            if given
            else f"there is no `{_CONFIG}` beside {weights}, which says what network it is of. For "
            "a bare state dict pass `config`, for example "
            '{"architecture": "Unet", "encoder_name": "resnet34", "classes": 1}'
        )
    try:
        found = json.loads(place.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place} is not JSON ({error})") from error
    if not isinstance(found, dict):
        raise ValueError(f"{place} must be a table of options, received a {type(found).__name__}")
    return found
