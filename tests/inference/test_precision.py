"""`in_float32`: the same network, wider."""

import keras
import numpy as np
import pytest

import segzoo
from segzoo.inference import decide, in_float32
from segzoo.layers import AtrousSpatialPyramidPooling, ConvBlock, SeparableConvBlock
from tests.cases import some
from tests.inference.networks import image, in_litert, network, numbers

POLICIES = ("mixed_float16", "mixed_bfloat16")
ROUNDING = {"mixed_float16": 5e-3, "mixed_bfloat16": 5e-2}


@pytest.fixture(params=POLICIES)
def policy(request):
    keras.config.set_dtype_policy(request.param)  # conftest restores it
    return request.param


def policies(layer):
    """The compute types of a layer and of all that it holds."""
    inner = [*getattr(layer, "_layers", [])]
    return {layer.compute_dtype}.union(*map(policies, inner))


def shared():
    """A layer and a nested model used twice, and blocks with layers of their own."""
    inner = keras.Input((None, None, 4))
    x = SeparableConvBlock(4, normalization="group", name="separable")(inner)
    nested = keras.Model(inner, ConvBlock(4, name="block")(x), name="nested")
    picture = keras.Input((None, None, 3), name="picture")
    entry = keras.layers.Conv2D(4, 1, name="entry")
    x = entry(picture)
    x = nested(x) + nested(entry(picture * 0.5))
    x = AtrousSpatialPyramidPooling(4, dropout=0.1, name="aspp")(x)
    sequence = keras.Sequential([keras.layers.Conv2D(2, 1, name="last")], name="sequence")
    return keras.Model(picture, sequence(x), name="shared")


BUILDS = {
    "blocks": shared,
    "unet": lambda: segzoo.models.UNet(None, 3, decoder_filters=(8, 4)),
    "backbone": lambda: segzoo.backbones.build("resnet18", weights=None),
}


@pytest.mark.parametrize("name", some(BUILDS, ("blocks", "unet")))
def test_it_is_the_same_network_in_float32(name, policy):
    half = BUILDS[name]()
    rng = np.random.default_rng(0)
    half.set_weights(
        [rng.uniform(0.3, 0.7, w.shape) / np.prod(w.shape[:-1] or 1) for w in half.weights]
    )
    wide = in_float32(half)
    assert policies(wide) == {"float32"} and policy.removeprefix("mixed_") in policies(half)
    assert keras.config.dtype_policy().name == policy
    assert [layer.name for layer in wide.layers] == [layer.name for layer in half.layers]
    # Without what stands before the layer's name: a sequence that was built by its call has none.
    names = [[w.path.split("/")[-2:] for w in model.weights] for model in (wide, half)]
    assert names[0] == names[1]
    for a, b in zip(wide.weights, half.weights, strict=True):
        assert a is not b and a.dtype == "float32"
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(a), keras.ops.convert_to_numpy(b))
    for a, b in zip(numbers(wide, image(33, 40)), numbers(half, image(33, 40)), strict=True):
        assert a.dtype == np.float32
        np.testing.assert_allclose(a, b.astype("float32"), atol=ROUNDING[policy] * np.abs(a).max())


def test_a_model_of_16_bit_weights_gets_32():
    keras.config.set_dtype_policy("bfloat16")
    half = network()
    wide = in_float32(half)
    assert {w.dtype for w in half.weights} == {"bfloat16"} and policies(wide) == {"float32"}
    assert {w.dtype for w in wide.weights} == {"float32"}
    (a,), (b,) = numbers(wide, image(33, 40)), numbers(half, image(33, 40))
    np.testing.assert_allclose(a, b.astype("float32"), atol=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    "policy", [pytest.param(POLICIES[0], marks=pytest.mark.slow), POLICIES[1]], indirect=True
)
def test_a_model_trained_in_16_bits_runs_in_litert(policy, tmp_path):
    model = segzoo.models.UNet(None, 2, decoder_filters=(8, 4))
    model.compile("sgd", segzoo.losses.Dice())
    x = image(33, 40)
    model.fit(x, (x[..., :1] > 2).astype("uint8"), verbose=0)
    wide = in_float32(model)
    assert not wide.compiled and model.compiled
    (found,) = in_litert(wide, x, tmp_path)
    np.testing.assert_allclose(found, numbers(wide, x)[0], atol=1e-4)
    np.testing.assert_allclose(found, numbers(model, x)[0], atol=ROUNDING[policy])
    (decided,) = in_litert(decide(wide), x, tmp_path)
    np.testing.assert_array_equal(decided, found.argmax(axis=-1))


def test_a_float32_model_is_copied_and_frozen_layers_stay_frozen():
    model = network()
    model.get_layer("backbone").trainable = False
    copy = in_float32(model)
    copy.get_layer("stem").trainable = False
    (a,), (b,) = numbers(copy, image(33, 40)), numbers(model, image(33, 40))
    np.testing.assert_array_equal(a, b)
    assert not copy.get_layer("backbone").trainable_weights and model.get_layer("stem").trainable
    copy.set_weights([0 * w for w in copy.get_weights()])
    np.testing.assert_array_equal(numbers(model, image(33, 40))[0], b)


def test_a_quantized_model_is_an_error():
    x = keras.Input((5,))
    model = keras.Model(x, keras.layers.Dense(3)(x))
    model.quantize("int8")
    with pytest.raises(ValueError, match=r"^`model` must not be quantized"):
        in_float32(model)


@pytest.mark.parametrize(
    "model", ["model.keras", keras.layers.Conv2D(1, 1), keras.Sequential([keras.layers.Dense(1)])]
)
def test_what_is_no_built_model_is_an_error(model):
    with pytest.raises(ValueError, match=r"^`model`"):
        in_float32(model)
