"""Checkpoints trained in PyTorch give the output that they gave there."""

import json
import subprocess
import sys
import types

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

from segzoo import models
from segzoo.models import from_pytorch
from segzoo.weights import published
from tests.platform import export
from tests.pytorch import by_name
from tests.pytorch.published import Case, names

# A few on the smallest network that is stored; the rest takes minutes.
QUICK = {"smp-FPN-option-concat", "transformers-segformer-b0"}


def marks(name):
    """The tests that a case belongs to: DeepLabV3+ on the encoders that U-Net has too is deep."""
    if name in QUICK:
        return ()
    twice = name.startswith("smp-DeepLabV3Plus-") and "option" not in name
    return (pytest.mark.slow, pytest.mark.deep) if twice else (pytest.mark.slow,)


# An attention without a scale lets rounding grow: of the spread of the outputs PyTorch's float32 is
# 5e-5 off from float64, TensorFlow's 6e-5 and, with oneDNN, 1e-4.
ROUNDING_GROWS = {"smp-MAnet-resnet34"}
CASES = [pytest.param(name, marks=marks(name)) for name in names("smp-") + names("transformers-")]


def channels(case: Case) -> int:
    return case.config.get("in_channels", 3)


def read(case: Case, folder, **options):
    case.write(folder)
    activation = "auto" if case.config.get("activation") else None
    return from_pytorch(folder, preprocessing=False, **{"activation": activation, **options})


