"""Weights files that nobody should trust: one writer for each trick, for each layout.

Each trick changes a file of `network()` that is right otherwise, so that nothing but the trick can
be what is refused.
"""

import io
import json
import os
import struct
import zipfile
import zlib
from dataclasses import dataclass

import h5py
import keras
import numpy as np

LAYOUTS = ("weights.h5", "keras", "keras2.h5")
BOMB = 128 << 20  # bytes; more than any of these may take


def network():
    """Three convolutions; the tricks are played on the one in the middle."""
    image = keras.Input((8, 8, 3), name="image")
    x = keras.layers.Conv2D(4, 3, name="first")(image)
    x = keras.layers.Conv2D(4, 3, name="second")(x)
    return keras.Model(image, keras.layers.Conv2D(2, 1, name="third")(x), name="network")


@dataclass(frozen=True)
class Place:
    """Where things are in a layout."""

    root: str  # the group of the layers
    layer: str  # the group of the layer in the middle
    kernel: str
    bias: str


PLACES = {
    "weights.h5": Place(
        "layers", "layers/conv2d_1", "layers/conv2d_1/vars/0", "layers/conv2d_1/vars/1"
    ),
    "keras2.h5": Place(
        "model_weights",
        "model_weights/second",
        "model_weights/second/second/kernel:0",
        "model_weights/second/second/bias:0",
    ),
}
PLACES["keras"] = PLACES["weights.h5"]


def write(model, path, layout, trick=None):
    """Write a file of a layout, changed by a trick on its HDF5 content."""
    hdf5 = path.with_suffix(".inside") if layout == "keras" else path
    if layout == "keras2.h5":
        write_keras2(model, hdf5)
    else:
        own = path.with_name("own.weights.h5")
        model.save_weights(own)
        own.rename(hdf5)
    after = None
    if trick is not None:
        with h5py.File(hdf5, "r+") as file:
            after = trick(file, PLACES[layout], path)
    if after is not None:
        after(hdf5)
    if layout == "keras":
        pack(model, path, hdf5.read_bytes())
    return path


def write_keras2(model, path):
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights")
        root.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        for layer in model.layers:
            group = root.create_group(layer.name)
            names = [f"{layer.name}/{weight.name}:0" for weight in layer.weights]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, value in zip(names, layer.get_weights(), strict=True):
                group[name] = value


