"""From an exception to an exit code and one sentence."""

import argparse
import errno
import os
import re
import sys
from typing import NoReturn

from lit_gen.core.errors import LeaseLostError, NonFiniteLossError, RankError, UserError
from lit_gen.core.terminal import LONGEST, printable
from lit_gen.runs import slurm

USER, NON_FINITE, ENDED, STOPPED, INTERRUPTED = 2, 3, 4, 75, 130

LOST = "another rank ended"
"""Begins the sentence of a rank whose collective failed; replaced if more is known of the lost rank."""
_LOST = re.compile(r"gloo|NCCL|TCPStore|Connection (closed|reset) by peer|^another rank failed: ")

_WHOLE = "what was saved before is whole"
_FILES = {
    errno.ENOSPC: f"the disk is full; {_WHOLE}",
    errno.EDQUOT: f"the disk quota is used up; {_WHOLE}",
    errno.EFBIG: f"the file is larger than the system allows (ulimit -f); {_WHOLE}",
    errno.EIO: f"the disk failed; {_WHOLE}",
    errno.ESTALE: f"the network file system lost the file; {_WHOLE}",
    errno.EROFS: f"the disk is read-only; {_WHOLE}",
    errno.ENOENT: "no such file, or no such folder to write into",
    errno.EACCES: "permission was denied",
    errno.EPERM: "permission was denied",
    errno.EEXIST: "a file is there, a folder is expected",
    errno.ENOTDIR: "a file is there, a folder is expected",
    errno.EISDIR: "a folder is there, a file is expected",
}


class ArgumentParser(argparse.ArgumentParser):
    """For the commands without a config: no abbreviated options, and one sentence for a mistake."""

    def __init__(self, command: str, description: str) -> None:
        super().__init__(f"lit-gen {command}", description=description, allow_abbrev=False)
        self.command = command

    def add_trust(self) -> None:
        """The option of commands that open a run or a checkpoint; its value is a list."""
        self.add_argument(
            "--trust",
            action="append",
            default=[],
            metavar="MODULE",
            help="module that a run or checkpoint without your seal may import, such as my_net; may be given again",
        )

    def add_overwrite(self) -> None:
        """The option of commands that write to a given place."""
        self.add_argument("--overwrite", action="store_true", help="replace files that lit_gen did not write")

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage."""
        raise UserError(f"{self.command}: {message}")


def explain(error: BaseException) -> tuple[int, str] | None:
    """The exit code and the sentence for an error of the user or the machine; None for a bug of ours."""
    if isinstance(error, NonFiniteLossError):
        return NON_FINITE, str(error)
    if isinstance(error, RankError):
        return error.code, str(error)
    cause: BaseException | None = error
    while cause is not None:  # teardown after it may fail too
        if isinstance(cause, LeaseLostError):
            return STOPPED, str(cause)
        cause = cause.__cause__ or cause.__context__
    cause = error
    while cause is not None:  # jsonargparse wraps what a constructor raises
        if isinstance(cause, UserError):
            return USER, str(cause)
        cause = cause.__cause__
    if isinstance(error, SystemExit) and isinstance(error.__context__, KeyboardInterrupt):
        error = error.__context__  # what lightning makes of it
    if isinstance(error, KeyboardInterrupt):
        second = "stopped at once by a second Ctrl-C; the last checkpoint is whole"
        return INTERRUPTED, second if error.args else "stopped by Ctrl-C"
    if type(error).__name__ == "MisconfigurationException":  # lightning's; not imported here, for the sake of --help
        told = f"trainer: {' '.join(str(error).split())}"
        if "manual optimization" in told:
            told += " For a GAN: model.generator_clip, model.discriminator_clip."
        return USER, told
    if isinstance(error, RuntimeError) and str(error).startswith("Early stopping conditioned on metric"):
        return USER, f"trainer.callbacks.EarlyStopping.monitor: {error}"
    if isinstance(error, RuntimeError) and "EADDRINUSE" in str(error):
        port = os.environ.get("MASTER_PORT", "?")
        return USER, f"MASTER_PORT: port {port} of this node is in use; set MASTER_PORT to a free one"
    company = sys.modules.get("lit_gen.cli.launch.company")
    if company is not None and company.company.watch and isinstance(error, RuntimeError) and _LOST.search(str(error)):
        return ENDED, f"{LOST}: {' '.join(str(error).split())[:200]}"
    if isinstance(error, OSError) and error.errno in _FILES:
        return USER, f"{error.filename or 'a file'}: {_FILES[error.errno or 0]}"
    if isinstance(error, RuntimeError) and re.search(r"PytorchStreamWriter|iostream error", str(error)):
        return USER, f"a checkpoint could not be written, probably because the disk is full; {_WHOLE}"
    return None


def leave(code: int, message: str) -> int:
    """Print one error message, once for all ranks that met it, and return the exit code that they all have."""
    message = printable(message, LONGEST)
    parting = sys.modules.get("lit_gen.cli.launch.parting")  # without lightning there are no other ranks
    if parting is not None:
        return int(parting.depart(code, message))
    if slurm.rank() == 0:
        print(f"error: {message}", file=sys.stderr, flush=True)
    return code


def leave_with_traceback(error: BaseException) -> None:
    """Let the other ranks know of an error that is a bug."""
    parting = sys.modules.get("lit_gen.cli.launch.parting")
    if parting is not None:
        parting.depart_with_traceback(error)