@pytest.mark.parametrize("name", CASES)
def test_output_is_that_of_pytorch(tmp_path, name):
    case = Case(name)
    if name in ROUNDING_GROWS:
        keras.config.set_dtype_policy("float64")
    model = read(case, tmp_path)
    for size in case.samples:
        (difference,) = case.differences(size, [model(by_name.image(*size, channels(case)))])
        assert difference < 1e-4, (size, difference)
    # Any size from 32 on, also where PyTorch's network raises.
    for size in ((32, 32), (45, 77)):
        output = keras.ops.convert_to_numpy(model(by_name.image(*size, channels(case))))
        assert output.shape[1:3] == size and np.isfinite(output).all()


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small network and its folder."""
    folder = tmp_path_factory.mktemp("small")
    return Case("smp-Unet-option-depth3"), folder, read(Case("smp-Unet-option-depth3"), folder)


@pytest.mark.slow
def test_a_fixed_size_and_a_graph_without_one_give_what_the_open_model_gives(small):
    case, folder, model = small
    image = by_name.image(64, 96)
    expected = np.asarray(model(image))
    fixed = from_pytorch(folder, input_shape=(64, 96, 3), activation=None, preprocessing=False)
    np.testing.assert_allclose(fixed(image), expected, atol=1e-5 * expected.std())
    np.testing.assert_allclose(
        model.predict(image, verbose=0), expected, atol=1e-5 * expected.std()
    )
    larger = model.predict(by_name.image(97, 65), verbose=0)
    (difference,) = case.differences((97, 65), [larger])
    assert difference < 1e-4


def test_normalization_is_part_of_the_graph(small):
    _, folder, model = small
    pixels = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3)).astype("uint8")
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    expected = np.asarray(model(((pixels / 255 - mean) / std).astype("float32")))
    got = from_pytorch(folder, activation=None)(pixels)
    np.testing.assert_allclose(got, expected, atol=1e-4 * expected.std())


@pytest.mark.slow
def test_other_channels_adapt_the_first_convolution_of_a_file_of_rgb(tmp_path, small):
    _, folder, _ = small
    gray = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 1)).astype("uint8")
    expected = np.asarray(from_pytorch(folder, activation=None)(gray.repeat(3, -1)))
    for channels in (1, 4):
        model = from_pytorch(folder, activation=None, input_shape=(None, None, channels))
        got = model(gray.repeat(channels, -1))
        np.testing.assert_allclose(got, expected, atol=1e-4 * expected.std())
    case = Case("smp-Unet-option-gray")
    case.write(tmp_path)
    with pytest.raises(ValueError, match=r"`input_shape` must be \(height, width, 1\)"):
        from_pytorch(tmp_path, input_shape=(None, None, 3))


@pytest.mark.slow
def test_a_bare_state_dict_needs_a_configuration(tmp_path, small):
    case, _, model = small
    path = tmp_path / "roads.safetensors"
    save_file({f"model.{name}": value for name, value in case.tensors().items()}, path)
    with pytest.raises(ValueError, match=r"no `config\.json`.*pass `config`"):
        from_pytorch(path)
    config = {
        "architecture": "Unet",
        "encoder_name": "resnet18",
        "encoder_depth": 3,
        "decoder_channels": [32, 16, 8],
    }
    (tmp_path / "roads.json").write_text(json.dumps(config))
    image = by_name.image(64, 96)
    for said in (config, tmp_path / "roads.json"):
        got = from_pytorch(path, config=said, activation=None, preprocessing=False)
        np.testing.assert_array_equal(got(image), model(image))


def test_other_classes_start_a_fresh_classifier(small, caplog):
    _, folder, model = small
    other = from_pytorch(folder, classes=5)
    assert other.output_shape[-1] == 5 and "`logits` starts fresh" in caplog.text
    mine, theirs = (m.get_layer("decoder_1_conv_1").get_weights() for m in (other, model))
    assert all(np.array_equal(a, b) for a, b in zip(mine, theirs, strict=True))


@pytest.mark.slow
def test_a_saved_model_comes_back_without_the_checkpoint(tmp_path, small):
    _, _, model = small
    path, outputs = tmp_path / "model.keras", tmp_path / "outputs.npy"
    model.save(path)
    image = by_name.image(64, 96)
    np.save(tmp_path / "image.npy", image)
    code = (
        "import sys, numpy as np, segzoo, keras\n"
        "model = keras.saving.load_model(sys.argv[1])\n"
        "np.save(sys.argv[3], np.asarray(model(np.load(sys.argv[2]))))"
    )
    command = [sys.executable, "-c", code, path, tmp_path / "image.npy", outputs]
    subprocess.run(command, check=True, capture_output=True)
    np.testing.assert_allclose(np.load(outputs), model(image), rtol=0, atol=1e-6)


CONFIGS = {
    "no JSON": ("{", r"is not JSON"),
    "a list": ("[]", r"must be a table of options, received a list"),
    "an unknown architecture": ({"_model_class": "DPT"}, r"must be one of Unet, .*'DPT'"),
    "no architecture": ({"_model_class": None}, r"must be one of Unet"),
    "an unknown encoder": ({"encoder_name": "densenet121"}, r"resnet18.*'densenet121'"),
    "an unknown option": ({"decoder_magic": 1}, r"`decoder_magic` is not an option of Unet"),
    "an option that is not read": ({"activation": "argmax2d"}, r"received activation='argmax2d'"),
    "another interpolation": ({"decoder_interpolation": "area"}, r"decoder_interpolation='area'"),
    "another attention": ({"decoder_attention_type": "cbam"}, r"decoder_attention_type='cbam'"),
    "another normalization": ({"decoder_use_norm": "inplace"}, r"decoder_use_norm='inplace'"),
    "another depth": ({"encoder_depth": 5}, r"`decoder_channels` must be one width for each"),
    "a text for a number": ({"classes": "2"}, r"`classes` must be an int from 1 on"),
    "other classes than the tensors": ({"classes": 2}, r"tensor `segmentation_head\.0\.weight`"),
    "another encoder than the tensors": ({"encoder_name": "resnet50"}, r"encoder\.layer1\.0"),
    "widths of other tensors": ({"decoder_channels": [32, 16, 4]}, r"decoder\.blocks\.2\.conv1"),
}


@pytest.mark.parametrize("what", CONFIGS)
def test_a_configuration_that_does_not_fit_is_refused(tmp_path, small, what):
    case, folder, _ = small
    changes, match = CONFIGS[what]
    config = {**case.config, **changes} if isinstance(changes, dict) else changes
    text = json.dumps(config) if isinstance(config, dict) else config
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=match):
        from_pytorch(folder, config=tmp_path / "config.json")


def test_a_folder_without_weights_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder or file"):
        from_pytorch(tmp_path / "nothing")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"has no file `model\.safetensors`"):
        from_pytorch(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x02whatever")
    with pytest.raises(ValueError, match=r"pickle"):
        from_pytorch(tmp_path)


def test_a_repository_is_downloaded_where_the_package_is_installed(small, monkeypatch):
    _, folder, model = small
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r"hf://me/roads needs the package huggingface_hub"):
        from_pytorch("hf://me/roads")

    def hf_hub_download(repository, file):
        if repository != "me/roads":
            raise OSError("no route to host")
        return str(folder / file)

    hub = types.SimpleNamespace(hf_hub_download=hf_hub_download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    found = from_pytorch("hf://me/roads", activation=None, preprocessing=False)
    image = by_name.image(64, 96)
    np.testing.assert_array_equal(found(image), model(image))
    with pytest.raises(ValueError, match=r"hf://me/paths.*no route to host"):
        from_pytorch("hf://me/paths")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["Unet-option-depth3", "PSPNet-option-widths", "PAN-option-depth4"]
)
def test_exported_models_give_the_same(tmp_path, name):
    case = Case(f"smp-{name}")
    case.write(tmp_path)
    export.onnx_agrees(from_pytorch(tmp_path), tmp_path, export.SIZES["dynamic"])
    fixed = from_pytorch(tmp_path, input_shape=(*export.STATIC, 3))
    export.litert_agrees(fixed, tmp_path, export.SIZES["static"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("builder", "backbone", "name"),
    [
        ("SegFormer", "mitb0", "smp-Segformer-mit_b0"),
        ("UPerNet", "convnexttiny", "transformers-upernet-tiny"),
    ],
)
def test_published_checkpoints_are_such_files(tmp_path, monkeypatch, builder, backbone, name):
    case, addresses = Case(name), []
    path = case.write(tmp_path)
    monkeypatch.setattr(
        "segzoo.weights.published.fetch", lambda url, *_, **__: addresses.append(url) or path
    )
    build = getattr(models, builder)
    classes = 4 if builder == "SegFormer" else 5
    options = {"activation": None, "preprocessing": False, "weights": "ade20k"}
    model = build(backbone, classes, **options)
    (address,) = addresses
    assert "huggingface.co/" in address and address.endswith("/resolve/main/model.safetensors")
    for size in case.samples:
        (difference,) = case.differences(size, [model(by_name.image(*size))])
        assert difference < 1e-4, (size, difference)
    assert build(backbone, 7, **{**options, "weights": path}).output_shape[-1] == 7
    with pytest.raises(ValueError, match=r"`decoder_filters` must be"):
        build(backbone, classes, **options, decoder_filters=64)
    with pytest.raises(ValueError, match=r"is published for the backbones"):
        build("resnet18", classes, **options)


def test_the_names_of_classes_are_as_many_as_published_channels():
    for row in published.CHECKPOINTS:
        assert len(models.class_names(row.name)) == row.classes
        assert len(models.class_colors(row.name)) == row.classes
    assert len(set(models.class_names("ade20k"))) == 150
    with pytest.raises(ValueError, match=r"`weights` must be one of 'ade20k'"):
        models.class_names("coco")


def test_weights_of_a_builder_are_not_taken_from_a_file_of_pytorch(small):
    _, folder, _ = small
    with pytest.raises(ValueError, match=r"read by `segzoo\.models\.from_pytorch`"):
        models.UNet("resnet18", weights=folder / "model.safetensors")
