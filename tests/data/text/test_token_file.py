"""Files of tokens: what comes back, and what is refused."""

import json

import numpy as np
import pytest
from support.texts import header

from lit_gen.core.errors import UserError
from lit_gen.data.text import token_file


@pytest.mark.parametrize(("vocab_size", "width"), [(2**16, 2), (2**16 + 1, 4), (2, 2), (2**20, 4)])
def test_ids_come_back_in_the_smallest_type_that_holds_them(tmp_path, vocab_size, width):
    ids = np.array([0, 1, vocab_size - 1])
    wanted = header(vocab_size=vocab_size, part=(0, 9))
    written = token_file.write(
        tmp_path / "t", wanted, [(ids, 5, 4, 1, ""), (ids[:1], 1, 1, 0, "a"), (ids[:0], 0, 0, 0, "b")]
    )
    found = token_file.load(tmp_path / "t", wanted)
    assert found.header == written
    assert (found.header.tokens, found.header.text_bytes, found.header.characters) == (4, 6, 5)
    assert (found.header.documents, found.header.complete, found.header.lost) == (1, True, "a")
    assert found.tokens.tolist() == [*ids.tolist(), 0]
    assert isinstance(found.tokens, np.memmap)
    assert found.tokens.itemsize == width
    assert (tmp_path / "t").stat().st_size == 4096 + 4 * width


def test_an_id_beyond_the_vocabulary_is_never_written(tmp_path):
    with pytest.raises(AssertionError):
        token_file.write(tmp_path / "t", header(part=(0, 1)), [(np.array([300]), 1, 1, 0, "")])


def test_damaged_token_files_are_refused_by_name(tmp_path):
    path = tmp_path / "t"
    token_file.write(path, header(part=(0, 1)), [(np.arange(10), 10, 10, 0, "")])
    good = path.read_bytes()
    for content, message in [
        (good[:-1], "truncated or damaged: it has 4115 bytes, 4116 are expected"),
        (good + b"\0", "truncated or damaged"),
        (b"PK" + good, "is no token file"),
        (b"", "is no token file"),
        (good[:100], "damaged header"),
        (good.replace(b'"version": 2', b'"version": 1'), "of version 1, 2 is expected"),
        (good.replace(b'"complete": true', b'"complete": false'), "is incomplete"),
        (good.replace(b'"tokens": 10', b'"tokens": 11'), "4118 are expected"),
    ]:
        path.write_bytes(content)
        with pytest.raises(UserError, match=message) as refused:
            token_file.load(path)
        assert str(path) in str(refused.value)
        assert "move it away" in str(refused.value)
    path.write_bytes(good)
    for name, value in {"tokenizer_sha256": "z", "text_sha256": "z", "vocab_size": 301, "part": (0, 2)}.items():
        with pytest.raises(UserError, match=f"made from something else \\({name} is"):
            token_file.load(path, header(**{"part": (0, 1), name: value}))


def test_headers_of_other_types_are_refused_by_name(tmp_path):
    path = tmp_path / "t"
    token_file.write(path, header(part=(0, 1)), [(np.arange(10), 10, 10, 0, "")])
    good = path.read_bytes()
    found = json.loads(good[len(token_file.MAGIC) : 4096])
    for name, value in [
        ("tokens", "10"), ("tokens", 10.0), ("tokens", True), ("tokens", -2048), ("tokens", None),
        ("vocab_size", "os.system"), ("vocab_size", 300.0), ("version", 2.0), ("complete", 1), ("lost", 0),
        ("part", [0, "1"]), ("part", [0]), ("part", [-1, 1]), ("tokenizer", ["x"]),
    ]:  # fmt: skip
        raw = token_file.MAGIC + json.dumps(found | {name: value}).encode()
        path.write_bytes(raw.ljust(4096) + good[4096:])
        with pytest.raises(UserError, match=rf"t has a damaged header \({name} is .*\); move it away"):
            token_file.load(path)
    path.write_bytes((token_file.MAGIC + b"[" * 4080).ljust(4096))
    with pytest.raises(UserError, match="t has a damaged header"):
        token_file.load(path)
