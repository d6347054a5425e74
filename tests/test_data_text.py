import errno
import gzip
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning import LightningModule, Trainer

from lit_gen.cache import cache_folder, cached
from lit_gen.data import encoding, token_file
from lit_gen.data.crops import TrainCrops
from lit_gen.data.documents import find, scan
from lit_gen.data.grammar import ENGLISH
from lit_gen.data.text import TextCorpus
from lit_gen.data.tokenizers import CharTokenizer
from lit_gen.data.windows import TokenStream, WindowLoader, cover
from lit_gen.errors import UserError, note

TEXT = "".join(f"Line {i} of a text that is not very long, with café no. {i * i % 97}.\n" for i in range(200))


def stream_of(n, prefix=None, vocab_size=1000):
    """Token i is i + 1: none is zero, which is what padding is."""
    return TokenStream(np.arange(1, n + 1, dtype=np.uint16), prefix, n, n, 0, prefix, vocab_size)


def put(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


# ---- crops


@settings(max_examples=40, deadline=None)
@given(world=st.integers(1, 3), accumulate=st.integers(1, 3), batch=st.integers(1, 3), n=st.integers(9, 60))
def test_ranks_and_micro_batches_together_see_what_one_process_sees(world, accumulate, batch, n):
    alone = TrainCrops(stream_of(n), 8, batch * world * accumulate, 0)
    ranks = [
        TrainCrops(stream_of(n), 8, batch, 0, accumulate=accumulate, rank=r, world=world, on_device=r % 2 == 0)
        for r in range(world)
    ]
    assert {len(loader) for loader in ranks} == {len(alone) * accumulate}
    assert {loader.tokens_per_step for loader in ranks} == {alone.tokens_per_step}
    for _ in range(2):  # two epochs
        items = list(zip(*ranks, strict=True))
        for step, whole in enumerate(alone):
            parts = items[step * accumulate : (step + 1) * accumulate]
            tokens = torch.cat([part.tokens for ranked in parts for part in ranked])
            indices = torch.cat([part.indices for ranked in parts for part in ranked])
            assert torch.equal(tokens, whole.tokens)
            assert torch.equal(indices, whole.indices)
            assert indices.tolist() == list(range(batch * world * accumulate))
            assert whole.scored is None


def test_a_crop_is_a_piece_of_the_text_and_starts_anywhere():
    n, block = 12, 8
    loader = TrainCrops(stream_of(n), block, 64, 0)
    starts = set()
    for _ in range(4):
        for batch in loader:
            assert batch.tokens.dtype == torch.int64
            assert batch.tokens.shape == (64, block + 1)
            assert (batch.tokens.diff(dim=1) == 1).all()
            starts |= set((batch.tokens[:, 0] - 1).tolist())
    assert starts == set(range(n - block))  # the first, the last, and all between


def test_the_only_crop_of_a_text_of_one():
    (batch,) = list(TrainCrops(stream_of(9), 8, 2, 0))
    assert batch.tokens.tolist() == [list(range(1, 10))] * 2
    with pytest.raises(
        UserError, match=r"data\.block_size: 8 was found, but the training text has 8 tokens; at most 7"
    ):
        TrainCrops(stream_of(8), 8, 2, 0)


def test_crops_are_named_by_seed_and_step():
    first = TrainCrops(stream_of(500), 8, 4, 0)
    assert first.starts(5).tolist() == TrainCrops(stream_of(500), 8, 4, 0).starts(5).tolist()
    assert first.starts(5).tolist() != first.starts(6).tolist()
    assert first.starts(5).tolist() != TrainCrops(stream_of(500), 8, 4, 1).starts(5).tolist()
    assert len(first) == 500 // 32


@pytest.mark.parametrize("stop", [0, 1, 2, 5, 6, 7, 20])
def test_crops_continue_anywhere(stop):
    def items(loader, count):
        out = []
        while len(out) < count:
            for batch in loader:
                out.append(batch.tokens)
                if len(out) == count:
                    break
        return out

    def fresh():
        return TrainCrops(stream_of(99), 8, 2, 0, accumulate=2)

    assert len(fresh()) == 6
    expected = items(fresh(), 30)
    first, second = fresh(), fresh()
    items(first, stop) if stop else None
    assert first.state_dict()["micro_batch"] == stop
    second.load_state_dict(first.state_dict())
    assert all(map(torch.equal, expected[stop:], items(second, 30 - stop)))


def test_a_position_survives_another_division_of_the_step():
    before = TrainCrops(stream_of(200), 8, 2, 0, accumulate=4)
    position = before.state_dict() | {"micro_batch": 12}
    after = TrainCrops(stream_of(200), 8, 4, 0, accumulate=1, world=2)
    after.resume(position, allow_changes=False)
    assert (after.micro_batch, after.step) == (3, 3)
    with pytest.raises(UserError, match="a step takes 32 tokens now but took 64"):
        TrainCrops(stream_of(200), 8, 4, 0).resume(position, allow_changes=False)
    other = TrainCrops(stream_of(200), 8, 4, 0)
    other.resume(position, allow_changes=True)
    assert other.step == 3


# ---- windows

sizes = {"n": st.integers(0, 200), "context": st.integers(1, 20), "data": st.data()}


@settings(max_examples=200, deadline=None)
@given(**sizes)
def test_windows_score_every_target_exactly_once(n, context, data):
    stride = data.draw(st.integers(1, context))
    windows = cover(n, context, stride)
    scored = [j for _, first, end in windows for j in range(first, end)]
    assert scored == list(range(n))
    for k, (begin, first, end) in enumerate(windows.tolist()):
        assert begin == k * stride
        assert begin <= first < end <= begin + context
        assert end == begin + context or k == len(windows) - 1
        assert first == (0 if k == 0 else begin + context - stride)


@settings(max_examples=150, deadline=None)
@given(rows=st.integers(1, 5), world=st.integers(1, 4), prefix=st.sampled_from([None, 999]), **sizes)
def test_loaders_show_every_target_once_with_what_precedes_it(n, context, data, rows, world, prefix):
    stride = data.draw(st.integers(1, context))
    stream = stream_of(n, prefix)
    sequence = ([] if prefix is None else [prefix]) + list(range(1, n + 1))
    loaders = [WindowLoader(stream, context, stride, rows, rank=r, world=world) for r in range(world)]
    assert len({len(loader) for loader in loaders}) == 1
    seen, numbers = [], []
    for loader in loaders:
        batches = list(loader)
        assert len(batches) == len(loader) >= 1
        for tokens, scored, indices in batches:
            assert tokens.shape == (rows, context + 1)
            assert scored.shape == (rows, context)
            assert (tokens.dtype, scored.dtype, indices.dtype) == (torch.int64, torch.bool, torch.int64)
            numbers += [i for i in indices.tolist() if i >= 0]
            for row, mask, number in zip(tokens.tolist(), scored.tolist(), indices.tolist(), strict=True):
                inside = sequence[number * stride : number * stride + context + 1] if number >= 0 else []
                assert row == inside + [0] * (context + 1 - len(inside))
                places = [number * stride + j for j, yes in enumerate(mask) if yes]
                assert all(row[1 + p - number * stride] == sequence[p + 1] for p in places)
                # at least context - stride tokens before it, or all that there are
                assert all(p - number * stride + 1 >= min(p + 1, context - stride + 1) for p in places)
                seen += places
    assert sorted(seen) == list(range(len(sequence) - 1)) if sequence else not seen
    assert len(seen) == stream.targets
    assert sorted(numbers) == list(range(len(cover(stream.targets, context, stride))))


def test_blocks_are_the_same_at_any_world_size():
    blocks = {
        world: {
            tuple(batch.tokens.flatten().tolist())
            for r in range(world)
            for batch in WindowLoader(stream_of(300), 8, 4, 7, rank=r, world=world)
            if batch.scored.any()
        }
        for world in (1, 2, 3)
    }
    assert blocks[1] == blocks[2] == blocks[3]


@pytest.mark.parametrize("stride", [0, 9, -1])
def test_a_stride_beyond_the_context_is_refused(stride):
    with pytest.raises(UserError, match=f"stride: {stride} was found, 1 to 8"):
        cover(100, 8, stride)


# ---- token files


def header(**changes):
    return token_file.Header(
        **{"vocab_size": 300, "tokenizer": "x", "tokenizer_sha256": "a", "text_sha256": "b"} | changes
    )


@pytest.mark.parametrize(("vocab_size", "width"), [(2**16, 2), (2**16 + 1, 4), (2, 2), (2**20, 4)])
def test_ids_come_back_in_the_smallest_type_that_holds_them(tmp_path, vocab_size, width):
    ids = np.array([0, 1, vocab_size - 1])
    wanted = header(vocab_size=vocab_size, part=(0, 9))
    written = token_file.write(tmp_path / "t", wanted, [(ids, 5, 4, 1), (ids[:1], 1, 1, 0), (ids[:0], 0, 0, 0)])
    found = token_file.load(tmp_path / "t", wanted)
    assert found.header == written
    assert (found.header.tokens, found.header.text_bytes, found.header.characters) == (4, 6, 5)
    assert (found.header.documents, found.header.complete) == (1, True)
    assert found.tokens.tolist() == [*ids.tolist(), 0]
    assert isinstance(found.tokens, np.memmap)
    assert found.tokens.itemsize == width
    assert (tmp_path / "t").stat().st_size == 4096 + 4 * width


def test_an_id_beyond_the_vocabulary_is_never_written(tmp_path):
    with pytest.raises(AssertionError):
        token_file.write(tmp_path / "t", header(part=(0, 1)), [(np.array([300]), 1, 1, 0)])


def test_damaged_token_files_are_refused_by_name(tmp_path):
    path = tmp_path / "t"
    token_file.write(path, header(part=(0, 1)), [(np.arange(10), 10, 10, 0)])
    good = path.read_bytes()
    for content, message in [
        (good[:-1], "truncated or damaged: it has 4115 bytes, 4116 are expected"),
        (good + b"\0", "truncated or damaged"),
        (b"PK" + good, "is no token file"),
        (b"", "is no token file"),
        (good[:100], "damaged header"),
        (good.replace(b'"version": 1', b'"version": 2'), "of version 2, 1 is expected"),
        (good.replace(b'"complete": true', b'"complete": false'), "is incomplete"),
        (good.replace(b'"tokens": 10', b'"tokens": 11'), "4118 are expected"),
    ]:
        path.write_bytes(content)
        with pytest.raises(UserError, match=message) as refused:
            token_file.load(path)
        assert str(path) in str(refused.value)
        assert "delete it" in str(refused.value)
    path.write_bytes(good)
    for name, value in {"tokenizer_sha256": "z", "text_sha256": "z", "vocab_size": 301, "part": (0, 2)}.items():
        with pytest.raises(UserError, match=f"made from something else \\({name} is"):
            token_file.load(path, header(**{"part": (0, 1), name: value}))


# ---- encoding


class Failing(CharTokenizer):
    """Dies after a few pieces, and counts."""

    def __init__(self, alphabet, pieces=math.inf):
        super().__init__(alphabet)
        self.left, self.done = pieces, 0

    def encode_array(self, text, begin=0):
        if self.done >= self.left:
            raise KeyboardInterrupt
        self.done += 1
        return super().encode_array(text, begin)


def encode(target, tokenizer, **options):
    encoding.encode([TEXT], False, tokenizer, target, header(vocab_size=tokenizer.vocab_size, part=(0, 1)), **options)


@pytest.mark.parametrize("workers", [1, 4])
def test_a_killed_encoding_continues_and_ends_the_same(tmp_path, workers):
    encode(tmp_path / "undisturbed", Failing(TEXT), shard=1000)
    target, shards = tmp_path / "killed", math.ceil(len(TEXT) / 1000)
    with pytest.raises(KeyboardInterrupt):
        encode(target, Failing(TEXT, 5), shard=1000, workers=workers)
    assert not target.exists()
    kept = [p for p in (tmp_path / "killed.shards").iterdir() if "-" in p.name]
    assert len(kept) == 5
    kept[0].write_bytes(kept[0].read_bytes()[:-50])  # torn by a crash of the machine
    (tmp_path / "killed.0123.partial").write_bytes(b"of a process that is no more")
    second = Failing(TEXT)
    encode(target, second, shard=1000, workers=workers)
    assert second.done == shards - 4
    assert target.read_bytes() == (tmp_path / "undisturbed").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["killed", "undisturbed"]


ONE_OF_TWO = """
import sys
from pathlib import Path
from lit_gen.data import encoding, token_file
from lit_gen.data.tokenizers import CharTokenizer
folder = Path(sys.argv[1])
text = (folder / "text").read_bytes().decode()
tokenizer = CharTokenizer(text)
header = token_file.Header(tokenizer.vocab_size, "x", "a", "b", (0, 1))
print("ready", flush=True)
sys.stdin.readline()
encoding.encode([text], False, tokenizer, folder / "both", header, workers=2, shard=97)
"""


def test_two_processes_at_once_do_no_harm(tmp_path):
    (tmp_path / "text").write_bytes(TEXT.encode())
    encode(tmp_path / "alone", CharTokenizer(TEXT), shard=97)
    command = [sys.executable, "-c", ONE_OF_TWO, str(tmp_path)]
    both = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2)]
    assert [process.stdout.readline().strip() for process in both] == [b"ready"] * 2
    for process in both:
        process.stdin.write(b"go\n")
        process.stdin.flush()
    for process in both:
        process.communicate(timeout=60)
    assert [process.returncode for process in both] == [0, 0]
    assert (tmp_path / "both").read_bytes() == (tmp_path / "alone").read_bytes()
    left = {p.name for p in tmp_path.iterdir()} - {"both.shards"}  # the slower one may have made the folder anew
    assert left == {"alone", "both", "text"}


