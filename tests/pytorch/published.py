"""Files in the published layouts, and what PyTorch makes of them: read from `outputs`.

`outputs/<case>.npz` has, for one network, the names and shapes of its tensors and its
configuration as PyTorch's libraries write them, and samples of its maps at some sizes. `remake.py`
made it.
"""

import json
import pathlib
import zlib
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from tests.pytorch import by_name

OUTPUTS = pathlib.Path(__file__).parent / "outputs"
# So deep that with weights of chance float32 itself is off by up to 0.01 of the spread: these are
# computed in float64, there and here.
DOUBLE = {f"encoder-smp-{kind}efficientnet-b{n}" for kind in ("", "timm-") for n in (5, 6, 7)}


class Case:
    """One network: its file, its configuration, its maps."""

    def __init__(self, name: str) -> None:
        self.name = name
        with np.load(OUTPUTS / f"{name}.npz") as stored:
            arrays = dict(stored)
        text = json.loads(zlib.decompress(arrays.pop("text").tobytes()))
        self.shapes: dict[str, tuple[int, ...]] = {n: tuple(s) for n, s in text["shapes"].items()}
        self.exponents: dict[str, int] = text["exponents"]
        self.config: dict[str, Any] | None = text["config"]
        self.samples = {
            tuple(map(int, size.split("x"))): list(maps) for size, maps in arrays.items()
        }

    def tensors(self) -> dict[str, np.ndarray]:
        return {
            name: by_name.tensor(name, shape, self.exponents.get(name, 0))
            for name, shape in self.shapes.items()
        }

    def write(self, folder: pathlib.Path, **changes: Any) -> pathlib.Path:
        """Write the file, and the configuration beside it; `changes` are to the configuration."""
        path = pathlib.Path(folder) / "model.safetensors"
        save_file(self.tensors(), path)
        if self.config is not None:
            (path.parent / "config.json").write_text(json.dumps({**self.config, **changes}))
        return path

    def differences(self, size: tuple[int, int], maps: list) -> list[float]:
        """The largest difference of each map from PyTorch's, relative to its spread."""
        expected = self.samples[size]
        assert len(maps) == len(expected)
        return [
            float(np.abs(by_name.sample(np.asarray(got)) - want).max() / want.std())
            for got, want in zip(maps, expected, strict=True)
        ]


def names(prefix: str = "") -> list[str]:
    return sorted(path.stem for path in OUTPUTS.glob(f"{prefix}*.npz"))
