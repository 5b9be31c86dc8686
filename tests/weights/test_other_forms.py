"""`weights=` of a builder: files of another form are refused; classes and colors may differ.

The forms are those whose shapes fit: nothing but names, kinds and configs can tell them apart.
"""

import logging

import h5py
import keras
import numpy as np
import pytest

from segzoo.layers import ConvBlock
from segzoo.models import FCN, FPN, PSPNet, UNet, UNetPlusPlus, UPerNet
from segzoo.models._assembly import CLASSIFIERS
from segzoo.weights import load_weights
from tests.cases import SMALL, some

slow = pytest.mark.slow
ENDINGS = ("keras", "weights.h5", "h5")


def unet(**options):
    """U-Net on its own encoder, every stage of one width, so that shapes tell no stages apart."""
    return UNet(None, 2, (64, 64, 3), **({"decoder_filters": (8, 8, 8)} | options))


def nested(**options):
    return UNetPlusPlus(None, 2, (64, 64, 3), filters=(8, 8, 8), **options)


def fpn(merge):
    return FPN(strided(5), 2, (64, 64, 3), pyramid_filters=8, decoder_filters=32, merge=merge)


def pooled(builder, bins):
    return builder(strided(5), 2, (64, 64, 3), bin_sizes=bins, decoder_filters=8)


def on_resnet(channels=3, backbone="resnet18", **options):
    """A small part of a backbone that is normalized in front."""
    taps = {"resnet18": ["conv1_relu", "pool1_pool"], "vgg16": ["block1_conv1", "block1_pool"]}
    return UNet(
        backbone,
        1,
        (64, 64, channels),
        decoder_filters=(4, 4),
        backbone_weights=None,
        backbone_features=taps[backbone],
        activation=None,
        **options,
    )


def saved(model, folder):
    """The model in a file of each layout."""
    for ending in ENDINGS:
        path = folder / f"a.{ending}"
        (model.save_weights if ending == "weights.h5" else model.save)(path)
        yield path


def load(model, path):
    """As a builder does."""
    load_weights(model, path, surplus=(), fresh=CLASSIFIERS)


def assert_refused(model, path, pattern):
    before = model.get_weights()
    with pytest.raises(ValueError, match=pattern) as caught:
        load(model, path)
    assert str(path) in str(caught.value) and "nothing was loaded" in str(caught.value)
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


# What is saved, what it is loaded into, what the error names.
FORMS = {
    "transpose into bilinear": (
        lambda: unet(upsampling="transpose"),
        unet,
        "the file has layer `decoder_1_upsample`",
    ),
    "bilinear into transpose": (
        unet,
        lambda: unet(upsampling="transpose"),
        "the model has layer `decoder_1_upsample`",
    ),
    "five stages into three": (
        lambda: unet(decoder_filters=(8,) * 5),
        unet,
        r"the file has layer `(encoder|decoder)_[34]_conv_1`",
    ),
    "deep supervision into none": (lambda: nested(deep_supervision=True), nested, "`logits`"),
    "none into deep supervision": (nested, lambda: nested(deep_supervision=True), "`logits_1`"),
    "group into layer": (
        lambda: unet(normalization="group"),
        lambda: unet(normalization="layer"),
        "has a layer_normalization layer, in the file it is a group_normalization layer",
    ),
    "instance into group": (
        lambda: unet(normalization="instance"),
        lambda: unet(normalization="group"),
        "has a group_normalization layer, in the file it is a instance_normalization layer",
    ),
    "sum into concatenation": (lambda: fpn("add"), lambda: fpn("concat"), "`logits`"),
    "concatenation into sum": (lambda: fpn("concat"), lambda: fpn("add"), "`logits`"),
    "PSPNet of other bins": (
        lambda: pooled(PSPNet, (1, 2, 3, 6)),
        lambda: pooled(PSPNet, (1, 2, 4, 8)),
        "`psp_4",
    ),
    "UPerNet of other bins": (
        lambda: pooled(UPerNet, (1, 2, 3, 6)),
        lambda: pooled(UPerNet, (1, 2, 4, 8)),
        "`psp_4",
    ),
    "preprocessing into none": (
        on_resnet,
        lambda: on_resnet(preprocessing=False),
        "`preprocessing=True`",
    ),
    "none into preprocessing": (
        lambda: on_resnet(preprocessing=False),
        on_resnet,
        "`preprocessing=False`",
    ),
}