def test_a_slow_encoding_says_how_far_it_is(tmp_path, monkeypatch, capsys):
    encode(tmp_path / "quick", CharTokenizer(TEXT), characters=len(TEXT))
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(encoding, "PATIENCE", 0.0)
    encode(tmp_path / "slow", CharTokenizer(TEXT), characters=len(TEXT), shard=len(TEXT) // 4 + 1)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "encoding the text: 25%"
    assert 1 <= len(lines) <= 3
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    encode(tmp_path / "bar", CharTokenizer(TEXT), characters=len(TEXT), shard=len(TEXT) // 4 + 1)
    assert (tmp_path / "bar").read_bytes() == (tmp_path / "quick").read_bytes()


# ---- sources


def read(path, root, **options):
    return list(find(path, "data.path", root=root, **options).texts())


def test_a_text_file_is_one_text_as_it_stands(tmp_path):
    content = "a\r\nb\n\ufeffcafé\x00😀" * 300_000  # more than one block, which cuts characters apart
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
        ("void", r"void holds no text files \(\.txt, .*name others by a pattern, such as void/\*\*/\*\.py"),
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
    monkeypatch.setattr("lit_gen.data.documents._read", lambda source: pytest.fail("was read again"))
    assert scan(source).sha256 == digests[0]


def test_empty_texts_are_refused(tmp_path):
    for path in (put(tmp_path, "empty.txt", ""), [put(tmp_path, "a.txt", ""), put(tmp_path, "b.txt", "")]):
        with pytest.raises(UserError, match="no text was found"):
            scan(find(path, "data.path", root=tmp_path))


# ---- the data module


def test_the_embedded_text_is_documents():
    topics = __import__("pydoc_data.topics").topics.topics
    data = TextCorpus(block_size=64, batch_size=4)
    data.prepare_data()
    assert data.name.startswith("python-topics-3.")
    assert data.vocab_size == len(set("".join(topics.values()))) + 1
    train, val = data.stream("train"), data.stream("val")
    end = data.tokenizer.end_of_text
    assert train.prefix == val.prefix == train.end_of_text == end
    assert train.documents + val.documents == len(topics) == (train.tokens == end).sum() + (val.tokens == end).sum()
    decoded = [data.tokenizer.decode(part) for part in np.split(train.tokens, np.flatnonzero(train.tokens == end) + 1)]
    assert decoded == [*(topics[name] for name in sorted(topics)[: train.documents]), ""]
    assert train.text_bytes + val.text_bytes == sum(len(text.encode()) for text in topics.values())
    assert 0.85 < train.characters / (train.characters + val.characters) < 0.95
    assert data.entropy_bits_per_byte is None
    assert data.files()
    assert all(path.is_file() for path in data.files())


@pytest.mark.data
def test_tiny_shakespeare_is_split_as_nanogpt_splits_it(data_root, monkeypatch):
    monkeypatch.setenv("LIT_GEN_DATA", str(data_root))
    data = TextCorpus("tinyshakespeare/input.txt")
    train, val = data.stream("train"), data.stream("val")
    assert (len(train), len(val), data.vocab_size) == (1_003_854, 111_540, 65)
    text = (data_root / "tinyshakespeare" / "input.txt").read_text(encoding="utf-8")
    assert data.tokenizer.characters == "".join(sorted(set(text)))
    assert data.tokenizer.decode(val.tokens) == text[1_003_854:]
    assert (train.prefix, val.prefix) == (None, data.tokenizer.encode(text[1_003_853])[0])
    assert (val.text_bytes, val.end_of_text) == (111_540, None)
    assert TextCorpus("tinyshakespeare/input.txt", tokenizer="bpe").tokenizer.encode("the ") != []


def test_the_grammar_has_a_floor():
    data = TextCorpus("grammar", grammar_characters=20_000, seed=5)
    assert data.entropy_bits_per_byte == ENGLISH.entropy_bits_per_char
    train, val = data.stream("train"), data.stream("val")
    text = data.tokenizer.decode([*train.tokens, *val.tokens])
    assert text == ENGLISH.text(20_000)  # whatever the run's seed
    assert len(train) == int(0.9 * len(text))
    assert val.prefix == train.tokens[-1]
    assert train.prefix is None


@pytest.mark.parametrize("tokenizer", ["char", "byte", "bpe"])
def test_the_parts_of_a_text_are_the_text(tmp_path, tokenizer):
    path = put(tmp_path, "a.txt", TEXT)
    data = TextCorpus(path, tokenizer, bpe_vocab_size=300, val_fraction=0.3, workers=2)
    cut = int(0.7 * len(TEXT))
    for split, text in {"train": TEXT[:cut], "val": TEXT[cut:], "test": TEXT[cut:]}.items():
        stream = data.stream(split)
        assert data.tokenizer.decode(stream.tokens.tolist()) == text
        assert stream.tokens.tolist() == data.tokenizer.encode(text)
        assert (stream.text_bytes, stream.characters) == (len(text.encode()), len(text))
        assert stream.vocab_size == data.vocab_size
    assert data.protocol["train"] == {
        "characters": cut,
        "bytes": len(TEXT[:cut].encode()),
        "tokens": len(data.stream("train")),
    }


def test_bpe_learns_from_the_training_part_alone(tmp_path):
    data = TextCorpus(put(tmp_path, "a.txt", "abc abc\n" * 50 + "xyzzy " * 20), "bpe", val_fraction=0.3)
    assert data.vocab_size < 1024
    assert len(data.tokenizer.encode("xyzzy")) == 5


def test_documents_are_split_at_the_nearest_boundary(tmp_path):
    lengths = [100, 300, 100, 80, 20]
    paths = [put(tmp_path, f"{i}.txt", str(i) * n) for i, n in enumerate(lengths)]
    for fraction, training in [(0.05, 4), (0.17, 3), (0.5, 2), (0.9, 1), (0.001, 4), (0.999, 1)]:
        data = TextCorpus(paths, "byte", val_fraction=fraction, block_size=8)
        assert (data.stream("train").documents, data.stream("val").documents) == (training, 5 - training)
    with pytest.raises(UserError, match=r"data\.val_fraction: 0\.1 was found, but .* holds a single document"):
        TextCorpus(paths[:1]).prepare_data()


def test_held_out_by_file(tmp_path):
    paths = [put(tmp_path, f"{i}.txt", text) for i, text in enumerate(["abab" * 30, "abcc", "xyz"])]
    data = TextCorpus(paths[0], val_path=paths[1], test_path=paths[2], block_size=8)
    assert data.vocab_size == 6
    assert [data.tokenizer.decode(data.stream(s).tokens) for s in ("train", "val", "test")] == [
        "abab" * 30,
        "abcc",
        "xyz",
    ]
    assert data.stream("val").prefix is None
    assert len(data.files()) == 6
    assert data.protocol["split"] == "held out by file"


def test_nothing_held_out(tmp_path):
    data = TextCorpus(put(tmp_path, "a.txt", TEXT), val_fraction=0)
    assert (data.stream("train").characters, data.val_dataloader(), data.test_dataloader()) == (len(TEXT), [], [])
    with pytest.raises(
        UserError, match=r"has no val split \(nothing held out: data\.val_fraction is 0\), train is expected"
    ):
        data.stream("val")


def test_texts_that_are_too_short_are_refused(tmp_path):
    with pytest.raises(UserError, match="leave one side of the split empty"):
        TextCorpus(put(tmp_path, "a.txt", "a")).prepare_data()
    with pytest.raises(UserError, match=r"data\.block_size: 256 was found, but the training text has 18 tokens"):
        TextCorpus(put(tmp_path, "b.txt", "ab" * 10)).train_dataloader()
    short = TextCorpus(put(tmp_path, "c.txt", TEXT), val_path=put(tmp_path, "d.txt", "L"))
    with pytest.raises(UserError, match=r"d\.txt has 1 tokens, at least 2 are expected"):
        short.val_dataloader()


def test_the_loaders_of_the_data_module(tmp_path):
    data = TextCorpus(put(tmp_path, "a.txt", TEXT), block_size=32, batch_size=4)
    batch = next(iter(data.train_dataloader()))
    assert batch.tokens.shape == (4, 33)
    assert data.tokens_per_step == 128
    assert data.tokenizer.decode(batch.tokens[0].tolist()) in TEXT
    val = data.val_dataloader()
    assert (val.context, val.stride, val.rows) == (32, 32, 256)
    assert sum(int(b.scored.sum()) for b in val) == len(data.stream("val"))
    position = data.state_dict()
    assert position == {"micro_batch": 1, "accumulate": 1, "tokens_per_step": 128}
    again = TextCorpus(put(tmp_path, "a.txt", TEXT), block_size=32, batch_size=4)
    again.load_state_dict(position)
    assert torch.equal(next(iter(again.train_dataloader())).tokens, list(data.train_dataloader())[1].tokens)
    other = TextCorpus(put(tmp_path, "a.txt", TEXT), block_size=32, batch_size=8)
    other.load_state_dict(position)
    with pytest.raises(UserError, match="a step takes 256 tokens now but took 128"):
        other.train_dataloader()
    other.allow_changes = True
    assert other.train_dataloader().micro_batch == 1


@pytest.mark.parametrize("tokenizer", ["char", "bpe"])
def test_a_text_is_encoded_once(tmp_path, monkeypatch, tokenizer):
    path = put(tmp_path, "a.txt", TEXT)

    def files():
        data = TextCorpus(path, tokenizer, bpe_vocab_size=300)
        data.prepare_data()
        return {p: p.stat().st_mtime_ns for p in cache_folder().rglob("*") if p.is_file()}, data

    before, first = files()
    monkeypatch.setattr("lit_gen.data.corpus.encode", lambda *a, **k: pytest.fail("encoded again"))
    monkeypatch.setattr("lit_gen.data.corpus.train_bpe", lambda *a, **k: pytest.fail("learned again"))
    monkeypatch.setattr("lit_gen.data.documents._read", lambda *a, **k: pytest.fail("read again"))
    after, second = files()
    assert before == after
    assert np.array_equal(first.stream("train").tokens, second.stream("train").tokens)


def test_a_changed_file_is_noticed(tmp_path):
    path = put(tmp_path, "a.txt", TEXT)
    first = TextCorpus(path)
    old = first.stream("train").tokens.copy()
    put(tmp_path, "a.txt", TEXT.swapcase())
    os.utime(path, (0, 0))
    second = TextCorpus(path)
    assert second.tokenizer.decode(second.stream("train").tokens) == TEXT.swapcase()[: len(old)]
    assert first.text_sha256 != second.text_sha256


def test_a_damaged_cache_is_refused_by_name(tmp_path):
    path = put(tmp_path, "a.txt", TEXT)
    (_, tokens, _) = TextCorpus(path).files()
    tokens.write_bytes(tokens.read_bytes()[:-2])
    with pytest.raises(UserError, match=rf"{tokens.name} is truncated or damaged.*delete it"):
        TextCorpus(path).stream("train")
    tokens.unlink()
    assert len(TextCorpus(path).stream("train"))
    TextCorpus(path, "bpe").prepare_data()
    (learned,) = tokens.parent.glob("bpe*.json")
    learned.write_text(learned.read_text(encoding="utf-8")[:-5], encoding="utf-8")
    with pytest.raises(UserError, match=rf"{learned.name}: the stored tokenizer is damaged.*delete it"):
        _ = TextCorpus(path, "bpe").vocab_size


def test_a_character_that_is_missing_is_named_with_its_place(tmp_path):
    data = TextCorpus(put(tmp_path, "a.txt", "a" * 50 + "b" + "a" * 49))
    data.adopt_tokenizer(CharTokenizer("a").to_json(), "another text")
    with pytest.raises(UserError, match=r"data\.path, a\.txt: the text has 'b' at position 50, which"):
        data.stream("test")


@pytest.mark.parametrize("documents", [False, True])
def test_the_place_of_a_missing_character_is_that_in_the_whole_text(tmp_path, monkeypatch, documents):
    monkeypatch.setattr(encoding.encode, "__kwdefaults__", encoding.encode.__kwdefaults__ | {"shard": 16})
    paths = [put(tmp_path, "a.txt", "a" * 60), put(tmp_path, "b.txt", "a" * 35 + "b" + "a" * 4)]
    text = put(tmp_path, "c.txt", "a" * 95 + "b" + "a" * 4)
    data = TextCorpus(paths if documents else text, val_fraction=0.4)
    data.adopt_tokenizer(CharTokenizer("a", end_of_text=documents).to_json(), data.text_sha256)
    data.stream("train")
    with pytest.raises(UserError, match=r"the text has 'b' at position 95, which is none of the 1 characters"):
        data.stream("val")


def test_an_adopted_tokenizer_is_used_and_another_text_is_tested_whole(tmp_path):
    path = put(tmp_path, "a.txt", TEXT)
    trained = TextCorpus(path, "bpe", bpe_vocab_size=300)
    stored = trained.tokenizer.to_json()
    same = TextCorpus(path, "bpe", bpe_vocab_size=256)
    same.adopt_tokenizer(stored, trained.text_sha256)
    assert same.tokenizer.sha256 == trained.tokenizer.sha256
    assert not same.foreign
    assert np.array_equal(same.stream("test").tokens, trained.stream("val").tokens)
    other = TextCorpus(put(tmp_path, "b.txt", "something else\n" * 20), "bpe")
    assert other.vocab_size < 300
    other.adopt_tokenizer(stored, trained.text_sha256)
    assert other.foreign
    other.prepare_data()
    stream = other.stream("test")
    assert other.tokenizer.decode(stream.tokens.tolist()) == "something else\n" * 20
    assert (stream.prefix, stream.vocab_size) == (None, 300)
    assert set(other.protocol) & {"train", "val", "test"} == {"test"}
    assert sum(int(b.scored.sum()) for b in other.test_dataloader()) == len(stream) - 1


def test_another_text_needs_no_split(tmp_path):
    data = TextCorpus([put(tmp_path, "a.txt", "abab")])  # one document: there is nothing to hold out
    data.adopt_tokenizer(CharTokenizer("ab", end_of_text=True).to_json(), "another text")
    data.prepare_data()
    assert data.stream("test").tokens.tolist() == [0, 1, 0, 1, 2]
    assert data.val_dataloader() == []
    assert data.protocol["test"]["documents"] == 1
    for split in ("train", "val"):
        with pytest.raises(UserError) as refused:
            data.stream(split)
        assert str(refused.value) == (
            f"data.path: a.txt is not the text that the model was trained on (sha256 another text then, "
            f"{data.text_sha256[:12]} now); test scores it whole"
        )


def test_documents_without_an_end_in_the_adopted_tokenizer_run_on(tmp_path):
    paths = [put(tmp_path, f"{i}.txt", "ab" * (i + 1)) for i in range(3)]
    data = TextCorpus(paths)
    data.adopt_tokenizer(CharTokenizer("ab").to_json(), "another text")
    stream = data.stream("test")
    assert (stream.tokens.tolist(), stream.prefix, stream.end_of_text) == ([0, 1] * 6, None, None)
    assert stream.documents == 3


def test_a_tokenizer_of_a_file_under_the_root(tmp_path):
    path = put(tmp_path, "a.txt", TEXT)
    library = TextCorpus(path, "bpe", bpe_vocab_size=300).tokenizer._library
    library.save(put(tmp_path, "root/mine.json", ""))
    shutil.copy(path, tmp_path / "root")
    data = TextCorpus("a.txt", "mine.json", root=str(tmp_path / "root"), workers=1)
    assert data.tokenizer.name == "mine"
    assert data.tokenizer.decode(data.stream("val").tokens) == TEXT[int(len(TEXT) * 0.9) :]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val_fraction": 1.5}, r"data\.val_fraction: 1\.5 was found, a number from 0 to below 1 is expected"),
        ({"val_fraction": -0.1}, r"data\.val_fraction: -0\.1 was found"),
        ({"block_size": 0}, r"data\.block_size: 0 was found, a whole number of at least 1"),
        ({"batch_size": 0}, r"data\.batch_size: 0 was found"),
        ({"workers": 0}, r"data\.workers: 0 was found"),
        ({"grammar_characters": 0}, r"data\.grammar_characters: 0 was found"),
        ({"bpe_vocab_size": 255}, r"data\.bpe_vocab_size: 255 was found, a whole number of at least 256"),
        ({"tokenizer": "bytes"}, r"data\.tokenizer: bytes was found; char, byte, bpe.*did you mean 'byte'"),
        ({"path": ["nowhere.txt", "grammar"]}, r"data\.path: grammar was found in a list.* cannot stand in a list"),
        ({"val_path": ["embedded"]}, r"data\.val_path: embedded was found in a list.* cannot stand in a list"),
        ({"path": "nowhere.txt"}, r"data\.path: nowhere\.txt was not found"),
        ({"val_path": "nowhere.txt"}, r"data\.val_path: nowhere\.txt was not found"),
        ({"test_path": "nowhere.txt"}, r"data\.test_path: nowhere\.txt was not found"),
    ],
)
def test_wrong_options_are_refused_by_name(options, message):
    with pytest.raises(UserError, match=message):
        TextCorpus(**options)


