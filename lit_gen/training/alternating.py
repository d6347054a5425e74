"""Steps of several updates in turn, each with its own optimizer: the training of adversarial models."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

from lit_gen.core import distributed, randomness
from lit_gen.core.batches import micro_batches_of, refuse_micro_batches
from lit_gen.core.randomness import Draws
from lit_gen.protocols.training import Terms
from lit_gen.training.listeners import nobody_listens
from lit_gen.training.module import TrainingModule
from lit_gen.training.monitor import gradient_norm, refuse_constant


class Player(NamedTuple):
    """What one optimizer trains."""

    parameters: Sequence[nn.Parameter]
    optimizer: OptimizerCallable
    clip: float | None = None
    """The largest norm of its gradient; None for no clipping."""
    counts: bool = False
    """Whether its updates are the steps that ``trainer.global_step`` counts: exactly one player's are."""


class Alternating(TrainingModule):
    """Base of the modules whose step updates several players in turn: `training_step` calls `update` for each.

    One lightning batch is one step is one update of the player that counts, so that `trainer.global_step`,
    ``max_steps``, checkpoint names and the log all count the same. It holds all micro-batches of this rank, in the
    order of the updates that read them; `lit_gen.core.batches.split` divides it.

    Attributes:
        seed: names the networks' own draws, such as dropout.
    """

    seed: int

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self._players: dict[str, Player] = {}  # the one that counts first
        self._divided = 1
        self._direct: bool | None = None  # whether Lightning's calls are needed for the counting optimizer's step only

    def on_fit_start(self) -> None:
        """See `TrainingModule`."""
        super().on_fit_start()
        self._direct = None

    def players(self) -> dict[str, Player]:
        """The players by name; ``model.<name>_optimizer`` is the option of a player's optimizer."""
        raise NotImplementedError

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """The optimizers; the first one is that of the player whose updates are the steps.

        Raises:
            UserError: if one cannot be made; names its option.
        """
        self._players = self._ordered()
        options = {f"model.{name}_optimizer": player for name, player in self._players.items()}
        return [self.make_optimizer(option, each.optimizer, list(each.parameters)) for option, each in options.items()]

    def _ordered(self) -> dict[str, Player]:
        return dict(sorted(self.players().items(), key=lambda item: not item[1].counts))

    def apply_schedules(self, step: int) -> None:
        """See `TrainingModule`."""
        super().apply_schedules(step)
        if any("." not in name for name in self._scheduled):  # a number of the module: its players may have it too
            self._players = self._ordered()

    @property
    def updates_per_step(self) -> int:
        """Updates of all players in one step."""
        return len(self._players or self.players())

    def optimizer_names(self) -> list[str]:
        """Their options, in the same order."""
        return [f"{name}_optimizer" for name in self._players or self.players()]

    def optimizers_by_player(self) -> dict[str, Any]:
        """The optimizers of this step; only the updates of the player that counts are counted as steps.

        Lightning's, except where nothing needs its calls: then only that of the player that counts.
        """
        if self._direct is None:
            self._direct = nobody_listens(self.trainer, self)
        wrapped: Any = self.optimizers()
        found = dict(zip(self._players, wrapped if isinstance(wrapped, list) else [wrapped], strict=True))
        for name, optimizer in found.items():
            if not self._players[name].counts:
                if self._direct:
                    found[name] = optimizer.optimizer
                else:  # lightning installs its counting hooks anew for every batch
                    optimizer._on_before_step = optimizer._on_after_step = lambda: None
        return found

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Note the number of micro-batches into which the step's batch is divided."""
        self._divided = micro_batches_of(batch)

    def draws(self, update: int, micro_batch: int = 0, micro_batches: int = 1) -> Draws:
        """The names of the draws of a micro-batch of a player's update ``update``."""
        world = self.trainer.world_size
        return Draws(self.seed, update, micro_batch * world + self.global_rank, micro_batches * world)

    def start_step(self) -> int:
        """Seed torch's generators and set the scheduled numbers; returns the step, from 0."""
        step: int = self.trainer.global_step
        randomness.seed_global(self.seed, step, self.global_rank, self.device)
        self.apply_schedules(step)
        return step

    def update(
        self, player: str, terms: Callable[[int], Terms], update: int, step: int, micro_batches: int = 1
    ) -> Terms:
        """One optimizer step on the gradient averaged over micro-batches and ranks.

        The other players' parameters are frozen during it: gradients flow through them, not into them.

        Args:
            player: which one is updated.
            terms: the loss of micro-batch i; it has at least one value for the log.
            update: how many updates this player has had.
            step: which step this is, from 1, for the log.
            micro_batches: how many there are.

        Returns:
            The last micro-batch's total, and all else as means over micro-batches and ranks; ``watched`` has the
            gradient's norm if a log entry follows.

        Raises:
            UserError: if the data divide a batch into micro-batches, which the module does not support, or if the loss
                has no gradient.
        """
        if micro_batches < self._divided:
            refuse_micro_batches(type(self).__name__, self._divided)
        me, optimizer = self._players[player], self.optimizers_by_player()[player]
        parts: list[Terms] = []
        adapter = self.attached if self.attached is not None and self.attached.among(me.parameters) else None
        optimizer.zero_grad()
        with self._frozen_but(player):
            for i in range(micro_batches):
                parts.append(terms(i))
                refuse_constant(parts[i].total, self.blamed(next(iter(parts[i].values))))
                loss = parts[i].total / micro_batches if micro_batches > 1 else parts[i].total
                self._backward(adapter.penalized(loss) if adapter and i == micro_batches - 1 else loss)
        found = parts[0] if len(parts) == 1 and distributed.world_size() == 1 else self._means(parts, me.parameters)
        if self.detailed(step):
            norm = {f"{player}_gradient_norm": gradient_norm(me.parameters)}
            found = found._replace(watched={**found.watched, **norm})
        if me.clip is not None:
            nn.utils.clip_grad_norm_(me.parameters, me.clip)
        optimizer.step()
        if adapter is not None:
            adapter.updated(step)
        self.monitor.add(step, found.values)
        return found

    def _backward(self, loss: Tensor) -> None:
        """Add the gradients of one micro-batch, of this rank only."""
        with self._without_gradient_sync():
            loss.backward() if self._direct else self.manual_backward(loss)

    def _means(self, parts: list[Terms], parameters: Sequence[nn.Parameter]) -> Terms:
        """The means of all terms over micro-batches and ranks; gradients are averaged over the ranks too."""
        rows = [torch.stack([v.float() for part in terms[1:] for v in part.values()]) for terms in parts]
        mean = rows[0] if len(rows) == 1 else torch.stack(rows).mean(0)
        scalars = iter(distributed.average_gradients(parameters, mean).unbind())
        values, watched, signals = ({name: next(scalars) for name in part} for part in parts[-1][1:])
        return Terms(parts[-1].total, values, watched, signals)

    def end_step(self, step: int, extra: Callable[[], dict[str, float]] = dict, samples: int | None = None) -> None:
        """Update the averages, stop a run whose terms are not finite, and write the log entry if one is due.

        Terms are checked at once on a CPU; elsewhere at the next log entry, so that no step waits for the device.

        Args:
            step: which step this is, from 1.
            extra: further scalars of the entry, without their ``train/``.
            samples: of the step, over all ranks, as an average's half-life counts; None for what the data count.

        Raises:
            NonFiniteLossError: if a term was NaN or infinite.
        """
        self.move_average(step - 1, samples)
        detailed = self.detailed(step)
        if (detailed or self.device.type == "cpu") and (failure := self.monitor.failure()):
            self.stop_non_finite(f"{self.blamed(failure[1])} became NaN or infinite at step {failure[0]}")
        if detailed:
            values = self.monitor.means(gathered=False)  # each rank has the same values
            values |= ({} if self.attached is None else self.attached.scalars()) | extra() | self._scheduled
            self.log_scalars({f"train/{name}": value for name, value in values.items()})

    def announced(self, limit_val_batches: float | None = None) -> list[str]:
        """Names of what is logged, split included; a module adds its ``extra`` and those of its validation.

        Args:
            limit_val_batches: the trainer's option; 0 for no validation.
        """
        norms = [f"{name}_gradient_norm" for name, player in self.players().items()]
        adapter = [] if self.attached is None else self.attached.names
        return [f"train/{name}" for name in (*self.monitor.names, *adapter, *norms, *(self.schedules or ()))]

    def blamed(self, term: str) -> str:
        """The name of a term in the message of a run that it stops."""
        return f"the {term}"

    @contextmanager
    def _frozen_but(self, player: str) -> Iterator[None]:
        """Let gradients into one player's parameters only; what the user froze stays frozen."""
        others = [p for name, other in self._players.items() if name != player for p in other.parameters]
        trained = [p for p in others if p.requires_grad]
        for parameter in trained:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in trained:
                parameter.requires_grad_(True)

    def _without_gradient_sync(self) -> AbstractContextManager[None]:
        """Prevent DDP's reduction: it would reduce all players in each backward (docs/distributed.md has figures)."""
        block = getattr(self.trainer.strategy, "block_backward_sync", nullcontext)
        context: AbstractContextManager[None] = block()
        return context
