"""The base of all data modules: their contract, the position in the training data, and the devices of loaders."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from lightning import LightningDataModule

from lit_gen.core.batches import Batches, divide
from lit_gen.core.cache import cache_folder
from lit_gen.core.errors import UserError
from lit_gen.core.options import at_least
from lit_gen.protocols.data import TrainBatches

Loader = TypeVar("Loader", bound=TrainBatches)


class DataModule(LightningDataModule):
    """Base of the data modules.

    Args:
        root: folder with the data; null: ``LIT_GEN_DATA``, else the cache folder (``~/.cache/lit_gen``).
        seed: names all draws.
        batch_size: items of one update, over all ranks and micro-batches; None if a subclass does not have it.
        device_batch_size: the most items that a device takes at once; None for no limit.

    Attributes:
        name: what records of numbers call the set; the class's name unless a subclass sets another.
        items: what ``batch_size`` counts.
        allow_changes: whether a resumed run may use another number of items per step, or other data.
    """

    name: str = ""
    items: str = "items"

    def __init__(
        self,
        root: str | None = None,
        seed: int = 0,
        batch_size: int | None = None,
        device_batch_size: int | None = None,
    ) -> None:
        super().__init__()
        at_least(1, "data.", batch_size=batch_size, device_batch_size=device_batch_size)
        self.batch_size, self.device_batch_size = batch_size, device_batch_size
        self.root, self.seed, self.allow_changes = data_root(root), seed, False
        if not self.name:
            self.name = type(self).__name__
        self._loader: TrainBatches | None = None
        self._position: dict[str, Any] = {}

    # ---- what a subclass says

    def facts(self) -> dict[str, Any]:
        """What a network's constructor may ask for, by parameter name; None for what the data do not have."""
        return {}

    def per_step(self) -> tuple[int, str]:
        """Items of one step over all ranks, those of all updates and micro-batches, and their unit."""
        return (0, self.items) if self.batch_size is None else self.counted(self.batches())

    @property
    def protocol(self) -> Mapping[str, Any]:
        """What a record of numbers says of the data set, in addition to its name."""
        return {}

    def files(self) -> list[Path]:
        """The files that this data set reads, for `lit-gen fetch`; all exist after `prepare_data`."""
        return []

    def adopt(self, checkpoint: Mapping[str, Any]) -> None:
        """Adopt what a model's checkpoint says of its data; called before `facts` and before anything is read."""

    def begin_with(self, checkpoint: Mapping[str, Any], option: str) -> None:
        """Adopt what the run that ``option`` names, whose weights a new run begins with, needs of its data.

        Called before `facts` and before anything is read, as `adopt`, which is for a model that is used or goes on.
        """

    def go_on(self, resumed: bool, allow_changes: bool) -> None:
        """Decide, once the data are prepared, whether they may differ from a resumed run's."""
        self.allow_changes = allow_changes
        if resumed:
            self.check_unchanged()

    def check_unchanged(self) -> None:
        """Refuse to continue a run whose training data were different, as far as `adopt` knows them.

        Raises:
            UserError: if they were different, unless `allow_changes`.
        """

    # ---- the total batch

    def batches(self, world: int | None = None, module: Any = None) -> Batches:
        """How a step's items are divided among ranks and micro-batches.

        Args:
            world: ranks; None for the trainer's, 1 without a trainer.
            module: the model, which says how many batches a step reads; None for the trainer's.

        Raises:
            UserError: if the ranks do not divide ``batch_size``.
        """
        assert self.batch_size is not None
        if self.trainer is not None:
            world, module = world or self.trainer.world_size, module or self.trainer.lightning_module
        return divide(self.batch_size, world or 1, self.device_batch_size, getattr(module, "batches_per_step", 1))

    def counted(self, batches: Batches) -> tuple[int, str]:
        """The size of a step of such batches, as `per_step` counts it."""
        return batches.per_step, self.items

    # ---- the position in the training data

    def continued(self, loader: Loader) -> Loader:
        """Set a new training loader to the position of the run.

        A new fit begins at 0, a resumed one at its position; lightning may ask for a new loader in between.

        Raises:
            UserError: if the position is of another shape, or the data or their batches are others.
        """
        reached = self._position or (self._loader.state_dict() if self._loader and self.trainer else {})
        if reached and (self.trainer is None or self.trainer.global_step > 0):
            try:
                loader.resume(reached, self.allow_changes)
            except (KeyError, TypeError) as error:
                raise UserError(
                    f"data: the checkpoint holds no position in the data that is known ({error!r})"
                ) from error
        self._loader, self._position = loader, {}
        return loader

    def state_dict(self) -> dict[str, Any]:
        """The position in the training data: Lightning forgets a loader's own at the end of an epoch."""
        return self._loader.state_dict() if self._loader else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue at the position of ``state``."""
        self._position = dict(state)


def data_root(root: str | None) -> Path:
    """The folder for data sets: as given, else ``LIT_GEN_DATA``, else the cache folder."""
    chosen = root or os.environ.get("LIT_GEN_DATA")
    return Path(chosen).expanduser() if chosen else cache_folder()


def place(trainer: Any) -> dict[str, Any]:
    """Where a trainer's evaluation loaders work: their options rank, world and device; none without a trainer."""
    if trainer is None:
        return {}
    return {"rank": trainer.global_rank, "world": trainer.world_size, "device": trainer.strategy.root_device}