# ---- what is trained on and held out


def test_documents_that_are_trained_on_are_not_held_out(tmp_path):
    train = [put(tmp_path, f"t/{i}.txt", f"document {i} of the training text") for i in range(5)]
    held = [put(tmp_path, f"h/{i}.txt", f"document {i} of the training text" + "!" * (i != 3)) for i in range(2, 5)]
    message = (
        r"1 of its 3 documents stand in the training text too, the first is 3\.txt, 'document 3 of the training text'"
    )
    for option in ("val_path", "test_path"):
        with pytest.raises(UserError, match=rf"data\.{option}: {message}; documents that are not trained on"):
            TextCorpus(train, **{option: held}).prepare_data()
    records = put(tmp_path, "r.jsonl", "".join(json.dumps({"text": text}) + "\n" for text in ["new", "a" * 50, "b"]))
    again = put(tmp_path, "again.jsonl", "".join(json.dumps({"text": text}) + "\n" for text in ["b", "a" * 50, "c"]))
    with pytest.raises(UserError, match=r"val_path: 2 of its 3 .* the first is again\.jsonl, 'b'; "):
        TextCorpus(records, val_path=again, column="text").prepare_data()
    unseen = TextCorpus(train, val_path=[held[0], held[2]], test_path=held[2], block_size=8)
    unseen.prepare_data()
    assert unseen.stream("val").documents == 2


