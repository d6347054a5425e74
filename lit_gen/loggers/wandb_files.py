"""What W&B's client leaves in a run directory, and what it gets again after a restart.

metrics.csv is the original and W&B its copy: a row is sent once, even if processes were killed in between.
"""

import contextlib
import csv
import json
import os
import re
import struct
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from lit_gen.core.files import write_whole
from lit_gen.runs import directory
from lit_gen.runs.directory import SEPARATOR

FOLDER, SERVICE_LOG = "wandb", "service.log"
MAGIC, HEADER, BLOCK = b":W&B", 7, 32768  # a .wandb file: the log format of LevelDB, one protobuf message a record
LAST_PART = (1, 4)  # a record in one piece, and the last piece of one

_SAMPLE = re.compile(r"step=(\d+)(?:-(.+))?\.(png|txt)")
_RECORD = re.compile(r"step=\d+-(.+)\.json")


@dataclass
class State:
    """What is remembered of a run's W&B run, in ``wandb/run.json``.

    Attributes:
        id: the W&B run's id.
        online: whether the server has ever taken this run; from then on only the server knows which rows it has.
        offline_step: the last step in the files that were written offline.
        entity: where the server keeps the run, even if it is resumed without the agent that began it.
        project: likewise.
    """

    id: str
    online: bool = False
    offline_step: int = -1
    entity: str | None = None
    project: str | None = None

    def write(self, run: Path) -> None:
        """Write it, complete or not at all."""
        write_whole(run / FOLDER / "run.json", json.dumps(asdict(self)) + "\n")


def identify(run: Path) -> State:
    """The run's W&B run: that of WANDB_RUN_ID, which an agent sets, else the stored one, else a new one; stored."""
    path, given = run / FOLDER / "run.json", os.environ.get("WANDB_RUN_ID")
    state = None
    if path.is_file():
        content = json.loads(path.read_text(encoding="utf-8"))
        state = State(**{f.name: content[f.name] for f in fields(State) if f.name in content})
    if state is None or given not in (None, "", state.id):
        state = State(given or uuid.uuid4().hex[:10])
        state.write(run)
    return state


# ---- what the client's service would write to the terminal


@contextlib.contextmanager
def apart(run: Path) -> Iterator[None]:
    """Let the service that starts in the block write into ``wandb/service.log``, not to the terminal, if it panics."""
    path = run / FOLDER / SERVICE_LOG
    path.parent.mkdir(parents=True, exist_ok=True)
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    kept: dict[int, int] = {}
    try:
        with contextlib.suppress(OSError):  # a closed stream receives nothing
            for stream in (1, 2):
                kept[stream] = os.dup(stream)
        for stream in kept:
            os.dup2(log, stream)
        yield
    finally:
        for stream, copy in kept.items():
            os.dup2(copy, stream)
            os.close(copy)
        os.close(log)


def tidy(run: Path) -> None:
    """Remove the service's log if nothing is in it, and its folder if nothing else is."""
    path = run / FOLDER / SERVICE_LOG
    if path.is_file() and path.stat().st_size == 0:
        path.unlink()
        with contextlib.suppress(OSError):
            path.parent.rmdir()


# ---- files written offline


def offline_files(run: Path, identifier: str) -> list[Path]:
    """The files of the run's offline parts, oldest first, for ``wandb sync``."""
    # two that began within one second differ in a counter after the id
    return sorted((run / FOLDER).glob(f"offline-run-*-{identifier}*/run-{identifier}.wandb"))


def mark_synced(path: Path) -> None:
    """Keep ``wandb sync`` from sending a file whose rows are elsewhere: with W&B's own mark."""
    path.with_suffix(".wandb.synced").touch()


def last_offline_step(run: Path, state: State) -> int:
    """The last step in the offline files; a record that a kill truncated is removed, because sync would stop there."""
    last = state.offline_step
    for path in offline_files(run, state.id):
        end = 0
        for record, after in records(path):
            end = after
            if record.WhichOneof("record_type") == "history":
                last = max(last, record.history.step.num)
        if end == 0:
            mark_synced(path)  # nothing was written yet, and sync refuses a folder with such a file
        elif end < path.stat().st_size:
            os.truncate(path, end)
    return last


def records(path: Path) -> Iterator[tuple[Any, int]]:
    """The whole records of a ``.wandb`` file, each with the position after it."""
    from wandb.proto import wandb_internal_pb2

    messages: Any = wandb_internal_pb2  # makes its classes when it is imported
    data = path.read_bytes()
    if not data.startswith(MAGIC):
        return
    at, parts = HEADER, b""
    while True:
        left = BLOCK - at % BLOCK
        if left < HEADER:  # too short for another piece
            at += left
        if at + HEADER > len(data):
            return
        length, kind = struct.unpack("<HB", data[at + 4 : at + HEADER])
        at += HEADER + length
        if kind == 0 or at > len(data):
            return
        parts += data[at - length : at]
        if kind in LAST_PART:
            record = messages.Record()
            record.ParseFromString(parts)
            yield record, at
            parts = b""


# ---- what is sent again


def rows(run: Path, after: int, until: int) -> Iterator[tuple[int, dict[str, float]]]:
    """The rows of ``metrics.csv`` of the steps from ``after`` (without) to ``until``."""
    path = run / directory.METRICS
    if not path.is_file():
        return
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            step = int(row.pop("step"))
            if after < step <= until:
                yield step, {name: float(value) for name, value in row.items() if value}


def samples(run: Path, after: int, until: int) -> Iterator[tuple[int, str, Path]]:
    """The pictures and texts of those steps: (step, name, file)."""
    for path in sorted((run / "samples").glob("step=*")):
        match = _SAMPLE.fullmatch(path.name)
        if match and after < int(match[1]) <= until:
            yield int(match[1]), match[2] or "samples", path


def texts(path: Path) -> list[str]:
    """The texts of one file of samples."""
    return path.read_text(encoding="utf-8").removesuffix("\n").split(SEPARATOR)


def protocols(run: Path) -> dict[str, Any]:
    """The protocol of each evaluation so far, by the evaluation's name."""
    found = {}
    for path in sorted((run / "eval").glob("step=*.json")):
        if match := _RECORD.fullmatch(path.name):
            found[match[1]] = json.loads(path.read_text(encoding="utf-8")).get("protocol", {})
    return found
