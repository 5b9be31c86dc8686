"""A file written on one backend gives the same outputs on another."""

import pytest

from tests.platform.test_devices import run

NAMES = ("DeepLabV3Plus",)


@pytest.mark.parametrize("writer, reader", [("tensorflow", "jax"), ("jax", "tensorflow")])
def test_a_model_saved_on_one_backend_opens_on_the_other(writer, reader, tmp_path):
    module = ("-m", "tests.platform.portable")
    run(*module, "write", tmp_path, *NAMES, KERAS_BACKEND=writer)
    out = run(*module, "read", tmp_path, KERAS_BACKEND=reader)
    assert out.count(f" on {reader}") == len(NAMES)
