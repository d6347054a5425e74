"""Who holds a lease, and the file that says so: a process, named so that others can tell whether it has ended.

On Linux, a process of the same machine and container has ended if no process has its number, or the one that has it
began at another time. On other systems and machines this is not known.
"""

import contextlib
import errno
import json
import os
import platform
import re
import secrets
import time
from pathlib import Path
from typing import Any

from lit_gen.core import files

Owner = dict[str, Any]


def parse(content: bytes) -> Owner:
    """Who wrote a lease; empty for a lease that is truncated or was written by something else."""
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def nonce(content: bytes) -> str | None:
    """The name of one holding of a lease; None for a truncated lease."""
    found = parse(content).get("nonce")
    return found if isinstance(found, str) and re.fullmatch(r"[0-9a-f]{16}", found) else None


def described(content: bytes) -> str:
    """``pid 7 on node1 (SLURM job 3), since 2026-01-31 12:00:00 +0000``, whatever is in the file."""
    owner = parse(content)
    pid, host, since, job = (re.sub(r"[^\w.:+ -]", "?", str(owner.get(k))) for k in ("pid", "host", "since", "job"))
    if "pid" not in owner:
        return "an unknown process"
    return f"pid {pid} on {host}{f' (SLURM job {job})' if owner.get('job') else ''}, since {since}"


# ---- processes


def this_process() -> Owner:
    """What a lease of this process says; a new nonce each time."""
    job, cluster = os.environ.get("SLURM_JOB_ID"), os.environ.get("SLURM_CLUSTER_NAME")
    return {
        "nonce": secrets.token_hex(8),
        "host": platform.node(),
        "boot": _boot(),
        "pids": _namespace(),
        "pid": os.getpid(),
        "started": _started(os.getpid()),
        "since": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "job": f"{job} of {cluster}" if job and cluster else job,
        "restarts": int(os.environ.get("SLURM_RESTART_COUNT") or 0),
        "counter": 0,
    }


def ended(content: bytes, mine: Owner) -> str | None:
    """Why the owner of a lease is known to have ended; None if it is not known."""
    owner = parse(content)
    restarts = owner.get("restarts")
    if owner.get("job") and owner["job"] == mine["job"] and isinstance(restarts, int) and restarts < mine["restarts"]:
        return "SLURM has put its job back into the queue since"
    pid, here = owner.get("pid"), all(mine[k] is not None and owner.get(k) == mine[k] for k in ("host", "boot", "pids"))
    if not here or not isinstance(pid, int) or pid <= 0:
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return "that process has ended"
    except OSError:
        pass  # another person's
    started = _started(pid)
    if started is None or owner.get("started") is None:
        return None
    return "that process has ended" if started != owner["started"] else None


def _started(pid: int) -> int | None:
    """When a process began, in ticks since the machine did; -1 for one that has ended, None if it is not known."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return -1 if fields[0] in (b"Z", b"X") else int(fields[19])
    except (OSError, IndexError, ValueError):
        return None


def _boot() -> str | None:
    """The same for all processes since the machine began; None if the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None


def _namespace() -> int | None:
    """The container, in which a process's number means this process; None if the system has no containers."""
    try:
        return Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return None


def read(path: Path) -> bytes | None:
    """A lease's content; None without a lease."""
    for _ in range(2):
        try:
            with path.open("rb", buffering=0) as file:
                return file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno != errno.ESTALE:  # of NFS: the file was removed under its name
                raise
    return None


def displace(path: Path, content: bytes) -> None:
    """Rename a lease to its nonce, if it is still the one that was read, and remove it: only one process succeeds."""
    if read(path) != content:
        return
    with contextlib.suppress(FileNotFoundError):
        files.set_aside(path, f".{nonce(content) or 'unreadable'}").unlink()
