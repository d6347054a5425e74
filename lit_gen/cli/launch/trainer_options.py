"""The trainer's options, checked before a run directory is made: lightning meets some with a traceback."""

import math
import re
from datetime import timedelta
from typing import Any

import torch
from lightning.pytorch.strategies import StrategyRegistry

from lit_gen.cli.config.files import as_list
from lit_gen.core.errors import UserError, note
from lit_gen.core.options import at_least, expect, not_negative, one_of, whole_number
from lit_gen.runs import slurm

T = "trainer."
ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")
STRATEGIES = ("auto", "ddp", "ddp_spawn", "fsdp", "deepspeed")
PROFILERS = ("simple", "advanced", "pytorch")
SHARES = ("limit_train_batches", "limit_val_batches", "limit_test_batches", "limit_predict_batches", "overfit_batches")

_TUNERS = {
    "BatchSizeFinder": "data.batch_size",
    "LearningRateFinder": "the learning rate",
    "GradientAccumulationScheduler": "the number of micro-batches",
}


def check_values(trainer: Any, trains_anew: bool = False) -> None:
    """Refuse values that lightning takes without a word, meets with a traceback, or explains in its own words.

    Args:
        trainer: the parsed options.
        trains_anew: a new run begins, which has something to train.

    Raises:
        UserError: names the option.
    """
    if trainer.default_root_dir is not None:
        raise UserError("trainer.default_root_dir: a run lies in --run_root/--run_name/--run_id; set those instead")
    if trainer.val_check_interval == 0:
        raise UserError("trainer.val_check_interval: 0 was found; for no validation say --trainer.limit_val_batches 0")
    _check_numbers(trainer)
    _check_names(trainer)
    _check_callbacks(trainer)
    if trains_anew:
        _check_length(trainer)


def _check_numbers(trainer: Any) -> None:
    at_least(-1, T, max_steps=trainer.max_steps, max_epochs=trainer.max_epochs)
    at_least(-1, T, num_sanity_val_steps=trainer.num_sanity_val_steps)
    at_least(1, T, log_every_n_steps=trainer.log_every_n_steps, num_nodes=trainer.num_nodes)
    at_least(1, T, check_val_every_n_epoch=trainer.check_val_every_n_epoch)
    at_least(0, T, min_steps=trainer.min_steps, min_epochs=trainer.min_epochs)
    for least, most in (("min_steps", "max_steps"), ("min_epochs", "max_epochs")):
        floor, limit = trainer[least], trainer[most]
        bounded = None not in (floor, limit) and limit >= 0
        expect(not bounded or floor <= limit, T + least, floor, f"at most trainer.{most}, {limit},")
    if trainer.enable_progress_bar is False:
        raise UserError(
            "trainer.enable_progress_bar: false was found; for no progress line say --progress.enabled false"
        )
    at_least(0, T, reload_dataloaders_every_n_epochs=trainer.reload_dataloaders_every_n_epochs)
    at_least(0, T, fast_dev_run=trainer.fast_dev_run)
    not_negative(T, gradient_clip_val=trainer.gradient_clip_val)
    for name in (*SHARES, "val_check_interval"):
        value = trainer[name]
        if isinstance(value, int | float):
            good = value >= 0 if isinstance(value, int) else 0 <= value <= 1
            expect(good, T + name, value, "a whole number of batches, or a share from 0.0 to 1.0,")
    if not isinstance(trainer.devices, list):
        number = str(trainer.devices)
        good = number in ("auto", "-1") or (number.isdecimal() and int(number) > 0) or "," in number
        expect(good, f"{T}devices", trainer.devices, f"{whole_number(1)}, -1 for all, a list, or auto")


def _check_names(trainer: Any) -> None:
    if isinstance(trainer.accelerator, str):
        one_of(ACCELERATORS, T, accelerator=trainer.accelerator)
    if isinstance(trainer.strategy, str):
        known = {*STRATEGIES, *StrategyRegistry.available_strategies()}
        if trainer.strategy not in known:  # most of them are variants of these
            one_of(STRATEGIES, T, strategy=trainer.strategy)
    if isinstance(trainer.profiler, str):
        one_of(PROFILERS, T, profiler=trainer.profiler)
    if trainer.gradient_clip_algorithm is not None:
        one_of(("norm", "value"), T, gradient_clip_algorithm=str(trainer.gradient_clip_algorithm))
    if trainer.enable_checkpointing is False:
        raise UserError(
            "trainer.enable_checkpointing: false was found; for no checkpoints say --checkpoint.enabled false"
        )
    if trainer.barebones:
        raise UserError("trainer.barebones: true was found, but a run has a log and checkpoints; false is expected")


def _check_callbacks(trainer: Any) -> None:
    for element in as_list(trainer.callbacks):
        mode = element.get("init_args", {}).get("mode")
        name = str(element.class_path).rpartition(".")[2]
        if name in _TUNERS and str(element.class_path).startswith("lightning."):
            raise UserError(
                f"{T}callbacks: {name} was found, which changes {_TUNERS[name]} of its own; set it yourself"
            )
        if name in ("EarlyStopping", "ModelCheckpoint") and mode is not None:
            one_of(("min", "max"), f"{T}callbacks.{name}.", mode=mode)


