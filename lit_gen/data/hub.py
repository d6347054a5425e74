"""A language model's folder from the Hugging Face hub: safetensors, config and tokenizer, each file verified.

The hub's answer to ``/api/models/NAME/revision/REVISION?blobs=true`` names the commit and, of each file, the size and a
hash: SHA-256 of a large file (LFS), git's of a small one. Pickles are never asked for, and no code is run.
"""

import hashlib
import http.client
import json
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lit_gen.core.cache import offline
from lit_gen.core.errors import UserError, note
from lit_gen.core.files import whole, write_whole
from lit_gen.core.terminal import one_line

RECORD = "fetched.json"
"""In the folder: which model and commit it is, SHA-256 and size of each file, and whether all of them are there."""
HUB = "https://huggingface.co"
LONGEST = 1 << 24  # bytes of the hub's answer
TRIES = 3  # connections for one file; each goes on where the last one broke off
PATIENCE = 30  # seconds without a byte

_SMALL = re.compile(
    r"(generation_)?config\.json|tokenizer(_config)?\.json|vocab\.json|merges\.txt|special_tokens_map\.json"
    r"|added_tokens\.json|chat_template\.(json|jinja)|model\.safetensors\.index\.json|(README|LICENSE|NOTICE)[\w.-]*"
)
_SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


@dataclass(frozen=True)
class _File:
    """A file of the hub.

    Attributes:
        name: within the folder.
        size: bytes.
        sha256: of its content; None for a small file.
        git: git's hash of a small file: SHA-1 of ``blob SIZE``, a zero byte and the content.
    """

    name: str
    size: int
    sha256: str | None
    git: str | None

    def problem(self, path: Path) -> str | None:
        """What is wrong with a file that should be this one; None if nothing is."""
        if (found := path.stat().st_size) != self.size:
            return f"it has {found:,} bytes, {self.size:,} are expected"
        digest = hashlib.sha256() if self.sha256 else hashlib.sha1(f"blob {self.size}\0".encode())
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
        expected = self.sha256 or self.git
        return None if digest.hexdigest() == expected else f"its hash is {digest.hexdigest()}, {expected} is expected"


def fetch(name: str, revision: str | None, root: Path) -> list[Path]:
    """Fetch a model into ``root/NAME``, without its organization; files that are there and right stay.

    Args:
        name: ``gpt2`` or ``ORGANIZATION/NAME``.
        revision: a branch, a tag or a commit; None for the main branch.
        root: the folder of the data.

    Returns:
        The files, and the record of what they are.

    Raises:
        UserError: if the hub cannot be reached or has no such model, if a file is not what the hub says, or if the
            folder holds something else.
    """
    if not _NAME.fullmatch(name):
        raise UserError(f"fetch: {name!r} was found, the name of a model of the hub is expected, NAME or ORG/NAME")
    if offline():
        raise UserError(f"fetch: {name} is on the hub, and LIT_GEN_OFFLINE=1 forbids connections")
    endpoint = os.environ.get("HF_ENDPOINT", HUB).rstrip("/")
    if not endpoint.startswith(("https://", "http://")):
        raise UserError(f"HF_ENDPOINT: {endpoint} was found, an address that begins with https:// is expected")
    identity, commit, files = _listed(endpoint, name, revision)
    folder = root / name.rpartition("/")[2]
    record = {"id": identity, "revision": commit, "endpoint": endpoint}
    before = _record(folder)
    if before.get("id", identity) != identity or (not before and any((folder / f.name).exists() for f in files)):
        holds = one_line(str(before["id"])) if before else "files that were not fetched"
        raise UserError(f"fetch: {folder} holds {holds}; move it away, or choose another folder by LIT_GEN_DATA")
    write_whole(folder / RECORD, json.dumps({**record, "complete": False, "files": before.get("files", {})}) + "\n")
    for file in files:
        path = folder / file.name
        if not path.is_file() or file.problem(path) is not None:
            _download(f"{endpoint}/{identity}/resolve/{commit}/{urllib.parse.quote(file.name)}", file, path)
    for old in before.get("files", {}).keys() - {file.name for file in files}:
        if _wanted(old):  # of another revision
            (folder / old).unlink(missing_ok=True)
    found = {file.name: {"sha256": _sha256(folder / file.name), "size": file.size} for file in files}
    write_whole(folder / RECORD, json.dumps({**record, "complete": True, "files": found}, indent=1) + "\n")
    return [*(folder / file.name for file in files), folder / RECORD]


