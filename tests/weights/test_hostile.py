"""Files that nobody should trust are refused whole and at once; `hostile` writes them."""

import pathlib
import random
import time

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

from segzoo.weights import load_weights
from segzoo.weights.pytorch import assign, parts_of
from segzoo.weights.safetensors_files import SafetensorsFile
from tests.cases import some
from tests.weights import hostile

SECONDS, BYTES = 2.0, 100 << 20


@pytest.fixture(scope="module")
def model():
    return hostile.network()


def peak():
    """The most memory that the process took since the last `reset_peak`, in bytes."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    raise AssertionError("no VmHWM")


def refused(model, path, pattern):
    """`load_weights` raises one ValueError that names file and cause, at once; nothing changes."""
    before = model.get_weights()
    watched = pathlib.Path("/proc/self/clear_refs").exists()
    if watched:
        pathlib.Path("/proc/self/clear_refs").write_text("5")
        memory = peak()
    start = time.perf_counter()
    with pytest.raises(ValueError, match=pattern) as caught:
        load_weights(model, path)
    assert time.perf_counter() - start < SECONDS
    if watched:
        assert peak() - memory < BYTES
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 1000
    for got, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(got, expected)


def written(model, path, layout, trick=None):
    if layout == "safetensors":
        return hostile.safetensors(model, path)
    return hostile.write(model, path, layout, trick)


@pytest.mark.parametrize("layout", [*hostile.LAYOUTS, "safetensors"])
def test_a_file_without_tricks_is_read(model, tmp_path, layout):
    other = hostile.network()
    load_weights(other, written(model, tmp_path / f"a.{layout}", layout))
    for got, expected in zip(other.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("options", [{"shuffle": True}, {"fletcher32": True}, {}])
@pytest.mark.parametrize("layout", hostile.LAYOUTS)
def test_a_file_that_was_packed_by_gzip_is_read(model, tmp_path, layout, options):
    trick = hostile.replaced(lambda v: v, compression="gzip", chunks=(2, 3, 2, 4), **options)
    other = hostile.network()
    load_weights(other, hostile.write(model, tmp_path / f"a.{layout}", layout, trick))
    for got, expected in zip(other.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("layout", some(hostile.LAYOUTS, ("keras",)))
@pytest.mark.parametrize("trick", hostile.TRICKS)
def test_a_trick_of_hdf5_is_refused(model, tmp_path, trick, layout):
    change, pattern = hostile.TRICKS[trick]
    refused(model, hostile.write(model, tmp_path / f"a.{layout}", layout, change), pattern)


@pytest.mark.parametrize("trick", hostile.NAMES)
def test_names_of_a_keras_2_file_that_are_none_are_refused(model, tmp_path, trick):
    change, pattern = hostile.NAMES[trick]
    refused(model, hostile.write(model, tmp_path / "a.h5", "keras2.h5", change), pattern)


@pytest.mark.parametrize("trick", hostile.OWN_NAMES)
def test_names_of_a_keras_3_file_that_are_none_are_refused(model, tmp_path, trick):
    change, pattern = hostile.OWN_NAMES[trick]
    refused(model, hostile.write(model, tmp_path / "a.weights.h5", "weights.h5", change), pattern)


@pytest.mark.parametrize("trick", [*hostile.ARCHIVES, *hostile.OTHERS])
def test_an_archive_with_a_trick_and_what_is_no_file_are_refused(model, tmp_path, trick):
    write, pattern = (hostile.ARCHIVES | hostile.OTHERS)[trick]
    write(model, tmp_path / "a.keras")
    refused(model, tmp_path / "a.keras", pattern)


@pytest.mark.parametrize("trick", hostile.SAFETENSORS)
def test_a_trick_of_safetensors_is_refused(model, tmp_path, trick):
    change, pattern = hostile.SAFETENSORS[trick]
    refused(model, hostile.safetensors(model, tmp_path / "a.safetensors", change), pattern)


def test_a_value_that_is_none_in_a_file_of_pytorch_changes_nothing(model, tmp_path):
    tensors = {}
    for layer in model.layers[1:]:
        kernel, bias = layer.get_weights()
        tensors[f"{layer.name}.weight"] = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
        tensors[f"{layer.name}.bias"] = bias + 1
    tensors["third.bias"][1] = np.nan
    save_file(tensors, tmp_path / "a.safetensors")
    file = SafetensorsFile(tmp_path / "a.safetensors")
    pairs = parts_of(model.weights, lambda paths: {path: path for path in paths})
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"a\.safetensors .*`third.bias` holds NaN or infinity"):
        assign(model, file, pairs, unused="", title="PyTorch")
    for got, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_a_device_is_refused(model):
    refused(model, pathlib.Path("/dev/null"), "a device")


@pytest.mark.parametrize("layout", [*hostile.LAYOUTS, "safetensors"])
def test_a_truncated_file_is_refused_wherever_it_ends(model, tmp_path, layout):
    content = written(model, tmp_path / f"a.{layout}", layout).read_bytes()
    for part in (0.01, 0.2, 0.4, 0.6, 0.8, 0.95, 0.999):
        path = tmp_path / f"{part}.{layout}"
        path.write_bytes(content[: int(part * len(content))])
        refused(model, path, "truncated or damaged|not a weights file")


def mutated(content, rng):
    """Content with bytes changed, cut out, put in or repeated."""
    content = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        at = rng.randrange(len(content))
        kind, length = rng.randrange(5), rng.choice((1, 4, 8, 64))
        if kind == 0:
            content[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            content[at : at + length] = rng.randbytes(length)
        elif kind == 2:
            content[at : at + length] = bytes([rng.choice((0, 255))]) * length
        elif kind == 3:
            del content[at : at + length]
        else:
            content[at:at] = content[at : at + length]
    return bytes(content)


@pytest.mark.slow
@pytest.mark.deep
@pytest.mark.parametrize("layout", [*hostile.LAYOUTS, "safetensors"])
def test_two_thousand_mutated_files_load_or_end_in_a_value_error(model, tmp_path, layout):
    packed = hostile.replaced(lambda value: value, compression="gzip", chunks=True)
    originals = [
        written(model, tmp_path / f"{name}.{layout}", layout, trick).read_bytes()
        for name, trick in (("a", None), ("b", packed))
    ]
    rng, path = random.Random(0), tmp_path / f"mutated.{layout}"
    loaded = 0
    for _ in range(2000):
        path.write_bytes(mutated(rng.choice(originals), rng))
        before = model.get_weights()
        try:
            load_weights(model, path)
            loaded += 1
        except ValueError as error:
            assert str(path) in str(error)
            for got, expected in zip(model.get_weights(), before, strict=True):
                np.testing.assert_array_equal(got, expected)
        assert all(np.isfinite(value).all() for value in model.get_weights())
    assert 0 < loaded < 2000
    keras.utils.clear_session()
