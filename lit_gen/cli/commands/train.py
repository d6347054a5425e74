"""``fit``, ``validate``, ``test`` and ``predict``: one run of LightningCLI and its exit code."""

import os

from lit_gen.cli.launch import slurm
from lit_gen.cli.launch.assemble import assemble
from lit_gen.cli.launch.lightning import LitGenCLI
from lit_gen.cli.launch.quiet import quiet
from lit_gen.core import distributed
from lit_gen.runs import directory


def run(arguments: list[str]) -> int:
    """Run ``fit``, ``validate``, ``test`` or ``predict`` and return the exit code."""
    assembled = assemble(arguments[0], arguments[1:])
    quiet()
    launched = directory.ENVIRONMENT in os.environ  # by rank 0 of the same run
    try:
        cli = LitGenCLI(arguments[0], assembled, arguments)
    finally:
        if not launched:
            directory.remove_if_empty(os.environ.pop(directory.ENVIRONMENT, None))
    code = cli.exit_code
    slurm.end(code, cli.requeue, cli.run_dir, cli.trainer.global_step)
    del cli
    distributed.leave()
    return code
