"""Maps made on the host, the losses that read them, and the mask and its maps in one `y_true`."""

import keras
import numpy as np
import pytest
from scipy import ndimage
from skimage import morphology

import segzoo
from segzoo import losses, metrics
from tests.losses.helpers import gradient, run, traced
from tests.oracles import losses as oracle


def blobs(rng, *shape, width=1.5):
    return ndimage.gaussian_filter(rng.normal(size=shape), width) > 0


@pytest.mark.parametrize("spacing", [(1, 1), (2.5, 0.5)])
def test_distances_are_those_between_all_pairs_of_pixels(spacing, rng):
    labels = rng.integers(0, 3, (2, 9, 12)) + blobs(rng, 2, 9, 12)
    expected = oracle.signed_distance(np.eye(5)[labels], spacing=spacing)  # class 4 is absent
    for mask in (labels, labels[..., None], np.eye(5)[labels], np.eye(5, dtype=bool)[labels]):
        classes = 5 if mask.shape[-1] != 5 else None
        each = [losses.signed_distance(one, classes, spacing) for one in mask]
        assert each[0].dtype == np.float32
        np.testing.assert_allclose(each, expected, rtol=1e-6)
    np.testing.assert_array_equal(losses.signed_distance(np.eye(5)[labels], 5, spacing), each)
    binary = losses.signed_distance(labels[0] > 1, spacing=spacing)
    assert ((binary < 0) == (labels[0] > 1)[..., None]).all()
    np.testing.assert_allclose(
        binary, oracle.signed_distance(labels[:1, ..., None] > 1, spacing=spacing)[0], rtol=1e-6
    )


def test_a_class_without_a_border_has_distance_zero():
    for mask in (np.zeros((4, 5)), np.ones((4, 5)), np.zeros((0, 5))):
        assert not losses.signed_distance(mask).any()
    assert not losses.signed_distance(np.full((4, 5), 2), 3).any()


def test_ignored_pixels_are_zero_and_on_neither_side(rng):
    labels = rng.integers(0, 3, (1, 9, 12))
    void = rng.random(labels.shape) < 0.2
    expected = oracle.signed_distance(np.eye(3)[labels], ~void)[0]
    marked = np.where(void, 255, labels)[0]
    got = losses.signed_distance(marked, 3, ignore_class=[255, -1])
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    dense = np.where(void[..., None], 255, np.eye(3)[labels])[0]
    np.testing.assert_array_equal(losses.signed_distance(dense, ignore_class=255), got)
    by_number = losses.signed_distance(labels[0], 3, ignore_class=2)
    expected = oracle.signed_distance(np.eye(3)[labels], labels != 2)[0]
    np.testing.assert_allclose(by_number, expected, rtol=1e-6)
    dense = losses.signed_distance(np.eye(3)[labels[0]], ignore_class=2)
    np.testing.assert_array_equal(dense, by_number)


@pytest.mark.parametrize("function", [losses.signed_distance, losses.skeleton])
def test_masks_that_cannot_be_right_are_named(function):
    for bad in (np.zeros(3), np.zeros((2, 4, 5)), np.zeros((4, 5), "U1")):
        with pytest.raises(ValueError, match=r"`mask` must be numbers \(H, W\).*received shape"):
            function(bad, 3)
    with pytest.raises(ValueError, match=r"`mask` must hold 0 and 1.*received 255"):
        function(np.full((4, 5), 255))
    with pytest.raises(ValueError, match=r"`mask` must hold labels 0 to 2.*received 0.5"):
        function(np.full((4, 5), 0.5), 3)
    with pytest.raises(ValueError, match="`classes` must be an integer >= 1"):
        function(np.zeros((4, 5)), 0)
    for spacing in (0, (1,), (1, -1), (1, np.inf)):
        with pytest.raises(ValueError, match="`spacing` must be two numbers > 0"):
            losses.signed_distance(np.zeros((4, 5)), spacing=spacing)
    for width in (0, 2, 2.5):
        with pytest.raises(ValueError, match="`width` must be an"):
            losses.skeleton(np.zeros((4, 5)), width=width)
    with pytest.raises(ValueError, match="`background` must be a class of 0 to 2"):
        losses.skeleton(np.zeros((4, 5)), 3, background=3)


def parts_and_holes(mask):
    outside = np.pad(~mask, 1, constant_values=True)
    return ndimage.label(mask, np.ones((3, 3)))[1], ndimage.label(outside)[1]


