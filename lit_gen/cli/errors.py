"""From an exception to an exit code and one sentence."""

import argparse
import errno
import os
import platform
import re
import sys
import time
from typing import NoReturn

from lit_gen.core.errors import NonFiniteLossError, UserError
from lit_gen.core.terminal import LONGEST, printable
from lit_gen.runs import slurm

USER, NON_FINITE, STOPPED, INTERRUPTED = 2, 3, 75, 130

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
    """For the commands without a config: whole option names only, and one sentence for a mistake."""

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
            help="a module of its author's that the file may name, such as my_net; may be given again",
        )

    def add_overwrite(self) -> None:
        """The option of commands that write where they are told."""
        self.add_argument("--overwrite", action="store_true", help="replace files that lit_gen did not write")

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage."""
        raise UserError(f"{self.command}: {message}")


def explain(error: BaseException) -> tuple[int, str] | None:
    """The exit code and the sentence for an error that is the user's or the machine's; None for a bug of ours."""
    if isinstance(error, NonFiniteLossError):
        return NON_FINITE, str(error)
    cause: BaseException | None = error
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
            told += " For a GAN: model.generator_clip, model.discriminator_clip, model.accumulate."
        return USER, told
    if isinstance(error, RuntimeError) and str(error).startswith("Early stopping conditioned on metric"):
        return USER, f"trainer.callbacks.EarlyStopping.monitor: {error}"
    if isinstance(error, RuntimeError) and "EADDRINUSE" in str(error):
        port = os.environ.get("MASTER_PORT", "?")
        return USER, f"MASTER_PORT: port {port} of this node is in use; set MASTER_PORT to a free one"
    if isinstance(error, OSError) and error.errno in _FILES:
        return USER, f"{error.filename or 'a file'}: {_FILES[error.errno or 0]}"
    if isinstance(error, RuntimeError) and re.search(r"PytorchStreamWriter|iostream error", str(error)):
        return USER, f"a checkpoint could not be written, probably because the disk is full; {_WHOLE}"
    return None


def say(message: str) -> None:
    """Print one error message, once per run: ranks that lightning or torchrun started keep silent, but for the first.

    A rank that ``srun`` started may meet a mistake of its own: it speaks after a while, in which
    ``srun --kill-on-bad-exit`` has ended it if the first one met it too.
    """
    message = printable(message, LONGEST)
    rank = slurm.rank()
    if rank == 0:
        print(f"error: {message}", file=sys.stderr, flush=True)
    elif slurm.step() is not None and "RANK" not in os.environ:
        time.sleep(3)
        print(f"error (rank {rank} on {platform.node()}): {message}", file=sys.stderr, flush=True)
