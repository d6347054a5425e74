"""Tokenizers of others: bounded, one sentence, the library's panics too."""

import base64
import json
from types import SimpleNamespace

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


REPLACE = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 100}
GROWING = {
    "a text of a megabyte": {**REPLACE, "content": "a" * 1_000_000},
    "one after the other": {"type": "Sequence", "normalizers": [REPLACE] * 3},
    "by a pattern": {**REPLACE, "pattern": {"Regex": "a*"}, "content": "a" * 1001},
    "by a table": {"type": "Precompiled",
                   "precompiled_charsmap": base64.b64encode(b"\4\0\0\0abcd" + b"x" * 1001 + b"\0").decode()},
    "before": {"type": "Prepend", "prepend": "a" * 1001},
}  # fmt: skip


def test_texts_that_grow_without_bound():
    for normalizer in GROWING.values():
        with pytest.raises(UserError, match=r"^data\.tokenizer: the normalizer of x makes [\d,]+ characters of one"):
            BpeTokenizer(changed(normalizer=normalizer), "x")
    with pytest.raises(UserError, match=r"the decoder of x makes 1,000,000 characters of one"):
        BpeTokenizer(changed(decoder={"type": "Sequence", "decoders": [REPLACE] * 3}), "x")
    with pytest.raises(UserError, match=r"end_of_word_suffix of x has 2,000 characters"):
        BpeTokenizer(model(end_of_word_suffix="x" * 2000), "x")
    usual = [{"type": "Replace", "pattern": {"String": " "}, "content": "▁"}, {"type": "Prepend", "prepend": "▁"}]
    grown = BpeTokenizer(changed(normalizer={"type": "Sequence", "normalizers": [*usual, {"type": "NFKC"}]}), "x")
    assert grown.encode("ab") == [2]


@pytest.mark.parametrize("kind", ["tokenizer.json", "vocab.json"])
def test_ids_are_compared_before_the_library_takes_memory_for_them(tmp_path, monkeypatch, kind):
    import tokenizers

    def asked(*_):
        raise AssertionError("the library was asked")

    monkeypatch.setattr(tokenizers, "Tokenizer", SimpleNamespace(from_str=asked))
    monkeypatch.setattr(tokenizers.models, "BPE", SimpleNamespace(from_file=asked))
    vocabulary = {"a": 0, "b": 2_000_000_000}
    content = model(vocab=vocabulary) if kind == "tokenizer.json" else json.dumps(vocabulary)
    (tmp_path / kind).write_text(content, encoding="utf-8")
    (tmp_path / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"has 2 tokens, but ids up to 2,000,000,000"):
        read_bpe(tmp_path, end_of_text=False)


def test_the_library_reads_what_was_checked():
    twice = json.dumps(PLAIN).replace('"vocab": {', '"vocab": {"c": 2000000000, "c": 3, ')
    assert BpeTokenizer(twice, "x").vocab_size == 4


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