def _listed(endpoint: str, name: str, revision: str | None) -> tuple[str, str, list[_File]]:
    """The model's full name, the commit, and the files that are fetched."""
    which = urllib.parse.quote(revision or "main", safe="")
    url = f"{endpoint}/api/models/{name}/revision/{which}?blobs=true"
    try:
        with _opened(url) as answer:
            content = json.loads(answer.read(LONGEST))
        identity, commit, siblings = str(content["id"]), str(content["sha"]), content["siblings"]
        files = [_file(each) for each in siblings if _wanted(each["rfilename"])]
    except urllib.error.HTTPError as error:
        at = f" at the revision {revision}" if revision else ""
        raise UserError(f"fetch: {endpoint} gives no model {name}{at} ({error.code} {error.reason})") from None
    except (OSError, http.client.HTTPException) as error:
        raise UserError(f"fetch: {endpoint} cannot be reached ({_reason(error)}); {name} was not fetched") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"fetch: {endpoint} gave no list of the files of {name} ({type(error).__name__})") from None
    if not _NAME.fullmatch(identity) or not re.fullmatch(r"[0-9a-f]{40}", commit):
        raise UserError(f"fetch: {endpoint} gave no name and commit of {name}")
    if any(file.name == "model.safetensors" for file in files):  # shards beside it hold the same
        files = [file for file in files if not _SHARD.fullmatch(file.name) and not file.name.endswith("index.json")]
    if not any(file.name.endswith(".safetensors") for file in files):
        raise UserError(f"fetch: {identity} has no model.safetensors; weights in pickles (.bin, .pt) are not fetched")
    return identity, commit, files


def _wanted(name: Any) -> bool:
    return isinstance(name, str) and bool(
        _SMALL.fullmatch(name) or _SHARD.fullmatch(name) or name == "model.safetensors"
    )


def _file(said: dict[str, Any]) -> _File:
    large = said.get("lfs") or {}
    sha256, git = large.get("sha256"), said.get("blobId")
    if not re.fullmatch("[0-9a-f]{64}", sha256 or "") and (large or not re.fullmatch("[0-9a-f]{40}", git or "")):
        raise ValueError(f"no hash of {said['rfilename']}")
    return _File(said["rfilename"], int(large["size"] if large else said["size"]), sha256, git)


def _download(url: str, file: _File, path: Path) -> None:
    """Download a file that appears under its name only if it is what the hub says."""
    note(f"fetching {file.name}, {file.size:,} bytes")
    reason = ""
    with whole(path) as partial:
        partial.touch()
        for _ in range(TRIES):
            try:
                _continue(url, file, partial)
            except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
                reason = _reason(error)
            if partial.stat().st_size >= file.size:
                break
        else:
            raise UserError(f"fetch: {url} broke off ({reason or 'it ended early'}); the same command goes on")
        if (problem := file.problem(partial)) is not None:
            raise UserError(f"fetch: {url} is not what the hub says: {problem}; nothing of it was kept")


def _continue(url: str, file: _File, partial: Path) -> None:
    """Append what a file still lacks, never more than its size and a byte."""
    there = partial.stat().st_size
    with _opened(url, {"Range": f"bytes={there}-"} if there else {}) as answer:
        goes_on = there and answer.status == http.HTTPStatus.PARTIAL_CONTENT
        with partial.open("ab") as out:
            if not goes_on:
                out.truncate(0)
            left = file.size + 1 - (there if goes_on else 0)
            while left > 0 and (piece := answer.read(min(1 << 20, left))):
                left -= out.write(piece)


def _opened(url: str, headers: dict[str, str] | None = None) -> Any:
    request = urllib.request.Request(url, headers={"User-Agent": "lit_gen", **(headers or {})})
    return urllib.request.urlopen(request, timeout=PATIENCE)


def _reason(error: Exception) -> str:
    return one_line(str(getattr(error, "reason", None) or error or type(error).__name__))


def _record(folder: Path) -> dict[str, Any]:
    """What an earlier fetch wrote; empty if there was none."""
    try:
        found = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and isinstance(found.get("files"), dict) else {}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
