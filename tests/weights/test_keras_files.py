"""Weights files of every layout: values arrive, and what does not fit changes nothing."""

import zipfile

import h5py
import keras
import numpy as np
import pytest

import segzoo
from segzoo.weights import layer_shapes, load_weights

pytestmark = pytest.mark.core


# Files as Keras 2 wrote them, by hand: the attributes are bytes, long lists come in chunks.


def write_keras2(path, layers, whole_model=False, chunks=0):
    """Write `{layer: {weight name: value}}` as Keras 2 did."""
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights") if whole_model else file
        root.attrs["keras_version"] = b"2.2.4"
        root.attrs["backend"] = b"tensorflow"
        write_names(root, "layer_names", list(layers), chunks)
        for name, weights in layers.items():
            group = root.create_group(name)
            write_names(group, "weight_names", list(weights), 0)
            for weight_name, value in weights.items():
                group.create_dataset(weight_name, data=value)
        if whole_model:
            file.attrs["model_config"] = b"{}"
            file.create_group("optimizer_weights").attrs["weight_names"] = [b"Adam/iterations:0"]
    return path


def write_names(group, attribute, names, chunks):
    encoded = np.array([name.encode() for name in names])
    if not chunks:
        group.attrs[attribute] = encoded
    for number, part in enumerate(np.array_split(encoded, chunks) if chunks else []):
        group.attrs[f"{attribute}{number}"] = part


def conv(rng, name, *shape, bias=True):
    weights = {f"{name}/kernel:0": rng.normal(size=shape).astype("float32")}
    if bias:
        weights[f"{name}/bias:0"] = rng.normal(size=shape[-1]).astype("float32")
    return {name: weights}


def norm(rng, name, channels):
    parts = ("gamma", "beta", "moving_mean", "moving_variance")
    return {
        name: {f"{name}/{part}:0": rng.uniform(1, 2, channels).astype("float32") for part in parts}
    }


def nothing(name):
    return {name: {}}


def small_network(prefix="", top=False, filters=4):
    """A residual network whose shortcut has the shapes of its main branch: order matters."""
    layers = keras.layers
    image = keras.Input((None, None, 3), name=f"{prefix}input")
    x = layers.Conv2D(filters, 3, name=f"{prefix}conv1_conv")(image)
    x = layers.BatchNormalization(name=f"{prefix}conv1_bn")(x)
    shortcut = layers.Conv2D(filters, 1, use_bias=False, name=f"{prefix}block_0_conv")(x)
    x = layers.Conv2D(filters, 1, use_bias=False, name=f"{prefix}block_1_conv")(x)
    x = layers.Add(name=f"{prefix}block_add")([shortcut, x])
    x = layers.DepthwiseConv2D(3, use_bias=False, name=f"{prefix}depthwise")(x)
    x = layers.SeparableConv2D(6, 3, use_bias=False, name=f"{prefix}separable")(x)
    if top:
        x = layers.GlobalAveragePooling2D(name=f"{prefix}pool")(x)
        x = layers.Dropout(0.5, name=f"{prefix}drop")(x)
        x = layers.Dense(10, name=f"{prefix}predictions")(x)
    return keras.Model(image, x, name="small")


def published_file(rng, path, top=False, filters=4, **options):
    layers = {
        **nothing("input_1"),
        **conv(rng, "conv1_conv", 3, 3, 3, filters),
        **norm(rng, "conv1_bn", filters),
        **conv(rng, "block_0_conv", 1, 1, filters, filters, bias=False),
        **conv(rng, "block_1_conv", 1, 1, filters, filters, bias=False),
        **nothing("block_add"),
        "depthwise": {
            "depthwise/depthwise_kernel:0": rng.normal(size=(3, 3, filters, 1)).astype("float32")
        },
        "separable": {
            "separable/depthwise_kernel:0": rng.normal(size=(3, 3, filters, 1)).astype("float32"),
            "separable/pointwise_kernel:0": rng.normal(size=(1, 1, filters, 6)).astype("float32"),
        },
    }
    if top:
        layers |= conv(rng, "predictions", 6, 10)
    return write_keras2(path, layers, **options), layers


def assert_holds(model, layers, skip=()):
    """Each layer of the model holds the file's values, in the file's order."""
    for layer in model.layers:
        if layer.weights and layer.name not in skip:
            values = list(layers[layer.name].values())
            assert len(layer.get_weights()) == len(values)
            for got, expected in zip(layer.get_weights(), values, strict=True):
                np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("top", [False, True])
