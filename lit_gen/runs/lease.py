"""The lease on a run directory: one process at a time writes there; rank 0 holds it for all ranks.

``lease`` is a small file that says who holds the run. Its owner renews it every ten seconds and reads it before every
row and every rename. It is created only if there is none. To take over the lease of an owner that has ended, a process
renames it to its nonce, creates it anew and reads it two seconds later, because another may have done the same.

Clocks are not compared and file times are not read: they differ between machines, and network file systems cache
them. Not promised: exclusion of a process that was frozen between reading the lease and writing, for as long as a
takeover takes, or of one whose file server does not show it what others wrote.
"""

import contextlib
import errno
import json
import os
import stat
import threading
import time
from pathlib import Path

from lit_gen.core import files
from lit_gen.core.errors import LeaseLostError, UserError, note
from lit_gen.runs import owner, slurm

LEASE = "lease"
RENEW = 10.0
"""Seconds between two renewals."""
STALE = 90.0
"""Seconds without a renewal after which the owner counts as gone."""
SETTLE = 2.0
"""Seconds in which another process that takes over the same lease is noticed."""
LOOK = 0.5
"""Seconds between two looks at another's lease."""

_held: "Lease | None" = None


def take(run: Path, take_over: bool = False) -> None:
    """Hold the lease of a run until `release`, on the first rank.

    Another process's lease is watched: if it is renewed, this process is refused; after 90 s without, it is taken over.
    That happens at once if its owner was a process of this host that has ended, or this SLURM job before a requeue.

    Args:
        run: the run directory.
        take_over: take it from an owner that is alive, which ends when it notices.

    Raises:
        UserError: if another process holds the run; says which; or if ``lease`` is not a regular file.
        OSError: if the lease cannot be written; names it.
    """
    global _held
    if not _first_rank():
        return
    assert _held is None, "one run at a time"
    mine, watch = Lease(run), _Watch(run)
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(mine.path.lstat().st_mode):  # to open a pipe would wait for ever
            raise UserError(f"{mine.path} is a link, a folder or a device; move it away")
    unwanted = owner.read(mine.path) if take_over else None
    try:
        while not mine.create():
            content = owner.read(mine.path)
            if content is None:  # released in this moment
                time.sleep(LOOK)
                continue
            if unwanted is not None and owner.nonce(content) == owner.nonce(unwanted):
                why = "--take_over"
            elif (ended := owner.ended(content, mine.owner)) or watch.stale(content):
                why = ended or f"it showed no sign of life for {STALE:.0f} s"
            else:
                time.sleep(LOOK)
                continue
            owner.displace(mine.path, content)
            if mine.create():
                time.sleep(SETTLE)
                if mine.holds():
                    note(f"{run} was taken over from {owner.described(content)} ({why})")
                    break
    except BaseException:
        mine.remove()
        raise
    for left in run.glob(f"{LEASE}.*"):  # of a process that was killed while it took the run over
        left.unlink(missing_ok=True)
    mine.keep()
    _held = mine
    files.before_renaming(confirm)


def confirm() -> None:
    """Return if this process may still write to its run, or holds none.

    Raises:
        LeaseLostError: if the lease belongs to another process, or is gone.
        UserError: if own code has changed the working folder, to which the run's paths are relative.
    """
    if _held is None:
        return
    _held.stay()
    if not _held.holds():
        raise LeaseLostError(_held.lost())


def held() -> bool:
    """Whether this process holds a run."""
    return _held is not None and _held.holds()


def release() -> None:
    """Remove the lease, if this process holds one; a process that was forked from its owner does not."""
    global _held
    held, _held = _held, None
    files.before_renaming(None)
    if held is not None and held.owner["pid"] == os.getpid():
        with contextlib.suppress(UserError):
            held.stay()
        held.remove()