def pack(model, path, weights, config=None, kind=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", kind, compresslevel=1) as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("config.json", config or model.to_json())
        archive.writestr("model.weights.h5", weights)


# Tricks on HDF5. Each gets the file, the places in it, and the path it will have.


def replaced(make, **options):
    """The kernel in the middle becomes what `make` makes of it."""

    def trick(file, place, path):
        value = file[place.kernel][()]
        del file[place.kernel]
        file.create_dataset(place.kernel, data=make(value), **options)

    return trick


def one(number, dtype=None):
    def make(value):
        value = value.astype(dtype or value.dtype)
        value[0, 1, 2, 3] = number
        return value

    return replaced(make)


def structured(value):
    return np.zeros(value.shape, [("a", "f4"), ("b", "f4")])


def references(file, place, path):
    shape = file[place.kernel].shape
    del file[place.kernel]
    made = file.create_dataset(place.kernel, shape, h5py.ref_dtype)
    made[...] = file[place.root].ref


def variable_strings(file, place, path):
    shape = file[place.kernel].shape
    del file[place.kernel]
    file.create_dataset(place.kernel, shape, h5py.string_dtype())[...] = "text"


def external_storage(file, place, path):
    value = file[place.kernel][()]
    path.with_suffix(".raw").write_bytes(value.tobytes())
    del file[place.kernel]
    file.create_dataset(
        place.kernel,
        value.shape,
        value.dtype,
        external=[(str(path.with_suffix(".raw")), 0, h5py.h5f.UNLIMITED)],
    )


def virtual(file, place, path):
    value = file[place.kernel][()]
    with h5py.File(path.with_suffix(".other"), "w") as other:
        other["secret"] = value
    layout = h5py.VirtualLayout(value.shape, value.dtype)
    layout[...] = h5py.VirtualSource(str(path.with_suffix(".other")), "secret", value.shape)
    del file[place.kernel]
    file.create_virtual_dataset(place.kernel, layout)


def linked(what, soft=False):
    """An object of the file becomes a link to the same one elsewhere."""

    def trick(file, place, path):
        name = getattr(place, what)
        with h5py.File(path.with_suffix(".other"), "w") as other:
            file.copy(name, other, "secret")
        link = h5py.ExternalLink(str(path.with_suffix(".other")), "/secret")
        if soft:
            file.move(name, "elsewhere")
            link = h5py.SoftLink("/elsewhere")
        else:
            del file[name]
        file[name] = link

    return trick


def hard_linked(file, place, path):
    del file[place.bias]
    file[place.bias] = file[place.root]["first/first/bias:0" if "model" in place.root else BIAS]


BIAS = "conv2d/vars/1"


def cycle(file, place, path):
    file[place.layer]["again"] = file[place.root]


def exponential(file, place, path):
    group = file[place.layer]
    for _ in range(40):
        below = group.create_group("a")
        group["b"] = below
        group = below


def many_groups(file, place, path):
    where = file[place.root].id
    for number in range(20_001):
        h5py.h5g.create(where, b"extra_%d" % number)


def deep_groups(file, place, path):
    group = file[place.layer].id
    for _ in range(2000):
        group = h5py.h5g.create(group, b"x")


def damaged_chunk(file, place, path):
    replaced(lambda value: value, compression="gzip", chunks=True)(file, place, path)
    chunk = file[place.kernel].id.get_chunk_info(0)

    def flip(path):
        content = bytearray(path.read_bytes())
        for at in range(chunk.byte_offset + 8, chunk.byte_offset + chunk.size, 16):
            content[at] ^= 0xFF
        path.write_bytes(content)

    return flip


def chunk_that_unpacks_to_more(file, place, path):
    replaced(lambda value: value, compression="gzip", chunks=True)(file, place, path)
    file[place.kernel].id.write_direct_chunk((0, 0, 0, 0), zeros_packed())


def chunk_larger_than_its_values(file, place, path):
    value = file[place.kernel][()]
    del file[place.kernel]
    made = file.create_dataset(
        place.kernel,
        value.shape,
        value.dtype,
        maxshape=(None, 3, 4, 4),
        chunks=(BOMB // 192, 3, 4, 4),
        compression="gzip",
    )
    made.id.write_direct_chunk((0, 0, 0, 0), zeros_packed())


def zeros_packed():
    packer, step = zlib.compressobj(1), bytes(1 << 20)
    return b"".join([packer.compress(step) for _ in range(BOMB >> 20)]) + packer.flush()


def no_values(file, place, path):
    shape = file[place.kernel].shape
    del file[place.kernel]
    file.create_dataset(place.kernel, shape, "f4")


def huge_shape(file, place, path):
    del file[place.kernel]
    file.create_dataset(place.kernel, (1 << 33,), "f4", chunks=(1 << 20,), compression="gzip")


def group_for_kernel(file, place, path):
    del file[place.kernel]
    file.create_group(place.kernel)


def data_for_layer(file, place, path):
    del file[place.layer]
    file[place.layer] = np.zeros(3)


def data_for_root(file, place, path):
    del file[place.root]
    file[place.root] = np.zeros(3)


TRICKS = {
    "a damaged byte in a compressed chunk": (damaged_chunk, "second|damaged"),
    "strings": (replaced(lambda v: v.astype("S8")), r"array of \|S8"),
    "long strings": (replaced(lambda v: np.full(v.shape, b"x", "S100000")), r"array of \|S1"),
    "strings of any length": (variable_strings, "array of object"),
    "records": (replaced(structured), "array of"),
    "references": (references, "array of object"),
    "complex numbers": (replaced(lambda v: v + 1j), "array of complex"),
    "booleans": (replaced(lambda v: v > 0), "array of bool"),
    "opaque bytes": (replaced(lambda v: np.zeros(v.shape, "V4")), r"array of \|V4"),
    "long doubles": (replaced(lambda v: v.astype(np.longdouble)), "array of float128"),
    "values past float32": (one(1e300, "float64"), "holds values of float64 that float32 cannot"),
    "integers past float32": (one(2**24 + 1, "int64"), "holds values of int64 that float32 cannot"),
    "not a number": (one(np.nan), "holds NaN or infinity"),
    "infinity": (one(-np.inf), "holds NaN or infinity"),
    "values in another file": (external_storage, "outside the file"),
    "a virtual data set": (virtual, "virtual data set"),
    "a kernel that is an external link": (linked("kernel"), "link to another place or file"),
    "a layer that is an external link": (linked("layer"), "link to another place or file"),
    "a root that is an external link": (linked("root"), "link to another place or file"),
    "a kernel that is a soft link": (linked("kernel", soft=True), "link to another place or file"),
    "two names of one object": (hard_linked, "linked from two places"),
    "a cycle": (cycle, "linked from two places"),
    "exponentially many paths": (exponential, "linked from two places"),
    "20,001 extra groups": (many_groups, "more than 20000 objects"),
    "2,000 groups in one another": (deep_groups, "groups more than 64 deep"),
    "a chunk that unpacks to more than it says": (chunk_that_unpacks_to_more, "more than the 576"),
    "a chunk larger than its values": (chunk_larger_than_its_values, "a chunk of .* has"),
    "no values at all": (no_values, "has no values"),
    "a shape of 32 GB": (huge_shape, r"the file has .*8589934592"),
    "a group in place of a kernel": (group_for_kernel, "second"),
    "values in place of a layer": (data_for_layer, "second"),
    "values in place of all layers": (data_for_root, "no Keras weights file"),
}


# Tricks on the names of one layout.


def names_become(attribute, value):
    def trick(file, place, path):
        group = file[place.root if attribute == "layer_names" else place.layer]
        group.attrs[attribute] = value

    return trick


def own_name(value):
    def trick(file, place, path):
        file[place.layer]["vars"].attrs["name"] = value

    return trick


NAMES = {
    "numbers for names of layers": (names_become("layer_names", [1, 2, 3]), "no list of different"),
    "a number for names of layers": (names_become("layer_names", 1.5), "no list of different"),
    "numbers for names of weights": (names_become("weight_names", [1.0]), "no list of different"),
    "no text for names": (names_become("layer_names", [b"\xff\xfe"]), "damaged"),
    "a layer listed that is not there": (names_become("layer_names", [b"nowhere"]), "nowhere"),
    "a weight listed that is not there": (names_become("weight_names", [b"../x"]), r"\.\./x"),
    "a layer listed twice": (names_become("layer_names", [b"first"] * 3), "no list of different"),
}
OWN_NAMES = {
    "a number for a layer's name": (own_name(7), "no list of different"),
    "records for a layer's name": (own_name(np.zeros(2, [("a", "f4")])), "no list of different"),
    "long names": (own_name(np.full(40, b"x", "S60")), "no list of different"),
}


# Tricks on the archive.


def weights_of_zeros(model, path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("config.json", "{}")
        with archive.open("model.weights.h5", "w", force_zip64=True) as member:
            for _ in range(BOMB >> 20):
                member.write(bytes(1 << 20))


def config_of_spaces(model, path):
    pack(model, path, own_weights(model, path), " " * BOMB, zipfile.ZIP_DEFLATED)


def config_nested(model, path):
    pack(model, path, own_weights(model, path), "[" * 200_000)


def config_of_bytes(model, path):
    pack(model, path, own_weights(model, path), b"\xff\xfe{}")


def own_weights(model, path):
    return write(model, path.with_suffix(".weights.h5"), "weights.h5").read_bytes()


def damaged_member(model, path):
    write(model, path, "keras")
    content = bytearray(path.read_bytes())
    value = model.get_layer("second").get_weights()[0].tobytes()
    content[content.index(value) + 3] ^= 1
    path.write_bytes(content)


def encrypted(model, path):
    write(model, path, "keras")
    content = path.read_bytes()
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.rindex(magic) + offset
        content = content[:at] + b"\x01\x00" + content[at + 2 :]
    path.write_bytes(content)


def size_that_lies(model, path):
    pack(model, path, own_weights(model, path) + bytes(BOMB), kind=zipfile.ZIP_DEFLATED)
    content = path.read_bytes()
    at = content.rindex(b"PK\x01\x02") + 24
    path.write_bytes(content[:at] + struct.pack("<I", 30_000) + content[at + 4 :])


def many_members(model, path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for number in range(15_000):
            archive.writestr(f"assets/{number:060d}", b"")
    path.write_bytes(stream.getvalue())


ARCHIVES = {
    "weights of zeros": (weights_of_zeros, "unpacks to 134217728 bytes"),
    "a config of spaces": (config_of_spaces, "`config.json` unpacks to 134217728 bytes"),
    "a config nested 200,000 deep": (config_nested, "recursion"),
    "a config that is no text": (config_of_bytes, "damaged"),
    "a damaged byte in the archive": (damaged_member, "damaged.*CRC"),
    "an encrypted member": (encrypted, "damaged.*encrypted"),
    "a size that lies": (size_that_lies, "damaged"),
    "15,000 members": (many_members, "a list of members of"),
}


# Tricks on safetensors: the header as a table, and the values, become the bytes of a file.


def safetensors(model, path, trick=lambda header, values: (header, values)):
    """Write a model's weights under its own names."""
    header, values = {}, b""
    for layer in model.layers:
        for weight, value in zip(layer.weights, layer.get_weights(), strict=True):
            place = [len(values), len(values) + value.nbytes]
            header[f"{layer.name}.{weight.name}"] = {
                "dtype": "F32",
                "shape": list(value.shape),
                "data_offsets": place,
            }
            values += value.tobytes()
    header, values = trick(header, values)
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + values)
    return path


KERNEL = "second.kernel"


def entry(**changes):
    return lambda header, values: (header | {KERNEL: header[KERNEL] | changes}, values)


def number(value, dtype="<f4"):
    """The first number of the kernel becomes another."""

    def trick(header, values):
        at = header[KERNEL]["data_offsets"][0]
        return header, values[:at] + np.array(value, dtype).tobytes() + values[at + 4 :]

    return trick


def of_type(kind, size):
    """The kernel becomes one of another type, of as many bytes as that takes."""

    def trick(header, values):
        begin, end = header[KERNEL]["data_offsets"]
        count = int(np.prod(header[KERNEL]["shape"])) * size
        grown = count - (end - begin)
        header = {
            name: row | {"data_offsets": [n + grown * (n >= end) for n in row["data_offsets"]]}
            for name, row in header.items()
        }
        header[KERNEL] |= {"dtype": kind, "data_offsets": [begin, begin + count]}
        return header, values[:begin] + b"\x7f" * count + values[end:]

    return trick


def longer_header(header, values):
    return json.dumps(header).encode() + b" " * (9 << 20), values


def many_tensors(header, values):
    extra = {f"extra_{n}.kernel": header[KERNEL] for n in range(100_000)}
    return header | extra, values


def twice(header, values):
    text = json.dumps(header)
    return (text[:-1] + f", {json.dumps(KERNEL)}: {json.dumps(header[KERNEL])}}}").encode(), values


SAFETENSORS = {
    "not a number": (number(np.nan), "holds NaN or infinity"),
    "infinity": (number(np.inf), "holds NaN or infinity"),
    "booleans": (of_type("BOOL", 1), "array of bool"),
    "complex numbers": (of_type("C64", 8), "'C64'"),
    "values past float32": (of_type("F64", 8), "holds"),
    "integers past float32": (of_type("I64", 8), "holds values of int64 that float32 cannot"),
    "a type that is none": (entry(dtype="F33"), "'F33'"),
    "a type that is a list": (entry(dtype=["F32"]), "'F32'"),
    "a shape that is too large": (entry(shape=[1 << 33]), "cannot be the bytes"),
    "a shape below zero": (entry(shape=[-3, -3, 4, 4]), "of shape"),
    "a shape of floats": (entry(shape=[3.0, 3, 4, 4]), "of shape"),
    "a shape of 50,000 sides": (entry(shape=[1] * 50_000), "truncated or damaged|does not fit"),
    "a place behind the end": (entry(data_offsets=[1 << 40, (1 << 40) + 576]), "ends at byte"),
    "a place of another tensor": (entry(data_offsets=[0, 576]), "overlaps"),
    "a place that is text": (entry(data_offsets="01"), "is at the bytes"),
    "a row that is none": (lambda h, v: (h | {KERNEL: None}, v), "has no type"),
    "values too many": (lambda h, v: (h, v + bytes(64)), "its tensors have"),
    "values too few": (lambda h, v: (h, v[:-64]), "truncated or damaged"),
    "a tensor that is there twice": (twice, "occurs twice"),
    "no tensors": (lambda h, v: ({}, b""), "no tensors"),
    "a list for a header": (lambda h, v: (b"[]", v), "not a weights file|damaged"),
    "a header that is no text": (lambda h, v: (b"{\xff\xfe}", v), "not JSON"),
    "a header nested deep": (lambda h, v: (b'{"a":' * 100_000, v), "not JSON"),
    "a header of spaces": (longer_header, "truncated or damaged"),
    "100,000 tensors at one place": (many_tensors, "truncated or damaged"),
}


# What is no weights file.


def html(model, path):
    path.write_text("<html>Sign in to the network</html>")


def empty(model, path):
    path.write_bytes(b"")


def pipe(model, path):
    os.mkfifo(path)


OTHERS = {
    "a page": (html, "not a weights file.*<html>"),
    "an empty file": (empty, "not a weights file.*0 bytes"),
    "a pipe": (pipe, "a device, a pipe or a socket"),
    "a folder": (lambda model, path: path.mkdir(), "is a folder"),
    "a signature alone": (lambda model, path: path.write_bytes(b"\x89HDF\r\n\x1a\n"), "damaged"),
    "an archive's signature": (lambda model, path: path.write_bytes(b"PK\x03\x04"), "damaged"),
}
