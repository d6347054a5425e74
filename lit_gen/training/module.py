"""Base of every family's module: arguments, averaged weights, scheduled numbers, log entries, the non-finite stop."""

import copy
import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, Self, get_args

import torch
from lightning import LightningModule
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from torch import nn
from torch.nn.parameter import UninitializedParameter

from lit_gen.core import data as datasets
from lit_gen.core.batches import Batches, refuse_accumulation
from lit_gen.core.blame import named
from lit_gen.core.errors import NonFiniteLossError, UserError, without_stop_iteration
from lit_gen.core.options import within
from lit_gen.loggers import publish
from lit_gen.protocols.images import Weights
from lit_gen.runs import trust
from lit_gen.runs.directory import last_checkpoint_of
from lit_gen.training.adapted import Adapted
from lit_gen.training.batch_norm import synchronize
from lit_gen.training.ema import EMA, Moved
from lit_gen.training.finetuned import FineTuned
from lit_gen.training.hparams import module_hparams
from lit_gen.training.listeners import call_again, pass_over
from lit_gen.training.meeting import meetings
from lit_gen.training.monitor import Monitor
from lit_gen.training.optimizers import refuse_untrained
from lit_gen.training.schedules import Schedule, setter

SHARDING = (DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy)


class TrainingModule(FineTuned, Adapted, LightningModule):
    """A module whose checkpoint is enough to rebuild it and to continue its log entries.

    It keeps its constructor's arguments as attributes of the same names.

    Attributes:
        loaded_optimizers: the classes whose states the loaded checkpoint holds.
        monitor: of the loss terms; set by the constructor.
        described: the arguments of a module built in Python, as the command line would give them.
        ema: how averaged weights follow the trained ones; None without an average.
        schedules: numbers that change over the steps, by dotted name.
        sync_batch_norm: whether batch norm runs over all ranks; None: if there are several.
        headline: the numbers of its validation that a run prints at its end.
    """

    monitor: Monitor
    described: dict[str, Any] | None = None
    ema: EMA | None = None
    schedules: Mapping[str, Schedule] | None = None
    sync_batch_norm: bool | None = None
    headline: tuple[str, ...] = ()
    _averaged: tuple[str, ...] = ()  # names of the networks of which averages are kept

    def __init_subclass__(cls, **options: Any) -> None:
        """Keep a StopIteration of a loss or a network from ending an epoch silently."""
        super().__init_subclass__(**options)
        if "training_step" in vars(cls):
            cls.training_step = without_stop_iteration(cls.training_step)  # type: ignore[method-assign]

    def __init__(self) -> None:
        super().__init__()
        self.loaded_optimizers: list[str] = []
        self._begun = False  # whether a fit has begun, here or before a checkpoint
        self._moved: Moved | None = None
        self._setters: dict[str, Callable[[float], None]] = {}  # of the scheduled numbers, by name
        self._scheduled: dict[str, float] = {}  # their values at this step

    def __setattr__(self, name: str, value: Any) -> None:
        """Set what Lightning sets before each hook of each callback, some 50 times a step, without torch's checks."""
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def keep_arguments(self) -> None:
        """Keep the arguments of the command line; call it in the constructor."""
        frame = inspect.currentframe()
        with warnings.catch_warnings():
            # Lightning advises to ignore the networks; a checkpoint of the command line could then not be loaded.
            warnings.filterwarnings("ignore", message=".*is already saved during checkpointing.*")
            self.save_hyperparameters(logger=False, frame=None if frame is None else frame.f_back)
        if "_instantiator" not in self.hparams:
            self.hparams.clear()  # built in Python: objects, which no checkpoint can hold; see on_save_checkpoint

    def describe(self) -> None:
        """Describe a module built in Python now, at the start of a fit: training may change the arguments.

        Raises:
            UserError: if an argument cannot be described.
        """
        if "_instantiator" not in self.hparams and self.trainer.checkpoint_callbacks:
            try:
                self.described = module_hparams(self)
            except UserError:
                if self.described is None:  # else it was loaded from a checkpoint, which did describe it
                    raise

    def on_train_start(self) -> None:
        """See `refuse_untrained`: by now every network was tried."""
        if not isinstance(self.trainer.strategy, SHARDING):
            refuse_untrained(self, self.trainer.optimizers)
        self.keep_still()  # once more: whoever tried a network may have changed its mode
        pass_over(self.trainer, self)

    def on_train_end(self) -> None:
        """Leave module and callbacks as they were."""
        call_again(self.trainer, self)

    def on_fit_start(self) -> None:
        """Prepare for training; a family that overrides this calls it first.

        Raises:
            UserError: for an average, an adapter or fine-tuning of weights that the strategy shards, an average of half
                precision, an argument that cannot be described, or a trainer that accumulates gradients itself.
        """
        refuse_accumulation(self.trainer.accumulate_grad_batches)
        if self.synchronizes(self.trainer.world_size):
            synchronize(self)
        used = {"ema": self.averaged, "adapter": self.adapter, "finetune": self.finetune}
        if any(used.values()) and isinstance(self.trainer.strategy, SHARDING):
            name, option = type(self.trainer.strategy).__name__, next(option for option in used if used[option])
            raise UserError(f"model.{option}: null is expected with {name}, which shards the weights")
        if not self._begun:
            self.begin_finetune()
        self.begin_adapter(self._begun, self.trainer.max_steps)
        self._begun = True
        half = (torch.float16, torch.bfloat16)
        if any(p.dtype in half for name in self._averaged for p in self.weighted(name, "ema").parameters()):
            raise UserError(
                f"trainer.precision: {self.trainer.precision} was found, in which an average of weights is rounded to "
                f"what it was; a mixed precision or 32-true is expected, or model.ema null"
            )
        if self.averaged or self.finetune is not None:  # averages and frozen norms are in evaluation mode on purpose
            warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")
        self._setters, self._moved = {}, None
        self.describe()  # now: schedules will change what it describes

    # ---- the total batch

    @property
    def batches_per_step(self) -> int:
        """Batches that one step reads; the train loader yields them together."""
        return 1

    @property
    def updates_per_step(self) -> int:
        """Updates of one step."""
        return 1

    def synchronizes(self, world: int) -> bool:
        """Whether batch norm runs over all of ``world`` ranks."""
        return world > 1 if self.sync_batch_norm is None else self.sync_batch_norm

    def meetings(self, batches: Batches) -> list[str]:
        """What the division of the batch changes, in words; a family adds parts that are not modules.

        Args:
            batches: how it is divided now.
        """
        return meetings(self.meeting_parts(), batches, self.synchronizes(batches.world))

    def meeting_parts(self) -> list[Any]:
        """The parts in which rows of a batch may interact: all modules except averages."""
        averages = tuple(f"ema_{name}" for name in self._averaged)
        return [m for name, m in self.named_modules() if not (averages and name.startswith(averages))]

    # ---- weights of another run

    def begun_with(self, content: dict[str, Any]) -> None:
        """Take over what else a network's weights need from the checkpoint that they are of."""

    # ---- averaged weights

    def refuse_lazy(self, *names: str) -> None:
        """Refuse networks with layers whose sizes the first batch decides.

        Raises:
            UserError: names the network.
        """
        for name in names:
            if any(isinstance(p, UninitializedParameter) for p in getattr(self, name).parameters()):
                told = "has layers whose sizes the first batch decides; sizes in its constructor are expected"
                raise UserError(f"model.{name}: {named(getattr(self, name))} {told}")

    def keep_average(self, ema: EMA | None, *names: str) -> None:
        """Keep a moving average of each of this module's networks ``names``; call it in the constructor, after them.

        The average of ``generator`` is the submodule ``ema_generator``: frozen, always in evaluation mode, and in the
        checkpoint. It is updated once per step.

        Args:
            ema: how; None for no average, ``ema_generator`` is then None.
            names: attributes of this module: everything that draws or is evaluated.
        """
        self.refuse_lazy(*names)
        self.ema = copy.copy(ema)  # a copy: its numbers may be scheduled
        self._averaged = names if ema is not None else ()
        copies = copy.deepcopy({name: getattr(self, name) for name in self._averaged})  # shared parts stay shared
        for name in names:
            average: nn.Module | None = copies.get(name)
            self.register_module(f"ema_{name}", None if average is None else average.eval().requires_grad_(False))
        if self.attached is not None:
            self.attached.average(list(copies.values()))

    @property
    def averaged(self) -> bool:
        """Whether an average is kept: whether ``weights`` "ema" and "raw" differ."""
        return bool(self._averaged)

    def weighted(self, name: str, weights: Weights) -> nn.Module:
        """The network ``name`` with averaged or raw weights; raw without an average."""
        network: nn.Module = getattr(self, f"ema_{name}" if weights == "ema" and name in self._averaged else name)
        return network

    def trained_parameters(self) -> list[nn.Parameter]:
        """All parameters except those of the averages and, with an adapter or fine-tuning, what is frozen."""
        averages = tuple(f"ema_{name}." for name in self._averaged)
        named = self.named_parameters()
        return self.trained(p for name, p in named if not (averages and name.startswith(averages)))

    def move_average(self, step: int, samples: int | None = None) -> None:
        """Update the averages after step ``step`` (from 0).

        Args:
            step: its number, for the decay's warm-up.
            samples: of a step, over all ranks, for a half-life; None for what the data count.
        """
        if self.ema is None:
            return
        if samples is None:
            samples = datasets.data_of(self.trainer).per_step()[0] if self.ema.half_life is not None else 0
        if self.ema.half_life is not None and not samples:
            kind = datasets.kind_of(datasets.data_of(self.trainer))
            raise UserError(
                f"model.ema.half_life: {kind} does not say how many samples a step has; set model.ema.decay"
            )
        if self._moved is None:
            # as one module, so that a weight that two networks share is updated once
            ema, raw = (nn.ModuleList([self.weighted(name, w) for name in self._averaged]) for w in get_args(Weights))
            self._moved = Moved(ema, raw)
        self._moved.update(self.ema.decay_of(step, samples))
        if self.attached is not None:
            self.attached.averages_updated()

    def train(self, mode: bool = True) -> Self:
        """Switch the mode of everything except the averages and, see `FineTuned`, what is frozen."""
        super().train(mode)
        for name in self._averaged:
            self.weighted(name, "ema").eval()
        return self

    # ---- scheduled numbers

    def keep_schedules(self, schedules: Mapping[str, Schedule] | None) -> None:
        """Keep the schedules; call it at the end of the constructor.

        Raises:
            UserError: for a name without a number, as far as that is known without optimizers, or a decay out of range.
        """
        self.schedules = schedules
        for name, schedule in (schedules or {}).items():
            optimizers = dict.fromkeys(self.optimizer_names(), self)
            if name.partition(".")[0] not in optimizers:
                setter(name, {"": self, **optimizers, **self.schedulable()})
            if name == "ema.decay":
                within("[0, 1]", f"model.schedules.{name}.", start=schedule.start, end=schedule.end)

    def schedulable(self) -> dict[str, Any]:
        """What the name of a scheduled number may begin with, except optimizers; a family adds its own parts."""
        return {"ema": self.ema}

    def optimizer_names(self) -> list[str]:
        """The options of the optimizers, without ``model.``, in the order of the optimizers."""
        return ["optimizer"]

    def apply_schedules(self, step: int) -> None:
        """Set the scheduled numbers for step ``step`` (from 0).

        Raises:
            UserError: for a name without a number.
        """
        if not self.schedules:
            return
        if not self._setters:
            made: Any = self.optimizers(use_pl_optimizer=False)
            made = dict(zip(self.optimizer_names(), made if isinstance(made, list) else [made], strict=True))
            targets = {"": self, **made, **self.schedulable()}
            self._setters = {name: setter(name, targets) for name in self.schedules}
        self._scheduled = {name: schedule(step) for name, schedule in self.schedules.items()}
        for name, value in self._scheduled.items():
            self._setters[name](value)

    # ---- the log

    def detailed(self, step: int) -> bool:
        """Whether a log entry follows step ``step``, from 1."""
        trainer: Any = self.trainer
        every: int = trainer.log_every_n_steps
        return every > 0 and step % every == 0

    def log_scalars(self, scalars: Mapping[str, float], step: int | None = None) -> None:
        """Log scalars under ``step``, by default the trainer's; see `lit_gen.loggers.publish.log_scalars`."""
        publish.log_scalars(self, scalars, step)

    def stop_non_finite(self, what: str) -> NoReturn:
        """Stop a run with a number that is not finite.

        Args:
            what: which number became NaN or infinite, and when.

        Raises:
            NonFiniteLossError: with the last good checkpoint.
        """
        raise NonFiniteLossError(f"{what}; {last_checkpoint_of(self.trainer)}")

    # ---- the checkpoint

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store what rebuilds a module built in Python, and each rank's part of the next log entry."""
        if "_instantiator" not in checkpoint.get("hyper_parameters", {}):
            checkpoint["hyper_parameters"] = self.described or module_hparams(self)
        trust.seal_checkpoint(checkpoint)
        checkpoint["since_log"] = self.monitor.state_dict()
        checkpoint["optimizers"] = [type(optimizer).__name__ for optimizer in self.trainer.optimizers]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the sums of the next log entry, and note whose states the checkpoint holds."""
        self._begun = True
        names = checkpoint.get("optimizers")
        self.loaded_optimizers = names if isinstance(names, list) else []
        if "since_log" in checkpoint:
            self.monitor.load_state_dict(checkpoint["since_log"])