def _check_length(trainer: Any) -> None:
    """Refuse a new run that would end before its first step."""
    for name in ("max_steps", "max_epochs"):
        expect(trainer[name] != 0, T + name, 0, whole_number(1), ", or -1 for no limit")
    limit = trainer.limit_train_batches
    expect(limit != 0, f"{T}limit_train_batches", limit, "a number above 0", ": nothing would be trained")
    duration = trainer.max_time
    if isinstance(duration, str):
        shaped = re.fullmatch(r"\d+:\d\d:\d\d:\d\d", duration.strip())
        expect(bool(shaped), f"{T}max_time", duration, "days:hours:minutes:seconds, such as 00:12:00:00,")
        expect(bool(re.search("[1-9]", duration)), f"{T}max_time", duration, "a time above 0")
    elif isinstance(duration, timedelta):
        expect(duration > timedelta(), f"{T}max_time", str(duration), "a time above 0")


def check_interval(trainer: Any, options: list[str]) -> None:
    """Say that a run ends before its first validation where the interval was typed for it.

    One that only the config has, as it has others, is meant for the whole run, of which this may be the beginning.

    Args:
        trainer: the parsed options.
        options: of the command line.
    """
    interval, steps = trainer.val_check_interval, trainer.max_steps
    by_steps = isinstance(interval, int) and trainer.check_val_every_n_epoch is None and steps > 0
    typed = any(word.partition("=")[0] == "--trainer.val_check_interval" for word in options)
    if typed and by_steps and interval > steps and trainer.limit_val_batches != 0 and slurm.rank() == 0:
        note(f"trainer.val_check_interval: {interval} is more than trainer.max_steps ({steps}); nothing is validated")


def check_hardware(trainer: Any) -> None:
    """Refuse what this machine cannot do.

    Args:
        trainer: the parsed options.

    Raises:
        UserError: names the option.
    """
    chosen = trainer.accelerator
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    there = {"cuda": cuda, "mps": mps, "gpu": cuda or mps}
    if isinstance(chosen, str):
        hint = ": torch finds no such device here"
        expect(there.get(chosen, True), f"{T}accelerator", chosen, "cpu or auto", hint)
    if chosen != "cpu" and (chosen != "auto" or cuda or mps):
        return
    precision = str(trainer.precision)
    half = precision in ("16", "16-mixed", "16-true") or precision.startswith("transformer-engine")
    expect(not half, f"{T}precision", precision, "bf16-mixed or 32-true", " on a CPU")
    strategy = trainer.strategy
    sharded = isinstance(strategy, str) and strategy.startswith(("fsdp", "deepspeed"))
    expect(not sharded, f"{T}strategy", strategy, "auto or ddp", " on a CPU")
    good = str(trainer.devices) == "auto" or (str(trainer.devices).isdecimal() and int(str(trainer.devices)) > 0)
    expect(good, f"{T}devices", trainer.devices, f"{whole_number(1)}, or auto,", " on a CPU")


def check_rates(chosen: Any, where: str = "") -> None:
    """Refuse NaN anywhere in a configuration, and a rate that torch would refuse once the fit has begun, or not at all.

    Args:
        chosen: a part of the parsed options.
        where: its dotted name.

    Raises:
        UserError: names the option.
    """
    name = where.rpartition(".")[2]
    if isinstance(chosen, int | float) and not isinstance(chosen, bool):
        rate = name in ("lr", "weight_decay")
        finite = "a finite number of at least 0" if rate else "a finite number"
        expect(not math.isnan(chosen) and not (rate and not 0 <= chosen < math.inf), where, chosen, finite)
    elif isinstance(chosen, list | tuple):
        betas = name == "betas" and "optimizer" in where and all(isinstance(beta, float | int) for beta in chosen)
        good = not betas or all(0 <= beta < 1 for beta in chosen)
        expect(good, where, list(chosen), "a list of numbers from 0 to below 1")
        for element in chosen:
            check_rates(element, where)
    elif hasattr(chosen, "items") and not isinstance(chosen, type):
        for key, value in list(vars(chosen).items() if hasattr(chosen, "__dict__") else chosen.items()):
            check_rates(value, where if key == "init_args" else f"{where}.{key}".removeprefix("."))


def lightning_says(error: Exception, trainer: Any) -> str:
    """The sentence for what lightning refuses when it makes the trainer: the option that it names, and what was found.

    Args:
        error: lightning's.
        trainer: the parsed options.
    """
    told = " ".join(str(error).split()).replace("`", "")
    if "multiple progress bar" in told:
        return f"{T}callbacks: a second progress bar was found, one is expected: a run shows its own"
    names = [name for name in vars(trainer) if re.search(rf"\b{name}\b", told)]
    if len(names) != 1:
        return f"trainer: {told}"
    first = re.split(r"(?<=[.!?]) (?=[A-Z])", told)[0].rstrip(".!")
    return f"{T}{names[0]}: {trainer[names[0]]!r} was found; {first}"
