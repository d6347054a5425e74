"""What all evaluations share: when they are due, and where results go."""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch import Callback

from lit_gen.callbacks.boundary import Derived
from lit_gen.callbacks.moment import Cadence
from lit_gen.core import distributed
from lit_gen.core import images as pictures
from lit_gen.core.blame import named, shown
from lit_gen.core.data import callbacks_of
from lit_gen.core.errors import UserError
from lit_gen.core.modes import evaluation_mode, exact_math
from lit_gen.core.options import at_least
from lit_gen.evaluation.result import Result, save_record, table
from lit_gen.loggers.publish import log_scalars, send_record
from lit_gen.protocols.data import Split


class Evaluator(Derived):
    """Base of the callbacks that measure a model: a subclass implements `prepare` and `evaluate`.

    Args:
        every: steps between two evaluations; 0 for none by steps.
        every_epochs: epochs between two evaluations; 0 for none by epochs.
        at_end: evaluate after the last step too.

    Raises:
        UserError: for a number out of range.
    """

    perfect = "real images"
    """What the floors were measured on."""

    def __init__(self, every: int, every_epochs: int, at_end: bool) -> None:
        self.option = f"trainer.callbacks.{type(self).__name__}"
        at_least(0, f"{self.option}.", every=every, every_epochs=every_epochs)
        self.cadence = Cadence(every, every_epochs, at_end)
        self.title = ""  # tells this evaluation from others of one run; set in `prepare`
        self.latest: Result | None = None

    # ---- what a subclass says

    def prepare(self, trainer: Trainer, module: LightningModule) -> None:
        """Check options against model and data, before the first step."""

    def evaluate(self, trainer: Trainer, module: LightningModule, split: Split) -> Result:
        """Evaluate ``val`` or ``test``; called on every rank, and its result is the same on each."""
        raise NotImplementedError

    def announced(self, data: Any) -> list[str]:
        """Public names of the numbers, without the split, known from the options: nothing is loaded or computed.

        Floors are left out: they are constants of the data.

        Args:
            data: the data module, as it was built.
        """
        raise NotImplementedError

    # ---- when

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find out before the first step what cannot work."""
        if not hasattr(self, "latest"):
            raise UserError(f"trainer.callbacks: {named(self)}: its __init__ does not call super().__init__()")
        super().setup(trainer, pl_module, stage)
        if stage == "predict":
            return
        self.latest = None
        self.prepare(trainer, pl_module)
        others = [c for c in callbacks_of(trainer) if isinstance(c, Evaluator) and c is not self]
        if any(c.title == self.title for c in others):
            raise UserError(f"{self.option}: two evaluations are called {self.title}; their numbers would be mixed up")

    def record_of(self, run: Path, step: int) -> Path:
        """The record of an evaluation during training."""
        return self._record(run, "val", step)

    def make(self, trainer: Trainer, module: LightningModule, step: int) -> None:
        """Evaluate during training."""
        self._evaluate(trainer, module, "val", step)

    def replay(self, trainer: Trainer, module: LightningModule, record: Path) -> None:
        """Log what the record holds."""
        found = distributed.from_first(lambda: json.loads(record.read_text(encoding="utf-8")))
        self._log(module, Result(found["values"], found["floors"], found["protocol"], self.perfect))
        if trainer.is_global_zero:
            send_record(trainer, record.name.removesuffix(".json").partition("-")[2], found)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate in ``validate``; during training, the steps decide."""
        if trainer.state.fn == "validate":
            self._evaluate(trainer, pl_module, "val", _step_of_checkpoint(trainer))

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate in ``test``."""
        self._evaluate(trainer, pl_module, "test", _step_of_checkpoint(trainer))

    def make_up(self, trainer: Trainer, module: LightningModule) -> None:
        """Evaluate after ``validate`` or ``test`` of a data set without that split, whose hooks lightning skips."""
        if self.latest is None:
            module.to(trainer.strategy.root_device)
            split: Split = "val" if trainer.state.fn == "validate" else "test"
            self._evaluate(trainer, module, split, _step_of_checkpoint(trainer))

    def _record(self, run: Path, prefix: str, step: int) -> Path:
        return run / "eval" / f"step={step:08d}-{prefix}-{self.title}.json"

    def _evaluate(self, trainer: Trainer, module: LightningModule, split: Split, step: int) -> None:
        # statistics of batch norm differ between ranks; those of rank 0 are in the checkpoint
        distributed.broadcast_buffers(module)
        with exact_math(module.device), evaluation_mode(module):
            made: object = self.evaluate(trainer, module, split)
        found = _checked(made, f"{self.option}: evaluate of {named(self)}")
        values, floors = ({f"{split}/{k}": v for k, v in part.items()} for part in (found.values, found.floors))
        self._log(module, replace(found, values=values, floors=floors, picture=None))
        if trainer.is_global_zero:
            run = Path(trainer.default_root_dir)
            path = self._record(run, "validate" if trainer.state.fn == "validate" else split, step)
            if found.picture is not None:
                pictures.save_png(found.picture, path.with_name(f"{path.name.removesuffix('.json')}.png"))
            content = {"step": step, "values": values, "floors": floors, "protocol": found.protocol}
            save_record(path, content)
            send_record(trainer, path.name.removesuffix(".json").partition("-")[2], content)

    def _log(self, module: LightningModule, result: Result) -> None:
        self.latest = result
        log_scalars(module, result.values | {f"{name}_floor": value for name, value in result.floors.items()})


def _checked(made: object, which: str) -> Result:
    """A result that can be logged and recorded; else a mistake that begins with ``which``."""
    if not isinstance(made, Result):
        raise UserError(f"{which} returned {shown(made)}, a lit_gen.evaluation.result.Result is expected")
    for part in ("values", "floors", "protocol"):
        if not isinstance(getattr(made, part), dict):
            raise UserError(f"{which} gave {shown(getattr(made, part))} for {part}, a dictionary is expected")
    for name, value in {**made.values, **made.floors}.items():
        if not isinstance(value, float | int):
            raise UserError(f"{which} gave {shown(value)} for {name}, a number is expected")
    picture: Any = made.picture
    if picture is not None and (getattr(picture, "dtype", None) != torch.uint8 or picture.ndim != 3):
        raise UserError(f"{which} gave {shown(picture)} for picture, uint8 (C, H, W) is expected")
    try:
        json.dumps(made.protocol)
    except (TypeError, ValueError) as error:
        raise UserError(f"{which} gave a protocol that is no JSON ({error})") from error
    return made


def tables(callbacks: Iterable[Callback]) -> str:
    """The last evaluation of each callback that has one."""
    return "".join(table(c.latest) for c in callbacks if isinstance(c, Evaluator) and c.latest is not None)


def _step_of_checkpoint(trainer: Trainer) -> int:
    """The step of the weights in ``validate`` and ``test``, for which lightning restores no counter."""
    if not trainer.ckpt_path:
        return trainer.global_step
    content = torch.load(trainer.ckpt_path, map_location="cpu", weights_only=True, mmap=True)
    return int(content["global_step"])