def test_a_text_that_is_trained_on_is_not_held_out(tmp_path):
    path, copy = put(tmp_path, "a.txt", TEXT), put(tmp_path, "copy.txt", TEXT)
    for held in (path, copy):
        for option in ("val_path", "test_path"):
            with pytest.raises(UserError, match=rf"data\.{option}: .* stands in the training text too, as a whole"):
                TextCorpus(path, **{option: held}).prepare_data()
    with pytest.raises(
        UserError, match=r"copy\.txt stands in the training text too, as a whole \(it begins with 'Line 0"
    ):
        TextCorpus([path, put(tmp_path, "b.txt", "b")], val_path=copy).prepare_data()
    with pytest.raises(UserError, match=r"val_path: 1 of its 2 documents .*, the first is copy\.txt, 'Line 0"):
        TextCorpus(path, val_path=[put(tmp_path, "b.txt", "b"), copy]).prepare_data()
    TextCorpus(path, val_path=put(tmp_path, "c.txt", TEXT[:-1])).prepare_data()


def test_documents_on_both_sides_of_a_split_are_counted_and_named_once(tmp_path, capsys):
    note.cache_clear()
    texts = ["one " * 9, "two " * 9, "three " * 9, "two " * 9, "four " * 9, "one " * 9]
    paths = [put(tmp_path, f"{i}.txt", text) for i, text in enumerate(texts)]
    for _ in range(2):  # the second time from what is kept
        TextCorpus(paths, val_fraction=0.5).prepare_data()
    said = capsys.readouterr().err
    assert said == (
        "note: 2 of the 3 held-out documents of "
        f"{Path(paths[0]).name}+5 stand in the training part too, the first is 3.txt, {('two ' * 9)[:40]!r}\n"
    )
    TextCorpus(paths[:3], val_fraction=0.5).prepare_data()
    TextCorpus(put(tmp_path, "a.txt", "ab" * 50), val_fraction=0.5).prepare_data()
    assert capsys.readouterr().err == ""


