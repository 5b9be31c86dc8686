"""The published DeepLab checkpoints beside a NumPy version of the network that produced them.

`Reference` runs the network in float64, and makes up the weights of a layer where it first meets
one; the file that is loaded is written from those, under the published names.
"""

import logging

import h5py
import keras
import numpy as np
import pytest

import segzoo
from segzoo.models import DeepLabV3Plus


class Reference:
    """The published network on NumPy, and its weights by layer name."""

    def __init__(self, backbone, classes, rng):
        self.backbone, self.classes, self.rng = backbone, classes, rng
        self.layers = {"input_1": {}}

    def __call__(self, image, output_stride=16):
        run = self.xception if self.backbone == "xception65" else self.mobilenet
        return run(image / 127.5 - 1, output_stride)

    # Layers

    def weights(self, name, **shapes):
        if name not in self.layers:
            scale = (2 / np.prod(next(iter(shapes.values()))[:-1])) ** 0.5
            made = {k: self.rng.normal(0, scale, shape) for k, shape in shapes.items()}
            if "depthwise_kernel" in shapes:
                made["depthwise_kernel"] *= shapes["depthwise_kernel"][2] ** 0.5
            if "gamma" in shapes:
                # Variances as small as some of the published ones, so that epsilon counts; gamma
                # follows, so that a small one does not blow up every rounding behind it.
                variance = self.rng.uniform(5e-3, 1.5, shapes["gamma"])
                made = {
                    "gamma": self.rng.uniform(0.6, 1.1, shapes["gamma"]) * variance**0.5,
                    "beta": self.rng.normal(0, 0.1, shapes["gamma"]),
                    "moving_mean": self.rng.normal(0, 0.1, shapes["gamma"]),
                    "moving_variance": variance,
                }
            self.layers[name] = {f"{name}/{k}:0": v.astype("float32") for k, v in made.items()}
        return [value.astype("float64") for value in self.layers[name].values()]

    def conv(self, x, name, filters, size=1, stride=1, symmetric=False):
        (kernel,) = self.weights(name, kernel=(size, size, x.shape[-1], filters))
        return windows(x, size, stride, 1, symmetric, lambda part, at: part @ kernel[at])

    def depthwise(self, x, name, stride=1, rate=1, symmetric=False):
        (kernel,) = self.weights(name, depthwise_kernel=(3, 3, x.shape[-1], 1))
        return windows(x, 3, stride, rate, symmetric, lambda part, at: part * kernel[at][:, 0])

    def norm(self, x, name, epsilon):
        gamma, beta, mean, variance = self.weights(f"{name}_BN", gamma=(x.shape[-1],))
        return gamma * (x - mean) / np.sqrt(variance + epsilon) + beta

    # Parts

    def separable(self, x, name, filters, stride=1, rate=1, inside=False, epsilon=1e-3):
        x = x if inside else relu(x)
        x = self.depthwise(x, f"{name}_depthwise", stride, rate, symmetric=True)
        x = self.norm(x, f"{name}_depthwise", epsilon)
        x = relu(x) if inside else x
        x = self.norm(self.conv(x, f"{name}_pointwise", filters), f"{name}_pointwise", epsilon)
        return relu(x) if inside else x

    def block(self, x, name, filters, stride=1, rate=1, shortcut="conv"):
        inputs, maps = x, []
        for place, width in enumerate(filters, 1):
            step = stride if place == 3 else 1
            x = self.separable(
                x, f"{name}_separable_conv{place}", width, step, rate, inside=shortcut is None
            )
            maps.append(x)
        if shortcut == "conv":
            inputs = self.conv(inputs, f"{name}_shortcut", filters[2], 1, stride, symmetric=True)
            inputs = self.norm(inputs, f"{name}_shortcut", 1e-3)
        return (x if shortcut is None else x + inputs), maps[1]

    def pooled(self, x):
        mean = x.mean(axis=(1, 2), keepdims=True)
        mean = relu(self.norm(self.conv(mean, "image_pooling", 256), "image_pooling", 1e-5))
        return resize(mean, x.shape[1:3])

    def classify(self, x, image):
        name = "logits_semantic"
        kernel, bias = self.weights(name, kernel=(1, 1, 256, self.classes), bias=(self.classes,))
        return resize(x @ kernel[0, 0] + bias, image.shape[1:3])

    # Networks

    def xception(self, image, output_stride):
        last, middle, leave, rates = {
            16: (2, 1, (1, 2), (6, 12, 18)),
            8: (1, 2, (2, 4), (12, 24, 36)),
        }[output_stride]
        x = self.conv(image, "entry_flow_conv1_1", 32, 3, 2)
        x = relu(self.norm(x, "entry_flow_conv1_1", 1e-3))
        x = self.conv(x, "entry_flow_conv1_2", 64, 3)
        x = relu(self.norm(x, "entry_flow_conv1_2", 1e-3))
        x, _ = self.block(x, "entry_flow_block1", (128, 128, 128), 2)
        x, low = self.block(x, "entry_flow_block2", (256, 256, 256), 2)
        x, _ = self.block(x, "entry_flow_block3", (728, 728, 728), last)
        for unit in range(1, 17):
            name = f"middle_flow_unit_{unit}"
            x, _ = self.block(x, name, (728, 728, 728), rate=middle, shortcut="sum")
        x, _ = self.block(x, "exit_flow_block1", (728, 1024, 1024), rate=leave[0])
        x, _ = self.block(x, "exit_flow_block2", (1536, 1536, 2048), rate=leave[1], shortcut=None)

        branches = [self.pooled(x), relu(self.norm(self.conv(x, "aspp0", 256), "aspp0", 1e-5))]
        for place, rate in enumerate(rates, 1):
            name = f"aspp{place}"
            branches.append(self.separable(x, name, 256, rate=rate, inside=True, epsilon=1e-5))
        x = self.conv(np.concatenate(branches, -1), "concat_projection", 256)
        x = relu(self.norm(x, "concat_projection", 1e-5))
        x = resize(x, low.shape[1:3])
        low = self.norm(self.conv(low, "feature_projection0", 48), "feature_projection0", 1e-5)
        x = np.concatenate([x, relu(low)], -1)
        for name in ("decoder_conv0", "decoder_conv1"):
            x = self.separable(x, name, 256, inside=True, epsilon=1e-5)
        return self.classify(x, image)

    def mobilenet(self, image, _):
        x = relu6(self.norm(self.conv(image, "Conv", 32, 3, 2), "Conv", 1e-3))
        filters = [16, 24, 24, 32, 32, 32, 64, 64, 64, 64, 96, 96, 96, 160, 160, 160, 320]
        rates = [1] * 7 + [2] * 7 + [4] * 3
        for block, (width, rate) in enumerate(zip(filters, rates, strict=True)):
            name = f"expanded_conv_{block}" if block else "expanded_conv"
            inputs = x
            if block:
                x = self.conv(x, f"{name}_expand", 6 * x.shape[-1])
                x = relu6(self.norm(x, f"{name}_expand", 1e-3))
            stride = 2 if block in (1, 3) else 1
            x = self.depthwise(x, f"{name}_depthwise", stride, rate)
            x = relu6(self.norm(x, f"{name}_depthwise", 1e-3))
            x = self.norm(self.conv(x, f"{name}_project", width), f"{name}_project", 1e-3)
            if block in (2, 4, 5, 7, 8, 9, 11, 12, 14, 15):
                x = x + inputs
        first = relu(self.norm(self.conv(x, "aspp0", 256), "aspp0", 1e-5))
        x = self.conv(np.concatenate([self.pooled(x), first], -1), "concat_projection", 256)
        return self.classify(relu(self.norm(x, "concat_projection", 1e-5)), image)

    def write(self, path):
        """A file as Keras 2 wrote it, layers without weights among the others."""
        layers = {**self.layers, "activation_1": {}, "lambda_3": {}}
        with h5py.File(path, "w") as file:
            file.attrs["backend"], file.attrs["keras_version"] = b"tensorflow", b"2.1.5"
            file.attrs["layer_names"] = [name.encode() for name in layers]
            for name, weights in layers.items():
                group = file.create_group(name)
                group.attrs["weight_names"] = [weight.encode() for weight in weights]
                for weight, value in weights.items():
                    group.create_dataset(weight, data=value)
        return path


