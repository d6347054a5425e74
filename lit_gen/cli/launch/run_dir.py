"""Which directory a command belongs to, and where its name goes in the configuration."""

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from lit_gen.cli.config import files as configs
from lit_gen.cli.config.files import Config, as_list
from lit_gen.cli.config.taken import take
from lit_gen.core.errors import UserError
from lit_gen.core.terminal import one_line
from lit_gen.runs import checkpoints, directory, lease, record, slurm, trust


def choose(chosen: Any, command: str, stem: str, resumed: Path | None, checkpoint: Path | None) -> Path:
    """The run directory: the one that the starting rank names, the resumed run's, the checkpoint's, or a new one.

    Args:
        chosen: the parsed options.
        command: fit, validate, test or predict.
        stem: the default of ``run_name``.
        resumed: the run to continue, or None.
        checkpoint: the checkpoint to start from or to evaluate, or None.
    """
    if directory.ENVIRONMENT in os.environ:
        return Path(os.environ[directory.ENVIRONMENT])
    if command != "fit":
        assert checkpoint is not None
        path = of_checkpoint(checkpoint)
    elif resumed is not None:
        path = resumed
    else:
        name, over = stem if chosen.run_name is None else chosen.run_name, takes_over(chosen)
        path = directory.create(Path(chosen.run_root), name, chosen.run_id, over)
    os.environ[directory.ENVIRONMENT] = str(path)  # for the ranks that lightning launches from this one
    return path


def takes_over(chosen: Any) -> bool:
    """Whether the user wants to take the run from its process; not if SLURM repeats an earlier command."""
    return bool(chosen.take_over) and not slurm.restarted()


def note_trial(path: Path) -> None:
    """Add the run directory to the file that ``LIT_GEN_TRIALS`` names, in which a job of many trials lists them."""
    if account := os.environ.get("LIT_GEN_TRIALS"):
        with Path(account).open("a", encoding="utf-8") as file:
            file.write(f"{path}\n")


def checkpoint_of(chosen: Any, command: str, resumed: Path | None) -> Path | None:
    """The checkpoint to start from: a run directory stands for its newest; only fit can do without one.

    Takes the lease of a run that is resumed.

    Args:
        chosen: the parsed options.
        command: fit, validate, test or predict.
        resumed: the run to continue, or None.

    Raises:
        UserError: if it is missing, or given twice; if another process holds the run that is resumed.
    """
    path = chosen.get("ckpt_path")
    if chosen.take_over and command != "fit":
        raise UserError(f"--take_over belongs to fit; {command} writes nothing that a run in training would miss")
    if resumed is not None:
        if path:
            raise UserError("--ckpt_path and --resume were both given; --resume takes the run's newest checkpoint")
        lease.take(resumed, takes_over(chosen))  # from here on no other process writes checkpoints
        begun = directory.checkpoints(resumed) or not slurm.restarted()
        # a job that was ended before its first checkpoint has none
        return checkpoints.newest(resumed, set_aside=True) if begun else None
    if path is None and command != "fit":
        raise UserError(f"{command}: --ckpt_path is expected, a checkpoint or a run directory")
    return checkpoints.resolve(Path(path)) if path else None


def of_checkpoint(checkpoint: Path) -> Path:
    """The run directory that a checkpoint lies in, or its folder."""
    return checkpoint.parent.parent if checkpoint.parent.name == directory.CHECKPOINTS else checkpoint.parent


def read_config(path: Path, trusted: Collection[str] = ()) -> Config:
    """The configuration that a run kept, which was not typed: it may name only the user's own code and what is listed.

    Args:
        path: the ``config.yaml``.
        trusted: top-level modules that it may name too.

    Raises:
        UserError: if it cannot be read, an earlier version wrote it, or it names something that it may not; if
            another person's run has a link that leads outside.
    """
    config = configs.read(path)
    checkpoints.refuse_old_paths(config, path)
    own = record.own_folders(path.parent, path.read_text(encoding="utf-8"))
    if own is None:
        _refuse_links(path.parent)
    trust.admit(config, path, own, trusted, run=True)
    return config


def _refuse_links(run: Path) -> None:
    """Refuse another person's run whose links would let it write to or delete files of this user."""
    inside = run.resolve()
    for folder, folders, files in os.walk(run):
        for link in (Path(folder, name) for name in (*folders, *files)):
            if link.is_symlink() and not link.resolve().is_relative_to(inside):
                there = one_line(str(link.resolve()))
                raise UserError(
                    f"{one_line(str(link))} is a link to {there}, outside the run, which is somebody else's or has no "
                    f"seal of yours; a run that holds its own files is expected"
                )


def config_beside(arguments: list[str], trusted: Collection[str] = ()) -> Config:
    """The configuration of the checkpoint's run, for commands that evaluate without a config."""
    path, _ = take(arguments, "--ckpt_path")
    if not path:
        return {}
    beside = of_checkpoint(checkpoints.resolve(Path(path[-1]))) / directory.CONFIG
    return read_config(beside, trusted) if beside.is_file() else {}


def fill_in(trainer: Any, path: Path, keep_loggers: bool) -> None:
    """Put the run directory for ``{run_dir}`` in the options of loggers and callbacks.

    Args:
        trainer: the parsed trainer options, changed in place.
        path: the run directory.
        keep_loggers: false for commands that must not write into the logs of the run's training.
    """
    trainer.default_root_dir = str(path)
    if not keep_loggers:
        trainer.logger = False
    for element in [*as_list(trainer.logger), *as_list(trainer.callbacks)]:
        arguments = element.get("init_args", {})
        for name, value in list(arguments.items()):
            if isinstance(value, str):
                arguments[name] = value.replace("{run_dir}", str(path))