@pytest.mark.parametrize("options", [{}, {"whole_model": True}, {"chunks": 3}])
@pytest.mark.parametrize("name", ["weights.h5", "some.weights.h5", "misnamed.keras", "no_suffix"])
def test_a_keras_2_file_arrives_whatever_its_name(tmp_path, rng, name, options, top):
    path, layers = published_file(rng, tmp_path / name, top=top, **options)
    model = small_network()
    load_weights(model, path)
    assert_holds(model, layers)


def test_a_file_pairs_layers_by_name_not_by_place(tmp_path, rng):
    _, layers = published_file(rng, tmp_path / "a.h5")
    # The shortcut behind the main branch, as older releases of the same network had it.
    order = ["conv1_conv", "conv1_bn", "block_1_conv", "block_0_conv", "depthwise", "separable"]
    path = write_keras2(tmp_path / "b.h5", {name: layers[name] for name in order})
    model = small_network()
    load_weights(model, path)
    assert_holds(model, layers)


def test_foreign_names_are_paired_in_order(tmp_path, rng):
    path, layers = published_file(rng, tmp_path / "a.h5", top=True)
    model = small_network(prefix="mine_")
    load_weights(model, str(path))
    assert_holds(model, {f"mine_{name}": weights for name, weights in layers.items()})


def automatic_network(convs):
    image = keras.Input((8, 8, 3))
    x = image
    for _ in range(convs):
        x = keras.layers.Conv2D(3, 1)(x)
        x = keras.layers.BatchNormalization()(x)
    return keras.Model(image, x)


def test_automatic_names_are_paired_by_rank(tmp_path, rng):
    layers = {}
    for number in (17, 18, 19):
        layers |= conv(rng, f"conv2d_{number}", 1, 1, 3, 3)
        layers |= norm(rng, f"batch_normalization_{number}", 3)
    # The order of the file differs from that of the model: the numbers tell.
    path = write_keras2(tmp_path / "a.h5", dict(sorted(layers.items())))
    model = automatic_network(3)
    load_weights(model, path)
    own = [layer.name for layer in model.layers if layer.weights]
    assert_holds(model, dict(zip(own, layers.values(), strict=True)))
    with pytest.raises(ValueError, match=r"the model has layer `conv2d.*the file has no such"):
        load_weights(automatic_network(4), path)


def test_a_nested_model_of_a_keras_2_file_is_followed(tmp_path, rng):
    _, layers = published_file(rng, tmp_path / "a.h5")
    inner = {name: value for weights in layers.values() for name, value in weights.items()}
    # Trainable weights first, as Keras 2 listed those of a model.
    inner = dict(sorted(inner.items(), key=lambda item: "moving" in item[0]))
    head = conv(rng, "head", 1, 1, 6, 2)
    path = write_keras2(tmp_path / "b.h5", {"backbone": inner, **head})
    backbone = small_network()
    image = keras.Input((None, None, 3))
    model = keras.Model(image, keras.layers.Conv2D(2, 1, name="head")(backbone(image)))
    load_weights(model, path)
    assert_holds(backbone, layers)
    assert_holds(model, head, skip=["small"])
    alone = small_network()
    load_weights(alone, path)
    assert_holds(alone, layers)


def segmenter():
    image = keras.Input((None, None, 3))
    backbone = small_network()
    backbone.name = "backbone"
    x = keras.layers.Dropout(0.2)(backbone(image))
    return keras.Model(image, keras.layers.Conv2DTranspose(2, 2, name="up")(x), name="segmenter")


def randomized(model, rng):
    model.set_weights([rng.uniform(1, 2, w.shape) for w in model.get_weights()])
    return model


def assert_equal_weights(a, b):
    for got, expected in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("build", [small_network, segmenter])
@pytest.mark.parametrize("saved_as", ["a.weights.h5", "a.keras"])
@pytest.mark.parametrize("named", ["same", "b.h5", "b.weights.h5", "b.keras", "b"])
def test_a_keras_3_file_arrives_whatever_its_name(tmp_path, rng, build, saved_as, named):
    source, target = randomized(build(), rng), build()
    path = tmp_path / saved_as
    (source.save if path.suffix == ".keras" else source.save_weights)(path)
    if named != "same":
        path = path.rename(tmp_path / named)
    load_weights(target, path)
    assert_equal_weights(target, source)


