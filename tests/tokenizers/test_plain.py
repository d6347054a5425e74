"""Characters and bytes."""

from hypothesis import given, settings
from support.tokenized import (
    ANYTHING,
    bpe,  # noqa: F401  a fixture
)

from lit_gen.tokenizers.plain import ByteTokenizer, CharTokenizer


@settings(max_examples=100, deadline=None)
@given(text=ANYTHING)
def test_characters_come_back(text):
    tokenizer = CharTokenizer(text, end_of_text=True)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode([*ids, tokenizer.end_of_text]) == text
    assert tokenizer.characters == "".join(sorted(set(text)))
    assert ids == [tokenizer.characters.index(c) for c in text]
    assert tokenizer.vocab_size == len(set(text)) + 1


def test_wrong_utf8_becomes_the_replacement_character(bpe):
    for tokenizer in (ByteTokenizer(), bpe):
        ids = tokenizer.encode("é") if tokenizer is not bpe else bpe.encode("\u00ff")
        assert len(ids) == 2
        assert tokenizer.decode(ids[:1]) == "\ufffd"
        assert tokenizer.decode(ids[:1] + tokenizer.encode("a")) == "\ufffda"
