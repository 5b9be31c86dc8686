"""Encoders trained in PyTorch give the maps that they gave there."""

import json

import keras
import numpy as np
import pytest

from segzoo import backbones
from segzoo.models.pytorch.encoders import convnext, encoder
from tests.pytorch import by_name
from tests.pytorch.published import DOUBLE, Case, names

# The backbone of each stored case, and the layers of its maps where they are not the backbone's.
ROWS = {
    **{f"torchvision-resnet{n}": f"resnet{n}" for n in (18, 34)},
    **{f"torchvision-resnet{n}": f"resnet{n}v1_5" for n in (50, 101, 152)},
    "torchvision-resnext50_32x4d": "resnext50",
    "torchvision-resnext101_32x8d": "resnext101",
    "torchvision-mobilenet_v2": "mobilenetv2",
    "timm-convnext_tiny": "convnexttiny",
    "timm-convnext_small": "convnextsmall",
    **{f"timm-tf_efficientnet_b{n}": f"efficientnetb{n}" for n in (0, 2)},
    "timm-efficientnet_b0": "efficientnetb0",
    **{f"timm-tf_efficientnet_lite{n}": f"efficientnetlite{n}" for n in range(5)},
    **{f"transformers-mit_b{n}": f"mitb{n}" for n in (0, 1)},
}
# One of each way of building and naming; the rest takes minutes.
QUICK = {"torchvision-resnet18", "smp-mit_b0", "transformers-mit_b0"}
# The smallest of each further family; deeper ones have the same blocks.
SMALLEST = {
    *(
        "torchvision-mobilenet_v2",
        "timm-tf_efficientnet_lite0",
        "torchvision-resnet34",
        "torchvision-resnet50",
        "torchvision-resnext50_32x4d",
    ),
    *("smp-se_resnet50", "smp-efficientnet-b0", "smp-timm-efficientnet-b0", "smp-mobilenet_v2"),
    *("timm-tf_efficientnet_b0", "timm-efficientnet_b0", "timm-convnext_tiny"),
}


def marks(name):
    """The tests that a case belongs to."""
    if name in QUICK:
        return ()
    return (pytest.mark.slow,) if name in SMALLEST else (pytest.mark.slow, pytest.mark.deep)


CASES = [
    pytest.param(name, marks=marks(name))
    for name in (case.removeprefix("encoder-") for case in names("encoder-"))
]


def build(case: Case, path, **options):
    name = case.name.removeprefix("encoder-")
    if name.startswith("smp-"):
        found = encoder(name.removeprefix("smp-"), None)
        row, features = found.backbone, found.features
    else:
        row = ROWS[name]
        size = row.removeprefix("convnext")
        features = convnext(size).features if size != row else None
    return backbones.build(row, weights=path, preprocessing=False, features=features, **options)


@pytest.mark.parametrize("name", CASES)
def test_maps_are_those_of_pytorch(tmp_path, name):
    case = Case(f"encoder-{name}")
    if case.name in DOUBLE:
        keras.config.set_dtype_policy("float64")
    model = build(case, case.write(tmp_path))
    for size in case.samples:
        image = by_name.image(*size).astype(model.compute_dtype)
        differences = case.differences(size, model(image))
        assert max(differences) < 1e-4, (size, differences)


def test_a_whole_network_gives_its_encoder(tmp_path, caplog):
    case = Case("smp-Unet-option-aux")
    tensors = case.tensors()
    with caplog.at_level("INFO", "segzoo"):
        model = backbones.build("resnet18", weights=case.write(tmp_path), preprocessing=False)
    assert "'encoder.'" in caplog.text
    kernel = model.get_layer("conv1_conv").get_weights()[0]
    np.testing.assert_array_equal(kernel, tensors["encoder.conv1.weight"].transpose(2, 3, 1, 0))


