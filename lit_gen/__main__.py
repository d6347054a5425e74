"""``python -m lit_gen`` and ``lit-gen``: the working folder off the path, then the command line."""

import atexit
import os
import sys
from pathlib import Path


def main() -> None:
    """Run the command line and exit with its code."""
    for name in ("stdout", "stderr"):  # None where the caller has closed it
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
    try:
        _leave_working_folder()
    except FileNotFoundError:
        print("error: the working folder was removed; change to one that exists", file=sys.stderr)
        sys.exit(2)
    if "fit" in sys.argv[1:3] and "SLURM_JOB_ID" in os.environ:
        from lit_gen.runs import signals

        # before torch is imported: a signal during start-up is not fatal
        signals.listen(signals.REQUEUE, signals.HANDED_ON)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # no stack traces when a store is gone
    from lit_gen.cli.entry import run

    try:
        code = run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of the output, such as `head`, has read enough
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


def _leave_working_folder() -> None:
    """Take the working folder off the path, where Python puts it for ``python -m``.

    Otherwise a file there with the name of a library would run instead of it. `lit_gen.cli.config.own_code` imports
    what is typed and lies there, after the libraries.
    """
    if sys.path[:1] in ([str(Path.cwd())], [""]):
        del sys.path[0]


if __name__ == "__main__":
    main()
