"""Which part of which text is for training, for validation and for test, and the tokens of a part.

The token files lie under ``text/`` of the cache folder and are named by what they were made from: the text's SHA-256,
the part of it, the tokenizer's SHA-256. A changed file or option makes other names, never a stale result.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lightning.pytorch.utilities import rank_zero_only

from lit_gen.core.cache import cache_folder, cached, writing
from lit_gen.core.errors import UserError, note
from lit_gen.data.text import token_file
from lit_gen.data.text.documents import Scan, Source, scan
from lit_gen.data.text.encoding import encode
from lit_gen.data.text.windows import TokenStream
from lit_gen.protocols.data import Split
from lit_gen.tokenizers.stored import TextTokenizer


@dataclass(frozen=True)
class Part:
    """A part of a corpus.

    Attributes:
        source: the corpus.
        scan: what was found in it.
        begin: first document, or first character of a text without end.
        end: where it ends, exclusive.
    """

    source: Source
    scan: Scan
    begin: int
    end: int

    def texts(self) -> Iterator[str]:
        """Its documents, or pieces of its text."""
        return self.source.part(self.begin, self.end)

    @property
    def characters(self) -> int:
        """Number of characters."""
        documents = self.source.documents
        return int(self.scan.lengths[self.begin : self.end].sum()) if documents else self.end - self.begin

    @property
    def before(self) -> int:
        """Number of characters of the source that precede it."""
        return int(self.scan.lengths[: self.begin].sum()) if self.source.documents else self.begin

    @property
    def digests(self) -> np.ndarray:
        """Names the content of each of its documents; of a text without end, that of the whole text."""
        return self.scan.digests[self.begin : self.end] if self.source.documents else self.scan.digests

    def check_unchanged(self) -> None:
        """Refuse what was just made of its texts if they are no longer what was scanned.

        Raises:
            UserError: if a file has changed.
        """
        if self.source.state() != self.scan.state:
            raise UserError(f"{self.source.name} has changed while it was read; run the command again")


def whole(source: Source) -> Part:
    """All of a corpus.

    Raises:
        UserError: if it is empty, or cannot be read.
    """
    found = scan(source)
    return Part(source, found, 0, len(found.lengths) if source.documents else found.characters)


def divide(text: Part, held_out: float) -> tuple[Part, Part]:
    """A corpus split by position into a training part and the rest.

    A text without end is cut after int((1 - held_out) * characters) characters, as nanoGPT does; documents at the
    boundary nearest to that share of the characters, with at least one document on each side.

    Raises:
        UserError: if one side would be empty.
    """
    source, scan = text.source, text.scan
    if source.documents:
        if text.end < 2:
            raise UserError(
                f"data.val_fraction: {held_out} was found, but {source.name} holds a single document; "
                f"name the held-out text with data.val_path"
            )
        boundaries = np.cumsum(scan.lengths)[:-1]
        cut = 1 + int(np.argmin(np.abs(boundaries - (1 - held_out) * scan.characters)))
    else:
        cut = int((1 - held_out) * scan.characters)
    if not 0 < cut < text.end:
        raise UserError(
            f"data.val_fraction: {held_out} was found, but the {scan.characters} characters of {source.name} leave one "
            f"side of the split empty; a longer text, or data.val_path, is expected"
        )
    return Part(source, scan, 0, cut), Part(source, scan, cut, text.end)


def plan(text: Part, val: Source | None, test: Source | None, held_out: float) -> tuple[dict[Split, Part], str]:
    """The parts of all splits that there are, and the rule in words.

    Args:
        text: all of the text.
        val: what to validate on instead of a part of the text.
        test: what to test on; None: what is validated on.
        held_out: share of the text that is held out where ``val`` is None; 0 for nothing.

    Raises:
        UserError: if one side of the split would be empty, or ``val`` or ``test`` holds what is trained on.
    """
    if val is not None:
        parts: dict[Split, Part] = {"train": text, "val": whole(val)}
        rule = "held out by file"
    elif held_out == 0:
        parts, rule = {"train": text}, "nothing held out: data.val_fraction is 0"
    else:
        train, rest = divide(text, held_out)
        parts = {"train": train, "val": rest}
        unit = "documents, the boundary nearest to" if text.source.documents else "characters, after"
        rule = f"held out by position in {unit} {1 - held_out:.6g} of the characters"
    if test is not None:
        parts["test"] = whole(test)
    elif "val" in parts:
        parts["test"] = parts["val"]
    if val is not None:
        _check_unseen("data.val_path", parts["train"], parts["val"])
    elif "val" in parts and text.source.documents:
        _note_repeated(parts["train"], parts["val"])
    if test is not None:
        _check_unseen("data.test_path", parts["train"], parts["test"])
    return parts, rule


def tokens(part: Part, tokenizer: TextTokenizer, workers: int) -> tuple[Path, token_file.TokenFile]:
    """The token file of a part: opened, or made first.

    Raises:
        UserError: if the tokenizer cannot encode the text, the text has changed since it was scanned, the cache folder
            cannot be written, or the file is damaged.
    """
    expected = token_file.Header(
        tokenizer.vocab_size, tokenizer.name, tokenizer.sha256, part.scan.sha256, (part.begin, part.end)
    )
    path = (
        cache_folder()
        / "text"
        / part.scan.sha256[:16]
        / f"{part.begin}-{part.end}-{tokenizer.sha256[:16]}-v{token_file.VERSION}.tokens"
    )
    sizes = {"characters": part.characters, "begin": part.before, "workers": workers}
    with writing():
        if not path.is_file():
            texts, documents = part.texts(), part.source.documents
            encode(texts, documents, tokenizer, path, expected, **sizes, check=part.check_unchanged)
    return path, token_file.load(path, expected)


def stream(part: Part, file: token_file.TokenFile, tokenizer: TextTokenizer, before: int | None) -> TokenStream:
    """The tokens of a part, with what precedes them.

    Args:
        part: the part.
        file: its tokens.
        tokenizer: what made them.
        before: the token before it in a text without end, if there is one.

    Raises:
        UserError: if no token of it has another one before it.
    """
    end = tokenizer.end_of_text if part.source.documents else None
    counts = file.header.text_bytes, file.header.characters, file.header.documents
    prefix = end if part.source.documents else before
    found = TokenStream(file.tokens, prefix, *counts, end, tokenizer.vocab_size, file.path, file.header.lost)
    if not found.targets:
        raise UserError(f"data: a split of {part.source.name} has {len(found)} tokens, at least 2 are expected")
    return found


def _repeated(train: Part, held: Part) -> np.ndarray:
    """The numbers of the documents of ``held``, counted from its first one, that stand in ``train`` too."""
    low = np.uint64(2**24 - 1)
    near = np.zeros(2**24, dtype=bool)
    near[held.digests & low] = True  # sorting millions takes seconds: leave out at once most of what is not in `held`
    return np.flatnonzero(np.isin(held.digests, train.digests[near[train.digests & low]]))


def _check_unseen(option: str, train: Part, held: Part) -> None:
    repeated, source = _repeated(train, held), held.source
    if not len(repeated):
        return
    first = source.label(int(repeated[0]))
    if not source.documents:
        raise UserError(
            f"{option}: {source.name} stands in the training text too, as a whole (it begins with {first}); a text "
            f"that is not trained on is expected"
        )
    raise UserError(
        f"{option}: {len(repeated):,} of its {len(held.digests):,} documents stand in the training text too, the first "
        f"is {first}; documents that are not trained on are expected"
    )


def _note_repeated(train: Part, held: Part) -> None:
    repeated, scan = _repeated(train, held), held.scan
    if not len(repeated):
        return
    number = held.begin + int(repeated[0])

    def write(path: Path) -> None:  # kept: the text is read up to there for it
        path.write_text(held.source.label(number), encoding="utf-8")

    first = cached(f"text/{scan.sha256[:16]}/label-{scan.state}-{number}.txt", write).read_text(encoding="utf-8")
    rank_zero_only(note)(
        f"{len(repeated):,} of the {len(held.digests):,} held-out documents of {held.source.name} stand in the "
        f"training part too, the first is {first}"
    )
