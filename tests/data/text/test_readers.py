"""What a file is, its content says as well as its name."""

import codecs
import gzip
import io
import zipfile

import pytest
from support.texts import put, read

from lit_gen.core.errors import UserError, note
from lit_gen.data.text.module import TextCorpus

LINE = '{"text": "drei"}\n'


def zipped():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("word/document.xml", "x")
    return file.getvalue()


def test_a_byte_order_mark_is_dropped_at_the_beginning_alone(tmp_path):
    put(tmp_path, "a.txt", codecs.BOM_UTF8 + "é\ufeffx".encode())
    assert read("a.txt", tmp_path) == ["é\ufeffx"]
    put(tmp_path, "a.jsonl", codecs.BOM_UTF8 + LINE.encode())
    assert read("a.jsonl", tmp_path, column="text") == ["drei"]
    put(tmp_path, "a.csv", codecs.BOM_UTF8 + b"text\ndrei\n")
    assert read("a.csv", tmp_path, column="text") == ["drei"]
    put(tmp_path, "b.txt", codecs.BOM_UTF8 + b"ab\xe9")
    with pytest.raises(UserError, match="byte 0xe9 at offset 5"):
        read("b.txt", tmp_path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (gzip.compress(b"x", mtime=0), "is compressed by gzip"),
        (b"\x28\xb5\x2f\xfd and on", "is compressed by zstd"),
        ("héllo".encode("utf-16"), "is UTF-16; convert it"),
        ("héllo".encode("utf-32"), "is UTF-32; convert it"),
        ("hello".encode("utf-16-le"), "is no UTF-8 text: a NUL byte at offset 1"),
        (b"%PDF-1.7\n", "is a PDF; extract its text"),
        (zipped(), r"is a ZIP archive, as \.docx"),
        (b"x" * (2**20 + 5) + b"\0", f"is no UTF-8 text: a NUL byte at offset {2**20 + 5}"),
        (b"{\\rtf1 x}", "is RTF"),
        (b"BZh91AY&SY....", "is compressed by bzip2"),
        (b"\xfd7zXZ\0..", "is compressed by xz"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "is an old Office document"),
    ],
    ids=["gzip", "zstd", "utf-16", "utf-32", "no mark", "pdf", "docx", "nul", "rtf", "bzip2", "xz", "doc"],
)
def test_what_is_no_text_is_named(tmp_path, content, told):
    put(tmp_path, "a.txt", content)
    with pytest.raises(UserError, match=rf"a\.txt {told}"):
        read("a.txt", tmp_path)


def test_records_of_every_kind(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    table = 'id,text\n1,"a ""b"",\nc"\n\n2,\u2028é\n'
    packed = [gzip.compress(LINE.encode(), mtime=0), pyarrow.compress(LINE.encode(), "zstd", asbytes=True)]
    for name, content, expected in [
        ("a.csv", table, ['a "b",\nc', "\u2028é"]),
        ("b.tsv", "id\ttext\r\n1\ta,b\r\n", ["a,b"]),
        ("c.ndjson", LINE * 2, ["drei"] * 2),
        ("d.jsonl.gz", packed[0] * 2, ["drei"] * 2),
        ("e.jsonl.zst", packed[1] * 2, ["drei"] * 2),
        ("f.jsonl", packed[0], ["drei"]),
        ("g.ndjson", packed[1], ["drei"]),
        ("h.csv", f"text\n{'x' * 200_000}\n", ["x" * 200_000]),
    ]:
        put(tmp_path / "all", name, content)
        assert read(f"all/{name}", tmp_path, column="text") == expected, name
    assert len(read("all", tmp_path, column="text")) == 12


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.csv", "id,text\n1\n", r"a\.csv, line 2: 1 fields were found, 2 are expected"),
        ("a.csv", 'text\n"x\n', r"a\.csv, line 2: broken CSV"),
        ("a.csv", "text,text\n1,2\n", r"2 columns are called 'text'"),
        ("a.csv", "id;text\n1;x\n", r"data\.column: 'text' was found.*has 'id;text'"),
        ("a.jsonl", '{"text": "a\\u0000"}\n', r"line 1: 'text' holds a NUL character"),
        ("a.jsonl", "[" * 100_000, r"a\.jsonl, line 1: '\[{40}' was found, one JSON object per line is expected"),
        ("a.jsonl", '{"text":' + "[" * 100_000, r"""line 1: '{"text":\[{32}' was found, one JSON object"""),
        ("a.jsonl", LINE.encode("utf-16"), r"a\.jsonl is UTF-16"),
        ("a.jsonl.zst", LINE, r"a\.jsonl\.zst cannot be read"),
    ],
    ids=["fields", "quotes", "twice", "semicolon", "nul", "deep", "deep field", "utf-16", "no zstd"],
)
def test_broken_records_are_refused(tmp_path, name, content, told):
    put(tmp_path, name, content)
    with pytest.raises(UserError, match=told):
        read(name, tmp_path, column="text")


def test_a_column_is_never_ignored(tmp_path):
    put(tmp_path, "a.txt", LINE)
    for path in ("a.txt", ["a.txt"], "embedded", "*.txt"):
        with pytest.raises(UserError, match=r"data\.column: 'text' was found, but .* has no columns"):
            TextCorpus(path, column="text", root=str(tmp_path))
    put(tmp_path, "b.jsonl", LINE)
    TextCorpus(["a.txt", "b.jsonl"], column="text", root=str(tmp_path))


def test_folders_named_so_are_the_splits(tmp_path, capsys):
    for name, text in {
        "train/a.txt": "abcdef",
        "train/b.txt": "abc",
        "val/c.txt": "bcd",
        "train/.x/d.txt": "z",
    }.items():
        put(tmp_path / "books", name, text)
    note.cache_clear()
    data = TextCorpus("books", "byte")
    data.prepare_data()
    assert "data.path, books/train: 2 files; passed over: 1 hidden folder (.x)" in capsys.readouterr().err
    texts = {split: data.tokenizer.decode(data.stream(split).tokens) for split in ("train", "val", "test")}
    assert texts == {"train": "abcdefabc", "val": "bcd", "test": "bcd"}
    with pytest.raises(UserError, match=r"data\.val_path was given, but books.* has a val folder"):
        TextCorpus("books", val_path="books/val")
