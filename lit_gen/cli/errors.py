"""From an exception to an exit code and one sentence."""

import argparse
import errno
import os
import re
import sys
from typing import NoReturn

from lit_gen.cli import memory
from lit_gen.core import blame
from lit_gen.core.errors import LeaseLostError, NonFiniteLossError, RankError, UserError, nearest
from lit_gen.core.terminal import LONGEST, printable
from lit_gen.runs import signals, slurm

USER, NON_FINITE, ENDED, STOPPED, INTERRUPTED, TERMINATED = 2, 3, 4, 75, 130, 143

LOST = "another rank ended"
"""Begins the sentence of a rank whose collective failed; replaced if more is known of the lost rank."""
_STOPS = re.compile(r"Early stopping conditioned on metric `(.*?)` which is not available.*following: `(.*)`", re.S)
"""Lightning's words for a number that its callback monitors and that is not logged."""
_INTERVAL = re.compile(r"`val_check_interval` \((\d+)\) must be .* number of the training batches \((\d+)\)")
"""Lightning's words for an interval that is longer than an epoch."""
_IN_PLACE = re.compile(r"has been modified by an inplace operation: \[(.*?\])\]")
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
    errno.ENAMETOOLONG: "the name is too long",
    errno.EISDIR: "a folder is there, a file is expected",
}