@pytest.mark.parametrize("saved_as", ["a.weights.h5", "a.keras"])
def test_a_keras_3_file_with_a_classifier_loads_without(tmp_path, rng, saved_as):
    source, target = randomized(small_network(top=True), rng), small_network()
    path = tmp_path / saved_as
    (source.save if path.suffix == ".keras" else source.save_weights)(path)
    load_weights(target, path)
    for layer in target.layers:
        assert_equal_weights(layer, source.get_layer(layer.name))


def test_the_optimizer_of_a_file_is_left_out_and_that_of_the_model_stays(tmp_path, rng):
    source, target = randomized(small_network(), rng), small_network()
    images, maps = rng.normal(size=(2, 8, 8, 3)), rng.normal(size=(2, 2, 2, 6))
    for model, steps in ((source, 3), (target, 1)):
        model.compile("adam", "mse", run_eagerly=True)
        for _ in range(steps):
            model.train_on_batch(images, maps)
    source.save(tmp_path / "a.keras")
    load_weights(target, tmp_path / "a.keras")
    assert_equal_weights(target, source)
    assert int(target.optimizer.iterations) == 1


def test_a_keras_3_file_without_names_is_paired_in_order(tmp_path, rng):
    source, target = randomized(small_network(top=True), rng), small_network(prefix="mine_")
    source.save_weights(tmp_path / "a.weights.h5")
    with h5py.File(tmp_path / "a.weights.h5", "r+") as file:
        file.visititems(lambda _, item: item.attrs.pop("name", None))  # as Keras 3.0 wrote it
    load_weights(target, tmp_path / "a.weights.h5")
    for layer in target.layers:
        assert_equal_weights(layer, source.get_layer(layer.name.removeprefix("mine_")))


@pytest.mark.parametrize("name", ["a.h5", "a.weights.h5"])
def test_layers_made_of_layers_are_one_layer_of_a_file(tmp_path, rng, name):
    def build(rate):
        image = keras.Input((None, None, 3))
        x = segzoo.layers.ConvBlock(4, dilation_rate=rate, name=f"rate_{rate}")(image)
        x = segzoo.layers.SeparableConvBlock(5, name="separable")(x)
        return keras.Model(image, keras.layers.Conv2D(2, 1, name="head")(x))

    source, target = randomized(build(2), rng), build(4)
    (source.save if name == "a.h5" else source.save_weights)(tmp_path / name)
    load_weights(target, tmp_path / name)
    assert_equal_weights(target, source)


def pyramid(rates):
    image = keras.Input((None, None, 3))
    branches = [
        keras.layers.Conv2D(4, 3, dilation_rate=rate, padding="same", name=f"rate_{rate}")(image)
        for rate in rates
    ]
    x = keras.layers.Concatenate(name="merge")(branches)
    return keras.Model(image, keras.layers.Conv2D(2, 1, name="project")(x))


@pytest.mark.parametrize("keras2", [True, False])
def test_a_pyramid_with_other_rates_takes_the_weights_in_order(tmp_path, rng, keras2):
    """DeepLab is trained at output stride 16 and judged at 8; one rate occurs in both."""
    source, target = randomized(pyramid((6, 12, 18)), rng), pyramid((12, 24, 36))
    path = tmp_path / "a.weights.h5"
    if keras2:
        layers = {
            layer.name: {
                f"{layer.name}/{w.name}:0": keras.ops.convert_to_numpy(w) for w in layer.weights
            }
            for layer in source.layers
        }
        write_keras2(path, layers)
    else:
        source.save_weights(path)
    load_weights(target, path)
    assert_equal_weights(target, source)


def test_an_order_against_the_names_is_refused(tmp_path, rng):
    """Shortcut and main branch of one shape: one is renamed, the other at its place."""
    _, layers = published_file(rng, tmp_path / "a.h5")
    swapped = {"block_1_conv": "shortcut", "block_0_conv": "block_1_conv"}
    path = write_keras2(
        tmp_path / "b.h5", {swapped.get(name, name): value for name, value in layers.items()}
    )
    refused(small_network(), path, r"`block_0_conv` with .*, the file has no such layer")


