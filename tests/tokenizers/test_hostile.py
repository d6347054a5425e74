"""Tokenizers of others: bounded, one sentence, the library's panics too."""

import json

import pytest

from lit_gen.core.errors import UserError
from lit_gen.tokenizers.bpe import BpeTokenizer, read_bpe
from lit_gen.tokenizers.stored import from_json

PLAIN = {
    "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
    "pre_tokenizer": None, "post_processor": None, "decoder": None,
    "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
              "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
              "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]},
}  # fmt: skip


def changed(**parts):
    return json.dumps({**PLAIN, **parts})


def model(**parts):
    return changed(model={**PLAIN["model"], **parts})


FILES = {
    "an id of two thousand million": model(vocab={"a": 0, "b": 1, "ab": 2_000_000_000}),
    "an id of a million": model(vocab={"a": 0, "b": 1, "ab": 1_000_000}),
    "an added id of another kind": changed(added_tokens=[{"id": "spy", "content": "x"}]),
    "a negative id": model(vocab={"a": -1, "b": 1}),
    "merges of nothing": model(merges=[["x", "y"]]),
    "no merges": model(merges=3),
    "another kind": model(type="Spy"),
    "a broken pattern": changed(pre_tokenizer={"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated",
                                               "invert": False}),
    "a broken map": changed(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
    "a list": "[]",
    "nothing": "",
    "text": "hello",
    "deep": "[" * 100_000,
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_tokenizer_that_is_none(tmp_path, name):
    (tmp_path / "tokenizer.json").write_text(FILES[name], encoding="utf-8")
    with pytest.raises(UserError, match=r"^data.tokenizer: tokenizer [^\n]*$"):
        read_bpe(tmp_path / "tokenizer.json", end_of_text=False)


def test_the_plain_one_is_read():
    assert BpeTokenizer(json.dumps(PLAIN), "plain").encode("aab") == [0, 2]


@pytest.mark.parametrize(
    "stored",
    [
        '{"kind": "char", "characters": "ab", "end_of_text": 2000000000}',
        '{"kind": "char", "characters": ["a", 3], "end_of_text": false}',
        '{"kind": "byte", "end_of_text": 1.5}',
        '{"kind": "bpe", "end_of_text": false}',
        '{"kind": "bpe", "name": "x", "end_of_text": false, "tokenizer": {}}',
        '{"kind": "spy.Tokenizer", "end_of_text": false}',
        "3",
        "[" * 100_000,
    ],
    ids=range(8),
)
def test_what_a_checkpoint_stores(stored):
    with pytest.raises(UserError, match=r"tokenizer"):
        from_json(stored)
