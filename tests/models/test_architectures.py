"""Each architecture against its paper or the published network, and errors for bad arguments."""

import keras
import numpy as np
import pytest

from segzoo import models
from tests.cases import ALL, tiny_backbone


def numpy(x):
    return keras.ops.convert_to_numpy(x)


@pytest.mark.parametrize(("deep", "parameters"), [(False, 9_041_700), (True, 9_042_096)])
def test_unet_plus_plus_has_the_parameters_of_the_published_nest_net(deep, parameters):
    model = models.UNetPlusPlus(None, 4, (256, 384, 1), deep_supervision=deep)
    assert model.count_params() == parameters


@pytest.mark.slow
def test_effnet_unet_b7_has_the_parameters_of_the_published_notebook():
    model = models.EffNetUNet("b7", 1, (256, 256, 3), backbone_weights=None)
    assert model.count_params() == 75_048_961


def test_effnet_unet_has_the_dropout_and_the_widths_of_the_published_notebook():
    model = models.EffNetUNet("b0", backbone_weights=None)
    rates = [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    assert rates == [0.5, 0.5, 0.5, 0.25, 0.25]
    widths = [model.get_layer(f"decoder_{k}_conv_2").filters for k in range(1, 6)]
    assert widths == [256, 128, 64, 32, 16]


def test_the_heads_of_unet_plus_plus_work_alone(rng):
    model = ALL["UNetPlusPlus-own-deep"](2)
    x = rng.uniform(size=(1, 40, 33, 3)).astype("float32")
    outputs = model(x)
    assert isinstance(outputs, list) and len(outputs) == 4
    for k, expected in enumerate(outputs):
        pruned = keras.Model(model.input, model.outputs[k])
        np.testing.assert_allclose(numpy(pruned(x)), numpy(expected), atol=1e-6)
    sizes = [keras.Model(model.input, y).count_params() for y in model.outputs]
    assert sizes == sorted(sizes) and len(set(sizes)) == 4


def test_unet_plus_plus_joins_every_earlier_node_of_its_level():
    model = models.UNetPlusPlus(None, 1, (32, 32, 1), filters=(4, 6, 8, 10, 12))
    for level in range(4):
        for column in range(1, 5 - level):
            kernel = model.get_layer(f"x_{level}_{column}_conv_1").conv.kernel
            assert kernel.shape[2] == (4, 6, 8, 10)[level] * (column + 1)


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_fcn_has_only_the_layers_that_its_stride_needs(stride):
    names = {layer.name for layer in ALL["FCN"](2, stride=stride).layers}
    assert {f"score_{s}" for s in (8, 16, 32)} & names == {
        f"score_{s}" for s in (8, 16, 32) if s >= stride
    }
    assert {"upsample_8", "upsample_16"} & names == {
        f"upsample_{s}" for s in (8, 16) if s >= stride
    }


@pytest.mark.parametrize("stride", [16, 32])
def test_fcn_takes_only_the_maps_it_scores_from_a_named_backbone(stride, rng):
    model = models.FCN("vgg16", 2, stride=stride, head_filters=4, backbone_weights=None)
    assert len(model.get_layer("backbone").outputs) == (2 if stride == 16 else 1)
    assert tuple(model(rng.uniform(0, 255, (1, 40, 47, 3))).shape) == (1, 40, 47, 2)


@pytest.mark.parametrize("size", [(3, 5), (8, 8), (12, 11), (None, None)], ids=str)
@pytest.mark.parametrize("kernel", [3, 7])
def test_the_wide_convolution_of_fcn_is_a_convolution(kernel, size, rng):
    x = rng.normal(size=(2, *(n or 6 for n in size), 4)).astype("float32")
    ours = models.fcn.WideConv2D(5, kernel, padding="same", activation="relu")
    theirs = keras.layers.Conv2D(5, kernel, padding="same", activation="relu")
    for layer in (ours, theirs):
        layer.build(x.shape)
    theirs.set_weights([rng.normal(size=w.shape) for w in theirs.weights])
    ours.set_weights(theirs.get_weights())
    image = keras.Input((*size, 4))
    y = keras.Model(image, ours(image)).predict(x, verbose=0)
    np.testing.assert_allclose(y, numpy(theirs(x)), atol=1e-4)


def test_fcn_upsampling_starts_as_bilinear_interpolation(rng):
    layer = keras.layers.Conv2DTranspose(
        3, 8, strides=4, padding="same", use_bias=False,
        kernel_initializer=models.fcn.BilinearUpsampling(),
    )  # fmt: skip
    x = rng.normal(size=(2, 6, 7, 3)).astype("float32")
    expected = numpy(keras.ops.image.resize(x, (24, 28), interpolation="bilinear"))
    inner = (slice(None), slice(2, -2), slice(2, -2))  # the border fades to zero padding
    np.testing.assert_allclose(numpy(layer(x))[inner], expected[inner], atol=1e-5)


def test_a_new_fcn8_predicts_what_its_coarsest_scores_say(rng):
    eight, thirty_two = ALL["FCN"](2, activation=None), ALL["FCN-stride-32"](2, activation=None)
    x = rng.uniform(size=(1, 96, 128, 3)).astype("float32")
    shared = {w.path: w for w in thirty_two.weights}
    for weight in eight.weights:
        if weight.path in shared and "upsample_1/" not in weight.path:
            weight.assign(shared[weight.path])
    a, b = numpy(eight(x)), numpy(thirty_two(x))
    assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.95


@pytest.mark.slow
def test_deeplab_follows_the_paper():
    model = models.DeepLabV3Plus("mobilenetv2", 21, backbone_weights=None)
    rates = [model.get_layer(f"aspp_rate_{r}").dilation_rate for r in (6, 12, 18)]
    assert rates == [6, 12, 18]
    assert model.get_layer("low_level").filters == 48
    assert model.get_layer("decoder_conv_1").conv.kernel.shape[2] == 256 + 48
    names = [layer.name for layer in model.layers]
    assert names.index("logits") < names.index("logits_resize") < names.index("output")
    eight = models.DeepLabV3Plus("mobilenetv2", 21, output_stride=8, backbone_weights=None)
    assert {"aspp_rate_12", "aspp_rate_24", "aspp_rate_36"} <= {x.name for x in eight.layers}
    assert eight.count_params() == model.count_params()


@pytest.mark.slow
@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_deeplab_keeps_the_backbones_output_stride(output_stride):
    model = models.DeepLabV3Plus(
        "mobilenetv2", 2, (128, 160, 3), output_stride=output_stride, backbone_weights=None
    )
    assert model.get_layer("backbone").outputs[-1].shape[1:3] == (
        128 // output_stride,
        160 // output_stride,
    )


def test_a_builder_shares_the_weights_of_somebody_elses_backbone(rng):
    backbone = tiny_backbone()
    model = models.UNet(backbone, 1)
    kernel = backbone.get_layer("tiny_stage_1").kernel
    assert model.get_layer("backbone").get_layer("tiny_stage_1").kernel is kernel


@pytest.mark.slow
def test_a_frozen_backbone_keeps_its_batch_statistics(rng):
    model = models.UNet("mobilenetv2", 1, backbone_weights=None, decoder_filters=(8, 8, 8, 8, 8))
    backbone = model.get_layer("backbone")
    backbone.trainable = False
    before = [w.copy() for w in backbone.get_weights()]
    model.compile("sgd", "binary_crossentropy")
    x = rng.uniform(0, 255, (2, 64, 64, 3)).astype("float32")
    model.fit(x, rng.integers(0, 2, (2, 64, 64, 1)), verbose=0)
    for a, b in zip(before, backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_backbone_features_replace_the_taps():
    model = models.DeepLabV3Plus(
        "resnet50",
        1,
        (64, 64, 3),
        backbone_weights=None,
        backbone_features=["conv2_block3_2_relu", "conv4_block6_2_relu"],
    )
    assert [tuple(x.shape[1:]) for x in model.get_layer("backbone").outputs] == [
        (16, 16, 64),
        (4, 4, 256),
    ]


def test_a_shallower_or_deeper_backbone_works_in_every_builder(rng):
    deep = tiny_backbone()
    three = keras.Model(deep.input, deep.outputs[:3])
    x = rng.uniform(size=(1, 47, 63, 3)).astype("float32")
    for model in (
        models.UNet(three, 2),
        models.UNetPlusPlus(three, 2, filters=(8, 8, 8)),
        models.DeepLabV3Plus(three, 2),
        models.UNet(deep, 2, decoder_filters=(8, 8)),
    ):
        assert tuple(model(x).shape) == (1, 47, 63, 2)


BAD = {
    "an unknown backbone": (lambda: models.UNet("resnet5"), "resnet5.*resnet50"),
    "no classes": (lambda: models.UNet(None, 0), "`classes`.*classes=0"),
    "classes as a float": (lambda: models.UNet(None, 1.5), "`classes`.*1.5"),
    "a small image": (lambda: models.FCN("vgg16", 1, (31, 64, 3)), "`input_shape`.*31"),
    "no channels": (lambda: models.UNet(None, 1, (64, 64)), r"`input_shape`.*\(64, 64\)"),
    "softmax of one class": (
        lambda: models.UNet(None, 1, activation="softmax"),
        "`activation`.*softmax.*classes=1",
    ),
    "an unknown activation": (
        lambda: models.UNet(None, 2, activation="tanh"),
        "`activation`.*tanh",
    ),
    "a stride FCN has not": (lambda: models.FCN("vgg16", 1, stride=4), "`stride`.*stride=4"),
    "an output stride DeepLab has not": (
        lambda: models.DeepLabV3Plus("resnet50", output_stride=4),
        "`output_stride`.*output_stride=4",
    ),
    "a backbone that is no model": (lambda: models.UNet(3), "`backbone`.*3"),
    "a backbone with one output": (
        lambda: models.UNet(keras.Model(*(lambda b: (b.input, b.outputs[0]))(tiny_backbone()))),
        "`backbone`",
    ),
    "a classifier as the backbone": (
        lambda: models.UNet(keras.Sequential([keras.Input((64, 64, 3)), keras.layers.Flatten()])),
        "`backbone`.*feature maps",
    ),
    "maps in the wrong order": (
        lambda: models.UNet(keras.Model(*(lambda b: (b.input, b.outputs[::-1]))(tiny_backbone()))),
        "`backbone`.*finest first",
    ),
    "a backbone of other channels": (
        lambda: models.UNet(tiny_backbone(1)),
        "`input_shape` must fit the backbone",
    ),
    "a tap that is no layer": (
        lambda: models.UNet(tiny_backbone(), backbone_features=["tiny_stage_1", "tiny_stag_2"]),
        "`backbone_features`.*tiny_stag_2.*tiny_stage_2",
    ),
    "a tap that a named backbone has not": (
        lambda: models.UNet("vgg16", backbone_weights=None, backbone_features=["block9_conv1"]),
        "`backbone_features`.*block9_conv1",
    ),
    "a variant that is none": (lambda: models.EffNetUNet("b9"), "`variant`.*b9"),
    "dropout above one": (lambda: models.UNetPlusPlus(dropout=1.5), "`dropout`.*1.5"),
    "dropouts of the wrong number": (
        lambda: models.UNet(None, decoder_dropout=(0.1, 0.2)),
        "`decoder_dropout`",
    ),
    "an unknown upsampling": (lambda: models.UNet(None, upsampling="cubic"), "`upsampling`.*cubic"),
    "an unknown normalization": (lambda: models.UNet(None, normalization="x"), "`normalization`"),
    "widths that are none": (
        lambda: models.UNet(None, decoder_filters=(8, 0)),
        "`decoder_filters`",
    ),
    "one width for several": (
        lambda: models.UNet(None, decoder_filters=256),
        "`decoder_filters`.*256",
    ),
    "one dilation for several": (
        lambda: models.DeepLabV3Plus(tiny_backbone(), aspp_dilations=6),
        "`aspp_dilations`.*6",
    ),
    "a dilation twice": (
        lambda: models.DeepLabV3(tiny_backbone(), aspp_dilations=(6, 6)),
        r"`aspp_dilations` must not repeat.*\(6, 6\)",
    ),
    "a bin twice": (
        lambda: models.PSPNet(tiny_backbone(), bin_sizes=(2, 2)),
        r"`bin_sizes` must not repeat.*\(2, 2\)",
    ),
    "too few widths for the backbone": (
        lambda: models.UNetPlusPlus(tiny_backbone(), filters=(8, 8)),
        "`filters` must have at least 4",
    ),
    "a scored stride the backbone has not": (
        lambda: models.FCN(keras.Model(*(lambda b: (b.input, b.outputs[:4]))(tiny_backbone()))),
        "`backbone` must have feature maps of levels",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_arguments_raise_and_say_what_would_do(what):
    make, message = BAD[what]
    with pytest.raises(ValueError, match=message):
        make()


def test_images_of_other_channels_are_refused_after_right_ones_too(rng):
    model = models.UNet("mobilenetv2", 1, backbone_weights=None, decoder_filters=(4, 4, 4, 4, 4))
    model.predict(np.zeros((1, 64, 64, 3)), verbose=0)
    with pytest.raises(ValueError, match="must have 3 channels"):
        model.predict(np.zeros((1, 64, 64, 1)), verbose=0)
    gray = models.UNet(None, 1, (None, None, 1), decoder_filters=(8, 4))
    gray.predict(np.zeros((1, 32, 32, 1)), verbose=0)
    with pytest.raises(ValueError, match=r"must get 1 channel, .*`input_shape`"):
        gray.predict(np.zeros((1, 32, 32, 4)), verbose=0)  # a grouped convolution would take it


def test_weights_of_another_network_are_refused(tmp_path):
    path = tmp_path / "unet.weights.h5"
    models.UNet(None, 2, decoder_filters=(8, 6, 4)).save_weights(path)
    with pytest.raises(ValueError, match="conv"):
        models.UNet(None, 2, decoder_filters=(8, 6, 5), weights=path)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["model.keras", "model.weights.h5"])
def test_whole_model_weights_are_loaded_from_a_file(tmp_path, suffix, rng):
    options = {"decoder_filters": (8, 8, 6, 6, 4)}
    model = models.UNet("mobilenetv2", 2, backbone_weights=None, **options)
    path = tmp_path / suffix
    model.save(path) if suffix.endswith(".keras") else model.save_weights(path)
    again = models.UNet("mobilenetv2", 2, weights=path, **options)
    x = rng.uniform(0, 255, (1, 40, 40, 3)).astype("float32")
    np.testing.assert_allclose(numpy(again(x)), numpy(model(x)), atol=1e-6)
