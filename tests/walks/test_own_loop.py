"""A program in the style of SMP: logits, a loop of its own on counts, then ONNX and LiteRT."""

import keras
import numpy as np
import pytest

import segzoo
from segzoo import losses, metrics, models
from tests.walks.plain import iou, objects

pytestmark = pytest.mark.slow


def in_onnx(path, x):
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def in_litert(path, x):
    import tensorflow as tf

    interpreter = tf.lite.Interpreter(path)
    entry = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(entry, x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(entry, x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def test_a_loop_on_counts_and_its_exports(tmp_path, rng):
    import tensorflow as tf

    x, y = objects(48, (64, 80), 4, rng)
    held_out, truth = x[36:], y[36:]
    model = models.UNet(None, 4, (None, None, 3), decoder_filters=(32, 16, 8), activation=None)
    loss = losses.Dice(from_logits=True, smooth=0) + losses.CategoricalCrossentropy(
        from_logits=True
    )

    model.compile("sgd", losses.Dice(smooth=0), metrics=[metrics.IoU()])
    with pytest.raises(ValueError, match=r"2 faults[^$]*`dice` takes prob[^$]*`iou` takes prob"):
        segzoo.check_batch(model, x[:6], y[:6])
    model.compile("sgd", loss, metrics=[metrics.IoU(from_logits=True)])
    with pytest.raises(ValueError, match=r"laid out \(B, C, H, W\): move its channels last"):
        segzoo.check_batch(model, x[:6].transpose(0, 3, 1, 2), y[:6])
    segzoo.check_batch(model, x[:6], y[:6])
    with pytest.raises(ValueError, match="from_logits=True"):
        losses.Dice()(y[:6], model(x[:6]))

    optimizer = keras.optimizers.AdamW(5e-3, weight_decay=1e-4)

    @tf.function
    def step(images, labels):
        with tf.GradientTape() as tape:
            value = loss(labels, model(images, training=True))
        weights = model.trainable_variables
        optimizer.apply(tape.gradient(value, weights), weights)
        return value

    for _ in range(10):
        for part in np.array_split(rng.permutation(36), 6):
            step(x[part], y[part])

    # `get_stats`, batch by batch, and its reductions at the end.
    stats = []
    for part in np.array_split(np.arange(12), 3):
        batch = metrics.counts(truth[part], model(held_out[part], training=False), from_logits=True)
        stats.append(
            [keras.ops.convert_to_numpy(n) for n in (batch.tp, batch.fp, batch.fn, batch.tn)]
        )
    tp, fp, fn, tn = np.concatenate(stats, axis=1)
    logits = keras.ops.convert_to_numpy(model(held_out, training=False))
    guess = logits.argmax(axis=-1)
    is_true, is_found = (np.stack([a == k for k in range(4)], -1) for a in (truth, guess))
    for ours, pixels in (
        (tp, is_true & is_found),
        (fp, ~is_true & is_found),
        (fn, is_true & ~is_found),
        (tn, ~is_true & ~is_found),
    ):
        np.testing.assert_array_equal(ours, pixels.sum(axis=(1, 2)))
    found = metrics.counts(truth, logits, from_logits=True)
    each = [
        [iou(is_true[n, ..., k], is_found[n, ..., k], empty=1) for k in range(4)] for n in range(12)
    ]
    reductions = {
        "micro": (found.sum(0).sum(0).iou(), iou(is_true, is_found)),
        "macro": (
            keras.ops.mean(found.sum(0).iou()),
            np.mean([iou(is_true[..., k], is_found[..., k]) for k in range(4)]),
        ),
        "micro-imagewise": (
            keras.ops.mean(found.sum(1).iou()),
            np.mean([iou(is_true[n], is_found[n]) for n in range(12)]),
        ),
        "macro-imagewise": (keras.ops.mean(found.iou()), np.mean(each)),
    }
    for name, (ours, by_hand) in reductions.items():
        assert float(ours) == pytest.approx(by_hand, abs=1e-6), name
    assert float(reductions["macro"][0]) > 0.7
    streamed = metrics.IoU(from_logits=True, average="micro_per_image")(truth, logits)
    assert float(streamed) == pytest.approx(reductions["micro-imagewise"][1], abs=1e-6)

    # The decision leaves in the file; so do the scores.
    decided = segzoo.inference.decide(model)
    decided(held_out)  # Keras exports to ONNX what was called once
    for name, network, expected in (("scores", model, logits), ("labels", decided, guess)):
        files = str(tmp_path / f"{name}.onnx"), str(tmp_path / f"{name}.tflite")
        network.export(files[0], format="onnx", verbose=False)
        network.export(files[1], format="litert", verbose=False)
        for run, path in zip((in_onnx, in_litert), files, strict=True):
            result = run(path, held_out)
            if name == "scores":
                np.testing.assert_allclose(result, expected, atol=1e-4 * np.abs(logits).max())
            else:
                assert result.dtype == np.uint8 and (result == expected).mean() > 0.9999