def test_a_bfloat16_file_loads_into_a_float32_model(tmp_path, rng):
    keras.config.set_dtype_policy("bfloat16")
    source = small_network()
    keras.config.set_dtype_policy("float32")
    source.save_weights(tmp_path / "a.weights.h5")
    target = small_network()
    load_weights(target, tmp_path / "a.weights.h5")
    for got, expected in zip(target.weights, source.weights, strict=True):
        expected = keras.ops.convert_to_numpy(keras.ops.cast(expected, "float32"))
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(got), expected)


def test_statistics_of_a_normalization_layer_take_effect(tmp_path, rng):
    layer = keras.layers.Normalization(name="normalization")
    model = keras.Sequential([keras.Input((3,)), layer])
    mean, variance = rng.normal(size=3).astype("float32"), rng.uniform(1, 2, 3).astype("float32")
    names = ["normalization/mean:0", "normalization/variance:0", "normalization/count:0"]
    values = [mean, variance, np.int64(0)]
    path = write_keras2(tmp_path / "a.h5", {"normalization": dict(zip(names, values, strict=True))})
    load_weights(model, path)
    x = rng.normal(size=(4, 3)).astype("float32")
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(model(x)), (x - mean) / np.sqrt(variance), rtol=1e-5, atol=1e-6
    )


def refused(model, path, pattern, error=ValueError):
    """`load_weights` raises and the model keeps every value."""
    before = model.get_weights()
    with pytest.raises(error, match=pattern) as caught:
        load_weights(model, path)
    assert str(path) in str(caught.value)
    for got, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("keras2", [True, False])
def test_other_shapes_name_the_first_layer_and_both_shapes(tmp_path, rng, keras2):
    path = tmp_path / "a.weights.h5"
    if keras2:
        published_file(rng, path, filters=5)
    else:
        small_network(filters=5).save_weights(path)
    refused(small_network(), path, r"`conv1_conv`.*\(3, 3, 3, 4\).*`conv1_conv`.*\(3, 3, 3, 5\)")


@pytest.mark.parametrize("keras2", [True, False])
def test_a_last_layer_of_another_shape_changes_nothing_before_it(tmp_path, rng, keras2):
    path = tmp_path / "a.h5"
    if keras2:
        _, layers = published_file(rng, path)
        layers["separable"]["separable/pointwise_kernel:0"] = np.zeros((1, 1, 4, 7), "float32")
        write_keras2(path, layers)
    else:
        source = small_network()
        source.save_weights(tmp_path / "b.weights.h5")
        with h5py.File(tmp_path / "b.weights.h5", "r+") as file:
            group = file["layers/separable_conv2d/vars"]
            del group["1"]
            group["1"] = np.zeros((1, 1, 4, 7), "float32")
        path = tmp_path / "b.weights.h5"
    refused(small_network(), path, r"`separable`.*\(1, 1, 4, 6\).*`separable`.*\(1, 1, 4, 7\)")


@pytest.mark.parametrize("keras2", [True, False])
def test_a_file_with_a_layer_too_few_names_it(tmp_path, rng, keras2):
    path = tmp_path / "a.weights.h5"
    if keras2:
        _, layers = published_file(rng, path)
        del layers["block_1_conv"]
        write_keras2(path, layers)
    else:
        small_network().save_weights(path)
        with h5py.File(path, "r+") as file:
            del file["layers/conv2d_2"]
    refused(small_network(), path, r"`block_1_conv` with .*\(1, 1, 4, 4\), the file has no such")


@pytest.mark.parametrize("keras2", [True, False])
def test_a_deeper_network_of_the_same_names_is_another_network(tmp_path, rng, keras2):
    path = tmp_path / "a.weights.h5"
    if keras2:
        _, layers = published_file(rng, path)
        items = list(layers.items())
        items[3:3] = conv(rng, "block_extra", 1, 1, 4, 4, bias=False).items()
        write_keras2(path, dict(items))
    else:
        image = keras.Input((None, None, 3))
        x = keras.layers.Conv2D(4, 3, name="conv1_conv")(image)
        x = keras.layers.Conv2D(4, 3, name="block_extra")(x)
        x = keras.layers.Conv2D(4, 3, name="conv2_conv")(x)
        keras.Model(image, x).save_weights(path)
    image = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, name="conv1_conv")(image)
    shallow = keras.Model(image, keras.layers.Conv2D(4, 3, name="conv2_conv")(x))
    refused(small_network() if keras2 else shallow, path, r"the file has layer `block_extra`")


