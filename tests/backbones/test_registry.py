"""Every backbone by name: what `info` says is what `build` gives, at any size, in any process."""

import gc
import os
import pathlib
import runpy
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest

from segzoo import backbones
from tests.backbones import networks


def side(size, stride):
    return -(-size // stride)


@pytest.fixture
def empty_weights(monkeypatch):
    """Zeros for drawn weights and half the bytes: a graph is what the largest are built for."""

    def zeros(self, shape, dtype=None, **_):
        return keras.ops.zeros(shape, dtype)

    monkeypatch.setattr(keras.initializers.VarianceScaling, "__call__", zeros)
    keras.config.set_dtype_policy("bfloat16")
    yield
    gc.collect()


# Trainable ones of torchvision, timm and segmentation_models_pytorch, without the classifier.
TRAINABLE = {
    "resnet18": 11_176_512,
    "resnet34": 21_284_672,
    "resnet50v1_5": 23_508_032,
    "resnet101v1_5": 42_500_160,
    "resnet152v1_5": 58_143_808,
    "resnext50": 22_979_904,
    "resnext101": 86_742_336,
    "seresnet50": 26_039_024,
    "seresnet101": 47_277_872,
    "seresnext50": 25_510_896,
    "seresnext101": 46_906_416,
    "efficientnetlite0": 3_371_008,
    "efficientnetlite1": 4_135_680,
    "efficientnetlite2": 4_811_072,
    "efficientnetlite3": 6_916_096,
    "efficientnetlite4": 11_725_568,
}


def check_row(name, backbone, size):
    """A static build of `size` has what the row says."""
    row = backbones.info(name)
    assert backbone.name == "backbone"
    assert backbone.count_params() == row.parameters
    trainable = sum(int(np.prod(weight.shape)) for weight in backbone.trainable_weights)
    assert trainable == TRAINABLE.get(name, trainable)
    expected = [
        (None, side(size[0], stride), side(size[1], stride), channels)
        for stride, channels in zip(row.strides, row.channels, strict=True)
    ]
    assert [tuple(output.shape) for output in backbone.outputs] == expected
    taps = [backbone.get_layer(tap).output for tap in row.features]
    assert all(tap is output for tap, output in zip(taps, backbone.outputs, strict=True))


@pytest.mark.slow
@pytest.mark.deep
@pytest.mark.parametrize("name", sorted(set(backbones.names()) - set(networks.REPRESENTATIVES)))
def test_graph_is_what_its_row_says(name, empty_weights):
    backbone = backbones.build(name, weights=None, input_shape=(75, 106, 3))
    check_row(name, backbone, (75, 106))


@pytest.mark.parametrize("name", networks.each())
def test_static_and_dynamic_builds_agree_at_an_odd_size_and_in_their_names(name):
    dynamic = networks.built(name)
    static = backbones.build(name, weights=None, input_shape=(97, 75, 3))
    check_row(name, static, (97, 75))
    first, second = ([layer.name for layer in model.layers] for model in (dynamic, static))
    assert first == second
    assert len(set(first)) == len(first)
    networks.copy_weights(dynamic, static)
    image = networks.image(97, 75, batch=1)
    for ours, reference in zip(
        networks.maps(static, image), networks.maps(dynamic, image), strict=True
    ):
        assert ours.shape == reference.shape
        assert networks.relative_difference(ours, reference) < 1e-5


def test_rows_are_complete():
    assert len(backbones.names()) == len(set(backbones.names()))
    for name in backbones.names():
        row = backbones.info(name)
        assert row.name == name
        assert len(row.features) == len(row.strides) == len(row.channels)
        assert row.strides in [(2, 4, 8, 16, 32), (4, 8, 16, 32)]
        assert row.paper.arxiv.count(".") == 1
        assert row.paper.year >= 2014
        assert name in backbones.names(row.family)
    assert set(backbones.names("resnet")) >= {"resnet18", "resnet34", "resnet50", "resnet101"}


@pytest.mark.slow
def test_layers_can_be_looked_into():
    # One node per layer: Grad-CAM needs `layer.output`.
    backbone = networks.built("resnet50")
    inside = keras.Model(backbone.input, backbone.get_layer("conv4_block6_2_relu").output)
    assert inside(networks.image(64, 64)).shape == (2, 4, 4, 256)


@pytest.mark.slow
def test_features_replace_the_taps():
    taps = ["conv2_block3_2_relu", "conv4_block6_2_relu"]
    backbone = backbones.build("resnet50", weights=None, features=taps)
    assert [output.shape[-1] for output in backbone.outputs] == [64, 256]
    assert all("conv5" not in layer.name for layer in backbone.layers)


@pytest.mark.slow
def test_blocks_are_dropped_at_the_papers_rate():
    for name in ("efficientnetb0", "efficientnetb3"):
        backbone = backbones.build(name, weights=None)
        rates = [layer.rate for layer in backbone.layers if isinstance(layer, keras.layers.Dropout)]
        assert rates == sorted(rates)
        assert 0.15 < rates[-1] < 0.2


BAD = {
    "resnet5": (lambda: backbones.build("resnet5"), r"received 'resnet5'; near names: .*resnet50"),
    "family": (lambda: backbones.names("resnets"), "near names: resnet"),
    "info": (lambda: backbones.info("efficientnet-b0"), "the name is efficientnetb0$"),
    "capitals": (lambda: backbones.build("ResNet50"), "the name is resnet50$"),
    "size": (lambda: backbones.build("vgg16", input_shape=(31, None, 3)), "`input_shape` must be"),
    "rank": (lambda: backbones.build("vgg16", input_shape=(64, 64)), "`input_shape` must be"),
    "channels": (lambda: backbones.build("vgg16", input_shape=(64, 64, 0)), "`input_shape` must"),
    "no shape": (lambda: backbones.build("vgg16", input_shape=64), "`input_shape` must be"),
    "floats": (lambda: backbones.build("vgg16", input_shape=(64.0, 64, 3)), "`input_shape` must"),
    "no name": (lambda: backbones.info(["vgg16"]), r"received \['vgg16'\]"),
    "no path": (lambda: backbones.build("vgg16", weights=5), "must be None .*received 5"),
    "a word": (lambda: backbones.build("vgg16", weights=None, preprocessing="no"), "True or False"),
    "stride": (lambda: backbones.build("vgg16", output_stride=4), "must be 8, 16 or 32"),
    "weights": (lambda: backbones.build("vgg16", weights="imagnet"), "nor an existing file"),
    "noisy": (lambda: backbones.build("vgg16", weights="noisy-student"), "or a published set"),
    "none": (
        lambda: backbones.build("resnext50"),
        r"`backbone_weights` of 'resnext50' must be None .*there are no published weights",
    ),
    "no tap": (
        lambda: backbones.build("vgg16", weights=None, features=["block2_conv9"]),
        r"received 'block2_conv9'; near names: block2_conv",
    ),
    "no list": (
        lambda: backbones.build("vgg16", weights=None, features="block2_conv2"),
        "must be a list of layer names",
    ),
    "order": (
        lambda: backbones.build("vgg16", weights=None, features=["block5_pool", "block1_conv1"]),
        "from the finest map to the coarsest",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_raises_and_says_what_would_do(case):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        call()


def run(code, **environment):
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


@pytest.mark.slow
def test_saved_backbones_load_in_a_process_that_only_imports_segzoo(tmp_path):
    image = networks.image(64, 75, batch=1)
    np.save(tmp_path / "image.npy", image)
    # Each with something of its own to save: swish and Dropout, bare operations, dilated pools,
    # the phase shift, layers of Keras's own networks.
    made = {
        "efficientnetb0": 32,
        "mobilenetv3small": 16,
        "vgg16": 8,
        "xception": 16,
        "convnexttiny": 8,
        "inceptionresnetv2": 32,
    }
    for name, output_stride in made.items():
        last = backbones.info(name).features[-1:]
        if name == "inceptionresnetv2":
            last = ["block35_10_ac"]  # the layers are the same, 200 MB less
        backbone = backbones.build(name, weights=None, output_stride=output_stride, features=last)
        networks.enliven(backbone)
        backbone.save(tmp_path / f"{name}.keras")
        np.save(tmp_path / f"{name}.npy", networks.maps(backbone, image)[0])
    output = run(
        """
        import pathlib, sys
        import keras, numpy as np
        import segzoo

        folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else FOLDER)
        image = np.load(folder / "image.npy")
        for path in sorted(folder.glob("*.keras")):
            ours = keras.ops.convert_to_numpy(keras.saving.load_model(path)(image)[0])
            np.testing.assert_allclose(ours, np.load(path.with_suffix(".npy"))[0], atol=1e-5)
            print(path.stem)
        """.replace("FOLDER", repr(str(tmp_path)))
    )
    assert output.split() == sorted(made)


@pytest.mark.slow
def test_without_a_network_the_error_says_which_file_to_put_where(tmp_path):
    closed = "http://127.0.0.1:9"  # refuses at once: the real failure, and no network is asked
    output = run(
        """
        from segzoo import backbones

        for name, weights in (
            ("resnet50", "imagenet"),
            ("nasnetmobile", "imagenet"),
            ("efficientnetb0", "noisy-student"),
        ):
            try:
                backbones.build(name, weights=weights)
            except ValueError as error:
                print(error)
        """,
        KERAS_HOME=str(tmp_path),
        https_proxy=closed,
        HTTPS_PROXY=closed,
    )
    messages = [line for line in output.splitlines() if line.startswith("`backbone_weights`")]
    files = (
        "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "nasnet_mobile_no_top.h5",
        "efficientnet-b0_noisy-student_notop.h5",
    )
    assert len(messages) == len(files)
    for message, file in zip(messages, files, strict=True):
        assert "https://" in message
        assert f"`{file}` into {tmp_path / 'models'}" in message
        assert "backbone_weights=None" in message
        assert "path of a weights file" in message


def test_page_of_the_backbones_is_up_to_date():
    docs = pathlib.Path(__file__).parents[2] / "docs"
    page = runpy.run_path(str(docs / "generate_backbones.py"))["page"]()
    assert (docs / "backbones.md").read_text(encoding="utf-8") == page, (
        "run: python docs/generate_backbones.py"
    )


@pytest.mark.slow
def test_deep_networks_build_where_the_stack_is_deep_already(empty_weights):
    def below(frames):
        if frames:
            return below(frames - 1)
        return backbones.build("efficientnetl2", weights=None)

    limit = sys.getrecursionlimit()
    assert below(300).name == "backbone"
    assert sys.getrecursionlimit() == limit
