"""``python -m lit_gen`` and ``lit-gen``: whether the working folder is on the path, then the command line."""

import atexit
import os
import sys
from pathlib import Path

from lit_gen.runs import signals


def main() -> None:
    """Run the command line and exit with its code."""
    if "fit" in sys.argv[1:3] and "SLURM_JOB_ID" in os.environ:
        # before torch is imported: a signal during start-up is not fatal
        signals.listen(signals.REQUEUE, signals.HANDED_ON)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # a store that is gone is no news in stack frames
    _set_path(sys.argv[1:2])
    from lit_gen.cli.entry import run

    try:
        code = run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output, `head` say, has read enough
        with Path(os.devnull).open("wb") as nothing:
            os.dup2(nothing.fileno(), sys.stdout.fileno())
        code = 141
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        # An error left collectives behind: to wait for their threads may hang, and to take the interpreter down under
        # them aborts and loses the exit code.
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _set_path(command: list[str]) -> None:
    """Put the working folder first on the path, where a user's own file beside the config is found by its name.

    Commands that open files of others have nothing typed to find there: for those it is taken away, though Python
    itself put it there for ``python -m``.
    """
    folder = str(Path.cwd())
    if command and command[0] in ("sample", "evaluate", "export"):
        if sys.path[:1] in ([folder], [""]):
            del sys.path[0]
    elif folder not in sys.path[:1]:
        sys.path.insert(0, folder)


if __name__ == "__main__":
    main()
