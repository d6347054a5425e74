"""Byte-level BPE over the library `tokenizers`: trained here, or read from the files that others publish."""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lit_gen.core.errors import UserError
from lit_gen.tokenizers import bounds
from lit_gen.tokenizers.plain import Cut

if TYPE_CHECKING:
    import tokenizers

END_OF_TEXT = "<|endoftext|>"
LONGEST_WORD = 1000
"""Characters of a word, at most, that BPE learns from: the time to learn grows with the square of it."""
_LONG = re.compile(  # runs of what the library takes for white space, which \x1c to \x1f are not, or of all else
    r"(?<![\S\x1c-\x1f])[\S\x1c-\x1f]{N,}|(?<![^\S\x1c-\x1f])[^\S\x1c-\x1f]{N,}".replace("N", str(LONGEST_WORD + 1))
)
ENDS = (END_OF_TEXT, "<|end_of_text|>", "</s>", "<eos>")
"""What published tokenizers call the end of a document; the first that exists is taken."""
GPT2_FILES = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))
"""The vocabulary and the merges, as Hugging Face and as OpenAI name them."""


class BpeTokenizer:
    """A tokenizer of the library `tokenizers`.

    Its normalizer and pre-tokenizer are the file's; padding, truncation and dropout are switched off, and no special
    token is ever added.

    Args:
        serialized: the content of a ``tokenizer.json``.
        name: what records call it.
        end_of_text: whether documents end with a token: the file's own where it has one of `ENDS`, else a new id.

    Attributes:
        exact: whether any text is known to come back as it was; where not, only decoding says what is lost.

    Raises:
        UserError: if it is nothing of the kind, or the library is missing.
    """

    def __init__(self, serialized: str, name: str, end_of_text: bool = False) -> None:
        self.name, self._wants_end = name, end_of_text
        self._library = _parsed(serialized, name)
        with _told(name):
            self._library.no_padding()
            self._library.no_truncation()
            self._library.encode_special_tokens = True  # their text is ordinary text
            if hasattr(self._library.model, "dropout"):
                self._library.model.dropout = None
            if end_of_text and not any(self._library.token_to_id(end) is not None for end in ENDS):
                self._library.add_special_tokens([END_OF_TEXT])
            vocabulary = self._library.get_vocab(with_added_tokens=True)
            self._description = json.loads(self._library.to_str())
        self.end_of_text = next((vocabulary[end] for end in ENDS if end in vocabulary), None)
        self.vocab_size = max(vocabulary.values(), default=-1) + 1
        self.cut = _cut(self._description)
        self.exact = self.cut == "line" and _has_bytes(self._description)
        canonical = json.dumps([self._description, self.end_of_text], sort_keys=True)
        self.sha256 = hashlib.sha256(canonical.encode()).hexdigest()

    def encode(self, text: str) -> list[int]:
        """The ids of ``text``, special tokens never among them.

        Raises:
            UserError: if ``text`` holds half a surrogate pair.
        """
        return self._ids(text, 0)

    def encode_array(self, text: str, begin: int = 0) -> np.ndarray:
        """The ids of ``text``, int64 (n,), which begins at character ``begin`` of a longer one."""
        return np.array(self._ids(text, begin), dtype=np.int64)

    def _ids(self, text: str, begin: int) -> list[int]:
        try:
            # the batch call is the one that frees the interpreter for other threads
            with _told(self.name, UnicodeEncodeError, TypeError):
                ids: list[int] = self._library.encode_batch_fast([text], add_special_tokens=False)[0].ids
        except (UnicodeEncodeError, TypeError):
            position = begin + next(i for i, c in enumerate(text) if "\ud800" <= c <= "\udfff")
            raise UserError(
                f"the text has half a surrogate pair at position {position:,}, which is no character"
            ) from None
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ``ids``; special tokens are dropped, invalid UTF-8 becomes U+FFFD."""
        with _told(self.name):
            text: str = self._library.decode(list(ids), skip_special_tokens=True)
        return text

    def ids(self) -> dict[str, int]:
        """The id of each token, added ones included, as the file spells it."""
        found: dict[str, int] = self._library.get_vocab(with_added_tokens=True)
        return found

    @property
    def specials(self) -> dict[str, int]:
        """The id of each special token, which no text encodes to."""
        return {token["content"]: token["id"] for token in self._description["added_tokens"] if token["special"]}

    def to_json(self) -> str:
        """Everything that rebuilds it."""
        stored = {"kind": "bpe", "name": self.name, "end_of_text": self._wants_end, "tokenizer": self._description}
        return json.dumps(stored)


def train_bpe(texts: Iterable[str], vocab_size: int, end_of_text: bool) -> BpeTokenizer:
    """Learn byte-level BPE; the same texts give the same tokenizer, however they are cut at line ends.

    More than `LONGEST_WORD` characters without white space, or of nothing but that, are learned from in pieces.

    Args:
        texts: what to learn from.
        vocab_size: ids wanted, the 256 bytes and the end of text included; a small corpus gives fewer.
        end_of_text: whether documents end with a token.

    Raises:
        UserError: if ``vocab_size`` has no room for the bytes, or the library is missing.
    """
    if vocab_size < 256 + end_of_text:
        raise UserError(
            f"data.bpe_vocab_size: {vocab_size} was found, at least {256 + end_of_text} is expected (each byte"
            f"{' and the end of text' if end_of_text else ''} has an id)"
        )
    library = _import()
    learned = _byte_level(library, library.models.BPE())
    trainer = library.trainers.BpeTrainer(
        vocab_size=vocab_size - end_of_text,
        initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[],  # the end of text gets the last id, when the tokenizer is built
        show_progress=False,
    )
    learned.train_from_iterator((part for text in texts for part in _short_words(text)), trainer)
    return BpeTokenizer(learned.to_str(), f"bpe{learned.get_vocab_size() + end_of_text}", end_of_text)


def _short_words(text: str) -> Iterator[str]:
    begin = 0
    for run in _LONG.finditer(text):
        for place in range(run.start() + LONGEST_WORD, run.end(), LONGEST_WORD):
            yield text[begin:place]
            begin = place
    yield text[begin:]


def read_bpe(path: Path, end_of_text: bool) -> BpeTokenizer:
    """The tokenizer in a file or folder.

    Args:
        path: a ``tokenizer.json`` under any name, or a folder that holds one, or that holds GPT-2's ``vocab.json`` and
            ``merges.txt`` (or ``encoder.json`` and ``vocab.bpe``).
        end_of_text: whether documents end with a token.

    Raises:
        UserError: if there is no tokenizer, or it is damaged.
    """
    file = path / "tokenizer.json" if path.is_dir() else path
    if file.is_file():
        try:
            return BpeTokenizer(
                file.read_text(encoding="utf-8"), path.stem if path.is_file() else path.name, end_of_text
            )
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"data.tokenizer: {file} cannot be read ({error})") from None
    pair = next((p for p in GPT2_FILES if all((path / name).is_file() for name in p)), None)
    if pair is None:
        raise UserError(
            f"data.tokenizer: {path} holds neither tokenizer.json nor GPT-2's vocab.json and merges.txt (or "
            f"encoder.json and vocab.bpe)"
        )
    library = _import()
    try:
        vocabulary = json.loads((path / pair[0]).read_text(encoding="utf-8"))
        bounds.check_ids(dict(vocabulary), str(path / pair[0]))
        model = library.models.BPE.from_file(*(str(path / name) for name in pair))
    except UserError:
        raise
    except Exception as error:  # the library raises Exception itself
        raise UserError(f"data.tokenizer: {path / pair[0]} or {pair[1]} is damaged ({error})") from None
    read = _byte_level(library, model)
    read.add_special_tokens([END_OF_TEXT])
    return BpeTokenizer(read.to_str(), path.name, end_of_text)


def _byte_level(library: Any, model: Any) -> "tokenizers.Tokenizer":
    tokenizer: tokenizers.Tokenizer = library.Tokenizer(model)
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = library.decoders.ByteLevel()
    return tokenizer


def _cut(description: dict[str, Any]) -> Cut:
    """Where a text may be cut.

    GPT-2's pattern makes a token of a newline between two characters that are not whitespace, and no alternative of it
    looks further than one character ahead or back: the text before such a newline, and the text after it, are split as
    they would be alone. Any other tokenizer may look anywhere.
    """
    pre_tokenizer = description.get("pre_tokenizer") or {}
    gpt2 = (
        description["model"].get("type") == "BPE"
        and description.get("normalizer") is None
        and pre_tokenizer.get("type") == "ByteLevel"
        and not pre_tokenizer.get("add_prefix_space", True)
        and pre_tokenizer.get("use_regex", True)
        and all(token["special"] for token in description.get("added_tokens", []))
    )
    return "line" if gpt2 else "document"


def _has_bytes(description: dict[str, Any]) -> bool:
    """Whether a byte-level tokenizer has an id for each byte, and a decoder that knows them."""
    library = _import()
    alphabet = set(library.pre_tokenizers.ByteLevel.alphabet())
    decoder = description.get("decoder") or {}
    return decoder.get("type") == "ByteLevel" and alphabet <= set(description["model"]["vocab"])


def _parsed(serialized: str, name: str) -> "tokenizers.Tokenizer":
    library, checked = _import(), bounds.read(serialized, name)
    with _told(name):
        tokenizer: tokenizers.Tokenizer = library.Tokenizer.from_str(checked)
    return tokenizer


@contextlib.contextmanager
def _told(name: str, *others: type[Exception]) -> Iterator[None]:
    """Turn what the library raises into a sentence: Exception itself, or a panic, which is not one; ``others`` pass."""
    try:
        yield
    except BaseException as error:
        ours = isinstance(error, Exception) or type(error).__name__ == "PanicException"
        if isinstance(error, (UserError, *others)) or not ours:
            raise
        raise UserError(f"data.tokenizer: {name} is no tokenizer.json ({str(error)[:200]})") from None


def _import() -> Any:
    # says that its threads are wanted; without it the library warns whenever another program is started
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    try:
        import tokenizers
    except ImportError:
        raise UserError(
            "data.tokenizer: BPE needs the package tokenizers, which is missing; pip install tokenizers"
        ) from None
    return tokenizers
