"""Weights that follow from the names of tensors, and images from the names of sizes.

A published file is hundreds of megabytes; what tests need of it is its layout. So each tensor is a
function of its name and shape alone, the same here and where the outputs were made, and a file in
the layout of a library can be written anywhere, without that library. Only raw 64-bit numbers of a
generator are used, which NumPy never changes.

Convolutions get He's variance, normalizations scales and offsets of the size that training gives.
The running variance of a batch normalization has a power of two as a factor, stored with the
outputs, which makes it the variance of the map in question: maps neither grow nor vanish, gates do
not saturate, and every part of the network shows in the output.
"""

import re
import zlib

import numpy as np

# Where a residual stream would hide the epsilon of the layer normalizations that read it, the
# branches that add to it are small.
_SMALL = re.compile(
    r"patch_embed\d\.norm\.weight|\.attn\.(proj|sr)\.weight|\.mlp\.fc2\.weight"  # SMP, timm
    r"|stem[._]1\.weight|\.gamma"
    r"|patch_embeddings\.\d\.layer_norm\.weight|attention\.(output\.dense|self\.sr)\.weight"
    r"|mlp\.dense2\.weight|embeddings\.layernorm\.weight|layer_scale_parameter"  # Transformers
)


def tensor(name: str, shape: tuple[int, ...], exponent: int = 0) -> np.ndarray:
    """The tensor `name` of a network, float32; `exponent` scales a running variance."""
    last = name.rpartition(".")[2]
    if last == "num_batches_tracked":
        return np.array(7, dtype="int64")
    noise = _uniform(name, shape)  # -1..1
    if last == "running_var":
        return np.ldexp(1 + noise / 2, exponent).astype("float32")
    if last in ("running_mean", "bias"):
        return noise / 4
    if len(shape) < 2:
        value = 1 + noise / 2
    else:
        value = noise * np.float32(np.sqrt(6 / np.prod(shape[1:])))
    return value * np.float32(0.1) if _SMALL.search(name) else value


def image(height: int, width: int, channels: int = 3) -> np.ndarray:
    """An image (1, height, width, channels) of patches and noise, as a network sees it."""
    rows, columns = -(-height // 8), -(-width // 8)
    patches = _uniform(f"patches {height} {width}", (rows, columns, channels))
    patches = patches.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
    return (2 * patches + _uniform(f"noise {height} {width}", (height, width, channels)))[None]


def sample(array: np.ndarray, count: int = 100) -> np.ndarray:
    """Some values of a map (1, H, W, C): its corners in one channel, the rest anywhere."""
    corners = array[0][[0, 0, -1, -1], [0, -1, 0, -1], 0]
    places = _bits(f"sample {array.shape}", count - 4) % np.uint64(array.size)
    return np.concatenate([corners, array.ravel()[places.astype("int64")]]).astype("float32")


def _uniform(name: str, shape: tuple[int, ...]) -> np.ndarray:
    bits = _bits(name, int(np.prod(shape))) >> np.uint64(40)
    return (bits.astype("float32") / np.float32(2**23) - 1).reshape(shape)


def _bits(name: str, count: int) -> np.ndarray:
    return np.random.PCG64(zlib.crc32(name.encode())).random_raw(count)
