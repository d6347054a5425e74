"""From an exception to an exit code and one sentence."""

import errno
import os
import re
import sys

from lit_gen.errors import NonFiniteLossError, UserError

USER, NON_FINITE, STOPPED, INTERRUPTED = 2, 3, 75, 130

_DISK = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "it is read-only",
}


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
        return INTERRUPTED, "stopped at once by a second Ctrl-C; the last checkpoint is whole"
    if isinstance(error, OSError) and error.errno in (*_DISK, errno.EACCES, errno.EPERM):
        reason = _DISK.get(error.errno or 0, "permission was denied")
        return (
            USER,
            f"{error.filename or 'a file'} cannot be written: {reason}; what was saved before is whole",
        )
    if isinstance(error, RuntimeError) and re.search(r"PytorchStreamWriter|iostream error", str(error)):
        return (
            USER,
            "a checkpoint could not be written, probably because the disk is full; the one before it is whole",
        )
    return None


def say(message: str) -> None:
    """Print one error message, once per run: ranks other than 0 keep silent."""
    if os.environ.get("LOCAL_RANK", "0") == "0":
        print(f"error: {message}", file=sys.stderr, flush=True)