class Lease:
    """The lease that this process holds or wants.

    Args:
        run: the run directory.
    """

    def __init__(self, run: Path) -> None:
        self.run, self.path = run, run / LEASE
        self._folder = Path.cwd()
        self.owner = owner.this_process()
        self._nonce = str(self.owner["nonce"]).encode()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def create(self) -> bool:
        """Create the file; false if it exists.

        Raises:
            UserError: if the run directory is gone.
        """
        try:
            with self.path.open("xb", buffering=0) as file:
                try:
                    if file.write(self._content()) < len(self._content()):
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                except OSError as error:
                    self.path.unlink()
                    raise OSError(error.errno, error.strerror, str(self.path)) from None
        except FileExistsError:
            return False
        except FileNotFoundError:
            raise UserError(f"{self.run} was removed by the process that held it; start again") from None
        return True

    def holds(self) -> bool:
        """Whether the file is this process's."""
        content = owner.read(self.path)
        return content is not None and self._nonce in content

    def stay(self) -> None:
        """Return to the working folder in which the run began.

        Raises:
            UserError: if this process was in another one.
        """
        with contextlib.suppress(FileNotFoundError):  # one of the two was removed
            if (found := Path.cwd()) != self._folder and not self.run.is_absolute():
                os.chdir(self._folder)
                raise UserError(
                    f"the working folder was changed to {found} while {self.run} was trained; own code, such as a "
                    f"callback, is expected to stay in {self._folder}, where the run is; what was saved is whole"
                )

    def keep(self) -> None:
        """Begin to renew it."""
        self._thread.start()

    def remove(self) -> None:
        """Stop renewing and remove the file, if it is this process's."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(SETTLE)
        with contextlib.suppress(OSError):  # then it is stale: this process ends
            if self.holds():
                self.path.unlink()

    def lost(self) -> str:
        """What became of the lease, as a sentence."""
        if not self.run.is_dir():
            return f"{self.run} was removed or moved, so that this process cannot write to the run any more"
        if (content := owner.read(self.path)) is None:
            return (
                f"{self.path} is gone, so that this process may not write to the run any more; what it saved is whole; "
                f"continue with: lit-gen fit --resume {self.run}"
            )
        return f"{self.run} was taken over by {owner.described(content)}; this process ends, and what it saved is whole"

    def _content(self) -> bytes:
        return json.dumps(self.owner, indent=1).encode() + b"\n"

    def _renew(self) -> None:
        while not self._ended.wait(RENEW):
            self.owner["counter"] += 1
            try:
                # another's is another file, whatever happens meanwhile
                with self.path.open("r+b", buffering=0) as file:
                    if self._nonce not in file.read():
                        return  # the next row or rename says so
                    file.seek(0)
                    file.write(self._content())
            except FileNotFoundError:
                return
            except OSError as error:
                note(f"{self.path} cannot be renewed ({error.strerror}): another process may take the run over")


class _Watch:
    """Looks at another's lease until it is renewed.

    Args:
        run: the run directory.
    """

    def __init__(self, run: Path) -> None:
        self._run = run
        self._content = b""
        self._waited, self._last, self._told = 0.0, time.monotonic(), False

    def stale(self, content: bytes) -> bool:
        """Whether it was not renewed for 90 s.

        Raises:
            UserError: if it was renewed.
        """
        now = time.monotonic()
        # this process may have been frozen along with the owner
        self._waited, self._last = self._waited + min(now - self._last, 4 * LOOK), now
        if content != self._content:
            if self._content and owner.nonce(content) == owner.nonce(self._content) is not None:
                raise UserError(
                    f"{self._run} belongs to another process, {owner.described(content)}, which still runs; stop it "
                    f"or wait for its end, or take the run from it with --take_over"
                )
            self._content, self._waited = content, 0.0
        if self._waited > 1.2 * RENEW and not self._told:
            self._told = True
            note(
                f"{self._run} belongs to {owner.described(content)}, which gives no sign of life; after {STALE:.0f} s "
                f"without one it is taken over"
            )
        return self._waited > STALE


def _first_rank() -> bool:
    """Whether this is rank 0; of several nodes without a launcher, each starts a process that knows only its node."""
    step = slurm.step()
    launched = "RANK" in os.environ or (step is not None and step.tasks > 1)
    node = os.environ.get("NODE_RANK") or os.environ.get("GROUP_RANK") or "0"
    return slurm.rank() == 0 and (launched or node == "0")
