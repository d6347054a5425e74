"""Archives of arrays that lie, or grow without bound."""

import io
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from lit_gen.core.cache import read_npy, read_npz
from lit_gen.core.errors import UserError


class Bomb:
    def __reduce__(self):
        return Path.touch, (Path("EXECUTED"),)


def header(shape, dtype="|u1"):
    text = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}"
    text = text.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def archive(path, parts, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in parts.items():
            file.writestr(name, content)


def zeros(path):
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file,
        file.open("images.npy", "w", force_zip64=True) as part,
    ):
        part.write(header((300_000_000,)))
        for _ in range(300):
            part.write(bytes(1_000_000))


def objects(path):
    array = np.empty(1, dtype=object)
    array[0] = Bomb()
    np.savez(path, images=array)


def flipped(path):
    np.savez(path, images=np.arange(100, dtype=np.uint8))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


HOSTILE = {
    "a bomb": zeros,
    "objects": objects,
    "a pickle": lambda path: path.write_bytes(pickle.dumps(Bomb())),
    "a pickle within": lambda path: archive(path, {"images.npy": pickle.dumps(Bomb())}),
    "a shape of terabytes": lambda path: archive(path, {"images.npy": header((10**12,)) + bytes(10)}),
    "a negative shape": lambda path: archive(path, {"images.npy": header((-1,)) + bytes(10)}),
    "a shape that overflows": lambda path: archive(path, {"images.npy": header((2**40, 2**40)) + bytes(10)}),
    "a shape that calls": lambda path: archive(path, {"images.npy": header("__import__('os')") + bytes(10)}),
    "another length": lambda path: archive(path, {"images.npy": header((9,)) + bytes(10)}),
    "a flipped bit": flipped,
    "a single array": lambda path: np.save(path.open("wb"), np.zeros(3)),
    "nothing": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_bytes(b"hello"),
    "cut": lambda path: (np.savez(path, a=np.zeros(100)), path.write_bytes(path.read_bytes()[:300])),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.filterwarnings("ignore:unclosed file")
def test_it_is_refused_and_takes_no_memory(tmp_path, name):
    path = tmp_path / "x.npz"
    HOSTILE[name](path)
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=r"x\.npz"):
            read_npz(path)
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()
    assert not (tmp_path / "EXECUTED").exists()


def test_what_is_an_archive_is_read(tmp_path):
    for dtype in ("u1", "<f4", "<i8", "S3", "?"):
        for order in "CF":
            array = np.ones((3, 4), dtype=dtype).copy(order)
            file = io.BytesIO()
            np.savez_compressed(file, a=array, b=array[:0])
            (tmp_path / "x.npz").write_bytes(file.getvalue())
            found = read_npz(tmp_path / "x.npz")
            assert np.array_equal(found["a"], array)
            assert found["b"].shape == (0, 4)


@pytest.mark.parametrize(
    "content",
    [header((1 << 38,)) + bytes(100), header((9,)) + bytes(10), header((9,)) + bytes(8), b"", b"\x93NUMPY", b"text"],
    ids=["gigabytes", "too long", "cut", "nothing", "a beginning", "text"],
)
def test_an_array_file_that_lies_is_refused(tmp_path, content):
    path = tmp_path / "x.npy"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"x\.npy is truncated or is no \.npy of numbers"):
        read_npy(path)


def test_an_array_file_is_read(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(6).reshape(2, 3).T)
    assert read_npy(tmp_path / "x.npy").tolist() == [[0, 3], [1, 4], [2, 5]]
    np.save(tmp_path / "z.npy", np.array([Bomb()]), allow_pickle=True)
    with pytest.raises(UserError, match="objects, which are code"):
        read_npy(tmp_path / "z.npy")
    assert not (tmp_path / "EXECUTED").exists()