def relu(x):
    return np.maximum(x, 0)


def relu6(x):
    return np.clip(x, 0, 6)


def windows(x, size, stride, rate, symmetric, product):
    """A sum over the taps of a kernel; padded as TensorFlow's 'same', or alike on both sides."""
    outs = [-(-n // stride) for n in x.shape[1:3]]
    reach = rate * (size - 1)
    pads = [
        (reach // 2,) * 2 if symmetric else (total // 2, total - total // 2)
        for n, out in zip(x.shape[1:3], outs, strict=True)
        for total in [max((out - 1) * stride + reach + 1 - n, 0)]
    ]
    x = np.pad(x, ((0, 0), *pads, (0, 0)))
    total = 0
    for row in range(size):
        for column in range(size):
            rows = rate * row + stride * np.arange(outs[0])
            columns = rate * column + stride * np.arange(outs[1])
            total = total + product(x[:, rows][:, :, columns], (row, column))
    return total


def resize(x, sizes):
    """Bilinear; the corners' centers stay where they are."""
    for axis, size in zip((1, 2), sizes, strict=True):
        place = np.linspace(0, x.shape[axis] - 1, size)
        low = np.floor(place).astype(int)
        high = np.minimum(low + 1, x.shape[axis] - 1)
        share = (place - low).reshape(-1, *[1] * (3 - axis))
        x = x.take(low, axis) * (1 - share) + x.take(high, axis) * share
    return x


def picture(rng, height, width):
    return rng.integers(0, 256, (1, height, width, 3)).astype("float32")


def assert_agree(got, expected):
    got = keras.ops.convert_to_numpy(got)
    assert got.shape == expected.shape
    assert expected.std(axis=(1, 2)).mean() > 0.02 * np.abs(expected).mean()  # the image shows
    assert np.abs(got - expected).max() <= 2e-5 * np.abs(expected).max()


@pytest.fixture(scope="module")
def mobilenet(tmp_path_factory):
    rng = np.random.default_rng(2)
    reference = Reference("mobilenetv2", 21, rng)
    image = picture(rng, 65, 50)
    expected = reference(image)
    return reference, reference.write(tmp_path_factory.mktemp("mobilenet") / "f"), image, expected


@pytest.mark.slow
def test_xception_at_both_output_strides_gives_the_published_output(tmp_path, rng):
    reference, image = Reference("xception65", 21, rng), picture(rng, 33, 49)
    expected = reference(image)
    path = reference.write(tmp_path / "any_name.h5")
    model = DeepLabV3Plus("xception65", 21, weights=path, activation=None)
    assert_agree(model(image), expected)
    assert model.get_layer("logits_semantic").filters == 21
    del model
    dense = DeepLabV3Plus("xception65", 21, output_stride=8, weights=path, activation=None)
    image = picture(rng, 34, 48)  # even sizes are padded on one side by the first convolution
    assert_agree(dense(image), reference(image, 8))
    del dense
    # The file serves as weights of the backbone alone too.
    backbone = segzoo.backbones.build("xception65", weights=path)
    for name in ("entry_flow_conv1_1", "middle_flow_unit_7_separable_conv2_depthwise_BN"):
        published = reference.layers[name].values()
        for got, wanted in zip(backbone.get_layer(name).get_weights(), published, strict=True):
            np.testing.assert_array_equal(got, wanted)
    path.unlink()  # 165 MB


@pytest.mark.slow
def test_mobilenet_gives_the_published_output_at_any_size(mobilenet, rng):
    reference, path, image, expected = mobilenet
    model = DeepLabV3Plus("mobilenetv2", 21, weights=path, activation=None)
    assert_agree(model(image), expected)
    image = picture(rng, 34, 64)
    assert_agree(model(image), reference(image))
    fixed = DeepLabV3Plus("mobilenetv2", 21, (34, 64, 3), weights=path)
    scores = np.exp(reference(image) - reference(image).max(-1, keepdims=True))
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(fixed(image)), scores / scores.sum(-1, keepdims=True), atol=1e-4
    )
    plain = DeepLabV3Plus("mobilenetv2", 21, weights=path, activation=None, preprocessing=False)
    assert_agree(plain(image / 127.5 - 1), reference(image))


def test_an_ordinary_deeplab_is_not_the_published_network():
    model = DeepLabV3Plus("mobilenetv2", 21, backbone_weights=None)
    assert "low_level" in [layer.name for layer in model.layers]


@pytest.mark.slow
@pytest.mark.parametrize(
    "weights, end",
    [("pascal_voc", ""), pytest.param("cityscapes", "_cityscapes", marks=pytest.mark.slow)],
)
def test_names_take_the_published_files_from_the_cache(
    mobilenet, tmp_path, monkeypatch, weights, end
):
    _, path, image, expected = mobilenet
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "models").mkdir()
    name = f"deeplabv3_mobilenetv2_tf_dim_ordering_tf_kernels{end}.h5"
    (tmp_path / "models" / name).symlink_to(path)
    model = DeepLabV3Plus("mobilenetv2", 21, weights=weights, activation=None)
    assert_agree(model(image), expected)


@pytest.mark.parametrize(
    "backbone, weights, url",
    [
        ("xception65", "pascal_voc", "1.1/deeplabv3_xception_tf_dim_ordering_tf_kernels.h5"),
        ("mobilenetv2", "pascal_voc", "1.1/deeplabv3_mobilenetv2_tf_dim_ordering_tf_kernels.h5"),
        (
            "xception65",
            "cityscapes",
            "1.2/deeplabv3_xception_tf_dim_ordering_tf_kernels_cityscapes.h5",
        ),
        (
            "mobilenetv2",
            "cityscapes",
            "1.2/deeplabv3_mobilenetv2_tf_dim_ordering_tf_kernels_cityscapes.h5",
        ),
    ],
)
def test_without_a_network_the_error_says_what_to_do(tmp_path, monkeypatch, backbone, weights, url):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(ValueError, match="`weights=None`") as caught:
        DeepLabV3Plus(backbone, 21, weights=weights)
    message = str(caught.value)
    assert f"https://github.com/bonlime/keras-deeplab-v3-plus/releases/download/{url} " in message
    assert f"`{url.partition('/')[2]}` into {tmp_path / 'models'}" in message


@pytest.mark.slow
def test_other_classes_start_the_classifier_alone_and_the_log_says_so(mobilenet, caplog):
    reference, path, image, _ = mobilenet
    with caplog.at_level(logging.INFO, logger="segzoo"):
        model = DeepLabV3Plus("mobilenetv2", 4, weights=path)
    (record,) = caplog.records
    assert record.name == "segzoo"
    assert "21 classes, the model has 4" in record.getMessage()
    assert "`custom_logits_semantic` starts fresh" in record.getMessage()
    for layer in [*model.get_layer("backbone").layers, *model.layers]:
        if layer.weights and layer.name not in ("backbone", "custom_logits_semantic"):
            published = reference.layers[layer.name].values()
            for got, expected in zip(layer.get_weights(), published, strict=True):
                np.testing.assert_array_equal(got, expected)
    assert np.all(model.get_layer("custom_logits_semantic").get_weights()[1] == 0)
    assert model(image).shape == (1, 65, 50, 4)
    caplog.clear()
    DeepLabV3Plus("mobilenetv2", 21, weights=path)
    assert not caplog.records


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["keras", "weights.h5"])
def test_a_fine_tuned_checkpoint_comes_back_as_the_same_network(
    mobilenet, tmp_path, ending, caplog
):
    _, path, image, _ = mobilenet
    model = DeepLabV3Plus("mobilenetv2", 4, weights=path)
    saved = tmp_path / f"mine.{ending}"
    (model.save if ending == "keras" else model.save_weights)(saved)
    caplog.clear()
    again = DeepLabV3Plus("mobilenetv2", 4, weights=saved)
    assert not caplog.records
    expected = keras.ops.convert_to_numpy(model(image))
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(again(image)), expected)
    if ending == "keras":
        loaded = keras.saving.load_model(saved)
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(loaded(image)), expected)


