"""Runs in forked children of a process that has imported everything: killed where a test says, and compared."""

import functools
import json
import os
import socket
import traceback
from pathlib import Path

import torch

from support import forking
from support.forking import ended

KILLED, FAILED = 9, 70


def in_child(act, log):
    """``act()`` in a forked child: its exit code, which is 0 if it returns; what it prints goes to the file ``log``."""
    return ended(start(act, log))


def in_ranks(act, log, world=2):
    """The exit codes of ``act()`` in as many forked children, which Lightning takes for the ranks of one run.

    What rank r prints goes to the file ``log``, or to the file ``log-r`` of a folder.
    """
    return [ended(child) for child in start_ranks(act, log, world)]


def start_ranks(act, log, world=2):
    """The ids of such children."""
    logs = [log / f"log-{rank}" if log.is_dir() else log for rank in range(world)]
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(found.getsockname()[1]), "NODE_RANK": "0"}
    return [start(act, logs[rank], place | {"LOCAL_RANK": str(rank)}) for rank in range(world)]


def at_each_world_size(rank, folder):
    """What ``rank(number, world, port, folder)`` of one, two and three forked ranks leaves in 1.json to 3.json."""
    found, log = {}, folder / "log"
    for world in (1, 2, 3):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        children = [start(functools.partial(rank, number, world, port, folder), log) for number in range(world)]
        codes = [ended(child) for child in children]
        assert codes == [0] * world, log.read_text(encoding="utf-8")
        found[world] = json.loads((folder / f"{world}.json").read_text(encoding="utf-8"))
    return found


def start(act, log, environment=None):
    """Fork a child that does ``act()``, and return its id."""
    if child := forking.fork():
        return child
    code = FAILED
    try:
        os.environ.update(environment or {})
        forking.speak_into(log, log)
        act()
        code = 0
    except SystemExit as error:
        code = int(error.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        forking.leave(code)


def kill(owner, name, when, count):
    """Make the ``count``-th call of ``owner.name`` the process's last, ``before`` or ``after`` it did its work."""
    original, calls = getattr(owner, name), [0]

    def killing(*arguments, **options):
        calls[0] += 1
        if when == "before" and calls[0] == count:
            os._exit(KILLED)
        result = original(*arguments, **options)
        if when == "after" and calls[0] == count:
            os._exit(KILLED)
        return result

    setattr(owner, name, killing)


def content(folder):
    """What a run's folder holds: bytes of files, values of checkpoints, with paths relative to the folder."""
    found = {}
    for path in sorted(p for p in Path(folder).rglob("*") if p.is_file()):
        if path.suffix == ".ckpt":
            found[str(path.relative_to(folder))] = _without(torch.load(path, weights_only=True), str(folder))
        else:
            found[str(path.relative_to(folder))] = path.read_bytes()
    return found


def _without(value, folder):
    if isinstance(value, str):
        return value.replace(folder, "RUN")
    if isinstance(value, dict):
        return {_without(k, folder): _without(v, folder) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_without(v, folder) for v in value)
    return value


def differences(a, b, name=""):
    """Where two contents differ, by name."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        same = a.dtype == b.dtype and a.shape == b.shape and torch.equal(a.nan_to_num(7.1), b.nan_to_num(7.1))
        return [] if same else [f"{name}: {a} became {b}"]
    if isinstance(a, dict) and isinstance(b, dict):
        lost = [f"{name}/{k}: only on one side" for k in a.keys() ^ b.keys()]
        return lost + [x for k in a.keys() & b.keys() for x in differences(a[k], b[k], f"{name}/{k}")]
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        return [x for i, (v, w) in enumerate(zip(a, b, strict=True)) for x in differences(v, w, f"{name}/{i}")]
    return [] if a == b else [f"{name}: {a!r} became {b!r}"]