def test_the_floor_is_that_of_the_split(tmp_path):
    path = put(tmp_path, "a.txt", TEXT)
    data = TextCorpus("grammar", grammar_characters=5000, test_path=path)
    floor = ENGLISH.entropy_bits_per_char
    assert [data.entropy(split) for split in ("train", "val", "test")] == [floor, floor, None]
    data = TextCorpus(path, test_path="grammar", grammar_characters=5000)
    assert [data.entropy(split) for split in ("train", "val", "test")] == [None, None, floor]


# ---- damage and change


def damage(path, place, value, width=2):
    with path.open("r+b") as file:
        file.seek(4096 + width * place)
        file.write(value.to_bytes(width, "little"))


@pytest.mark.parametrize("on_device", [False, True])
def test_an_id_beyond_the_vocabulary_is_refused_with_the_file(tmp_path, on_device):
    path = put(tmp_path, "a.txt", TEXT)
    data = TextCorpus(path, block_size=32, batch_size=64, on_device=on_device)
    _, train, val = data.files()
    for place in range(0, 10_000, 100):
        damage(train, place, 40_000)
    damage(val, 0, data.vocab_size)
    message = "less than {} .the size of the vocabulary. is expected; the file is damaged: delete it"
    fresh = TextCorpus(path, block_size=32, batch_size=64, on_device=on_device)
    with pytest.raises(UserError, match=rf"{train.name}: the id 40000 was found, {message.format(data.vocab_size)}"):
        list(fresh.train_dataloader())
    with pytest.raises(UserError, match=rf"{val.name}: the id {data.vocab_size} was found"):
        list(fresh.val_dataloader())
    damage(train, len(data.stream("train")) - 1, 40_000)  # the token before the held-out part
    with pytest.raises(UserError, match=rf"{train.name}: the id 40000 was found"):
        TextCorpus(path).stream("val")