QUICK = ["transpose into bilinear", "group into layer", "sum into concatenation"]


@pytest.mark.parametrize("form", some(FORMS, QUICK))
def test_a_file_of_another_form_is_refused_by_name(tmp_path, form):
    source, build, pattern = FORMS[form]
    model = build()
    for path in saved(source(), tmp_path):
        assert_refused(model, path, pattern)


@pytest.mark.slow
def test_a_file_of_the_same_form_is_read(tmp_path):
    source, model = on_resnet(), on_resnet()
    for path in saved(source, tmp_path):
        model.set_weights([0 * w for w in model.get_weights()])
        load(model, path)
        for a, b in zip(model.get_weights(), source.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_builder_refuses_a_file_of_another_form(tmp_path):
    path = tmp_path / "a.weights.h5"
    unet(upsampling="transpose").save_weights(path)
    with pytest.raises(ValueError, match="the file has layer `decoder_1_upsample`"):
        unet(weights=path)


def test_where_the_file_tells_how_it_was_built_that_is_compared(tmp_path):
    model = unet()
    for options, pattern in (
        ({"block_activation": "elu"}, "activation='relu', in the file activation='elu'"),
        ({"upsampling": "nearest"}, "'bilinear', in the file [a-z]*='nearest'"),
    ):
        for path in saved(unet(**options), tmp_path):
            if "weights" not in path.name:
                assert_refused(model, path, pattern)


def test_what_does_not_change_the_weights_may_differ(tmp_path):
    """Dropout, output activation, regularizer, size."""
    source = unet(decoder_dropout=0.5, kernel_regularizer="l2")
    for path in saved(source, tmp_path):
        other = UNet(None, 2, decoder_filters=(8, 8, 8), activation=None, weights=path)
        for a, b in zip(other.get_weights(), source.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


def strided(levels):
    """A backbone of somebody else's."""
    image = x = keras.Input((None, None, 3))
    maps = []
    for level in range(1, levels + 1):
        x = keras.layers.Conv2D(4, 3, strides=2, padding="same", name=f"conv{level}_x")(x)
        maps.append(x)
    return keras.Model(image, maps)


CLASSES = {
    "UNet": (lambda classes, **o: UNet(None, classes, decoder_filters=(8, 8), **o), ["logits"]),
    "UNet++": (
        lambda classes, **o: UNetPlusPlus(
            None, classes, filters=(8, 8, 8), deep_supervision=True, **o
        ),
        ["logits_1", "logits_2"],
    ),
    "FCN": (
        lambda classes, **o: FCN(strided(5), classes, head_filters=8, **o),
        ["score_32", "score_16", "score_8", "upsample_16", "upsample_8", "upsample_1"],
    ),
}


@pytest.mark.parametrize("name", some(CLASSES, ("FCN",)))
def test_another_number_of_classes_starts_the_classifier_alone(tmp_path, caplog, name):
    build, fresh = CLASSES[name]
    source = build(4)
    # A weight that starts as zeros, or as a fixed kernel, is told from a loaded one.
    source.set_weights([w + 1 for w in source.get_weights()])
    for path in saved(source, tmp_path):
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="segzoo"):
            model = build(3, weights=path)
        (record,) = caplog.records
        assert "has weights for 4 classes, the model has 3" in record.getMessage()
        assert all(f"`{layer}`" in record.getMessage() for layer in fresh)
        for layer in model.layers:
            theirs = source.get_layer(layer.name).get_weights()
            for a, b in zip(layer.get_weights(), theirs, strict=True):
                if layer.name in fresh:
                    assert a.shape != b.shape
                else:
                    np.testing.assert_array_equal(a, b)
    caplog.clear()
    build(4, weights=path)
    assert not caplog.records


def test_a_classifier_that_differs_in_more_than_classes_is_refused(tmp_path):
    model = UNet(None, 3, (64, 64, 3), decoder_filters=(8, 8, 8))
    for path in saved(unet(decoder_filters=(8, 8, 16)), tmp_path):
        assert_refused(model, path, "does not fit")


@slow
@pytest.mark.parametrize(
    ("backbone", "preprocessing"),
    [
        ("resnet18", True),
        ("resnet18", False),
        ("vgg16", True),
        ("vgg16", False),
    ],
)
def test_other_channels_adapt_the_first_convolution(tmp_path, rng, backbone, preprocessing):
    options = {"backbone": backbone, "preprocessing": preprocessing}
    rgb = on_resnet(**options)
    rgb.save_weights(tmp_path / "a.weights.h5")
    x = rng.uniform(0, 255 if preprocessing else 1, (1, 64, 64, 1)).astype("float32")
    expected = keras.ops.convert_to_numpy(rgb(np.repeat(x, 3, -1)))
    for channels in (2, 1):
        gray = on_resnet(channels, **options, weights=tmp_path / "a.weights.h5")
        got = keras.ops.convert_to_numpy(gray(np.repeat(x, channels, -1)))
        np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max())
    # A file of other channels is not one of an RGB network, but fits its own.
    gray.save_weights(tmp_path / "gray.weights.h5")
    assert_refused(rgb, tmp_path / "gray.weights.h5", r"the model has .*the file has .*kernel|vars")
    load(gray, tmp_path / "gray.weights.h5")


