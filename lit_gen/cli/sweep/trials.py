"""The trials of a sweep: command lines as W&B's agent builds them, configurations as `fit` builds them."""

import itertools
import math
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lit_gen.cli import errors
from lit_gen.cli.commands.train import assemble
from lit_gen.cli.config import files as configs
from lit_gen.cli.config import pretrained
from lit_gen.cli.config.files import as_list
from lit_gen.cli.config.taken import take
from lit_gen.cli.launch import monitors, run_dir, trainer_options
from lit_gen.cli.launch.lightning import LitGenCLI
from lit_gen.cli.sweep.file import EXAMPLE, OWN, Sweep
from lit_gen.core import randomness
from lit_gen.core.errors import UserError, nearest, note

GRID_LIMIT = 32
"""A grid of more combinations than this is checked value by value; each takes about half a second."""
LOGGERS = ("WeightsAndBiases", "WandbLogger")

Values = dict[str, Any]


# ---- which trials there are


def grid(sweep: Sweep) -> Iterator[Values]:
    """Every trial of a grid, in the file's order; the last parameter changes fastest."""
    names = [p.name for p in sweep.parameters]
    for combination in itertools.product(*(p.grid() or [] for p in sweep.parameters)):
        yield dict(zip(names, combination, strict=True))


def grid_size(sweep: Sweep) -> int:
    """How many trials a grid has."""
    return math.prod(len(p.grid() or []) for p in sweep.parameters)


def examples(sweep: Sweep) -> Iterator[Values]:
    """Trials drawn from the distributions, always the same ones."""
    for i in itertools.count():
        yield {p.name: p.draw(randomness.host(0, f"sweep, {p.name}", step=i)) for p in sweep.parameters}


def to_check(sweep: Sweep) -> list[Values]:
    """Every combination of a small grid; else each value or end of a range, with the first value of the others."""
    if sweep.method == "grid" and grid_size(sweep) <= GRID_LIMIT:
        return list(grid(sweep))
    values = {p.name: p.grid() if sweep.method == "grid" else p.ends() for p in sweep.parameters}
    first = {name: (listed or [None])[0] for name, listed in values.items()}
    return [first] + [first | {name: v} for name, listed in values.items() for v in (listed or [])[1:]]


# ---- the command line of one