@pytest.mark.parametrize("when", ["the scan", "learning"])
def test_a_text_that_changes_after_the_scan_is_not_kept_under_its_name(tmp_path, monkeypatch, when):
    path = put(tmp_path, "a.txt", TEXT)
    status = Path(path).stat()
    data = TextCorpus(path, "byte" if when == "the scan" else "bpe", bpe_vocab_size=300)
    assert data.text_sha256
    put(tmp_path, "a.txt", TEXT.swapcase())  # of the same size
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000))
    with pytest.raises(UserError, match=r"a\.txt has changed while it was read; run the command again"):
        data.prepare_data()
    assert not [p for p in cache_folder().rglob("*") if p.suffix in (".tokens", ".json", ".partial")]
    put(tmp_path, "a.txt", TEXT)  # as it was: nothing of the other text is taken for it
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    again = TextCorpus(path, data.tokenizer_spec, bpe_vocab_size=300)
    assert again.tokenizer.decode(again.stream("train").tokens.tolist()) == TEXT[: int(0.9 * len(TEXT))]


def test_another_number_of_characters_than_was_scanned_is_refused(tmp_path):
    with pytest.raises(UserError, match="characters were found, 7 are expected: the text has changed"):
        encode(tmp_path / "t", CharTokenizer(TEXT), characters=7)
    assert not (tmp_path / "t").exists()


