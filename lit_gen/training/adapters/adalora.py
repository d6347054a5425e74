"""AdaLoRA: a low-rank change whose ranks shrink during training where they matter least."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor, nn

from lit_gen.core.errors import note
from lit_gen.core.options import above, at_least, expect, not_negative, within
from lit_gen.training.adapters.adapter import Adapter
from lit_gen.training.adapters.change import Change
from lit_gen.training.adapters.targets import ALL
from lit_gen.training.adapters.triplets import Triplets


@dataclass
class AdaLoRA(Adapter):
    """A frozen network with a trained change of low rank in some layers, and one budget of rank for all of them.

    Zhang et al., 2023, https://arxiv.org/abs/2303.10512; names and defaults are peft's. Each layer begins with
    ``init_r`` triplets, see `lit_gen.training.adapters.triplets.Triplets`. After ``tinit`` steps the budget falls by
    their cubic rule (equation 12) from ``init_r`` to ``target_r`` times the number of layers, which it reaches
    ``tfinal`` steps before the trainer's ``max_steps``. Every ``deltaT`` steps the most important triplets of all
    layers are kept, as many as the budget, and E of the others becomes zero. They may come back until the last
    allocation, since training goes on with all of them.

    Importance is computed after the optimizer's step from the new weights and that step's gradients: of all
    micro-batches and ranks, and clipped, as where peft's users call it. The penalty of orthogonality is
    ``orth_reg_weight`` times the mean of the Frobenius norms ``||A A^T - I||`` and ``||B^T B - I||`` over all layers:
    peft's; the paper has their squares.

    Args:
        init_r: rank of each layer's change at first, at least 1.
        target_r: mean rank at the end, 1 to ``init_r``.
        tinit: steps before the budget falls.
        tfinal: steps at the end with the ranks that were reached.
        deltaT: steps from one allocation to the next.
        beta1: of the average of the sensitivity, in (0, 1).
        beta2: of the average of the uncertainty, in (0, 1).
        orth_reg_weight: factor of the penalty.
        lora_alpha: the change is multiplied by ``lora_alpha / init_r``.
        lora_dropout: in [0, 1): of the input of the change, in training.
        target_modules: layers to adapt, linear and two-dimensional convolutions: a list of names or ends of names, a
            regular expression for whole names, or ``all-linear``: linear layers whose weight no other uses.
        modules_to_save: names or ends of names of modules that are trained whole, such as a new head.
        base: a run directory or a checkpoint of the same family, with whose weights a fit begins, the averaged ones if
            it kept an average; null: those that the networks are built with.

    Raises:
        UserError: for a number out of range.
    """

    kinds: ClassVar[tuple[type[nn.Module], ...]] = (nn.Linear, nn.Conv2d)
    penalized: ClassVar[bool] = True
    logged: ClassVar[tuple[str, ...]] = ("rank",)

    init_r: int = 12
    target_r: int = 8
    tinit: int = 0
    tfinal: int = 0
    deltaT: int = 1
    beta1: float = 0.85
    beta2: float = 0.85
    orth_reg_weight: float = 0.5
    lora_alpha: float = 8
    lora_dropout: float = 0.0
    target_modules: list[str] | str = ALL
    modules_to_save: list[str] | None = None
    base: str | None = None

    def __post_init__(self) -> None:
        option = "model.adapter."
        at_least(1, option, init_r=self.init_r, target_r=self.target_r, deltaT=self.deltaT)
        at_least(0, option, tinit=self.tinit, tfinal=self.tfinal)
        expect(self.target_r <= self.init_r, f"{option}target_r", self.target_r, f"at most init_r ({self.init_r})")
        for name in ("beta1", "beta2"):
            value = getattr(self, name)
            expect(0 < value < 1, option + name, value, "a number between 0 and 1")
        not_negative(option, orth_reg_weight=self.orth_reg_weight)
        above(0, option, finite=True, lora_alpha=self.lora_alpha)
        within("[0, 1)", option, lora_dropout=self.lora_dropout)
        self._steps = 0  # of the fit

    @property
    def scaling(self) -> float:
        """What the product of the factors is multiplied by."""
        return self.lora_alpha / (self.init_r + 1e-5)

    def change(self, layer: nn.Module) -> Triplets:
        """The change of a layer, which does nothing yet."""
        return Triplets(layer, self.init_r, self.lora_alpha, self.lora_dropout)

    def prepare(self, changes: Sequence[Change], steps: int) -> None:
        """See `Adapter`.

        Raises:
            UserError: unless the fit has a number of steps, and some in which the budget falls.
        """
        least = self.tinit + self.tfinal
        needed = f"a whole number above {least} (model.adapter.tinit + tfinal), in which AdaLoRA reduces the ranks,"
        expect(steps > least, "trainer.max_steps", None if steps < 0 else steps, needed)
        self._steps = steps
        for triplets in _all(changes):
            if (before := int(triplets.steps)) not in (0, steps):
                told = f"{steps} was found, {before} before: AdaLoRA's ranks fall by {steps} from here on"
                rank_zero_only(note)(f"trainer.max_steps: {told}")
            triplets.steps.fill_(steps)

    def budget(self, step: int, layers: int) -> int:
        """How many triplets of all layers are kept after a step.

        Args:
            step: which one, from 1.
            layers: their number.
        """
        first, last = self.init_r * layers, self.target_r * layers
        end = self._steps - self.tfinal
        if step <= self.tinit:
            return first
        if step >= end:
            return last
        return int((first - last) * (1 - (step - self.tinit) / (end - self.tinit)) ** 3 + last)

    def penalty(self, changes: Sequence[Change]) -> Tensor | None:
        """The penalty of orthogonality; None with the factor 0."""
        if not self.orth_reg_weight:
            return None
        found = torch.stack([triplets.correlations() for triplets in _all(changes)]).sum()
        return self.orth_reg_weight * found / (2 * len(changes))

    def after_update(self, changes: Sequence[Change], step: int) -> None:
        """Average what importance is made of; keep the most important triplets, if it is time to."""
        all_of_them, end = _all(changes), self._steps - self.tfinal
        if step < end:
            for triplets in all_of_them:
                triplets.observe(self.beta1, self.beta2)
        due = step == end or (self.tinit < step < end and step % self.deltaT == 0)
        if due:
            keep(all_of_them, self.budget(step, len(changes)))
        if due or step > end:
            for triplets in all_of_them:
                triplets.drop()

    def average(self, changes: Sequence[Change]) -> None:
        """Drop what was dropped: the average alone would only forget it slowly."""
        for triplets in _all(changes):
            triplets.drop()

    def scalars(self, changes: Sequence[Change]) -> dict[str, float]:
        """The budget: how many triplets of all layers are kept."""
        return {"rank": float(sum(int(triplets.kept.sum()) for triplets in _all(changes)))}


@torch.no_grad()
def keep(changes: Sequence[Triplets], budget: int) -> None:
    """Keep the most important triplets; of equally important ones those that come last.

    Args:
        changes: of all layers.
        budget: how many triplets of all of them are kept.
    """
    importance = torch.cat([triplets.importance() for triplets in changes])
    kept = torch.ones_like(importance, dtype=torch.bool)
    kept[importance.argsort(stable=True)[: len(importance) - budget]] = False
    for triplets, mine in zip(changes, kept.split([t.rank for t in changes]), strict=True):
        triplets.kept.copy_(mine)


def _all(changes: Sequence[Change]) -> Sequence[Triplets]:
    found: Any = changes
    return cast(Sequence[Triplets], found)
