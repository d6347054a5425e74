"""Archives: PyTorch's own are read, those that two readers read differently are not."""

import io
import struct
import warnings
import zipfile

import pytest
import torch
from support.archives import packed, parts_of, two_in_one
from torch import nn

from lit_gen.core import archives


def saved(content, old=False):
    target = io.BytesIO()
    torch.save(content, target, _use_new_zipfile_serialization=not old)
    return target.getvalue()


def read(content):
    with archives.opened(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        return archive.namelist()


def test_pytorchs_own(tmp_path):
    weights = {f"w{i}": torch.full((i + 1,), float(i)) for i in range(300)}
    content = saved({"weights": weights, "empty": torch.zeros(0), "text": "x" * 70_000})
    assert content[-98:-94] == b"PK\6\6"  # it writes ZIP64's records always
    assert len(read(content)) > 300
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script, exported = io.BytesIO(), io.BytesIO()
        torch.jit.save(torch.jit.script(nn.Linear(3, 2)), script)
        torch.export.save(torch.export.export(nn.Linear(3, 2), (torch.zeros(4, 3),)), exported)
    assert any(name.endswith(".py") for name in read(script.getvalue()))
    assert any(name.endswith("model.json") for name in read(exported.getvalue()))
    (tmp_path / "aligned.pt").write_bytes(content)
    assert torch.load(tmp_path / "aligned.pt", mmap=True)["weights"]["w7"].tolist() == [7.0] * 8
    with archives.opened(tmp_path / "aligned.pt") as archive:
        assert archive.namelist() == read(content)


def record(content, offset):
    """An archive whose ZIP64 locator points elsewhere."""
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, offset, 1)
    return content[:-42] + locator + content[-22:]


GOOD = {"a/data.pkl": b"good", "a/version": b"3\n", "a/data/0": b"weights"}
EVIL = GOOD | {"a/data.pkl": b"evil", "a/data/0": b"weights" * 100}
PLAIN = packed(GOOD)


def test_two_directories():
    content = two_in_one(GOOD, EVIL)
    with pytest.raises(zipfile.BadZipFile, match="its directory is not where its end record says"):
        archives.opened(io.BytesIO(content))
    assert parts_of(content) == GOOD  # as the check read it before
    assert torch._C.PyTorchFileReader(io.BytesIO(content)).get_record("data.pkl") == b"evil"


def test_a_locator_that_points_elsewhere():
    """PyTorch follows it, zipfile takes the record before it."""
    content = saved({"a": 1})
    other = saved({"b": 2})
    mixed = record(other + content, len(other) - 98)
    with pytest.raises(zipfile.BadZipFile, match="its end records contradict each other"):
        archives.opened(io.BytesIO(mixed))


def test_a_pickle_before_the_archive(tmp_path):
    """PyTorch reads the file in its old format then, and the archive never."""
    old = saved({"global_step": 1}, old=True)
    shifted = bytearray(packed({"x": old} | GOOD))
    archive = zipfile.ZipFile(io.BytesIO(bytes(shifted)))
    begin = archive.infolist()[0].header_offset + 31  # behind the first part's header and its name of one letter
    cut = io.BytesIO(bytes(shifted[begin:]))
    with zipfile.ZipFile(cut, "a") as again:  # zipfile writes the directory anew, with true offsets
        again.filelist = [part for part in again.filelist if part.filename != "x"]
        again._didModify = True
    (tmp_path / "x.ckpt").write_bytes(cut.getvalue())
    assert zipfile.ZipFile(tmp_path / "x.ckpt").testzip() is None
    assert torch.load(tmp_path / "x.ckpt", weights_only=True) == {"global_step": 1}
    with pytest.raises(zipfile.BadZipFile, match="something stands before its first part"):
        archives.opened(tmp_path / "x.ckpt")


def edited(find, change):
    """`PLAIN` with a field changed in the directory entry of its first part."""
    place = PLAIN.index(b"PK\1\2") + find
    return PLAIN[:place] + change + PLAIN[place + len(change) :]


def two_sizes():
    target = io.BytesIO()
    field = struct.pack("<2HQ", 1, 8, 7)
    with zipfile.ZipFile(target, "w") as archive:
        part = zipfile.ZipInfo("a/x")
        archive.writestr(part, b"1")
        part.extra = field * 2
    return target.getvalue()


FILES = {
    "a byte more": (PLAIN + b"\0", "not a zip file|behind the end"),
    "a comment": (PLAIN[:-2] + b"\4\0abcd", "behind the end"),
    "bytes before": (b"\0" * 10 + PLAIN, "not where its end record says"),
    "fewer parts": (PLAIN[:-14] + b"\1\0\1\0" + PLAIN[-10:], "not where its end record says"),
    "upper and lower case": (packed({"a/x": b"1", "a/X": b"2"}), "there twice"),
    "a cut name": (packed({"a/x": b"1", "a/y_z": b"2"}).replace(b"y_z", b"y\0z"), "NUL"),
    "another size": (edited(24, struct.pack("<L", 3)), "two sizes"),
    "two large sizes": (two_sizes(), "two sizes"),
    "encrypted": (edited(8, b"\1"), "encrypted"),
    "overlapping": (edited(20, struct.pack("<2L", 9999, 9999)), "overlap"),
    "empty": (b"", "not a zip file"),
    "no parts": (packed({}), "before its first part"),
    "a wild end": (b"PK\5\6" + b"\xff" * 16 + b"\0\0", "not a zip file|Bad offset"),
}


@pytest.mark.parametrize("name", FILES)
def test_archives_that_are_not_alike_to_all(name):
    content, reason = FILES[name]
    with pytest.raises(zipfile.BadZipFile, match=reason):
        archives.opened(io.BytesIO(content))


def test_a_plain_one_is():
    assert read(PLAIN) == list(GOOD)