def test_a_skeleton_is_thin_and_keeps_all_parts_and_holes(rng):
    for width in rng.uniform(0.3, 3, 40):
        mask = blobs(rng, 30, 41, width=width)
        lines = losses.skeleton(mask, width=1)[..., 0].astype(bool)
        assert not (lines & ~mask).any()
        assert parts_and_holes(lines) == parts_and_holes(mask)
        np.testing.assert_array_equal(lines, morphology.thin(mask))
    square = np.zeros((4, 4), bool)
    square[1:3, 1:3] = True
    assert losses.skeleton(square, width=1).sum() == 1
    assert not losses.skeleton(np.zeros((3, 4))).any()
    assert losses.skeleton(np.zeros((0, 4))).shape == (0, 4, 1)


def test_a_tubed_skeleton_is_the_dilated_skeleton_times_the_class(rng):
    labels = blobs(rng, 30, 41) * (1 + blobs(rng, 30, 41, width=6))
    one_hot = np.eye(3, dtype="uint8")[labels]
    for width in (1, 3, 5):
        tube = morphology.dilation(morphology.thin(labels > 0), morphology.diamond(width // 2))
        expected = one_hot * tube[..., None]
        expected[..., 0] = 0
        for mask in (labels, one_hot):
            got = losses.skeleton(mask, 3, width)
            assert got.dtype == np.uint8
            np.testing.assert_array_equal(got, expected)
        each = losses.skeleton(labels, 3, width, background=None)
        for c in range(3):
            np.testing.assert_array_equal(
                each[..., c], losses.skeleton(labels == c, width=width)[..., 0]
            )
    void = np.where(labels == 2, 255, labels)
    ignoring = losses.skeleton(void, 3, ignore_class=255)
    np.testing.assert_array_equal(ignoring, losses.skeleton(np.where(labels == 2, 0, labels), 3))
    batch = losses.skeleton(np.stack([one_hot, one_hot[::-1]]))
    np.testing.assert_array_equal(batch[0], losses.skeleton(labels, 3))


def test_weights_classes_and_ignored_pixels_of_the_distance_loss(rng):
    y = np.eye(3)[rng.integers(0, 3, (2, 7, 5))]
    void, w = rng.random(y.shape[:3]) < 0.2, rng.random(y.shape[:3])
    p = rng.random(y.shape).astype("float32")
    map = oracle.signed_distance(y, ~void)
    weights = [0.0, 2.0, 1.0]
    expected = oracle.boundary_distance(y, p, w, ~void, weights)
    loss = losses.BoundaryDistance(class_weights={0: 0, 1: 2}, ignore_class=255)
    assert run(loss, y * 1.0, p) is not None
    value = float(loss(map, p, w))
    assert value == pytest.approx(expected, rel=1e-5)
    by_pixel = losses.BoundaryDistance(weights, ignore_class=255, reduction="none")
    each = keras.ops.convert_to_numpy(by_pixel(map, p, w))
    assert each.shape == (2, 7, 5) and not each[void].any()
    assert each.sum() / (~void).sum() == pytest.approx(expected, rel=1e-5)
    inside = losses.BoundaryDistance(ignore_class=2, reduction="none")(map, p)
    assert not keras.ops.convert_to_numpy(inside)[map[..., 2] < 0].any()
    one = map[..., 1:2]
    for side, zero in ((1, one < 0), (0, one > 0)):
        each = losses.BoundaryDistance(ignore_class=side, reduction="none")(one, p[..., 1:2])
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(each) == 0, (zero | (one == 0))[..., 0]
        )


def test_the_distance_loss_is_lowest_for_the_truth(rng):
    y = np.eye(3)[rng.integers(0, 3, (1, 9, 12))]
    map = losses.signed_distance(y)
    perfect = float(losses.BoundaryDistance()(map, y))
    assert perfect < 0
    for guess in (np.roll(y, 1, axis=2), np.ones_like(y) / 3, np.ones_like(y), 0 * y):
        assert float(losses.BoundaryDistance()(map, guess)) > perfect
    assert float(losses.BoundaryDistance()(10 * map, y)) == pytest.approx(10 * perfect)


def test_what_is_no_map_is_named():
    p = np.full((2, 4, 5, 3), 1 / 3, "float32")
    map = losses.signed_distance(np.eye(3)[np.arange(40).reshape(2, 4, 5) % 3])
    loss, mask = losses.BoundaryDistance(), (map < 0).astype("float32")
    bad = [np.zeros((2, 4, 5), "float32"), np.zeros((2, 4, 5, 1), "float32")]
    bad += [mask, mask.astype("uint8"), mask > 0, np.where(map == map[0, 0, 0], np.nan, map)]
    for y in bad:
        with pytest.raises(ValueError, match="`y_true` must be a map of signed distances"):
            loss(y, p)
    logits = losses.BoundaryDistance(from_logits=True)
    for value in (np.nan, np.inf):
        wrong = map.copy()
        wrong[0, 1, 2, 0] = value
        result, slope = traced(lambda y, p: logits(y, p), wrong, p)
        assert np.isnan(result) and not slope.any()
    with pytest.raises(ValueError, match="`loss` must be a pixel loss"):
        losses.OHEM(loss)


def joined(*maps):
    return np.concatenate([np.asarray(m, "float32") for m in maps], axis=-1)


@pytest.mark.parametrize("classes", [1, 3])
def test_a_sum_gives_each_part_its_channels(classes, rng):
    labels = rng.integers(0, max(classes, 2), (2, 9, 12, 1))
    one_hot = labels if classes == 1 else np.eye(classes, dtype=int)[labels[..., 0]]
    map, lines = losses.signed_distance(one_hot), losses.skeleton(one_hot)
    p = rng.random((2, 9, 12, classes)).astype("float32")
    dice, border, recall = losses.Dice(), losses.BoundaryDistance(), losses.SkeletonRecall()
    a, b, c = float(dice(labels, p)), float(border(map, p)), float(recall(lines, p))
    for mask in (labels, one_hot):
        for loss, y, expected in (
            (dice + 0.1 * border, joined(mask, map), a + 0.1 * b),
            (dice + recall, np.concatenate([mask, lines], -1), a + c),
            (recall + dice + border + dice, joined(mask, lines, map), 2 * a + b + c),
        ):
            assert float(loss(y, p)) == pytest.approx(expected, rel=1e-5), loss
            copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
            assert float(copy(y, p)) == pytest.approx(expected, rel=1e-5)
    assert float((border + recall)(joined(map, lines), p)) == pytest.approx(b + c, rel=1e-5)
    assert float((3 * border)(map, p)) == pytest.approx(3 * b, rel=1e-5)
    for wrong in (labels, one_hot[..., :1, :], joined(map, map, map, map, map), labels[..., 0]):
        with pytest.raises(ValueError, match=r"`y_true` must be \(B, H, W, channels\) for `Dice"):
            (dice + border)(wrong, p)


@pytest.mark.core
def test_a_sum_with_maps_has_the_gradients_of_its_parts(rng):
    mask = blobs(rng, 2, 9, 12)[..., None]
    map, lines = losses.signed_distance(mask), losses.skeleton(mask)
    p = rng.random(mask.shape).astype("float32")
    loss = losses.Dice() + 0.1 * losses.BoundaryDistance() + losses.SkeletonRecall()
    parts = [gradient(part, y, p) for part, y in zip(loss.parts, (mask, mask, lines), strict=True)]
    value, slope = gradient(loss, joined(mask, map, lines), p)
    expected = [w * g for w, (_, g) in zip(loss.weights, parts, strict=True)]
    np.testing.assert_allclose(slope, sum(expected), rtol=1e-4, atol=1e-8)
    assert value == pytest.approx(np.dot(loss.weights, [v for v, _ in parts]), rel=1e-5)
    assert traced(loss, joined(mask, map, lines), p)[0] == pytest.approx(value, rel=1e-5)


@pytest.mark.slow
def test_maps_are_made_in_a_data_set_and_train_a_model(tmp_path, rng):
    import tensorflow as tf

    masks = np.stack([blobs(rng, 32, 36, width=3) for _ in range(4)]).astype("uint8")
    images = (masks[..., None] + 0.3 * rng.normal(size=(4, 32, 36, 1))).astype("float32")

    def with_maps(mask):
        maps = losses.signed_distance(mask), losses.skeleton(mask)
        return np.concatenate([mask[..., None], *maps], axis=-1)

    def prepare(image, mask):
        y = tf.numpy_function(with_maps, [mask], tf.float32)
        return image, tf.ensure_shape(y, (32, 36, 3))

    data = tf.data.Dataset.from_tensor_slices((images, masks)).map(prepare).batch(2)
    image = keras.Input((None, None, 1))
    model = keras.Model(
        image, keras.layers.Conv2D(1, 3, padding="same", activation="sigmoid")(image)
    )
    loss = losses.Dice() + 0.1 * losses.BoundaryDistance() + losses.SkeletonRecall()
    model.compile(keras.optimizers.Adam(0.1), loss)
    x, y = next(iter(data))
    assert segzoo.check_batch(model, x, y).startswith("images (2, 32, 36, 1)")
    history = model.fit(data, epochs=3, verbose=0).history["loss"]
    assert history[-1] < history[0]
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert repr(loaded.loss) == repr(loss)
    expected = model.evaluate(data, verbose=0)
    assert loaded.evaluate(data, verbose=0) == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match="channels"):
        segzoo.check_batch(model, x, masks[:2])
    model.compile("adam", loss, metrics=[metrics.IoU()])
    with pytest.raises(ValueError, match=r"iou.*`y_true` of shape \(2, 32, 36, 3\)"):
        segzoo.check_batch(model, x, y)
