"""Conversations from files: prompts with responses, or lists of messages."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lit_gen.core.cache import cached
from lit_gen.core.errors import UserError, nearest
from lit_gen.core.options import expect
from lit_gen.data.text import tasks
from lit_gen.data.text.documents import JSON, TABLES
from lit_gen.data.text.readers import json_records, table_records, text_of
from lit_gen.data.text.sources import find
from lit_gen.protocols.data import Split

TASKS = "tasks"
ROLES = ("system", "user", "assistant")
MOST_TASKS = 20_000
"""There are some more different ones."""

Message = Mapping[str, str]


@dataclass(frozen=True)
class Fields:
    """What the fields of a record are called."""

    prompt: str = "prompt"
    response: str = "response"
    messages: str = "messages"


@dataclass(frozen=True)
class Conversation:
    """What is said before the last answer, and the answers that count as right.

    Attributes:
        before: messages, the last one of the user.
        answers: at least one.
        where: file and line of each answer, for messages.
    """

    before: tuple[Message, ...]
    answers: tuple[str, ...]
    where: tuple[str, ...]

    @property
    def key(self) -> str:
        """Names what is said before the answer."""
        return json.dumps(self.before, sort_keys=True)


def files_of(path: str, option: str, root: Path, count: int) -> tuple[str, tuple[Path, ...], str]:
    """Name, files, and what was passed over, of the conversations that a configuration names.

    Args:
        path: ``tasks``, or a file, folder or pattern.
        option: the option's name.
        root: where relative paths are looked up that are not found as they are.
        count: of generated conversations.

    Raises:
        UserError: if there is no such file, or one that is neither JSON lines nor a table.
    """
    if path == TASKS:
        expect(count <= MOST_TASKS, "data.tasks", count, f"at most {MOST_TASKS:,}")
        # the seed is not the run's: runs with other seeds have the same data
        name = f"text/tasks-v{tasks.VERSION}-{count}.jsonl"
        return f"tasks-{count}", (cached(name, lambda target: tasks.write(target, count)),), ""
    source = find(path, option, root=root, column=TASKS)  # a column: tables of a folder are taken too
    if not source.files:
        raise UserError(f"{option}: {path} was found, which holds no conversations; tasks, or a file, is expected")
    for file in source.files:
        if not file.name.lower().endswith((*JSON, *TABLES)):
            raise UserError(f"{option}: {file} was found, JSON lines or a table ({', '.join((*JSON, *TABLES))}) is "
                            f"expected")  # fmt: skip
    return source.name, source.files, source.found


def read(files: tuple[Path, ...], fields: Fields) -> list[Conversation]:
    """The conversations of files; those with the same messages before the answer become one, in order of the first.

    Raises:
        UserError: with the line, for a record that is none; if there are none.
    """
    found: dict[str, Conversation] = {}
    for file in files:
        for one in _of_file(file, fields):
            if (before := found.get(one.key)) is not None:
                one = Conversation(one.before, before.answers + one.answers, before.where + one.where)
            found[one.key] = one
    if not found:
        raise UserError(f"{', '.join(map(str, files[:3]))}: no conversation was found, the file or files are empty")
    return list(found.values())


def divided(found: Mapping[str, list[Conversation]], held_out: float, name: str) -> dict[Split, list[Conversation]]:
    """The conversations of all splits that there are.

    Args:
        found: those of each option that names files: ``path``, perhaps ``val_path`` and ``test_path``.
        held_out: share of the prompts of ``path`` that is held out without a ``val_path``; 0 for none.
        name: what messages call ``path``.

    Raises:
        UserError: if one side of the division would be empty.
    """
    whole = found["path"]
    parts: dict[Split, list[Conversation]] = {"train": whole}
    if "val_path" in found:
        parts["val"] = found["val_path"]
    elif held_out:
        cut = round((1 - held_out) * len(whole))
        if not 0 < cut < len(whole):
            raise UserError(f"data.val_fraction: {held_out} was found, but the {len(whole)} prompts of {name} leave "
                            f"one side of the split empty; more prompts, or data.val_path, is expected")  # fmt: skip
        parts = {"train": whole[:cut], "val": whole[cut:]}
    if "test_path" in found:
        parts["test"] = found["test_path"]
    elif "val" in parts:
        parts["test"] = parts["val"]
    return parts


def sha256(conversations: list[Conversation]) -> str:
    """Names the content of conversations."""
    digest = hashlib.sha256()
    for one in conversations:
        digest.update(json.dumps([one.before, one.answers], sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


def _of_file(file: Path, fields: Fields) -> Iterator[Conversation]:
    if file.name.lower().endswith(TABLES):
        for where, row in table_records(file, fields.prompt, fields.response):
            yield _pair(row[fields.prompt], row[fields.response], fields, where)
        return
    for where, record in json_records(file):
        if fields.messages in record:
            yield _messages(record[fields.messages], fields, where)
            continue
        for name in (fields.prompt, fields.response):
            if name not in record:
                raise UserError(f"{where}: {', '.join(map(repr, record)) or 'nothing'} was found, {fields.messages!r}, "
                                f"or {fields.prompt!r} and {fields.response!r}, are expected (data.prompt, "
                                f"data.response, data.messages){nearest(name, map(str, record))}")  # fmt: skip
        yield _pair(record[fields.prompt], record[fields.response], fields, where)


def _pair(prompt: Any, response: Any, fields: Fields, where: str) -> Conversation:
    answers = response if isinstance(response, list) else [response]
    if not answers:
        raise UserError(f"{where}: {fields.response!r} holds no response")
    texts = [text_of(answer, fields.response, where) for answer in answers]
    before = ({"role": "user", "content": text_of(prompt, fields.prompt, where)},)
    return Conversation(before, tuple(texts), (where,) * len(texts))


def _messages(found: Any, fields: Fields, where: str) -> Conversation:
    name = fields.messages
    if not isinstance(found, list) or not all(isinstance(message, dict) for message in found):
        raise UserError(f"{where}: {name!r} holds {found!r:.60}, a list of objects with role and content is expected")
    messages = [{key: text_of(m.get(key), f"{name}.{key}", where) for key in ("role", "content")} for m in found]
    for message in messages:
        expect(
            message["role"] in ROLES, f"{where}: the role in {name!r}", message["role"], f"one of {', '.join(ROLES)}"
        )
    if not messages or messages[-1]["role"] != "assistant":
        raise UserError(f"{where}: {name!r} does not end with a message of assistant, which is what is learned")
    return Conversation(tuple(messages[:-1]), (messages[-1]["content"],), (where,))


def remarks(splits: Mapping[Split, list[Conversation]]) -> Iterator[str]:
    """Sentences about the splits for the user."""
    for split, part in splits.items():
        answers = [answer for one in part for answer in one.answers]
        if empty := sum(not answer.strip() for answer in answers):
            yield f"data: {empty:,} of {len(answers):,} responses of the {split} split are empty"
    held = splits.get("val", [])
    if known := {one.key for one in splits.get("train", [])} & {one.key for one in held}:
        yield f"{len(known):,} of the {len(held):,} held-out prompts are trained on too"