@pytest.mark.slow
def test_other_channels_adapt_the_first_convolution(mobilenet, tmp_path):
    _, path, image, _ = mobilenet
    rgb = DeepLabV3Plus("mobilenetv2", 21, weights=path, activation=None)
    gray = DeepLabV3Plus("mobilenetv2", 21, (None, None, 1), weights=path, activation=None)
    expected = keras.ops.convert_to_numpy(rgb(np.repeat(image[..., :1], 3, axis=-1)))
    assert_agree(gray(image[..., :1]), expected)
    six = DeepLabV3Plus("mobilenetv2", 21, (None, None, 6), weights=path, activation=None)
    expected = keras.ops.convert_to_numpy(rgb(image))
    assert_agree(six(np.concatenate([image, image], axis=-1)), expected)
    six.save_weights(tmp_path / "six.weights.h5")
    again = DeepLabV3Plus(
        "mobilenetv2", 21, (None, None, 6), weights=tmp_path / "six.weights.h5", activation=None
    )
    np.testing.assert_array_equal(again.get_weights()[0], six.get_weights()[0])


@pytest.mark.slow
def test_the_backbone_is_one_frozen_part(mobilenet):
    model = DeepLabV3Plus("mobilenetv2", 21, weights=mobilenet[1])
    model.get_layer("backbone").trainable = False
    assert {
        weight.path.split("/")[0].removesuffix("_BN") for weight in model.trainable_weights
    } == {
        "image_pooling",
        "aspp0",
        "concat_projection",
        "logits_semantic",
    }


