"""Two devices give the figures of one: every run is a process of its own."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from examples import distributed

ROOT = pathlib.Path(__file__).parents[2]
# XLA optimizes nothing, and is ready in half the time.
QUICK_JAX = {"KERAS_BACKEND": "jax", "XLA_FLAGS": "--xla_backend_optimization_level=0"}


def run(*arguments, **environment):
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_two_mirrored_replicas_give_the_figures_of_one_device():
    # DeepLabV3+ has batch normalization in its decoder, whose statistics the replicas share.
    out = run("-m", "tests.platform.replicas", "mirrored", "DeepLabV3Plus")
    assert out.count("one device and two agree") == 1


@pytest.mark.slow
def test_a_replica_without_an_image_of_the_last_batch_changes_no_score():
    # oneDNN gives a convolution of no image its input's shape, and the next one is refused.
    out = run(
        "-m", "tests.platform.replicas", "remainder", "DeepLabV3Plus", TF_ENABLE_ONEDNN_OPTS="0"
    )
    assert out.count("one device and two agree") == 1


@pytest.mark.slow
def test_data_parallel_jax_gives_the_figures_of_one_device():
    flags = QUICK_JAX["XLA_FLAGS"] + " --xla_force_host_platform_device_count=2"
    environment = QUICK_JAX | {"XLA_FLAGS": flags}
    out = run("-m", "tests.platform.replicas", "jax", "DeepLabV3Plus", **environment)
    assert out.count("one device and two agree") == 1


@pytest.mark.slow
def test_two_workers_over_loopback_give_the_figures_of_one_process(tmp_path, monkeypatch):
    def options(folder, workers):
        return ["--quick", "--workers", str(workers), "--output", str(tmp_path / folder)]

    out = run(distributed.__file__, *options("two", 2))
    assert "2 replica(s)" in out
    monkeypatch.setattr(sys, "argv", ["distributed.py", *options("one", 1)])
    distributed.work(distributed.parse_arguments())
    one, two = (json.loads((tmp_path / name / "logs.json").read_text()) for name in ("one", "two"))
    assert [set(epoch) for epoch in one] == [{"loss", "iou", "dice_score"}] * 2
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(list(a.values()), list(b.values()), atol=5e-3)
        assert abs(a["loss"] - b["loss"]) < 1e-4
