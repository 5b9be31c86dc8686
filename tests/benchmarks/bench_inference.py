"""Time and memory of `segzoo.inference.predict_tiles`.

python tests/benchmarks/bench_inference.py model    beside the model alone, on the same tiles
python tests/benchmarks/bench_inference.py peers    beside MONAI and medicai, with one callable
python tests/benchmarks/bench_inference.py memory   20,000 x 20,000 pixels from file to file
python tests/benchmarks/bench_inference.py seams    how far blending is from the whole image

`peers` takes what is installed of `monai` (with PyTorch) and `medicai`; `memory` writes 8 GB.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable

import keras
import numpy as np

import segzoo
from segzoo.inference import predict_tiles


def in_turns(jobs: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each job, called in turns `rounds` times after one call that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for job in jobs.values():
        job()
    for _ in range(rounds):
        for name, job in jobs.items():
            begin = time.perf_counter()
            job()
            times[name].append(time.perf_counter() - begin)
    return times


def table(times: dict[str, list[float]], base: str) -> None:
    """Print medians, and the median ratio to one of the jobs."""
    for name, seconds in times.items():
        ratio = statistics.median(a / b for a, b in zip(seconds, times[base], strict=True))
        print(f"| {name} | {1e3 * statistics.median(seconds):.0f} ms | {ratio:.3f} |")


def image_of(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), "uint8")


def model(rounds: int) -> None:
    """A U-Net on ResNet18 and its tiles, alone and through `predict_tiles`."""
    network = segzoo.models.UNet("resnet18", 4, backbone_weights=None)
    image, tile = image_of(896, 896), 256
    starts = range(0, 896 - tile + 1, 192)
    places = [(y, x) for y in [*starts, 896 - tile] for x in [*starts, 896 - tile]]
    places = list(dict.fromkeys(places))
    tiles = np.stack([image[y : y + tile, x : x + tile] for y, x in places])
    tiles = np.concatenate([tiles, tiles[: -len(tiles) % 4]])
    batches = [tiles[k : k + 4] for k in range(0, len(tiles), 4)]
    options = {"tile_size": tile, "verbose": 0}
    print(f"{len(places)} tiles of {tile} pixels, 4 classes, batches of 4; {rounds} rounds")
    table(
        in_turns(
            {
                "the model alone": lambda: [network.predict_on_batch(b) for b in batches],
                "predict_tiles, scores": lambda: predict_tiles(network, image, **options),
                "predict_tiles, labels": lambda: predict_tiles(
                    network, image, labels=True, **options
                ),
            },
            rounds,
        ),
        "the model alone",
    )


def peers(rounds: int) -> None:
    """Cutting, blending and nothing else: a callable that costs nothing gives ready scores."""
    size, tile, classes = 4096, 512, 4
    image = image_of(size, size)
    ready = np.random.default_rng(0).random((4, tile, tile, classes), "float32")
    jobs: dict[str, Callable[[], object]] = {
        "segzoo": lambda: predict_tiles(lambda batch: ready, image, tile_size=tile, verbose=0)
    }
    try:
        import torch
        from monai.inferers import sliding_window_inference

        torch.set_num_threads(1)
        tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float()
        scores = torch.from_numpy(ready).permute(0, 3, 1, 2).contiguous()
        jobs["MONAI"] = lambda: sliding_window_inference(
            tensor, tile, 4, lambda x: scores[: len(x)], overlap=0.25, mode="gaussian"
        )
    except ImportError as error:
        print("without MONAI:", error)
    try:
        from medicai.utils.inference import SlidingWindowInference

        class Ready:
            def predict(self, batch, verbose=0):
                return ready[: len(batch)]

        run = SlidingWindowInference(
            Ready(), classes, (tile, tile), 4, overlap=0.25, mode="gaussian"
        )
        jobs["medicai"] = lambda: run(image[None])
    except ImportError as error:
        print("without medicai:", error)
    print(f"{size} x {size} pixels, tiles of {tile}, {classes} classes; {rounds} rounds")
    table(in_turns(jobs, rounds), "segzoo")


def anonymous() -> float:
    """MiB of memory that no file stands behind (Linux)."""
    with open("/proc/self/status") as status:
        (line,) = (line for line in status if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024


def memory(labels: bool) -> None:
    """The most that anonymous memory grows by, for scores or labels."""
    size, classes = 20_000, 4
    with tempfile.TemporaryDirectory() as folder:
        image = np.lib.format.open_memmap(f"{folder}/i.npy", "w+", "uint8", (size, size, 3))
        shape, dtype = ((size, size), "uint8") if labels else ((size, size, classes), "float32")
        out = np.lib.format.open_memmap(f"{folder}/o.npy", "w+", dtype, shape)
        most, before, begin = 0.0, anonymous(), time.perf_counter()

        def predict(batch: np.ndarray) -> np.ndarray:
            nonlocal most
            most = max(most, anonymous())
            return np.repeat(batch[..., :1], classes, axis=-1).astype("float32")

        predict_tiles(predict, image, labels=labels, out=out, verbose=0)
        seconds, grown = time.perf_counter() - begin, max(most, anonymous()) - before
    kind = "labels" if labels else "scores"
    print(f"| {kind} | {size} x {size} | {grown:.0f} MiB more | {seconds:.0f} s |", flush=True)


def seams() -> None:
    """The largest distance from the whole image, in spreads of the scores: a reach of 4."""
    keras.utils.set_random_seed(0)
    pixels = x = keras.Input((None, None, 3))
    for _ in range(4):
        x = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    network = keras.Model(pixels, x)
    image = np.random.default_rng(0).random((300, 400, 3), "float32")
    whole = keras.ops.convert_to_numpy(network(image[None]))[0]
    for window in ("constant", "hann", "gaussian"):
        for trim in (0, 4):
            found = predict_tiles(
                network, image, tile_size=64, overlap=8, window=window, trim=trim, verbose=0
            )
            print(f"| {window} | {trim} | {np.abs(found - whole).max() / whole.std():.2g} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("model", "peers", "memory", "seams"))
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if options.what == "memory":
        memory(labels=True)
        memory(labels=False)
    elif options.what == "seams":
        seams()
    else:
        {"model": model, "peers": peers}[options.what](options.rounds)


if __name__ == "__main__":
    main()
