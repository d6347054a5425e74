"""Which part of which text is for training, for validation and for test."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lit_gen.data.documents import Scan, Source, scan
from lit_gen.data.images import Split
from lit_gen.errors import UserError


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
    return parts, rule
