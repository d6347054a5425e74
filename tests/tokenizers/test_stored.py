"""Tokenizers rebuilt from what a checkpoint stores."""

import json

import pytest
from support.tokenized import (
    TEXT,
    bpe,  # noqa: F401  a fixture
)

from lit_gen.tokenizers.bpe import train_bpe
from lit_gen.tokenizers.plain import ByteTokenizer, CharTokenizer
from lit_gen.tokenizers.stored import from_json


@pytest.mark.parametrize("end", [False, True])
def test_json_rebuilds(bpe, end):
    for tokenizer in (CharTokenizer("hello é\n", end), ByteTokenizer(end), train_bpe([TEXT], 300, end)):
        again = from_json(json.dumps(json.loads(tokenizer.to_json())))
        names = ("name", "vocab_size", "end_of_text", "sha256", "cut")
        assert [getattr(again, n) for n in names] == [getattr(tokenizer, n) for n in names]
        assert again.encode("hello") == tokenizer.encode("hello")


def test_sha256_tells_tokenizers_apart(bpe):
    tokenizers = [CharTokenizer("ab"), CharTokenizer("abc"), CharTokenizer("ab", True), ByteTokenizer()]
    tokenizers += [ByteTokenizer(True), bpe, train_bpe([TEXT], 309, True)]
    assert len({t.sha256 for t in tokenizers}) == len(tokenizers)
    assert CharTokenizer("bab").sha256 == CharTokenizer("ab").sha256
