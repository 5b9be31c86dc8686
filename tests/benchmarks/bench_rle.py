"""Time and peak memory of `segzoo.rle` beside pycocotools and the plain NumPy recipe.

The three take turns within one process, so that a noisy machine slows them alike, and every ratio
is the median over pairs of neighboring calls. Masks are C-ordered: pycocotools' time to encode has
its Fortran-ordered copy in it. Its decoded mask is Fortran-ordered and stays so; segzoo's and the
recipe's are C-ordered. Run it from the repository's root:

    python -m tests.benchmarks.bench_rle [--rounds 15]
"""

import argparse
import platform
import statistics
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import pycocotools
from pycocotools import mask as coco
from scipy import ndimage

from segzoo import rle

# pycocotools' time over segzoo's for encode and decode; the recipe's over segzoo's on noise.
TARGETS = {
    "blobs 1400x2100": (3.0, 1.0),
    "blobs 10000x10000": (3.0, 1.0),
    "1000 x steel 256x1600": (1.5, 1.0),
    "empty 1400x2100": (8.0, None),
    "full 1400x2100": (8.0, 1.0),
}
NOISE_TARGET = 4.0


def recipe_encode(mask: np.ndarray) -> str:
    """Find the changes of the flattened mask and join their numbers."""
    pixels = np.concatenate([[0], mask.T.flatten(), [0]])
    runs = np.where(pixels[1:] != pixels[:-1])[0] + 1
    runs[1::2] -= runs[::2]
    return " ".join(str(number) for number in runs)


def recipe_decode(text: str, shape: tuple[int, int]) -> np.ndarray:
    """Fill one slice for each run, then turn the columns into rows."""
    numbers = np.asarray(text.split(), dtype=int)
    flat = np.zeros(shape[0] * shape[1], np.uint8)
    for begin, length in zip(numbers[::2] - 1, numbers[1::2], strict=True):
        flat[begin : begin + length] = 1
    return np.ascontiguousarray(flat.reshape(shape[1], shape[0]).T)


