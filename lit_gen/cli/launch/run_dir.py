"""Which directory a command belongs to, and where its name goes in the configuration."""

import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch.distributed

from lit_gen.cli.config import files as configs
from lit_gen.cli.config.files import Config, as_list, take
from lit_gen.core.errors import UserError
from lit_gen.runs import checkpoints, directory, record, slurm, trust


def choose(chosen: Any, command: str, stem: str, resumed: Path | None, checkpoint: Path | None) -> Path:
    """The run directory of this process: handed over by rank 0, the resumed one, the checkpoint's, or a new one.

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
        path = _agreed(lambda: directory.create(Path(chosen.run_root), chosen.run_name or stem, chosen.run_id))
    os.environ[directory.ENVIRONMENT] = str(path)  # for the ranks that lightning launches from this one
    return path


def note_trial(path: Path) -> None:
    """Add the run directory to the file that ``LIT_GEN_TRIALS`` names, where a job of many trials keeps account."""
    if account := os.environ.get("LIT_GEN_TRIALS"):
        with Path(account).open("a", encoding="utf-8") as file:
            file.write(f"{path}\n")


def checkpoint_of(chosen: Any, command: str, resumed: Path | None) -> Path | None:
    """The checkpoint to start from: a run directory stands for its newest; only fit can do without one.

    Args:
        chosen: the parsed options.
        command: fit, validate, test or predict.
        resumed: the run to continue, or None.

    Raises:
        UserError: if it is missing, or said twice.
    """
    path = chosen.get("ckpt_path")
    if resumed is not None:
        if path:
            raise UserError("--ckpt_path and --resume were both given; --resume takes the run's newest checkpoint")
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
    """The configuration that a run kept, which nobody typed: what it names is a person's own, or on a list.

    Args:
        path: the ``config.yaml``.
        trusted: top-level modules that it may name too.

    Raises:
        UserError: if it cannot be read, an earlier version wrote it, or it names what it may not.
    """
    config = configs.read(path)
    checkpoints.refuse_old_paths(config, path)
    own = record.own_folders(path.parent, path.read_text(encoding="utf-8"))
    trust.admit(config, path, own, trusted, run=True)
    return config


def config_beside(arguments: list[str], trusted: Collection[str] = ()) -> Config:
    """For commands that evaluate: without a config, that of the checkpoint's run."""
    path, _ = take(arguments, "--ckpt_path")
    if not path:
        return {}
    beside = of_checkpoint(checkpoints.resolve(Path(path[-1]))) / directory.CONFIG
    return read_config(beside, trusted) if beside.is_file() else {}


def _agreed(create: Callable[[], Path]) -> Path:
    """Create the directory, once for all ranks that torchrun started side by side: rank 0 tells the others."""
    if not torch.distributed.is_torchelastic_launched() or os.environ.get("WORLD_SIZE") == "1":
        return create()
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = torch.distributed.TCPStore(host, port, is_master=False)  # type: ignore[attr-defined]  # torchrun's own
    name = f"lit_gen/run/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    if os.environ["RANK"] == "0":
        store.set(name, str(create()))
    return Path(store.get(name).decode())


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
