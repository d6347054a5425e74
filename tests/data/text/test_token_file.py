"""Files of tokens: what comes back, and what is refused."""

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
