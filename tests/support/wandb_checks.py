"""What the tests of the W&B logger share: the environment, the stand-in server, and a run's log in its three places."""

import contextlib
import csv
import json
import math
import os
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lit_gen.loggers import wandb_files
from support import fake_wandb
from support.fake_wandb_backend import Backend

KEY = "0123456789abcdef0123456789abcdef01234567"
Rows = dict[int, dict[str, float]]


def environment(home: Path, url: str = "http://127.0.0.1:1", **more: str) -> dict[str, str]:
    """The variables of a process that may talk only to ``url``, and leaves the person's folders alone."""
    home.mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    given = {"HOME": str(home), "WANDB_BASE_URL": url, "WANDB_API_KEY": KEY, "WANDB_ERROR_REPORTING": "false"}
    return {**kept, **given, "OMP_NUM_THREADS": "1", **more}


@contextlib.contextmanager
def serving(folder: Path, port: int = 0, key: str | None = None) -> Iterator[Backend]:
    """The stand-in server in a thread of this process."""
    server, backend = fake_wandb.serve(folder, port, key=key)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield backend
    finally:
        backend.set_fault("none")
        server.shutdown()
        server.server_close()
        thread.join(10)


def state(url: str) -> dict[str, Any]:
    """The server's state."""
    with urllib.request.urlopen(f"{url}/fake/state", timeout=10) as answer:
        content: dict[str, Any] = json.load(answer)
    return content


def logged(run: Path) -> Rows:
    """The rows of ``metrics.csv``, merged by step."""
    merged: Rows = {}
    with (run / "metrics.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            values = {k: float(v) for k, v in row.items() if k != "step" and v}
            merged.setdefault(int(row["step"]), {}).update(values)
    return merged


def on_server(content: dict[str, Any], identifier: str) -> Rows:
    """The scalars of the run's history, which must hold each step once and in order; a row may have only pictures."""
    history = content["history"][identifier]
    steps = [row["_step"] for row in history]
    assert steps == sorted(set(steps))
    return {row["_step"]: _scalars(row) for row in history if _scalars(row)}


def in_files(run: Path) -> Rows:
    """The scalars in the run's offline files, read one after the other; each step stands there once."""
    settle()
    found: Rows = {}
    (identifier,) = {json.loads((run / "wandb/run.json").read_text(encoding="utf-8"))["id"]}
    for path in wandb_files.offline_files(run, identifier):
        for record, _ in wandb_files.records(path):
            if record.WhichOneof("record_type") == "history":
                items = {"/".join(i.nested_key) or i.key: i.value_json for i in record.history.item}
                assert record.history.step.num not in found
                found[record.history.step.num] = _scalars({k: json.loads(v) for k, v in items.items()})
    return found


def settle() -> None:
    """Wait for this process's client to end: it writes its file's last records after the run's end."""
    import wandb

    wandb.teardown()


def same(found: Rows, expected: Rows) -> bool:
    """Bit-equal values of the same names at the same steps; NaN equals NaN."""

    def bits(rows: Rows) -> Any:
        return {s: {k: "nan" if math.isnan(v) else v for k, v in row.items()} for s, row in rows.items()}

    return bool(bits(found) == bits(expected))


def holds(folder: Path, text: str) -> list[Path]:
    """The files under ``folder`` in which ``text`` stands."""
    return [p for p in folder.rglob("*") if p.is_file() and text.encode() in p.read_bytes()]


def _scalars(row: dict[str, Any]) -> dict[str, float]:
    words = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
    values = {k: words.get(v, v) if isinstance(v, str) else v for k, v in row.items() if k.split("/")[0] in SPLITS}
    return {k: float(v) for k, v in values.items()}


SPLITS = ("train", "val")
