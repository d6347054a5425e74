"""Tokenizers as a checkpoint stores them: any of ours from its JSON."""

import json

from lit_gen.core.errors import UserError
from lit_gen.tokenizers.bpe import BpeTokenizer
from lit_gen.tokenizers.plain import ByteTokenizer, CharTokenizer

TextTokenizer = CharTokenizer | ByteTokenizer | BpeTokenizer
"""The tokenizers of texts: `lit_gen.protocols.text.Tokenizer` with `encode_array` and `cut`."""


def from_json(text: str) -> "TextTokenizer":
    """The tokenizer that wrote ``text`` with its `to_json`.

    Raises:
        UserError: if ``text`` is nothing of the kind.
    """
    try:
        stored = json.loads(text)
        if not isinstance(stored.get("end_of_text"), bool) or not isinstance(stored.get("characters", ""), str):
            raise TypeError("end_of_text: true or false, and characters: a text, are expected")
        if stored["kind"] == "char":
            return CharTokenizer(stored["characters"], stored["end_of_text"])
        if stored["kind"] == "byte":
            return ByteTokenizer(stored["end_of_text"])
        if stored["kind"] == "bpe":
            return BpeTokenizer(json.dumps(stored["tokenizer"]), stored["name"], stored["end_of_text"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"the stored tokenizer is damaged ({type(error).__name__}: {str(error)[:200]})") from None
    raise UserError(f"the stored tokenizer is of the kind {stored['kind']!r}; char, byte or bpe is expected")
