"""Files of texts, of their references and of prompts, as JSON lines; and the numbers of texts with their record."""

import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from lit_gen.core.errors import UserError
from lit_gen.evaluation.result import versions
from lit_gen.metrics.corpus import CorpusMetric, Counts, total
from lit_gen.protocols.text import Prompted

T = TypeVar("T")
REFERENCES = ("text", "response", "references")
"""Keys under which an object holds a reference, or several."""


class Lines(NamedTuple):
    """What a file of JSON lines holds."""

    values: list[Any]
    sha256: str
    """Of the file."""


def read_texts(path: Path, option: str) -> Lines:
    """Texts: in each line a string, or an object with ``text``, as ``lit-gen sample --format jsonl`` writes them.

    Args:
        path: the file.
        option: what the messages call it.

    Returns:
        Strings, which may be empty.

    Raises:
        UserError: for a file that cannot be read or holds nothing, broken JSON, or another line; names the line.
    """
    return _read(path, option, _text)


def read_references(path: Path, option: str) -> Lines:
    """References: in each line a string, a list of strings, or an object with one of `REFERENCES`.

    Returns:
        Tuples of strings, at least one in each, none empty.

    Raises:
        UserError: as `read_texts`, and for an empty reference.
    """
    return _read(path, option, _references)


def read_prompted(path: Path, option: str) -> Lines:
    """Prompts: in each line an object with ``prompt`` and one of `REFERENCES`.

    Returns:
        Of `lit_gen.protocols.text.Prompted`.

    Raises:
        UserError: as `read_references`.
    """
    return _read(path, option, _prompted)


def _read(path: Path, option: str, taken: Callable[[Any], T]) -> Lines:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{option}: {path} does not exist") from None
    except IsADirectoryError:
        raise UserError(f"{option}: {path} is a folder, a file of JSON lines is expected") from None
    try:
        lines = content.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{option}: {path}: byte {error.start} is not UTF-8 text") from None
    values = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            values.append(taken(_json(line)))
        except UserError as error:
            raise UserError(f"{option}: {path}, line {number}: {error}") from None
    if not values:
        raise UserError(f"{option}: {path} is empty, at least one line is expected")
    return Lines(values, hashlib.sha256(content).hexdigest())


def _json(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"broken JSON ({getattr(error, 'msg', error)})") from None


def _text(content: Any) -> str:
    text = content.get("text") if isinstance(content, dict) else content
    if not isinstance(text, str):
        raise UserError("a string or an object with a text is expected")
    return text


def _references(content: Any) -> tuple[str, ...]:
    if isinstance(content, dict):
        given = [key for key in REFERENCES if key in content]
        if len(given) != 1:
            shown = " and ".join(given) or "none of them"
            raise UserError(f"one of {', '.join(REFERENCES)} is expected, {shown} was found")
        content = content[given[0]]
    found = [content] if isinstance(content, str) else content
    if not isinstance(found, list) or not all(isinstance(reference, str) for reference in found):
        raise UserError("a string, a list of strings, or an object with text or references is expected")
    if not found or not all(reference.strip() for reference in found):
        raise UserError("an empty reference was found, a text is expected")
    return tuple(found)


def _prompted(content: Any) -> Prompted:
    prompt = content.get("prompt") if isinstance(content, dict) else None
    if not isinstance(prompt, str):
        raise UserError("an object with a prompt, and a response or references, is expected")
    return Prompted(prompt, _references(content))


def count_each(metrics: Sequence[CorpusMetric], text: str, references: Sequence[str]) -> list[Counts]:
    """The counts of one text, of each metric; see `scored`."""
    return [metric.counts(text, references) for metric in metrics]


def scored(
    metrics: Sequence[CorpusMetric], rows: Sequence[Sequence[Counts]], numbers: Sequence[int]
) -> tuple[dict[str, float], dict[str, Any]]:
    """The numbers of a corpus, and what a record says of them.

    Args:
        metrics: which.
        rows: `count_each` of every text of all ranks, in any order; at least one.
        numbers: how many references each text has.
    """
    sums = [total(column) for column in zip(*rows, strict=True)]
    values: dict[str, float] = {}
    for metric, counts in zip(metrics, sums, strict=True):
        values |= metric.score(counts)
    packages = sorted({package for metric in metrics for package in metric.packages})
    record = {
        "metrics": {m.name: m.record(counts, numbers) for m, counts in zip(metrics, sums, strict=True)},
        "count": len(rows),
        "references_of_a_text": {"least": min(numbers), "most": max(numbers)},
        "versions": versions() | {package: importlib.metadata.version(package) for package in packages},
    }
    return values, record
