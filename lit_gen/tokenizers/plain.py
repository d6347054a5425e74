"""Characters and bytes as tokens, and what holds of all tokenizers, byte-level BPE (`bpe.py`) among them.

Byte-level BPE: Radford et al., 2019, https://cdn.openai.com/better-language-models/language_models.pdf, on Sennrich et
al., 2016, https://arxiv.org/abs/1508.07909. All three give back any text that they encode; a foreign ``tokenizer.json``
does what its own rules say.

The text of a special token (a literal ``<|endoftext|>`` in the corpus) is ordinary text for `encode`: a document cannot
smuggle in its own end. Only the code that joins documents writes the id `end_of_text`.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from lit_gen.core.errors import UserError

Cut = Literal["character", "line", "document"]
"""Where a text may be cut so that the pieces, encoded one by one, give the tokens of the whole: at any character; after
a newline between two characters that are not whitespace; nowhere."""


class CharTokenizer:
    """One id per character, in the order of their code points; the end of text comes last.

    Args:
        characters: the vocabulary; order and repetitions do not matter.
        end_of_text: whether there is an id for the end of a document.
    """

    name = "char"
    cut: Cut = "character"
    exact = True

    def __init__(self, characters: str, end_of_text: bool = False) -> None:
        self.characters = "".join(sorted(set(characters)))
        self.end_of_text = len(self.characters) if end_of_text else None
        self.vocab_size = len(self.characters) + end_of_text
        self._points = _code_points(self.characters)
        self._ids = np.full(int(self._points.max(initial=0)) + 2, -1, dtype=np.int64)  # the last: all that is beyond
        self._ids[self._points] = np.arange(len(self._points))
        self.sha256 = _sha256(self._json())

    def encode(self, text: str) -> list[int]:
        """The ids of ``text``; see `encode_array`."""
        ids: list[int] = self.encode_array(text).tolist()
        return ids

    def encode_array(self, text: str, begin: int = 0) -> np.ndarray:
        """The ids of ``text``, int64 (len(text),).

        Args:
            text: what to encode.
            begin: number of its first character in the text that it is a piece of, for messages.

        Raises:
            UserError: for a character that the vocabulary lacks.
        """
        ids: np.ndarray = self._ids[np.minimum(_code_points(text), len(self._ids) - 1)]
        if len(ids) and ids.min() < 0:
            position = int(np.argmax(ids < 0))
            raise UserError(
                f"the text has {text[position]!r} at position {begin + position:,}, which is not one of the "
                f"{len(self.characters)} characters of the vocabulary"
            )
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ``ids``; ids without a character are dropped."""
        return "".join(self.characters[i] for i in ids if 0 <= i < len(self.characters))

    def to_json(self) -> str:
        """Everything that rebuilds it."""
        return json.dumps(self._json())

    def _json(self) -> dict[str, Any]:
        return {"kind": "char", "characters": self.characters, "end_of_text": self.end_of_text is not None}


class ByteTokenizer:
    """One id per byte of UTF-8, 0 to 255; 256 ends a document.

    Args:
        end_of_text: whether there is an id for the end of a document.
    """

    name = "byte"
    cut: Cut = "character"
    exact = True

    def __init__(self, end_of_text: bool = False) -> None:
        self.end_of_text = 256 if end_of_text else None
        self.vocab_size = 256 + end_of_text
        self.sha256 = _sha256(self._json())

    def encode(self, text: str) -> list[int]:
        """The bytes of ``text``."""
        return list(_utf8(text))

    def encode_array(self, text: str, begin: int = 0) -> np.ndarray:
        """The bytes of ``text``, uint8 (n,), which begins at character ``begin`` of a longer one."""
        return np.frombuffer(_utf8(text, begin), np.uint8)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ``ids``; invalid UTF-8 becomes U+FFFD."""
        return bytes(i for i in ids if 0 <= i < 256).decode("utf-8", "replace")

    def to_json(self) -> str:
        """Everything that rebuilds it."""
        return json.dumps(self._json())

    def _json(self) -> dict[str, Any]:
        return {"kind": "byte", "end_of_text": self.end_of_text is not None}


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def _utf8(text: str, begin: int = 0) -> bytes:
    """UTF-8 of ``text``.

    Raises:
        UserError: for half a surrogate pair, as a damaged command line may hold.
    """
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(
            f"the text has half a surrogate pair at position {begin + error.start:,}, which is no character"
        ) from None


def _sha256(stored: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(stored, sort_keys=True).encode()).hexdigest()