# ---- a checkpoint's tokenizer


def test_a_tokenizer_that_is_not_the_checkpoints_is_refused(tmp_path):
    path = put(tmp_path, "a.txt", TEXT)
    learned = TextCorpus(path, "bpe", bpe_vocab_size=300)
    stored = {"char": TextCorpus(path).tokenizer, "byte": TextCorpus(path, "byte").tokenizer, "bpe": learned.tokenizer}
    for found in stored:
        for kind, tokenizer in stored.items():
            data = TextCorpus(path, found)
            if found == kind:
                data.adopt_tokenizer(tokenizer.to_json(), data.text_sha256)
                continue
            trained = "bpe300" if kind == "bpe" else kind
            expected = rf"data\.tokenizer: {found} was found, but the checkpoint's model was trained with {trained}"
            with pytest.raises(UserError, match=expected):
                data.adopt_tokenizer(tokenizer.to_json(), data.text_sha256)
    library = learned.tokenizer._library
    library.save(put(tmp_path, "mine.json", ""))
    for text in (path, [path]):  # of documents, with an end of text
        mine = TextCorpus(text, "mine.json", val_fraction=0).tokenizer.to_json()
        for other in (path, [path]):
            TextCorpus(other, "mine.json").adopt_tokenizer(mine, "another text")
    TextCorpus(path, "bpe", bpe_vocab_size=280).tokenizer._library.save(put(tmp_path, "other.json", ""))
    for name in ("mine.json", "other.json"):
        wrong = stored["char"] if name == "mine.json" else learned.tokenizer
        with pytest.raises(
            UserError, match=rf"data\.tokenizer: {name} was found \(sha256 .* was trained with \w+ \(sha"
        ):
            TextCorpus(path, name).adopt_tokenizer(wrong.to_json(), "another text")


