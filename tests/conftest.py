"""Shared settings: quiet backends, fixed seeds, the float policy restored after every test."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pytest

# Programs, not tests: they need packages that the tests do not.
collect_ignore = ["benchmarks", "pytorch/remake.py"]


@pytest.fixture(autouse=True)
def _reproducible():
    keras.utils.set_random_seed(0)
    policy = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(policy)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