def test_an_auxiliary_head_of_the_file_is_not_missed(tmp_path):
    source = UNet(strided(4), 2, decoder_filters=(4, 4), auxiliary=16)
    source.save_weights(tmp_path / "a.weights.h5")
    model = UNet(strided(4), 2, decoder_filters=(4, 4), weights=tmp_path / "a.weights.h5")
    np.testing.assert_array_equal(
        model.get_layer("logits").get_weights()[0], source.get_layer("logits").get_weights()[0]
    )


def test_a_model_without_a_graph_is_refused(tmp_path):
    class Subclassed(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ValueError, match=r"functional or sequential.*Subclassed"):
        load_weights(Subclassed(), tmp_path / "a.weights.h5")


@pytest.mark.parametrize("normalization", ["batch", "group", "layer", "instance"])
def test_blocks_in_the_layout_of_version_0_1_are_read(tmp_path, normalization):
    """Version 0.1 held the layers of a block in a list, and called each normalization `norm`."""

    def build():
        image = keras.Input((8, 8, 3))
        x = ConvBlock(4, normalization=normalization, name="block")(image)
        return keras.Model(image, x)

    source, target = build(), build()
    source.set_weights([w + 1 for w in source.get_weights()])
    source.save_weights(tmp_path / "a.weights.h5")
    kind = {"batch": "batch", "layer": "layer"}.get(normalization, "group")
    with h5py.File(tmp_path / "a.weights.h5", "r+") as file:
        block = file["layers/conv_block"]
        held = block.create_group("sublayers")
        held.move("/layers/conv_block/conv", "conv2d")
        held.move("/layers/conv_block/norm", f"{kind}_normalization")
        held[f"{kind}_normalization/vars"].attrs["name"] = "norm"
        del block["act"]
    target.load_weights(tmp_path / "a.weights.h5")  # Keras itself
    again = build()
    load_weights(again, tmp_path / "a.weights.h5")
    for model in (target, again):
        for a, b in zip(model.get_weights(), source.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


@slow
@pytest.mark.deep
@pytest.mark.parametrize("builder", sorted({case.builder for case in SMALL.values()}))
def test_every_form_of_a_builder_refuses_the_files_of_its_others_or_gives_their_output(
    builder, tmp_path, rng
):
    """Another output stride of the backbone and an auxiliary head alone may differ."""
    forms = {name: case for name, case in SMALL.items() if case.builder == builder}
    x = rng.uniform(0, 1, (1, 47, 63, 3)).astype("float32")
    for name, case in forms.items():
        source = case(2)
        source.set_weights([w + 0.05 * rng.random(w.shape) for w in source.get_weights()])
        expected = keras.ops.convert_to_numpy(keras.tree.flatten(source(x))[-1])
        for path in saved(source, tmp_path):
            for other in forms.keys() - {name}:
                try:
                    model = forms[other](2, weights=path)
                except ValueError:
                    continue
                if {forms[other].backbone, case.backbone} == {"tiny", "tiny-dilated"}:
                    continue  # the same weights, at another stride
                found = keras.ops.convert_to_numpy(keras.tree.flatten(model(x))[-1])
                np.testing.assert_allclose(found, expected, atol=1e-5, err_msg=f"{name} {other}")
