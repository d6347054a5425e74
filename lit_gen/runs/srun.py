"""A run that starts itself on all tasks of its job, and how signals to that process reach the tasks."""

import ctypes
import signal
import subprocess
import sys
import types

from lit_gen.runs import signals, slurm

_DIES_WITH_PARENT = 1
"""PR_SET_PDEATHSIG, https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html"""


def start(arguments: list[str]) -> int:
    """Run ``lit-gen ARGUMENTS`` on all tasks of the job through ``srun``, and return the exit code.

    ``srun`` kills its tasks when it gets a SIGTERM, which is how an agent of a sweep ends a trial. So it never gets
    one: the tasks get `signals.HANDED_ON`, which ``srun`` passes on, save, and end by themselves. ``srun`` has its own
    process group, so a terminal's Ctrl-C arrives in the same way. It ends if its parent is killed.
    """
    process = subprocess.Popen(
        slurm.through_srun(arguments), process_group=0, preexec_fn=_end_with_parent if sys.platform == "linux" else None
    )

    def hand_on(number: int, frame: types.FrameType | None) -> None:
        name = signal.Signals(number).name
        process.send_signal(getattr(signal, name if name == signals.REQUEUE else signals.HANDED_ON))

    names = ("SIGTERM", "SIGINT", signals.REQUEUE, signals.HANDED_ON)
    for name in names:
        signal.signal(getattr(signal, name), hand_on)
    code = process.wait()
    for name in names:
        signals.ignore(name)
    return code if code >= 0 else 128 - code


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_DIES_WITH_PARENT, signal.SIGTERM)
