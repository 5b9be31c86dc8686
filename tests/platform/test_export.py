"""Exported models give Keras's numbers in other runtimes; .ci/matrix tries every combination."""

import keras
import numpy as np
import pytest

import segzoo
from tests.cases import SMALL, TINY, each
from tests.platform import coins, export, runtimes

QUICK = {"UNet": TINY["UNet"]}


@pytest.mark.slow
def test_saved_models_of_every_builder_load_with_tensorflow_alone(tmp_path):
    models = [(f"{name}-dynamic", build(3), "dynamic") for name, build in TINY.items()]
    models.append(("UNet-static", TINY["UNet"](3, (*export.STATIC, 3)), "static"))
    jobs = [export.write_saved_model(m, tmp_path / name, kind) for name, m, kind in models]
    export.run_with_tensorflow_alone(jobs)


@pytest.mark.parametrize("case", each("ONNX", QUICK, TINY))
def test_onnx_runs_at_any_size(case, tmp_path):
    export.onnx_agrees(case(3), tmp_path, export.SIZES["dynamic"])


@pytest.mark.slow
@pytest.mark.parametrize("case", each("ONNX", {}, {**TINY, "transpose": SMALL["UNet-transpose"]}))
def test_onnx_in_float16_runs_at_any_size(case, tmp_path, rng):
    model = case(3)
    run = runtimes.onnx_float16(model, (None, None, None, 3), tmp_path)
    for size in export.SIZES["dynamic"]:
        x = rng.random((1, *size, 3), dtype="float32")
        np.testing.assert_allclose(run(x), model.predict(x, verbose=0), atol=2e-2)


@pytest.mark.slow
def test_onnx_runs_attention_and_exact_gelu_at_any_size(tmp_path):
    image = keras.Input((None, None, 3))
    x = segzoo.layers.ConvBlock(6, activation="gelu")(image)
    x = segzoo.layers.EfficientSelfAttention(6, heads=2, reduction=4)(x)
    x = segzoo.layers.MixFeedForward(6)(x)
    export.onnx_agrees(keras.Model(image, x), tmp_path, export.SIZES["dynamic"], batch=2)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["mitb0", "convnexttiny"])
def test_onnx_of_published_networks_with_exact_gelu(backbone, tmp_path):
    model = segzoo.models.SegFormer(backbone, 3, backbone_weights=None, decoder_filters=8)
    export.onnx_agrees(model, tmp_path, export.SIZES["dynamic"])


def test_onnx_resizes_by_ratios_that_are_not_whole(tmp_path):
    # 7 times float32(25 / 7) is below 25, of which ONNX Runtime makes 24 rows.
    image = keras.Input((25, 49, 3))
    x = segzoo.layers.ConvBlock(2, 1)(image)[:, :7, :13]
    y = segzoo.layers.ResizeLike()(x, image)
    export.onnx_agrees(keras.Model(image, y), tmp_path, [(25, 49)])


@pytest.mark.slow
def test_onnx_of_a_fixed_size(tmp_path):
    size = (97, 131)
    export.onnx_agrees(TINY["DeepLabV3Plus"](3, (*size, 3)), tmp_path, [size])


@pytest.mark.parametrize("case", each("LiteRT", QUICK, TINY))
def test_litert_of_a_fixed_size(case, tmp_path):
    model = case(3, (*export.STATIC, 3))
    export.litert_agrees(model, tmp_path, export.SIZES["static"])


@pytest.mark.slow
def test_litert_runs_at_any_size(tmp_path):
    export.litert_agrees(TINY["UNet"](3), tmp_path, export.SIZES["dynamic"])


@pytest.mark.slow
def test_litert_in_float16_rounds_the_numbers_of_the_float32_file_to_half(tmp_path):
    model = TINY["DeepLabV3Plus"](3)
    export.litert_float16_agrees(model, tmp_path, export.SIZES["dynamic"])


@pytest.mark.slow
def test_int8_decides_99_of_100_pixels_of_the_quickstart_alike(tmp_path):
    model = segzoo.models.UNet(None, 1, (None, None, 1), decoder_filters=(128, 64, 32, 16))
    coins.train(model, scale=255)
    assert coins.share_decided_alike(model, tmp_path, scale=255) >= 0.99
