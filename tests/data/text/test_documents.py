"""Texts of any form: what is read, and what is refused."""

import gzip
import json
import os
import sys
from pathlib import Path

import pytest
from support.texts import put, read

from lit_gen.core.cache import cache_folder
from lit_gen.core.errors import UserError
from lit_gen.data.text.documents import scan
from lit_gen.data.text.module import TextCorpus
from lit_gen.data.text.sources import find


def test_a_text_file_is_one_text_as_it_stands(tmp_path):
    content = "a\r\nb\n\ufeffcafé\x01😀" * 300_000  # more than one block, which cuts characters apart
    path = put(tmp_path, "book.whatever", content)
    source = find(path, "data.path", root=tmp_path)
    assert not source.documents
    assert "".join(source.texts()) == content
    found = scan(source)
    assert found.text_bytes == len(content.encode())
    assert found.lengths.tolist() == [len(content)]
    assert found.alphabet == "".join(sorted(set(content)))
    assert "".join(source.part(1_000_001, 2_000_003)) == content[1_000_001:2_000_003]


def test_folders_lists_and_patterns_are_documents_in_order(tmp_path, monkeypatch):
    for name in ("b.txt", "a.txt", "deep/er/c.md", ".hidden/x.txt", "deep/.x.txt", "d.py", "empty.txt"):
        put(tmp_path / "corpus", name, "" if "empty" in name else name)
    put(tmp_path / "corpus", "z.jsonl", '{"text": "z1"}\n{"text": ""}\n{"text": "z2"}\n')
    folder = ["a.txt", "b.txt", "deep/er/c.md"]
    assert read(str(tmp_path / "corpus"), tmp_path, column="text") == [*folder, "z1", "z2"]
    assert read("corpus", tmp_path, column="text") == [*folder, "z1", "z2"]  # under root
    assert read("corpus/*.txt", tmp_path) == ["a.txt", "b.txt"]
    assert read(f"{tmp_path}/corpus/**/*.md", tmp_path) == ["deep/er/c.md"]
    assert read(["corpus/d.py", "corpus/[ab].txt"], tmp_path) == ["d.py", "a.txt", "b.txt"]
    assert find(["corpus/a.txt"], "data.path", root=tmp_path).documents
    assert find("corpus/a.tx?", "data.path", root=tmp_path).documents
    monkeypatch.chdir(tmp_path / "corpus")
    assert read("a.txt", tmp_path) == ["a.txt"]
    assert find(["corpus/a.txt", "b.txt"], "data.path", root=tmp_path).name == "corpus/a.txt+1"


def test_records_of_json_and_parquet(tmp_path):
    texts = ["eins", "zwei\nund é", "", "drei"]
    lines = "".join(json.dumps({"id": i, "body": t}) + "\n" for i, t in enumerate(texts)) + "\n"
    kept = [t for t in texts if t]
    for name, content in {"a.jsonl": lines, "b.json": lines, "c.jsonl.gz": gzip.compress(lines.encode())}.items():
        put(tmp_path, name, content)
        assert read(name, tmp_path, column="body") == kept
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"id": range(4), "body": texts}), tmp_path / "d.parquet")
    assert read("d.parquet", tmp_path, column="body") == kept
    with pytest.raises(UserError, match=r"data\.column: nothing was found.*d\.parquet, has 'id', 'body'"):
        read("d.parquet", tmp_path)
    with pytest.raises(UserError, match=r"data\.column: 'bodi' was found.*has 'id', 'body'; did you mean 'body'\?"):
        read("d.parquet", tmp_path, column="bodi")
    with pytest.raises(UserError, match=r"d\.parquet, row 1: 'id' holds 0, a string is expected"):
        read("d.parquet", tmp_path, column="id")
    put(tmp_path, "e.parquet", b"PAR1 and no more")
    with pytest.raises(UserError, match=r"e\.parquet is no readable Parquet file"):
        read("e.parquet", tmp_path, column="body")


def test_missing_pyarrow_is_one_sentence(tmp_path, monkeypatch):
    put(tmp_path, "d.parquet", b"")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match="pip install pyarrow"):
        read("d.parquet", tmp_path, column="body")


