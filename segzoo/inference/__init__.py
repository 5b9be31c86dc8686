"""What a trained model does to images: tiles, test-time augmentation, the decision, 32 bits.

Nothing here loads data or trains. `predict_tiles` runs on the host and takes any callable; the
other three give a new `keras.Model` on the weights of the one they are given.

    _grid.py    where tiles lie and how much each of their pixels counts
    _band.py    the rows of the result that tiles still add to
    tiles.py    predict_tiles: reads tiles, predicts them in batches, adds them to the band
"""

from segzoo.inference.augmentation import test_time_augmentation
from segzoo.inference.decision import decide
from segzoo.inference.precision import in_float32
from segzoo.inference.tiles import predict_tiles

__all__ = ["decide", "in_float32", "predict_tiles", "test_time_augmentation"]
