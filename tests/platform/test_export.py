"""Exported models give Keras's numbers in other runtimes; .ci/matrix tries every combination."""

import pytest

import segzoo
from tests.cases import TINY
from tests.platform import coins, export


def test_saved_models_of_every_builder_load_with_tensorflow_alone(tmp_path):
    models = [(f"{name}-dynamic", build(3), "dynamic") for name, build in TINY.items()]
    models.append(("UNet-static", TINY["UNet"](3, (*export.STATIC, 3)), "static"))
    jobs = [export.write_saved_model(m, tmp_path / name, kind) for name, m, kind in models]
    export.run_with_tensorflow_alone(jobs)


@pytest.mark.parametrize("name", TINY)
def test_onnx_runs_at_any_size(name, tmp_path):
    export.onnx_agrees(TINY[name](3), tmp_path, export.SIZES["dynamic"])


def test_onnx_of_a_fixed_size(tmp_path):
    export.onnx_agrees(TINY["UNet"](3, (*export.STATIC, 3)), tmp_path, export.SIZES["static"])


@pytest.mark.parametrize("name", TINY)
def test_litert_of_a_fixed_size(name, tmp_path):
    model = TINY[name](3, (*export.STATIC, 3))
    export.litert_agrees(model, tmp_path, export.SIZES["static"])


def test_litert_runs_at_any_size(tmp_path):
    export.litert_agrees(TINY["UNet"](3), tmp_path, export.SIZES["dynamic"])


def test_litert_in_float16_rounds_the_numbers_of_the_float32_file_to_half(tmp_path):
    model = TINY["DeepLabV3Plus"](3)
    export.litert_float16_agrees(model, tmp_path, export.SIZES["dynamic"])


def test_int8_decides_99_of_100_pixels_of_the_quickstart_alike(tmp_path):
    model = segzoo.models.UNet(None, 1, (None, None, 1), decoder_filters=(128, 64, 32, 16))
    coins.train(model, scale=255)
    assert coins.share_decided_alike(model, tmp_path, scale=255) >= 0.99