@pytest.mark.parametrize(
    ("name", "content", "column", "message"),
    [
        ("a.jsonl", '{"a": 1}\n{"b": "x"}\n', "b", r"'b' was found.*a\.jsonl, line 1, has 'a'"),
        ("a.jsonl", '{"text": "x"}\nno\n', "text", r"a\.jsonl, line 2: 'no' was found, one JSON object per line"),
        ("a.json", '[{"text": "x"}]', "text", r"a\.json, line 1: .* one JSON object per line is expected"),
        ("a.jsonl", '{"text": "x"}\n', None, r"data\.column: nothing was found.*line 1, has 'text'"),
        ("a.jsonl", '{"text": ["x"]}\n', "text", r"line 1: 'text' holds \['x'\], a string is expected"),
        ("a.jsonl", '{"text": "\\ud800"}\n', "text", "line 1: 'text' holds half a surrogate pair"),
        ("a.jsonl", b'{"text": "x"}\n{"text": "\xff"}\n', "text", r"is not UTF-8: byte 0xff at offset 24"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "x"}\n' * 99)[:-9], "text", r"a\.jsonl\.gz cannot be read"),
        ("a.jsonl.gz", b'{"text": "x"}\n', "text", r"a\.jsonl\.gz cannot be read"),
        ("a.txt", b"caf\xe9", None, "is not UTF-8: byte 0xe9 at offset 3"),
        ("a.txt", b"x" * (2**20 - 1) + "é".encode() + b"\xff", None, f"byte 0xff at offset {2**20 + 1}"),
        ("a.txt", b"x" * (2**20 - 1) + b"\xc3x", None, f"byte 0xc3 at offset {2**20 - 1}"),
    ],
    ids=[
        "other key",
        "no JSON",
        "JSON array",
        "no column",
        "no string",
        "surrogate",
        "latin-1 in JSON",
        "gzip cut short",
        "no gzip",
        "latin-1",
        "latin-1 after 1 MiB",
        "split character at 1 MiB",
    ],
)
def test_unreadable_content_is_refused_with_its_place(tmp_path, name, content, column, message):
    put(tmp_path, name, content)
    with pytest.raises(UserError, match=message):
        read(name, tmp_path, column=column)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("inptu.txt", r"data\.path: inptu\.txt was not found, here or under .*; did you mean 'input\.txt'\?"),
        ("embeded", "embeded was not found.*did you mean 'embedded'"),
        ("*.tex", r"no file fits the pattern \*\.tex"),
        ("void", r"void holds no text files \(\.txt, .*name others by a pattern, such as void/\*\*/\*\.log"),
        ([], "data.path: nothing was found"),
        ("", "data.path: nothing was found"),
    ],
)
def test_what_is_missing_is_named(tmp_path, path, message):
    put(tmp_path, "data/input.txt", "x")
    (tmp_path / "data" / "void").mkdir()
    with pytest.raises(UserError, match=message):
        find(path, "data.path", root=tmp_path / "data")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_forbidden_file_is_named(tmp_path):
    path = put(tmp_path, "a.txt", "x")
    Path(path).chmod(0)
    with pytest.raises(UserError, match=r"a\.txt cannot be read \(Permission denied\)"):
        read(path, tmp_path)


def test_a_fingerprint_tells_texts_and_divisions_apart_and_is_kept(tmp_path, monkeypatch):
    paths = [put(tmp_path, f"{i}/{name}", content) for i, name, content in [(0, "a.txt", "ab"), (0, "b.txt", "c")]]
    names = [paths, paths[::-1], paths[:1], paths[0]]
    digests = [scan(find(path, "data.path", root=tmp_path)).sha256 for path in names]
    digests.append(scan(find([paths[1], paths[0]], "data.path", root=tmp_path)).sha256)
    assert digests.pop() == digests[1]
    assert len(set(digests)) == 4
    source = find(paths, "data.path", root=tmp_path)
    monkeypatch.setattr("lit_gen.data.text.documents._read", lambda source: pytest.fail("was read again"))
    assert scan(source).sha256 == digests[0]
    for path in (cache_folder() / "text").glob("scan-*.npz"):
        path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(UserError, match=r"scan-\w+\.npz is damaged; move it away"):
        scan(source)


def test_empty_texts_are_refused(tmp_path):
    for path in (put(tmp_path, "empty.txt", ""), [put(tmp_path, "a.txt", ""), put(tmp_path, "b.txt", "")]):
        with pytest.raises(UserError, match="no text was found"):
            scan(find(path, "data.path", root=tmp_path))


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="is a pattern there")
def test_a_wrong_pattern_is_refused(tmp_path):
    with pytest.raises(
        UserError, match=r"data\.path: t/\*\*x/\*\.txt is no pattern of files \(.*\), books/\*\*/\*\.txt is one"
    ):
        TextCorpus("t/**x/*.txt")
