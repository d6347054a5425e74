"""Which files may name code outside the list: the user's own runs, by a seal, and what ``--trust`` names.

`fit` makes a key for each user, ``~/.local/state/lit_gen/key``. A checkpoint carries an HMAC with that key over its
hyper-parameters and over the folders that its own code was imported from; ``run.yaml`` carries one over
``config.yaml``. A file with this user's seal loads without a question, its own code only from those folders. Any other
is compared with a list (`lit_gen.runs.listed`) and may name nothing else, unless the user says ``--trust NAME``.
"""

import contextlib
import functools
import hashlib
import hmac
import importlib.machinery
import json
import os
import re
import secrets
import stat
import sys
import sysconfig
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from lit_gen.core.errors import UserError, note
from lit_gen.core.files import write_first
from lit_gen.core.terminal import one_line
from lit_gen.runs.listed import elsewhere, importable, unlisted

KEY_BYTES = 32
ENVIRONMENT = "LIT_GEN_TRUST"
SEAL = "seal"  # its name in a checkpoint and in run.yaml

Seal = dict[str, Any]
"""``own``: the folder of each top-level module of own code, None for an installed one; ``hmac``: hexadecimal."""


# ---- the key


def key_file() -> Path:
    """Where the person's key is: in ``XDG_STATE_HOME``, by default ``~/.local/state``."""
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "lit_gen" / "key"


def key(make: bool = False, say: bool = False) -> bytes | None:
    """The user's key; None if there is none, or others may read it.

    Args:
        make: make one if there is none. Processes that do so at the same moment get the same one.
        say: tell the user if none can be made.
    """
    try:
        path = key_file()
        if make and not path.exists():
            write_first(path, secrets.token_bytes(KEY_BYTES))
        status = path.stat()
        if os.name == "posix" and (status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077):
            note(f"{path} belongs to others, or they can read it, so that it is not used: chmod 600 {path}")
            return None
        found = path.read_bytes()
        if len(found) == KEY_BYTES:
            return found
        note(f"{path} is damaged, so that it is not used; move it away, and the next fit makes a new one")
        return None
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home
        if say:
            reason = getattr(error, "strerror", None) or error
            note(
                f"no key can be kept in the home folder ({reason}), so that this run has no seal and its own code is "
                f"loaded with --trust only; XDG_STATE_HOME may name another folder"
            )
        return None


# ---- the seal


def seal(content: Any, run: bool = False, text: str | None = None) -> Seal | None:
    """The seal of hyper-parameters, or of a run's configuration; None without a key.

    Args:
        content: what names the code.
        run: whether it is a configuration.
        text: what is sealed, where that is not ``content``.
    """
    sealed = _canonical(content) if text is None else text
    if sealed is None:
        return None
    own = _own(_canonical(content) or "null", run)
    secret = key(make=True, say=bool(own))
    return None if secret is None else {"own": own, "hmac": _hmac(secret, sealed, own, run)}


def seal_checkpoint(checkpoint: dict[str, Any]) -> None:
    """Put the seal into a checkpoint that is about to be written, if it names what makes its model and has none yet."""
    if SEAL not in checkpoint and isinstance(given := checkpoint.get("hyper_parameters"), Mapping):
        found = seal(dict(given))
        if found is not None:
            checkpoint[SEAL] = found


def folders(found: Any, content: Any, run: bool = False, text: str | None = None) -> dict[str, str | None] | None:
    """The folders of own code that a seal of this user vouches for; None if it is not this user's.

    Args:
        found: what was found in the seal's place.
        content: what it should seal.
        run: whether that is a configuration.
        text: what is sealed, where that is not ``content``.
    """
    sealed = _canonical(content) if text is None else text
    if not isinstance(found, dict) or sealed is None or (secret := key()) is None:
        return None
    own, code = found.get("own"), found.get("hmac")
    if not isinstance(own, dict) or not isinstance(code, str):
        return None
    if not all(isinstance(top, str) and isinstance(folder, str | None) for top, folder in own.items()):
        return None
    good = hmac.compare_digest(_hmac(secret, sealed, own, run).encode(), code.encode("utf-8", "surrogatepass"))
    return own if good else None