# ---- where training continues


class Seen(LightningModule):
    """Records which crops it is trained on."""

    def __init__(self):
        super().__init__()
        self.layer, self.tokens = torch.nn.Linear(1, 1), []

    def training_step(self, batch, batch_idx):
        self.tokens.append(batch.tokens.tolist())
        return self.layer(torch.ones(1)).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fitted(data, epochs, checkpoint=None, save=None, **options):
    module, quiet = Seen(), {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(
        accelerator="cpu", max_epochs=epochs, accumulate_grad_batches=2, limit_val_batches=0,
        enable_checkpointing=False, **quiet, **options,
    )  # fmt: skip
    trainer.fit(module, data, ckpt_path=checkpoint)
    if save:
        trainer.save_checkpoint(save)
    return module.tokens


@pytest.mark.filterwarnings(
    "ignore::UserWarning", "ignore::lightning.fabric.utilities.rank_zero.LightningDeprecationWarning"
)
@pytest.mark.parametrize("limit", [None, 4])
def test_a_loader_that_is_made_anew_goes_on(tmp_path, limit):
    path = put(tmp_path, "a.txt", TEXT)

    def fresh():
        return TextCorpus(path, block_size=128, batch_size=4)

    expected = fitted(fresh(), 4, limit_train_batches=limit)
    assert len(expected) == 4 * (limit or 20)
    assert len({str(tokens) for tokens in expected}) == len(expected)
    again = {"reload_dataloaders_every_n_epochs": 1, "limit_train_batches": limit}
    assert fitted(fresh(), 4, **again) == expected
    half, data = str(tmp_path / "half.ckpt"), fresh()
    assert fitted(data, 2, save=half, **again) == expected[: len(expected) // 2]
    for resumed in (fresh(), data):  # in the same process too
        assert fitted(resumed, 4, checkpoint=half, **again) == expected[len(expected) // 2 :]
    data.load_state_dict({"micro_batch": 2, "accumulate": 2, "tokens_per_step": 1024})  # as testing a checkpoint does
    assert fitted(data, 1, limit_train_batches=limit) == expected[: len(expected) // 4]  # a new fit


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_text_that_has_changed_is_not_trained_on(tmp_path):
    data = TextCorpus(put(tmp_path, "a.txt", TEXT), block_size=128, batch_size=4)
    data.adopt_tokenizer(CharTokenizer("ab").to_json(), "another text")  # that lacks its characters
    with pytest.raises(UserError, match=r"a\.txt is not the text that the model was trained on \(sha256 anot"):
        fitted(data, 1)


# ---- folders that cannot be written, patterns that are none


@pytest.mark.parametrize("place", ["file", "/proc/nope"])
def test_a_cache_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch, place):
    text = put(tmp_path, "a.txt", TEXT)
    if place == "file":
        place = put(tmp_path, "file", "")
    elif sys.platform != "linux":
        pytest.skip("needs /proc")
    monkeypatch.setenv("LIT_GEN_CACHE", place)
    message = rf"the cache folder {place} cannot be written \([A-Z].*\); set LIT_GEN_CACHE to one that can"
    for make in (lambda: TextCorpus("grammar"), lambda: TextCorpus(text).prepare_data()):
        with pytest.raises(UserError, match=message):
            make()
    with pytest.raises(UserError, match=message):  # also where the scan needs no cache
        TextCorpus("embedded", "byte").prepare_data()


def test_a_full_disk_is_named_and_other_errors_are_not_mistaken_for_it(tmp_path):
    def fails(number):
        def write(path):
            raise OSError(number, os.strerror(number))

        return write

    with pytest.raises(UserError, match=r"cannot be written \(No space left on device\); set LIT_GEN_CACHE"):
        cached("x", fails(errno.ENOSPC))
    with pytest.raises(OSError, match="No such file"):
        cached("x", fails(errno.ENOENT))
    assert not list(cache_folder().iterdir())


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="is a pattern there")
def test_a_wrong_pattern_is_refused(tmp_path):
    with pytest.raises(
        UserError, match=r"data\.path: t/\*\*x/\*\.txt is no pattern of files \(.*\), books/\*\*/\*\.txt is one"
    ):
        TextCorpus("t/**x/*.txt")