@pytest.mark.slow
def test_other_channels_than_rgb_repeat_what_the_file_learned(tmp_path):
    case = Case("encoder-torchvision-resnet18")
    path = case.write(tmp_path)
    rgb = build(case, path)
    six = build(case, path, input_shape=(None, None, 6))
    image = by_name.image(64, 96)
    for one, other in zip(rgb(image), six(np.concatenate([image, image], -1)), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4 * np.std(one))


@pytest.mark.slow
def test_efficientnet_in_names_of_two_networks_is_refused_unless_the_caller_says_which(tmp_path):
    case = Case("encoder-timm-tf_efficientnet_lite0")
    path = case.write(tmp_path)
    config = path.parent / "config.json"
    config.unlink()
    with pytest.raises(ValueError, match=r"two networks are published") as error:
        backbones.build("efficientnetlite0", weights=path)
    assert "tf_efficientnet_b0" in str(error.value) and "config.json" in str(error.value)
    epsilons = {}
    timm, smp = "tf_efficientnet_lite0", "timm-tf_efficientnet_lite0"
    for said in ({"architecture": timm}, {"encoder_name": smp}):
        config.write_text(json.dumps(said))
        model = backbones.build("efficientnetlite0", weights=path)
        epsilons[next(iter(said.values()))] = model.get_layer("stem_bn").epsilon
    assert epsilons == {timm: 1e-3, smp: 1e-5}


@pytest.mark.parametrize("name", ["torchvision-resnet18", "timm-tf_efficientnet_lite0"])
def test_published_weights_of_a_backbone_are_such_files(tmp_path, monkeypatch, name):
    case = Case(f"encoder-{name}")
    path = case.write(tmp_path)
    (tmp_path / "config.json").unlink(missing_ok=True)
    addresses = []
    monkeypatch.setattr(
        "segzoo.backbones.named.fetch", lambda url, argument: addresses.append(url) or path
    )
    model = backbones.build(ROWS[name], weights="imagenet", preprocessing=False)
    assert addresses[0].startswith("https://huggingface.co/timm/")
    size = next(iter(case.samples))
    assert max(case.differences(size, model(by_name.image(*size)))) < 1e-4


@pytest.mark.slow
def test_a_file_of_another_network_names_the_backbone_that_fits(tmp_path):
    case = Case("encoder-torchvision-resnet18")
    path = case.write(tmp_path)
    with pytest.raises(ValueError, match=r"Build 'resnet50v1_5'"):
        backbones.build("resnet50", weights=path)
    with pytest.raises(ValueError, match=r"torchvision's and timm's ResNet, which .*'vgg16'"):
        backbones.build("vgg16", weights=path)
    with pytest.raises(ValueError, match=r"has no tensor `layer1\.2\.conv1\.weight`"):
        backbones.build("resnet34", weights=path)
    with pytest.raises(ValueError, match=r"tensor `layer1\.0\.conv1\.weight` is \(64, 64, 3, 3\)"):
        backbones.build("resnet50v1_5", weights=path)


@pytest.mark.parametrize("change", ["missing", "unknown", "misshapen"])
def test_a_file_that_does_not_fit_changes_nothing(tmp_path, monkeypatch, change):
    from segzoo.weights.pytorch import load
    from segzoo.weights.pytorch.resnet import TORCHVISION
    from segzoo.weights.safetensors_files import SafetensorsFile

    case = Case("encoder-torchvision-resnet18")
    name = "layer4.1.bn2.weight"
    if change == "missing":
        del case.shapes[name]
    elif change == "unknown":
        name = "layer4.1.conv9.weight"
        case.shapes[name] = (1, 1)
    else:
        case.shapes[name] = (511,)
    model = backbones.build("resnet18", weights=None)
    before = model.get_weights()
    with pytest.raises(ValueError, match=name.replace(".", r"\.")) as error:
        load(model, SafetensorsFile(case.write(tmp_path)), TORCHVISION)
    assert "nothing was loaded" in str(error.value)
    for value, now in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(value, now)
