"""Models and weights files of the past: the same outputs, and files that can still be read."""

import json

import keras
import numpy as np
import pytest

from tests.cases import ALL, SMALL, some
from tests.models import frozen

KEPT = json.loads(frozen.OUTPUTS.read_text())


@pytest.mark.parametrize("name", some(KEPT, SMALL))
def test_a_model_gives_what_it_gave(name):
    kept, now = KEPT[name], frozen.outputs(name)
    assert now["parameters"] == kept["parameters"]
    assert now["layers"] == kept["layers"]
    for size in ("64x96", "47x61"):
        for a, b in zip(now[size], kept[size], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6 * np.abs(b).max())


@pytest.mark.parametrize("file", frozen.FILES)
def test_a_weights_file_of_version_0_1_is_read(file, tmp_path):
    name = frozen.FILES[file]
    expected = ALL[name](2)
    frozen.fill(expected)
    model = ALL[name](2, weights=frozen.unpack(file, tmp_path))
    for (key, a), (_, b) in zip(
        frozen.keyed_weights(model), frozen.keyed_weights(expected), strict=True
    ):
        np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (a, b)), err_msg=key)


def test_a_saved_model_of_version_0_1_opens(rng, tmp_path):
    model = keras.saving.load_model(frozen.unpack("deeplab.keras", tmp_path))
    expected = ALL["DeepLabV3Plus-separable"](2)
    frozen.fill(expected)
    x = rng.uniform(0, 255, (1, 47, 61, 3)).astype("float32")
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(model(x)), keras.ops.convert_to_numpy(expected(x)), atol=1e-6
    )


def test_a_backbone_file_of_version_0_1_is_read(tmp_path):
    model = frozen.build_backbone(weights=frozen.unpack(frozen.BACKBONE_FILE, tmp_path))
    for key, weight in frozen.keyed_weights(model):
        expected = frozen.pattern(key, tuple(weight.shape), weight.name).astype("float32")
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(weight), expected, err_msg=key)