def _hmac(secret: bytes, sealed: str, own: Any, run: bool) -> str:
    message = json.dumps(["config" if run else "checkpoint", sealed, own], sort_keys=True)
    return hmac.new(secret, message.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


def _canonical(content: Any) -> str | None:
    try:
        return json.dumps(content, sort_keys=True, default=repr)
    except (TypeError, ValueError, RecursionError):  # nothing that we wrote
        return None


@functools.lru_cache(8)
def _own(canonical: str, run: bool) -> dict[str, str | None]:
    """The folder of each top-level module that is named and is not on the list, as it was imported."""
    tops = {top for top in unlisted(json.loads(canonical), run).values() if top is not None}
    return {top: _folder(sys.modules.get(top)) for top in sorted(tops)}


def _folder(module: Any) -> str | None:
    """The folder that holds a module's file or package; None for one that is installed."""
    where = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", [])), None)
    if where is None:
        return None
    path = Path(where).resolve()
    folder = path.parent.parent if path.name == "__init__.py" else path.parent
    installed = [Path(sysconfig.get_path(kind)).resolve() for kind in ("purelib", "platlib", "stdlib")]
    return None if any(folder == one or one in folder.parents for one in installed) else str(folder)


# ---- admission


def admit(
    content: Any,
    source: Path,
    own: dict[str, str | None] | None,
    trust: Collection[str] = (),
    run: bool = False,
) -> bool:
    """Accept the names in a file, or refuse the first that is not allowed; the folders of its own code go on the path.

    Args:
        content: hyper-parameters or a configuration.
        source: the file, for messages.
        own: what its seal vouches for, see `folders`.
        trust: top-level modules that the user trusts, in addition to those of ``LIT_GEN_TRUST``.
        run: whether it is a configuration.

    Returns:
        Whether code is taken from the working folder.

    Raises:
        UserError: for a name that is neither on the list nor sealed nor trusted, or that is gone from its folder.
    """
    try:
        names = unlisted(content, run)
    except (UserError, RecursionError) as error:
        raise UserError(f"{source} is no file that lit_gen wrote: {error}") from None
    trusted = {*trust, *re.split(r"[\s,:]+", os.environ.get(ENVIRONMENT, ""))} - {"", "lit_gen"}
    paths = []
    for name, top in names.items():
        if top is not None and top in trusted:
            paths += [] if importable(top) else [str(Path.cwd())]
        elif own is None or (top is not None and top not in own):
            raise UserError(_refusal(source, name, top))
        elif top is not None:
            paths += _sealed(source, name, top, own)
    for path in reversed(paths):
        if path not in sys.path:
            sys.path.insert(0, path)
    return str(Path.cwd()) in paths


def _refusal(source: Path, name: str, top: str | None) -> str:
    name = one_line(name)
    if top is None:
        return f"{source} holds {name!r}, which may hide a name or a file; only a run of your own may hold it"
    if top == "lit_gen":
        return f"{source} names {name}, which is no part of lit_gen that a file may name"
    return f"{source} needs {name}, which is not part of lit_gen: say --trust {one_line(top)} if you trust its author"


def _sealed(source: Path, name: str, top: str, own: dict[str, str | None]) -> list[str]:
    """What to put on the path for a module of a sealed run."""
    folder = own[top]
    if top in sys.modules or folder is None:  # installed, or not imported at all: it only looks like a name
        return []
    if importlib.machinery.PathFinder.find_spec(top, [folder]) is not None:
        return [folder]
    gone = f"which is not in {folder} any more"
    raise UserError(f"{source} needs {name}, {gone}: say --trust {top} to take it from this folder")


@contextlib.contextmanager
def without_working_folder(but: bool = False) -> Iterator[None]:
    """Import nothing from the working folder, where a module may lie beside a file that was downloaded.

    Args:
        but: import from it after all, because the code is there.
    """
    before = list(sys.path)
    kept = before if but else elsewhere()
    sys.path[:] = kept
    try:
        yield
    finally:
        sys.path[:] = before if sys.path == kept else [*sys.path, *(p for p in before if p not in sys.path)]


def leave_working_folder() -> None:
    """Take the working folder off the path for good: nothing that was typed needs it."""
    sys.path[:] = elsewhere()