def words(sweep: Sweep, values: Values) -> list[str]:
    """What W&B's agent runs for a trial, built with its own functions."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    command = create_sweep_command(list(sweep.command))  # changes the list that it is given
    known = create_sweep_command_args({"args": {name: {"value": value} for name, value in values.items()}})
    known |= {"interpreter": ["python"], "program": [sweep.program]}
    if platform.system() != "Windows":
        known["env"] = ["/usr/bin/env"]
    made: list[str] = []
    for word in map(str, command):
        is_macro = word.startswith("${") and word.endswith("}")
        made += (known.get(word[2:-1]) or []) if is_macro else [word]
    return made


def options(command: list[str]) -> list[str]:
    """What the command gives to ``fit``.

    Raises:
        UserError: if it runs something else.
    """
    for i, word in enumerate(command):
        runs = Path(word).name == "lit-gen" or (word == "lit_gen" and command[max(i - 1, 0)] == "-m")
        if runs and command[i + 1 : i + 2] == ["fit"]:
            _check_files(command[i + 2 :])
            _check_own(command[i + 2 :])
            return command[i + 2 :]
        if runs:
            found = command[i + 1] if i + 1 < len(command) else "nothing"
            raise UserError(f"command: lit_gen {found} was found, fit is expected: {EXAMPLE}")
    raise UserError(f"command: it does not run lit_gen; {EXAMPLE} is expected")


def _check_files(arguments: list[str]) -> None:
    """Sweep files have the names of the configs that they vary: in their folder, one would be read for the other."""
    for name in take(arguments, "--config")[0]:
        if Path(name).is_file() and {"method", "parameters"} <= set(configs.read(Path(name))):
            raise UserError(f"command: --config {name} is a sweep file in this folder; run sweeps from another folder")


def _check_own(arguments: list[str]) -> None:
    """Two trials never share a run directory."""
    for option in OWN:
        if take(arguments, f"--{option}")[0]:
            raise UserError(
                f"command: --{option} was found, which a sweep cannot set; each trial has its own directory"
            )


# ---- its configuration


class Built(LitGenCLI):
    """A configuration as ``fit`` would build it, its model, data and callbacks made; no run directory and no trainer.

    Args:
        arguments: what follows ``fit``.
    """

    def __init__(self, arguments: list[str]) -> None:
        super().__init__("fit", assemble("fit", arguments), ["fit", *arguments])

    def _set_seed(self) -> None:
        """Nothing visible is drawn."""

    def before_instantiate_classes(self) -> None:
        """As `LitGenCLI`, without writing."""
        trainer_options.check_values(self.chosen.trainer, trains_anew=True)
        trainer_options.check_rates(self.chosen)
        pretrained.read_options(self.chosen, self.given, self.options)
        self.checkpoint = None
        elements = {str(e.class_path).rsplit(".", 1)[-1]: e for e in as_list(self.chosen.trainer.logger)}
        self.loggers = list(elements)
        self.modes = {name: e.get("init_args", {}).get("mode") for name, e in elements.items()}
        run_dir.fill_in(self.chosen.trainer, Path("runs"), keep_loggers=False)

    def instantiate_classes(self) -> None:
        """Model, data and callbacks; then the optimizers, which check their rates."""
        self.instantiate_parts()
        self.callbacks = as_list(self.config_init["fit"].trainer.callbacks)
        if hasattr(self.model, "announced"):  # one of ours, which needs no trainer for it
            self.model.configure_optimizers()

    def _run_subcommand(self, subcommand: str) -> None:
        """Nothing is run."""

    def announced(self) -> tuple[list[str], list[str]]:
        """The names that will be logged, and what else may log under names that it does not announce."""
        return monitors.announced(self.model, self.datamodule, self.callbacks, self.chosen.trainer.limit_val_batches)


def check(sweep: Sweep) -> int:
    """Build the configurations of `to_check`, check that each logs the metric, and return their number.

    Raises:
        UserError: for the first that is refused.
    """
    trials = to_check(sweep)
    first = trials[0]
    for values in trials:
        changed = [f"{name}={value}" for name, value in values.items() if value != first[name]]
        where = ", ".join(changed) or "the first trial"
        try:
            _check_metric(sweep, Built(options(words(sweep, values))))
        except Exception as error:
            told = errors.explain(error)
            if told is None:
                raise
            raise UserError(told[1] if told[1].startswith("command: ") else f"{where}: {told[1]}") from error
    return len(trials)


def _check_metric(sweep: Sweep, built: Built) -> None:
    if not set(built.loggers) & set(LOGGERS):
        raise UserError('command: no logger sends anything to W&B; "--config", "wandb.yaml" adds one')
    if built.chosen.run_id is not None:
        raise UserError(f"command: a config sets run_id {built.chosen.run_id}; each trial has its own directory")
    if built.modes.get("WeightsAndBiases") in ("disabled", "offline"):
        found = f"trainer.logger.WeightsAndBiases.mode is {built.modes['WeightsAndBiases']}"
        raise UserError(f"command: {found}, so that the server would learn of no trial; online is expected")
    if sweep.metric is None:
        return
    wanted = sweep.metric["name"]
    names, silent = built.announced()
    if wanted in names:
        return
    if silent:
        note(f"metric {wanted}: nobody can tell before training whether {' or '.join(silent)} logs it")
        return
    same = [name for name in names if name.split("/")[0] == wanted.split("/")[0]] or names
    raise UserError(f"metric.name: nothing logs {wanted}{nearest(wanted, names)} (logged are {', '.join(same)})")
