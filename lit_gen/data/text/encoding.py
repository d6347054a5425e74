"""Encoding a text once, in parallel, so that a killed run continues where it was.

The text is cut into shards of about a million characters. Each is encoded in a thread (the library `tokenizers`
leaves the interpreter free meanwhile) and kept in a folder beside the result until that is whole. A shard depends only
on the text and the tokenizer, so a run that finds some of them makes the same file. Any number of processes may do this
at once: every file is written under a separate name, then renamed.
"""

import contextlib
import hashlib
import re
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress

from lit_gen.core.errors import UserError
from lit_gen.core.files import sweep, whole
from lit_gen.data.text import token_file
from lit_gen.tokenizers.plain import Cut
from lit_gen.tokenizers.stored import TextTokenizer

SHARD = 1 << 20
"""The fewest characters of a shard, except for the last one."""
PATIENCE = 1.0
"""Seconds before progress is shown."""

Piece = tuple[str, bool]
"""Some text, and whether a document ends with it."""
Encoded = tuple[np.ndarray, int, int, int, str]
"""Ids (n,), the bytes, characters and document ends that they stand for, and an example of what they lose."""

_LINE_END = re.compile(r"(?<=\S)\n(?=\S)")


def encode(
    texts: Iterable[str],
    documents: bool,
    tokenizer: TextTokenizer,
    target: Path,
    header: token_file.Header,
    *,
    characters: int = 0,
    begin: int = 0,
    workers: int = 1,
    shard: int = SHARD,
    check: Callable[[], None] | None = None,
) -> None:
    """Write the tokens of a text to ``target``.

    Args:
        texts: the documents, or the pieces of one text without end.
        documents: which of the two; each document ends with the tokenizer's end of text, if that has one.
        tokenizer: from text to ids.
        target: the token file; shards lie in a folder beside it meanwhile, named after it.
        header: what the file says of itself; `token_file.write` fills in the counts.
        characters: the expected number; 0 if that is not known.
        begin: number of its first character in the corpus, for messages.
        workers: threads.
        shard: the fewest characters of a shard.
        check: called when all is encoded, before it appears as ``target``; raises if it should not.

    Raises:
        UserError: if the tokenizer cannot encode the text, or has met another number of characters.
    """
    folder = target.with_name(f"{target.name}.shards")
    folder.mkdir(parents=True, exist_ok=True)
    pool = ThreadPoolExecutor(workers)

    def jobs() -> Iterator[Future[Encoded]]:
        place = begin
        for number, pieces in enumerate(shards(texts, documents, tokenizer.cut, shard)):
            yield pool.submit(_shard, folder / f"{shard}-{number}", pieces, tokenizer, place)
            place += sum(len(text) for text, _ in pieces)

    with contextlib.ExitStack() as stack:
        mine = stack.enter_context(whole(target))
        stack.callback(pool.shutdown, cancel_futures=True)
        written = token_file.write(mine, header, _shown(_ahead(jobs(), 2 * workers), characters))
        if check is not None:
            check()
        if characters and written.characters != characters:
            raise UserError(
                f"{written.characters:,} characters were found, {characters:,} are expected: the text has changed "
                f"while it was read; run the command again"
            )
        try:
            stack.close()
        except OSError:  # another process was faster, and has swept up, or (on Windows) has mapped its own
            if not target.is_file():
                raise
    shutil.rmtree(folder, ignore_errors=True)
    sweep(target)  # what killed processes, or slower ones, have written of it


def shards(texts: Iterable[str], documents: bool, cut: Cut, size: int = SHARD) -> Iterator[list[Piece]]:
    """Pieces of a text in groups of at least ``size`` characters; pieces longer than that are cut where ``cut`` allows.

    The groups do not depend on the pieces in which the text came.
    """
    group: list[Piece] = []
    characters = 0
    for piece in _pieces(texts, documents, cut, size):
        group.append(piece)
        characters += len(piece[0])
        if characters >= size:
            yield group
            group, characters = [], 0
    if group:
        yield group


def _pieces(texts: Iterable[str], documents: bool, cut: Cut, size: int) -> Iterator[Piece]:
    if not documents:
        yield from ((text, False) for text in _divided(texts, cut, size))
        return
    for document in texts:
        *parts, last = _divided([document], cut, size)
        yield from ((part, False) for part in parts)
        yield last, True


