"""A file written on one backend gives the same outputs on another."""

import pytest

from tests.platform import portable
from tests.platform.test_devices import QUICK_JAX, run

NAMES = ["DeepLabV3Plus"]
ON_JAX = f"""
import pathlib, sys
from tests.platform import portable
portable.read(pathlib.Path(sys.argv[1]), {NAMES})
portable.write(pathlib.Path(sys.argv[2]), {NAMES})
"""


@pytest.mark.slow
def test_models_saved_on_tensorflow_and_on_jax_open_on_the_other(tmp_path):
    portable.write(tmp_path / "tensorflow", NAMES)
    out = run("-c", ON_JAX, tmp_path / "tensorflow", tmp_path / "jax", **QUICK_JAX)
    assert out.count(" on jax") == len(NAMES)
    portable.read(tmp_path / "jax", NAMES)