def blobs(rng: np.random.Generator, height: int, width: int, grain: float) -> np.ndarray:
    """Return rounded shapes: smoothed noise above a threshold, drawn at a quarter of the size."""
    field = ndimage.gaussian_filter(rng.normal(size=(height // 4, width // 4)), grain)
    field = ndimage.zoom(field, (height / field.shape[0], width / field.shape[1]), order=1)
    return (field > 0.7 * field.std()).astype(np.uint8)


def streaks(rng: np.random.Generator, height: int = 256, width: int = 1600) -> np.ndarray:
    """Return one to six thin, wavering scratches, mostly upright."""
    mask = np.zeros((height, width), np.uint8)
    for _ in range(rng.integers(1, 7)):
        length, breadth = rng.integers(40, 240), rng.integers(2, 9)
        drift = np.cumsum(rng.normal(0, 0.4, length)).astype(int)
        if rng.random() < 0.75:
            top, left = rng.integers(0, height - length), rng.integers(0, width)
            rows, columns = top + np.arange(length), left + drift
        else:
            top, left = rng.integers(0, height), rng.integers(0, width - length)
            rows, columns = top + drift, left + np.arange(length)
        for offset in range(breadth):
            mask[rows.clip(0, height - 1), (columns + offset).clip(0, width - 1)] = 1
    return mask


def ellipse(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return one object of 20 to 150 pixels' radius."""
    y, x = np.ogrid[:height, :width]
    rows, columns = (y - rng.integers(height)) ** 2, (x - rng.integers(width)) ** 2
    return (rows + rng.uniform(0.5, 2) * columns < rng.integers(20, 150) ** 2).astype(np.uint8)


def cases() -> dict[str, tuple[list[np.ndarray], int]]:
    """Return for each case its masks and how often one measurement goes through them."""
    rng = np.random.default_rng(0)
    shape = (1400, 2100)
    return {
        "blobs 1400x2100": ([blobs(rng, *shape, grain=15)], 1),
        "1000 x steel 256x1600": ([streaks(rng) for _ in range(100)], 10),
        "noise 1400x2100": ([(rng.random(shape) < 0.5).astype(np.uint8)], 1),
        "empty 1400x2100": ([np.zeros(shape, np.uint8)], 1),
        "full 1400x2100": ([np.ones(shape, np.uint8)], 1),
        "blobs 10000x10000": ([blobs(rng, 10_000, 10_000, grain=40)], 1),
    }


def in_turns(jobs: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return milliseconds of each job, called in turns `rounds` times."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for job in jobs.values():
        job()
    turns = list(jobs)
    for _ in range(rounds):
        for name in turns:
            begin = time.perf_counter()
            jobs[name]()
            times[name].append(1e3 * (time.perf_counter() - begin))
        turns.append(turns.pop(0))  # each follows each: the cache is left by another one
    return times


def peak(job: Callable[[], object]) -> float:
    """Return the most bytes that NumPy and Python held at once during `job`, its result too."""
    tracemalloc.start()
    kept = job()
    top = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    del kept
    return top


def measure(name: str, masks: list[np.ndarray], repeats: int, rounds: int) -> list[str]:
    """Return the table's two rows of a case."""
    shape = masks[0].shape
    texts = [rle.encode(mask) for mask in masks]
    counts = [coco.encode(np.asfortranarray(mask)) for mask in masks]
    for mask, text, count in zip(masks, texts, counts, strict=True):
        assert text == recipe_encode(mask)
        assert np.array_equal(rle.decode(text, shape), mask)
        assert np.array_equal(coco.decode(count), mask)
    runs = sum(len(text.split()) // 2 for text in texts)

    def each(function: Callable[..., object], items: list, *args: object) -> Callable[[], None]:
        def job() -> None:
            for _ in range(repeats):
                for item in items:
                    function(item, *args)

        return job

    work = {
        "encode": {
            "segzoo": each(rle.encode, masks),
            "pycocotools": each(lambda mask: coco.encode(np.asfortranarray(mask)), masks),
            "recipe": each(recipe_encode, masks),
        },
        "decode": {
            "segzoo": each(rle.decode, texts, shape),
            "pycocotools": each(coco.decode, counts),
            "recipe": each(recipe_decode, texts, shape),
        },
    }
    single = {
        "encode": lambda: rle.encode(masks[0]),
        "decode": lambda: rle.decode(texts[0], shape),
    }
    # The mask, its runs as text, and as pairs of 64-bit integers.
    allowed = masks[0].nbytes + len(texts[0]) + 16 * (len(texts[0].split()) // 2)
    rows = []
    for index, (operation, jobs) in enumerate(work.items()):
        times = in_turns(jobs, rounds)
        ratio = {
            peer: statistics.median(
                theirs / ours for theirs, ours in zip(times[peer], times["segzoo"], strict=True)
            )
            for peer in ("pycocotools", "recipe")
        }
        medians = [statistics.median(times[peer]) for peer in jobs]
        target = TARGETS.get(name, (None, None))[index]
        wanted = f"pycocotools {target:g}" if target else ""
        met = not target or ratio["pycocotools"] >= target
        if name.startswith("noise"):
            wanted, met = f"recipe {NOISE_TARGET:g}", ratio["recipe"] >= NOISE_TARGET
        top = peak(single[operation])
        rows.append(
            f"| {name} | {runs // len(masks)} | {operation} | "
            + " | ".join(f"{value:.2f}" for value in medians)
            + f" | {ratio['pycocotools']:.2f} | {ratio['recipe']:.1f} | {wanted} | "
            + f"{('met' if met else 'MISSED') if wanted else ''} | "
            + f"{top / 1e6:.2f} | {allowed / 1e6:.2f} |"
        )
    return rows


def measure_iou(rounds: int) -> str:
    """Return the line on all pairs of 150 masks, from two lists of text and of COCO's counts."""
    rng = np.random.default_rng(0)
    many = [[ellipse(rng, 1000, 1200) for _ in range(150)] for _ in range(2)]
    texts = [[rle.encode(mask) for mask in masks] for masks in many]
    counts = [[coco.encode(np.asfortranarray(mask)) for mask in masks] for masks in many]
    crowd = [0] * len(counts[1])
    assert np.array_equal(rle.iou(*texts), coco.iou(*counts, crowd))
    jobs = {"segzoo": lambda: rle.iou(*texts), "pycocotools": lambda: coco.iou(*counts, crowd)}
    ours, theirs = (statistics.median(times) for times in in_turns(jobs, rounds).values())
    return f"iou of 150 x 150 masks of 1000x1200: {ours:.1f}, pycocotools {theirs:.1f} milliseconds"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    print(
        f"Python {platform.python_version()}, NumPy {np.__version__}, pycocotools "
        f"{getattr(pycocotools, '__version__', '2')}; {rounds} rounds; milliseconds (median); "
        "ratios: peer over segzoo; memory in MB beside the input\n"
    )
    print(
        "| case | runs | operation | segzoo | pycocotools | recipe | pycocotools / segzoo "
        "| recipe / segzoo | target | | peak | mask + runs |"
    )
    print("| --- " * 12 + "|")
    for name, (masks, repeats) in cases().items():
        few = max(3, rounds // 5) if masks[0].size * repeats * len(masks) > 1e7 else rounds
        for row in measure(name, masks, repeats, few):
            print(row, flush=True)
    print("\n" + measure_iou(rounds))


if __name__ == "__main__":
    main()