def test_a_file_of_the_other_backbone_is_refused(tmp_path, rng):
    other = Reference("xception65", 21, rng)
    other.conv(np.zeros((1, 3, 3, 3)), "entry_flow_conv1_1", 32, 3, 2)
    for name in ("image_pooling", "concat_projection"):
        other.conv(np.zeros((1, 1, 1, 8)), name, 256)
    other.weights("logits_semantic", kernel=(1, 1, 256, 21), bias=(21,))
    path = other.write(tmp_path / "xception.h5")
    with pytest.raises(
        ValueError, match=r"does not fit.*`backbone/Conv` with kernel \(3, 3, 3, 32"
    ):
        DeepLabV3Plus("mobilenetv2", 21, weights=path)


def test_what_the_published_network_has_not_is_refused(mobilenet):
    path = mobilenet[1]
    with pytest.raises(ValueError, match=r"published for the backbones .*'resnet50'"):
        DeepLabV3Plus("resnet50", 21, weights="pascal_voc")
    for argument, value in (
        ("output_stride", 32),
        ("aspp_filters", 128),
        ("low_level_filters", 24),
        ("decoder_filters", 64),
        ("aspp_dilations", (1, 2)),
        ("backbone_features", ["Conv", "Conv_BN"]),
    ):
        with pytest.raises(ValueError, match=f"`{argument}` must be"):
            DeepLabV3Plus("mobilenetv2", 21, weights=path, **{argument: value})