def test_vgg19_does_not_pass_for_vgg16(tmp_path, rng):
    """All layers of VGG16 are in VGG19 under the same names and with the same shapes."""

    def vgg(convs):
        layers, channels = {}, 1
        for block, (count, filters) in enumerate(zip(convs, (2, 3, 4, 5, 5), strict=True), 1):
            for number in range(1, count + 1):
                layers |= conv(rng, f"block{block}_conv{number}", 3, 3, channels, filters)
                channels = filters
        return layers

    image = x = keras.Input((None, None, 1))
    for name, weights in vgg((2, 2, 3, 3, 3)).items():
        kernel = next(iter(weights.values()))
        x = keras.layers.Conv2D(kernel.shape[-1], 3, padding="same", name=name)(x)
    vgg16 = keras.Model(image, x)
    path = write_keras2(tmp_path / "vgg19.h5", vgg((2, 2, 4, 4, 4)))
    refused(vgg16, path, "block3_conv4")
    # A deeper tap of the same network is no other network: what comes behind is left out.
    shallow = keras.Model(image, vgg16.get_layer("block3_conv3").output)
    layers = vgg((2, 2, 3, 3, 3))
    load_weights(shallow, write_keras2(tmp_path / "vgg16.h5", layers))
    assert_holds(shallow, layers)


@pytest.mark.parametrize("keras2", [True, False])
def test_another_network_is_refused(tmp_path, rng, keras2):
    path = tmp_path / "a.weights.h5"
    if keras2:
        write_keras2(path, {**conv(rng, "stem", 7, 7, 3, 8), **norm(rng, "stem_bn", 8)})
    else:
        automatic_network(3).save_weights(path)
    refused(small_network(), path, r"does not fit model `small`.*`conv1_conv`.*\(3, 3, 3, 4\)")


def test_a_layer_with_a_bias_is_not_one_without(tmp_path, rng):
    _, layers = published_file(rng, tmp_path / "a.h5")
    layers |= conv(rng, "block_0_conv", 1, 1, 4, 4, bias=True)
    path = write_keras2(tmp_path / "b.h5", layers)
    refused(small_network(), path, r"`block_0_conv` with kernel .*, the file has .* bias \(4,\)")


@pytest.mark.parametrize("saved_as", ["a.weights.h5", "a.keras", "keras2.h5"])
@pytest.mark.parametrize("part", [0.3, 0.999])
def test_a_truncated_file_is_refused(tmp_path, rng, saved_as, part):
    path = tmp_path / saved_as
    model = small_network()
    if saved_as == "keras2.h5":
        published_file(rng, path)
    elif saved_as == "a.keras":
        model.save(path)
    else:
        model.save_weights(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    refused(model, path, r"truncated or damaged: layer `conv1_conv` cannot be read")


def test_a_listed_layer_that_is_not_there_is_damage(tmp_path, rng):
    path, _ = published_file(rng, tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        del file["depthwise"]
    refused(small_network(), path, r"truncated or damaged.*depthwise")


def test_what_is_no_weights_file_is_refused(tmp_path):
    model = small_network()
    refused(model, tmp_path / "nowhere.h5", "no weights file", FileNotFoundError)
    refused(model, tmp_path, "folder")
    page = tmp_path / "page.h5"
    page.write_text("<html>404</html>")
    refused(model, page, r"not a weights file.*16 bytes.*<html>")
    page.write_bytes(b"")
    refused(model, page, "not a weights file.*0 bytes")
    archive = tmp_path / "archive.keras"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("readme.txt", "no model")
    refused(model, archive, "archive without")
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["images"] = np.zeros(3)
    refused(model, other, r"no Keras weights file.*images")


def test_shapes_in_a_file_of_every_layout(tmp_path, rng):
    path, layers = published_file(rng, tmp_path / "a.h5", chunks=2)
    shapes = {
        name: [value.shape for value in weights.values()]
        for name, weights in layers.items()
        if weights
    }
    assert layer_shapes(path) == shapes
    segmenter().save(tmp_path / "b.keras")
    found = layer_shapes(tmp_path / "b.keras")
    assert found.pop("up") == [(2, 2, 2, 6), (2,)]
    assert found == shapes
