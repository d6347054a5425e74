"""``fit``, ``validate``, ``test`` and ``predict``: from the command line to a configuration, a run and an exit code."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from lit_gen.cli.config import files as configs
from lit_gen.cli.config.files import DEFAULTS, Config, merge
from lit_gen.cli.config.nulls import take_nulls
from lit_gen.cli.config.own_code import import_own, own_names, refuse_files
from lit_gen.cli.config.sections import check_sections, refuse_overlays
from lit_gen.cli.config.taken import take, take_named
from lit_gen.cli.config.words import pair_numbers
from lit_gen.cli.launch import run_dir, slurm
from lit_gen.cli.launch.lightning import LitGenCLI
from lit_gen.cli.launch.quiet import quiet
from lit_gen.core import distributed
from lit_gen.core.errors import UserError
from lit_gen.core.options import expect, whole_number
from lit_gen.runs import directory, lease, trust
from lit_gen.runs import slurm as cluster


def run(arguments: list[str]) -> int:
    """Run ``fit``, ``validate``, ``test`` or ``predict`` and return the exit code."""
    arguments = ["--help" if word == "--help_all" else word for word in arguments]
    assembled = assemble(arguments[0], arguments[1:])
    quiet()
    launched = directory.ENVIRONMENT in os.environ  # by rank 0 of the same run
    try:
        cli = LitGenCLI(arguments[0], assembled, arguments)
    except BaseException:
        directory.remove_unused()
        raise
    finally:
        lease.release()  # before SLURM starts the job again
        if not launched:
            os.environ.pop(directory.ENVIRONMENT, None)
    code = cli.exit_code
    slurm.end(code, cli.requeue, cli.run_dir, cli.trainer.global_step)
    del cli
    distributed.leave()
    return code


@dataclass
class Assembled:
    """A command line, taken apart.

    Attributes:
        config: the config files and the options of named lists, merged.
        options: what is left for the parser.
        stem: the default of ``--run_name``.
        resumed: the run directory to continue, or None.
        requeued: SLURM started the same command line again; the first start has decided everything.
    """

    config: Config
    options: list[str]
    stem: str
    resumed: Path | None
    requeued: bool = False


def assemble(command: str, arguments: list[str]) -> Assembled:
    """Take ``--resume``, ``--config``, ``--repeats``, ``--trust`` and the options of named lists out of the arguments.

    Raises:
        UserError: for an option of another command, a missing file or broken YAML.
    """
    if command == "predict":
        arguments = ["--samples.overwrite=true" if word == "--overwrite" else word for word in arguments]
    resume, rest = take(pair_numbers(arguments), "--resume")
    files, rest = take(rest, "--config")
    repeats, rest = take(rest, "--repeats")
    given, rest = take(rest, "--trust")
    trusted = [name for value in given for name in value.split(",")]
    refuse_files(rest)
    named, rest = take_named(rest)
    saved = None
    config = DEFAULTS
    if (resume or command != "fit") and not files and not own_names(None, rest):
        trust.leave_working_folder()  # nothing was typed that could be there
    if resume:
        if command != "fit":
            raise UserError(f"--resume belongs to fit; for {command} name the run with --ckpt_path")
        saved = directory.find(Path(resume[-1]))
        for word in rest:
            if re.match(r"--run_(root|name|id)\b", word):
                raise UserError(
                    f"{word.partition('=')[0]}: it was found beside --resume, which continues {saved} in place"
                )
        config = run_dir.read_config(saved / directory.CONFIG, trusted)
    elif command != "fit" and not files:
        config = merge(config, run_dir.config_beside(rest, trusted))
    typed = [*(configs.read(configs.resolve(file)) for file in files), *named]
    for i, part in enumerate(typed):
        check_sections(part, f"{files[i]}: " if i < len(files) else "")
        for name in ("resume", "repeats", "trust", "take_over", "overwrite"):
            if name in part:
                raise UserError(f"{name}: it was found in a config, --{name} on the command line is expected")
        config = merge(config, part)
    if files and saved is None and command == "fit":
        refuse_overlays(files[-1], config, rest)
    config, rest = take_nulls(config, rest)
    import_own(typed, rest)  # not what the run keeps: that was not typed
    if repeats:
        expect(repeats[-1].isdecimal() and int(repeats[-1]) > 0, "--repeats", repeats[-1], whole_number(1))
        config = merge(config, {"trainer": {"callbacks": {"FID": {"repeats": int(repeats[-1])}}}})
    stem = Path(files[0]).stem if files else "run"
    if command == "fit" and saved is None and cluster.restarted():
        left = slurm.left_by_requeue(config, rest, stem)
        if left is not None and directory.checkpoints(left):
            # a config file may have been edited since: the run keeps the configuration that it began with
            return Assembled(run_dir.read_config(left / directory.CONFIG, trusted), [], stem, left, requeued=True)
    return Assembled(config, rest, stem, saved)
