"""Strides that became dilation: the dense map, read at the removed stride, is the original map."""

import keras
import pytest

from segzoo import backbones
from segzoo.backbones._rows import Published, Variant, every_stays, none_stays
from segzoo.backbones.encoder import encoder
from segzoo.backbones.rebuild import rebuild, stable_names
from tests.backbones import networks


def at_removed_stride(dense, original, step):
    """The phase of the dense map that is nearest to the original: (difference, phase)."""
    found = []
    for row in range(step):
        for column in range(step):
            read = dense[:, row::step, column::step]
            height = min(read.shape[1], original.shape[1])
            width = min(read.shape[2], original.shape[2])
            both = read[:, :height, :width], original[:, :height, :width]
            found.append((networks.relative_difference(*both), (row, column)))
    return min(found)


@pytest.mark.parametrize("name", networks.each(quick=["resnet18"]))
def test_dense_map_at_the_removed_stride_is_the_original_map(name, record_property):
    row = backbones.info(name)
    original = networks.built(name)
    size = (97, 64)  # odd at every level, even at every level
    image = networks.image(*size, batch=1)
    references = networks.maps(original, image)
    for output_stride in set(row.output_strides) - {32}:
        dense = backbones.build(name, weights=None, output_stride=output_stride)
        networks.copy_weights(original, dense)  # by name: dilation renames nothing
        found = encoder(dense, weights=None, input_shape=(None, None, 3))  # as somebody else's
        assert (found.levels, found.rounds_up) == (row.strides, True)
        assert found.strides == tuple(min(stride, output_stride) for stride in row.strides)
        ours = networks.maps(dense, image)
        worst = 0.0
        for dense_map, reference, stride in zip(ours, references, row.strides, strict=True):
            actual = min(stride, output_stride)
            assert dense_map.shape[1:3] == tuple(-(-side // actual) for side in size)
            difference, _ = at_removed_stride(dense_map, reference, stride // actual)
            worst = max(worst, difference)
        record_property(f"relative_difference_{output_stride}", worst)
        assert worst < 1e-5


@pytest.mark.parametrize("name", networks.each(["nasnetmobile", "nasnetlarge"], ["nasnetmobile"]))
def test_stride_that_a_family_has_not_raises_and_names_those_it_has(name):
    with pytest.raises(ValueError, match=r"must be 32, .* pass `output_stride=32`"):
        backbones.build(name, weights=None, output_stride=16)


def test_gates_of_squeeze_and_excite_see_the_denser_map():
    assert backbones.info("mobilenetv3small").squeeze_excite
    dense = backbones.build("mobilenetv3small", weights=None, output_stride=8)
    gates = [layer for layer in dense.layers if layer.name.endswith("squeeze_excite_avg_pool")]
    seen = keras.Model(dense.input, gates[-1].input)(networks.image(64, 96))
    assert tuple(seen.shape[1:3]) == (8, 12)


def strided_pair(kernel, padding, pad=None, pool=None):
    """Two strided layers and a plain one, as small as a network can be."""
    x = image = keras.Input((40, 40, 2))
    for place in range(2):
        if pad is not None:
            x = keras.layers.ZeroPadding2D(pad, name=f"pad_{place}")(x)
        if pool is not None:
            x = pool(kernel, strides=2, padding=padding, name=f"pool_{place}")(x)
        else:
            x = keras.layers.Conv2D(2, kernel, strides=2, padding=padding, name=f"down_{place}")(x)
        x = keras.layers.Conv2D(2, 3, padding="same", name=f"plain_{place}")(x)
    return keras.Model(image, x)


SIZES = [(16, 20), (17, 19), (13, 18)]


def stride_can_be_removed(source, size, explicit=False):
    networks.enliven(source)
    rules = Published(lambda weights: source, stays=every_stays if explicit else none_stays)
    built = {}
    for output_stride in (4, 2, 1):
        image = keras.Input((None, None, 2))
        made = rebuild(source, image, image, output_stride=output_stride, published=rules)
        for old, new in made.layers:
            new.set_weights(old.get_weights())
        built[output_stride] = keras.Model(image, made.maps["plain_1"])
        assert made.scales["plain_1"] == (4, output_stride)
    image = networks.image(*size, channels=2) / 255
    (reference,) = networks.maps(built[4], image)
    assert reference.shape[1:3] == tuple(-(-side // 4) for side in size)
    for output_stride in (2, 1):
        (dense,) = networks.maps(built[output_stride], image)
        difference, phase = at_removed_stride(dense, reference, 4 // output_stride)
        assert difference < 1e-5, (output_stride, phase)


@pytest.mark.core
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("explicit", "network"),
    [
        (True, lambda: strided_pair(3, "valid", pad=1)),
        (True, lambda: strided_pair(7, "valid", pad=3)),
        (False, lambda: strided_pair(3, "valid", pad=((0, 1), (0, 1)))),
        (False, lambda: strided_pair(3, "same")),
        (False, lambda: strided_pair(5, "same")),
        (False, lambda: strided_pair(2, "valid")),
        (False, lambda: strided_pair(3, "valid", pool=keras.layers.MaxPooling2D)),
        (False, lambda: strided_pair(2, "valid", pool=keras.layers.MaxPooling2D)),
        (False, lambda: strided_pair(2, "valid", pool=keras.layers.AveragePooling2D)),
    ],
)
def test_every_kind_of_stride_can_be_removed(explicit, network, size):
    stride_can_be_removed(network(), size, explicit)


# Not on PyTorch, where Keras counts the pixels of an edge twice in a padded mean.
@pytest.mark.parametrize("size", SIZES)
def test_the_stride_of_a_mean_over_three_pixels_can_be_removed(size):
    stride_can_be_removed(strided_pair(3, "valid", pool=keras.layers.AveragePooling2D), size)


@pytest.mark.core
def test_stable_names_are_those_of_a_first_build():
    def network():
        image = keras.Input((8, 8, 3))
        x = keras.layers.Conv2D(2, 1)(image)
        y = keras.layers.Conv2D(2, 1)(x)
        x = keras.layers.Conv2D(2, 1, name="block_7")(x)
        x = keras.layers.ReLU()(x) + 3.0
        return keras.Model(image, keras.layers.Add()([x, y]))

    network()
    names = stable_names(network())
    assert sorted(names.values()) == ["add", "add_1", "block_7", "conv2d", "conv2d_1", "re_lu"]
    assert names["block_7"] == "block_7"


@pytest.mark.core
@pytest.mark.parametrize(
    ("padding", "first", "second"),
    [
        ("symmetric", (1, 1), (1, 1)),
        (40, (0, 1), (0, 1)),  # TensorFlow's on 40 rows, then on 20
        (41, (1, 1), (1, 1)),  # on 41, then on 21
        (42, (0, 1), (1, 1)),
    ],
)
def test_strides_are_padded_as_another_library_does(padding, first, second):
    source = strided_pair(3, "same")
    image = keras.Input((None, None, 2))
    made = rebuild(source, image, image, output_stride=4, variant=Variant(padding=padding))
    ours = keras.Model(image, made.maps["plain_1"])
    x = other = keras.Input((None, None, 2))
    for place, pad in enumerate((first, second)):
        x = keras.layers.ZeroPadding2D((pad, pad))(x)
        x = keras.layers.Conv2D(2, 3, strides=2, padding="valid")(x)
        x = keras.layers.Conv2D(2, 3, padding="same", name=f"plain_{place}")(x)
    expected = keras.Model(other, x)
    expected.set_weights(source.get_weights())
    ours.set_weights(source.get_weights())
    image = networks.image(33, 38, channels=2) / 255
    (a,), (b,) = networks.maps(ours, image), networks.maps(expected, image)
    assert networks.relative_difference(a, b) < 1e-6


@pytest.mark.core
def test_patches_that_an_image_does_not_fill_are_dropped_where_they_were():
    x = image = keras.Input((40, 40, 2))
    x = keras.layers.Conv2D(2, 4, strides=4, padding="valid", name="patches")(x)
    source = keras.Model(image, keras.layers.Conv2D(2, 2, strides=2, name="plain_1")(x))
    rows = {}
    for rounds_up in (True, False):
        image = keras.Input((39, 46, 2))
        made = rebuild(source, image, image, output_stride=8, variant=Variant(rounds_up=rounds_up))
        rows[rounds_up] = made.maps["plain_1"].shape[1:3]
    assert rows == {True: (5, 6), False: (4, 5)}
