"""Safetensors files: what is read, and every way in which a file can lie about itself."""

import json
import pickle
import tracemalloc
import zipfile

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from segzoo.weights import open_file
from segzoo.weights.safetensors_files import SafetensorsFile, is_safetensors


@pytest.fixture
def tensors():
    random = np.random.default_rng(0)
    return {
        "conv.weight": random.normal(size=(4, 3, 2, 2)).astype("float32"),
        "conv.bias": random.normal(size=4).astype("float32"),
        "norm.num_batches_tracked": np.array(3, "int64"),
    }


def raw(header, values=b"", *, length=None) -> bytes:
    """The bytes of a file with any header at all."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + values


def entry(shape=(2,), offsets=(0, 8), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.mark.core
def test_tensors_come_back_as_they_were_written(tmp_path, tensors):
    path = tmp_path / "model.safetensors"
    save_file(tensors, path, {"format": "pt"})
    file = SafetensorsFile(path)
    assert set(file) == set(tensors) and len(file) == 3 and file.metadata == {"format": "pt"}
    assert file.shapes["conv.weight"] == (4, 3, 2, 2)
    for name, value in tensors.items():
        np.testing.assert_array_equal(file[name], value)
    with open_file(path) as door:
        assert door.layout == "safetensors"
        assert {layer.name for layer in door.layers} == {"conv", "norm"}
        (weight,) = (layer.weights["weight"] for layer in door.layers if layer.name == "conv")
        np.testing.assert_array_equal(weight.read(), tensors["conv.weight"])


@pytest.mark.parametrize("dtype", ["float16", ml_dtypes.bfloat16, "float64"])
def test_other_precisions_are_read_as_float32(tmp_path, tensors, dtype):
    path = tmp_path / "model.safetensors"
    save_file({name: value.astype(dtype) for name, value in tensors.items()}, path)
    got = SafetensorsFile(path)["conv.weight"]
    assert got.dtype == "float32"
    np.testing.assert_array_equal(
        got, tensors["conv.weight"].astype(dtype).astype("float32", copy=False)
    )


HEADERS = {
    "header longer than the file": raw({"a": entry()}, bytes(8), length=2**60),
    "header of the largest length": raw({"a": entry()}, bytes(8), length=2**64 - 1),
    "header a little too long": raw({"a": entry()}, length=1000),
    "header cut off": raw({"a": entry()}, bytes(8))[:20],
    "empty file": b"",
    "five bytes": b"\x01\x00\x00\x00\x00",
    "values cut off": raw({"a": entry()}, bytes(7)),
    "values too long": raw({"a": entry()}, bytes(9)),
    "no JSON": raw(b"{'a': 1}"),
    "no UTF-8": raw(b'{"\xff\xfe": 1}'),
    "deep JSON": raw(b"[" * 100_000),
    "a list": raw([1, 2]),
    "a number for a tensor": raw({"a": 3}, bytes(8)),
    "no offsets": raw({"a": {"dtype": "F32", "shape": [2]}}, bytes(8)),
    "a negative offset": raw({"a": entry(offsets=(-8, 0))}, bytes(8)),
    "offsets backwards": raw({"a": entry(offsets=(8, 0))}, bytes(8)),
    "offsets past the end": raw({"a": entry(offsets=(2**60, 2**60 + 8))}, bytes(8)),
    "an offset of another kind": raw({"a": entry(offsets=(0, 8.0))}, bytes(8)),
    "a truth for an offset": raw({"a": entry((0,), (False, False))}),
    "three offsets": raw({"a": entry(offsets=(0, 4, 8))}, bytes(8)),
    "a negative size": raw({"a": entry((-2, -1))}, bytes(8)),
    "a huge shape": raw({"a": entry((2**40, 2**40))}, bytes(8)),
    "a shape that does not fit": raw({"a": entry((3,))}, bytes(8)),
    "one tensor over another": raw({"a": entry(), "b": entry((2,), (4, 12))}, bytes(12)),
    "two tensors in one place": raw({"a": entry(), "b": entry()}, bytes(8)),
    "a hole": raw({"a": entry(), "b": entry((2,), (12, 20))}, bytes(20)),
    "a name twice": raw(b'{"a": %b, "a": %b}' % ((json.dumps(entry()).encode(),) * 2), bytes(8)),
    "no tensors": raw({"__metadata__": {"format": "pt"}}),
    "an unknown type": raw({"a": entry(dtype="F8_E4M3", shape=(8,))}, bytes(8)),
    "a type that is none": raw({"a": entry(dtype=["F32"])}, bytes(8)),
}


@pytest.mark.parametrize("what", HEADERS)
def test_a_file_that_lies_is_refused_at_once(tmp_path, what):
    path = tmp_path / "model.safetensors"
    path.write_bytes(HEADERS[what])
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"model\.safetensors") as error:
        SafetensorsFile(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "nothing was loaded" in str(error.value) and len(str(error.value)) < 600
    assert peak < 30e6  # what the header claims is never allocated
    with pytest.raises(ValueError, match=r"model\.safetensors"), open_file(path):
        pass


def test_a_pickle_is_never_opened(tmp_path):
    class Bomb:
        def __reduce__(self):
            return pytest.fail, ("the pickle was opened",)

    old, new, named = tmp_path / "old.pth", tmp_path / "new.safetensors", tmp_path / "x.ckpt"
    old.write_bytes(pickle.dumps(Bomb(), 2))
    with zipfile.ZipFile(new, "w") as archive:
        archive.writestr("new/data.pkl", pickle.dumps(Bomb(), 2))
    named.write_bytes(b"whatever it is")
    for path in (old, new, named):
        assert is_safetensors(path)
        with pytest.raises(ValueError, match="a pickle") as error, open_file(path):
            pass
        lines = str(error.value).splitlines()
        assert "torch.load" in lines[1] and "safetensors.torch.save_file" in lines[2]
        assert f"{path.stem}.safetensors" in lines[2]


def test_the_length_of_a_header_is_not_taken_for_the_start_of_another_format(tmp_path, tensors):
    # The first bytes are a number, which may look like "{", "PK" or a pickle's first two.
    path = tmp_path / "weights.bin"
    for length in (0x7B, 0x027B, 0x0280, 0x0480, 0x4B50):
        text = json.dumps({"a": entry()}).encode()
        path.write_bytes(raw(text + b" " * (length - len(text)), bytes(8)))
        assert is_safetensors(path) and SafetensorsFile(path).shapes == {"a": (2,)}


def test_an_index_of_shards_says_that_one_file_is_read(tmp_path):
    path = tmp_path / "model.safetensors.index.json"
    weight_map = {f"layer.{n}": f"model-0000{n}-of-00002.safetensors" for n in (1, 2)}
    path.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    with pytest.raises(ValueError, match=r"index of 2 files.*max_shard_size"), open_file(path):
        pass
    path.write_text("{}")
    with pytest.raises(ValueError, match="not a weights file"), open_file(path):
        pass


def test_a_file_that_is_not_there_is_told_from_a_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="no weights file at"):
        SafetensorsFile(tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="is a folder"):
        SafetensorsFile(tmp_path)


def test_a_file_that_shrinks_after_it_was_opened_is_refused(tmp_path, tensors):
    path = tmp_path / "model.safetensors"
    save_file(tensors, path)
    file = SafetensorsFile(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="cannot be read"):
        file["conv.weight"]
