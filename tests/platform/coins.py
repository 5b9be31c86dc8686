"""The quickstart's photograph of coins: what a network decides there, in float32 and in int8.

Random weights would not do. With the batch statistics of no data, the maps of an EfficientNet
shrink from 0.9 to 0.00008 between its first stage and its last, and the decoder's normalization
brings the rounding back up.
"""

import functools
import importlib.util
import pathlib

import keras
import numpy as np

import segzoo
from tests.platform.export import litert_options, run_litert

EXAMPLE = pathlib.Path(__file__).parents[2] / "examples" / "quickstart.py"


@functools.cache
def photograph():
    """The crops of the left part and their masks, the unseen right part, and six windows."""
    spec = importlib.util.spec_from_file_location("quickstart", EXAMPLE)
    quickstart = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(quickstart)
    coins = quickstart.data.coins()
    mask = quickstart.label_coins(coins)
    split, rng = quickstart.SPLIT, np.random.default_rng(0)
    crops, masks = quickstart.random_crops(coins[:, :split], mask[:, :split], 160, 96, rng)
    image = coins[None, :, split:, None]
    width = image.shape[2]
    windows = [coins[None, ::flip, x : x + width, None] for x in (0, 48, 96) for flip in (1, -1)]
    return crops, masks, image, windows


def train(model, scale):
    """Two passes over the crops: all coins are found, many edges are undecided."""
    crops, masks, _, _ = photograph()
    keras.utils.set_random_seed(0)
    model.compile(keras.optimizers.Adam(2e-3), segzoo.losses.BCEDice())
    model.fit(crops.astype("float32") / scale, masks, batch_size=8, epochs=2, verbose=0)


def share_decided_alike(model, folder, scale):
    """Export to int8; the share of the unseen pixels that are decided as in float32."""
    _, _, image, windows = photograph()
    image = image.astype("float32") / scale
    path = folder / "coins.tflite"
    model.export(
        path,
        format="litert",
        verbose=False,
        # At an open size the weights of a resize would be quantized too, positions and all.
        input_signature=[keras.InputSpec(shape=image.shape, dtype="float32")],
        representative_dataset=lambda: ([w.astype("float32") / scale] for w in windows),
        **litert_options("int8"),
    )
    decided = run_litert(path, image) > 0.5
    expected = keras.ops.convert_to_numpy(model(image, training=False)) > 0.5
    found = expected.mean()
    assert 0.2 < found < 0.8, f"40 steps are too few: {100 * found:.0f} % of the pixels are coins"
    return float((decided == expected).mean())


def litert_int8(build, folder):
    """LiteRT in int8 at a fixed size, from either shape: 99 of 100 pixels are decided alike."""
    _, _, image, _ = photograph()
    model = build(1, (None, None, 1))
    train(model, scale=1)
    static = build(1, image.shape[1:])
    static.set_weights(model.get_weights())
    shares = [share_decided_alike(each, folder, scale=1) for each in (model, static)]
    assert min(shares) >= 0.99, f"{100 * min(shares):.1f} % of the pixels are decided alike"
    return f"{100 * min(shares):.1f} % decided alike"