def _divided(blocks: Iterable[str], cut: Cut, size: int) -> Iterator[str]:
    """One text in pieces of at least ``size`` characters; the last one is what is left."""
    rest, seen = "", 0  # nowhere before `seen` may the rest be cut
    for block in blocks:
        rest += block
        while (place := _place(rest, cut, max(size, seen))) is not None:
            yield rest[:place]
            rest, seen = rest[place:], 0
        seen = len(rest)
    if rest:
        yield rest


def _place(text: str, cut: Cut, size: int) -> int | None:
    """The first place, after at least ``size`` characters, where the text may be cut and goes on; None: not yet."""
    if cut == "character" and len(text) > size:
        return size
    found = _LINE_END.search(text, size - 1) if cut == "line" else None
    return found.end() if found else None


def _shard(path: Path, pieces: list[Piece], tokenizer: TextTokenizer, begin: int) -> Encoded:
    """The ids of a shard whose first character is number ``begin``: kept from before, or encoded and kept.

    What is kept is named by its text: the text may have changed since a run was killed.
    """
    raw, ends = "".join(text for text, _ in pieces).encode("utf-8"), [(len(text), end) for text, end in pieces]
    counts = len(raw), sum(size for size, _ in ends), sum(end for _, end in ends)
    name = hashlib.blake2b(raw + repr(ends).encode(), digest_size=8).hexdigest()
    path = path.with_name(f"{path.name}-{name}.npy")
    with contextlib.suppress(OSError, ValueError, EOFError):
        ids = np.load(path)
        return ids, *counts, _lost(pieces, ids, tokenizer)
    ids = _ids(pieces, tokenizer, begin)
    with contextlib.suppress(FileNotFoundError), whole(path, ".npy") as partial:  # another process may sweep up
        np.save(partial, ids)
    return ids, *counts, _lost(pieces, ids, tokenizer)


def _ids(pieces: list[Piece], tokenizer: TextTokenizer, begin: int) -> np.ndarray:
    dtype = token_file.token_dtype(tokenizer.vocab_size)
    end = np.array([] if tokenizer.end_of_text is None else [tokenizer.end_of_text], dtype)
    parts: list[np.ndarray] = []
    for text, is_end in pieces:
        parts.append(tokenizer.encode_array(text, begin).astype(dtype))
        if is_end:
            parts.append(end)
        begin += len(text)
    return np.concatenate(parts)


def _lost(pieces: list[Piece], ids: np.ndarray, tokenizer: TextTokenizer) -> str:
    """The first place where the tokens lose text; ``""`` if decoding restores all pieces."""
    if tokenizer.exact:
        return ""
    end = tokenizer.end_of_text
    if end is None:
        pieces = [("".join(text for text, _ in pieces), False)]
    stops = iter(np.flatnonzero(ids == end).tolist() if end is not None else [])
    begin = 0
    for text, is_end in pieces:
        stop = next(stops) if is_end else len(ids)
        back = tokenizer.decode(ids[begin:stop].tolist())
        if back != text:
            pairs = enumerate(zip(text, back, strict=False))
            place = next((i for i, (a, b) in pairs if a != b), min(len(text), len(back)))
            shown = slice(max(0, place - 10), place + 20)
            return f"{text[shown]!r} comes back as {back[shown]!r}"
        begin = stop + 1
    return ""


def _ahead(jobs: Iterator[Future[Encoded]], most: int) -> Iterator[Encoded]:
    """Results in order, while at most that many jobs wait or run: a text need not fit into memory."""
    waiting: deque[Future[Encoded]] = deque()
    for job in jobs:
        waiting.append(job)
        if len(waiting) >= most:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _shown(chunks: Iterable[Encoded], total: int) -> Iterator[Encoded]:
    """The chunks; progress goes to standard error once it has taken a moment: a bar on a terminal, else lines."""
    bar = Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
    task, done, begin, next_line = bar.add_task("encoding the text", total=total), 0, time.monotonic(), PATIENCE
    try:
        for chunk in chunks:
            yield chunk
            done += chunk[2]
            seconds = time.monotonic() - begin
            if seconds < PATIENCE or done >= total:
                continue
            bar.start()  # calling it again does no harm
            bar.update(task, completed=done)
            if bar.disable and seconds >= next_line:
                next_line = 2 * seconds  # a log stays short
                print(f"encoding the text: {100 * done // total}%", file=sys.stderr, flush=True)
    finally:
        bar.stop()