class ArgumentParser(argparse.ArgumentParser):
    """For the commands without a config: no abbreviated options, and one sentence for a mistake.

    Args:
        command: its name.
        description: what it does.
        examples: what to type after its name.
    """

    def __init__(self, command: str, description: str, *examples: str) -> None:
        shown = "\n".join(f"  lit-gen {command} {example}".rstrip() for example in examples)
        super().__init__(
            f"lit-gen {command}",
            description=description,
            epilog=f"examples:\n{shown}",
            allow_abbrev=False,
            formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=26, width=100),
        )
        self.command = command
        self._negative_number_matcher = re.compile(r"-(\.?\d|(inf|nan)$)")  # also -1e-3

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

    def format_help(self) -> str:
        """A page without a list of all options in its first line."""
        operands = [str(a.metavar or a.dest) for a in self._actions if not a.option_strings]
        self.usage = " ".join([self.prog, *operands, "[options]"])
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage."""
        option, _, told = message.removeprefix("argument ").partition(": ")
        option = option.rpartition("/")[2]
        if found := re.match(r"invalid (int|float) value: '(.*)'$", told):
            kind = "a whole number" if found[1] == "int" else "a number"
            raise UserError(f"{self.command}: {option}: {found[2]!r} was found, {kind} is expected")
        if found := re.match(r"invalid choice: '(.*)' \(choose from (.*)\)$", told):
            choices = found[2].replace("'", "").split(", ")
            shown = f"one of {', '.join(choices)} is expected{nearest(found[1], choices)}"
            raise UserError(f"{self.command}: {option}: {found[1]!r} was found, {shown}")
        if told == "expected one argument":
            raise UserError(f"{self.command}: {option}: a value is expected after it")
        raise UserError(f"{self.command}: {message}")


def explain(error: BaseException, command: str = "fit") -> tuple[int, str] | None:
    """The exit code and the sentence for an error of the user or the machine; None for a bug of ours.

    Whatever a user's own code raises is the user's: the sentence names its file and line.
    """
    if isinstance(error, NonFiniteLossError):
        return NON_FINITE, str(error)
    if isinstance(error, RankError):
        return error.code, str(error)
    if isinstance(error, signals.Terminated):
        return TERMINATED, "stopped by SIGTERM"
    cause: BaseException | None = error
    while cause is not None:  # teardown after it may fail too
        if isinstance(cause, LeaseLostError):
            return STOPPED, str(cause)
        cause = cause.__cause__ or cause.__context__
    cause = error
    while cause is not None:  # jsonargparse wraps what a constructor raises
        if isinstance(cause, UserError):
            return USER, _with_place(cause)
        cause = cause.__cause__
    if isinstance(error, SystemExit) and isinstance(error.__context__, KeyboardInterrupt):
        error = error.__context__  # what lightning makes of it
    if isinstance(error, KeyboardInterrupt):
        second = "stopped at once by a second Ctrl-C; the last checkpoint is whole"
        return INTERRUPTED, second if error.args else "stopped by Ctrl-C"
    said = blame.text(error)
    if type(error).__name__ == "MisconfigurationException":  # lightning's; not imported here, for the sake of --help
        told = " ".join(said.replace("`", "").split())
        if "manual optimization" in told and "clipping" in told:
            expected = "model.generator_clip and model.discriminator_clip are expected for a GAN"
            return USER, f"trainer.gradient_clip_val: a number was found; {expected}"
        return USER, f"trainer: {told}"
    if isinstance(error, RuntimeError) and (stops := _STOPS.match(said)):
        name, others = stops.groups()
        logged = f"logged are {others.replace('`, `', ', ')}" if others else "nothing is logged"
        return USER, f"trainer.callbacks.EarlyStopping.monitor: nothing logs {name} ({logged})"
    if isinstance(error, RuntimeError) and (changed := _IN_PLACE.search(said)):
        return USER, f"a network, loss or term changes {changed[1]} in place, whose old value a gradient needs"
    if isinstance(error, RuntimeError) and "EADDRINUSE" in said:
        port = os.environ.get("MASTER_PORT", "?")
        return USER, f"MASTER_PORT: port {port} of this node is in use; set MASTER_PORT to a free one"
    if (of_memory := memory.told(error, command)) is not None:
        return USER, of_memory
    if isinstance(error, ValueError) and (interval := _INTERVAL.search(said)):
        found, steps = interval.groups()
        expected = (
            f"at most {steps} is expected, the steps of an epoch; --trainer.check_val_every_n_epoch null counts on"
        )
        return USER, f"trainer.val_check_interval: {found} was found, {expected}"
    company = sys.modules.get("lit_gen.cli.launch.company")
    if company is not None and company.company.watch and isinstance(error, RuntimeError) and _LOST.search(said):
        return ENDED, f"{LOST}: {' '.join(said.split())[:200]}"
    if isinstance(error, RuntimeError) and re.search(r"PytorchStreamWriter|iostream error", said):
        return USER, f"a checkpoint could not be written, probably because the disk is full; {_WHOLE}"
    if own := blame.fault(error, _said):
        return USER, f"{own}; --debug shows where it was called from"
    if _is_of_a_file(error):
        return USER, _said(error)
    return None if (callback := _callback_of(error)) is None else (USER, callback)


def _callback_of(error: BaseException) -> str | None:
    """What failed in a callback of lightning's, as one that expects another model does; None if lit_gen took part."""
    found, step = None, error.__traceback__
    while step is not None:
        one, module = step.tb_frame.f_locals.get("self"), step.tb_frame.f_globals.get("__name__", "")
        if module.startswith("lit_gen."):
            found = None  # what the callback called
        elif module.startswith("lightning.pytorch.callbacks.") and type(one).__module__.startswith("lightning."):
            found = type(one).__name__
        step = step.tb_next
    if found is None:
        return None
    return f"trainer.callbacks.{found}: {blame.words(error)}; this callback does not fit this run"


def _with_place(mistake: UserError) -> str:
    """A mistake's sentence, and where in own code it arose, if it does not say so itself."""
    found = mistake.__cause__ and blame.culprit(mistake.__cause__)
    place = found[0] if found else ""
    return str(mistake) if place in str(mistake) else f"{mistake} ({place})"


def _is_of_a_file(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in _FILES


def _said(error: BaseException) -> str:
    if isinstance(error, OSError) and _is_of_a_file(error):
        return f"{error.filename or 'a file'}: {_FILES[error.errno or 0]}"
    return blame.words(error)


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
