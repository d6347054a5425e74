"""The laws of regularizers, ours and a user's own; `lit_gen.laws.base` says what a law is."""

from collections.abc import Callable
from typing import Any, get_args

import torch
from torch import Tensor, nn

from lit_gen.core.options import whole_number
from lit_gen.core.randomness import Rows
from lit_gen.laws.base import (
    BATCHES,
    CPU,
    LawBroken,
    Maker,
    Setting,
    finite,
    mean_of_parts,
    rebuilt,
    seeded,
    through_a_file,
)
from lit_gen.models.adversarial import checks
from lit_gen.models.adversarial.context import FunctionRegularizer, PenaltyContext, Regularizer, judge
from lit_gen.models.gan import mlp
from lit_gen.protocols.training import Network

CLASSES = 3  # of the labels that come with the images
LATE = 100_000  # updates: after any warm-up


class _Twice(Rows):
    """Draws for a batch that holds the same samples twice: equal draws for equal samples."""

    def normal(self, rows: int, *shape: int) -> Tensor:
        return _twice(super().normal, rows, shape)

    def uniform(self, rows: int, *shape: int) -> Tensor:
        return _twice(super().uniform, rows, shape)


def _twice(draw: Callable[..., Tensor], rows: int, shape: tuple[int, ...]) -> Tensor:
    if rows % 2:
        return draw(rows, *shape)  # not one for each sample
    return torch.cat([draw(rows // 2, *shape)] * 2)


class _Trial:
    """A regularizer with two small networks, and contexts as a training step makes them.

    The discriminator names classes only if the regularizer cannot do without, as an auxiliary classifier cannot.
    """

    def __init__(self, make: Maker, shape: tuple[int, int, int], conditioning: mlp.DiscriminatorConditioning) -> None:
        self.shape = shape
        with seeded():
            made = make()
            self.regularizer: Regularizer = made if isinstance(made, Regularizer) else FunctionRegularizer(made)
        with seeded():
            self.discriminator = mlp.Discriminator(shape, 16, 2, conditioning=conditioning, num_classes=CLASSES)
            self.generator = mlp.Generator(shape, 8, 16, 2)

    @property
    def networks(self) -> dict[Network, nn.Module]:
        return {"discriminator": self.discriminator, "generator": self.generator}

    def sides(self) -> list[Network]:
        """The networks in whose steps the term is evaluated."""
        return [side for side in self.networks if self.regularizer.network in (side, "both")]

    def context(self, side: Network, n: int = 4, part: int = 0, parts: int = 1, twice: bool = False) -> PenaltyContext:
        """A context of n rows, one part of a batch of n * parts; or of 2 n, each sample twice."""
        for name, network in self.networks.items():
            network.requires_grad_(name == side)
        draw = Rows(CPU, 0, "law", 0, part, parts)
        real, latents = draw.uniform(n, *self.shape) * 2 - 1, draw.normal(n, 8)
        labels = (torch.arange(n * parts) % CLASSES).chunk(parts)[part]
        if twice:
            real, latents, labels = (torch.cat([x, x]) for x in (real, latents, labels))
        fake = self.generator(latents)
        fake = fake.detach() if side == "discriminator" else fake
        return PenaltyContext(
            network=side,
            discriminator=self.discriminator,
            generator=self.generator,
            real=real,
            fake=fake,
            latents=latents,
            labels=labels,
            real_logits=judge(self.discriminator, real, labels) if side == "discriminator" else None,
            fake_logits=judge(self.discriminator, fake, labels),
            update=LATE * self.regularizer.every,
            random=(_Twice if twice else Rows)(CPU, 0, "term", 0, part, parts),
        )

    def value(self, side: Network, n: int = 4, **options: Any) -> Tensor:
        """The term in such a context: a scalar with a gradient."""
        return checks.term(self.regularizer(self.context(side, n, **options)), self.regularizer)

    def gradients(self, value: Tensor, side: Network) -> list[Tensor]:
        """Those that exist, with respect to the weights of the network and the regularizer's own."""
        weights = [p for p in (*self.networks[side].parameters(), *self.regularizer.parameters()) if p.requires_grad]
        return [g for g in torch.autograd.grad(value, weights, allow_unused=True) if g is not None]


def _trial(make: Maker, setting: Setting) -> _Trial:
    choices: tuple[mlp.DiscriminatorConditioning, ...] = ("none", "auxiliary")
    for conditioning in choices:
        trial = _Trial(make, setting.shape, conditioning)
        try:
            for side in trial.sides():
                trial.regularizer(trial.context(side))
        except Exception:  # if both fail, the law itself meets the error and reports it
            continue
        return _Trial(make, setting.shape, conditioning)  # anew: the call may have moved a state
    return _Trial(make, setting.shape, "none")


def place(make: Maker, setting: Setting) -> None:
    """It says in which network's updates it counts, and how often."""
    found = _trial(make, setting).regularizer
    if found.network not in (*get_args(Network), "both"):
        raise LawBroken(f"network = {found.network!r} was found, 'discriminator', 'generator' or 'both' is expected")
    if not isinstance(found.every, int) or found.every < 1:
        raise LawBroken(f"every = {found.every!r} was found, {whole_number(1)} is expected")


def scalar(make: Maker, setting: Setting) -> None:
    """A scalar with a gradient for the network it belongs to, or for its own weights."""
    for side in _trial(make, setting).sides():
        trial = _trial(make, setting)
        if not trial.gradients(trial.value(side), side):
            raise LawBroken(f"no weight of the {side} (or of its own) has a gradient, at least one is expected to")


def finite_values(make: Maker, setting: Setting) -> None:
    """Finite value and gradient for batches of 1, 4 and 64."""
    for side in _trial(make, setting).sides():
        for n in BATCHES:
            trial = _trial(make, setting)
            value = trial.value(side, n)
            finite(value, trial.gradients(value, side), f"for a batch of {n}")


def finite_at_zero(make: Maker, setting: Setting) -> None:
    """Finite value and gradient where the discriminator is flat and all images are equal."""
    for side in _trial(make, setting).sides():
        trial = _trial(make, setting)
        for network in trial.networks.values():
            for weight in network.parameters():
                weight.data.zero_()
        value = trial.value(side)
        finite(
            value, trial.gradients(value, side), "where all weights are zero (a square root needs an epsilon inside)"
        )


def mean(make: Maker, setting: Setting) -> None:
    """A mean over the batch, so that micro-batches and ranks average to the whole."""
    for side in _trial(make, setting).sides():
        whole, twice = (_trial(make, setting).value(side, 8, twice=twice) for twice in (False, True))
        halves = [_trial(make, setting).value(side, 4, part=i, parts=2) for i in range(2)]
        mean_of_parts(whole, twice, halves)


def function(make: Maker, setting: Setting) -> None:
    """Equal contexts give equal values; it draws only from context.random."""
    for side in _trial(make, setting).sides():
        first, second = _trial(make, setting), _trial(make, setting)
        before = torch.get_rng_state()
        values = [trial.value(side) for trial in (first, second)]
        if not torch.equal(torch.get_rng_state(), before):
            raise LawBroken(
                "it draws from the global random state; draw from context.random, the same at any world size"
            )
        if values[0].item() != values[1].item():
            raise LawBroken(f"{values[0].item():.6g} was found, and {values[1].item():.6g} in an equal context")


def networks_alone(make: Maker, setting: Setting) -> None:
    """The networks are left as they were (weights, gradients, modes)."""
    for side in _trial(make, setting).sides():
        trial = _trial(make, setting)
        context = trial.context(side)
        before = {name: _state(network) for name, network in trial.networks.items()}
        trial.regularizer(context)
        for name, network in trial.networks.items():
            now = _state(network)
            changed = [key for key in now if not _equal(now[key], before[name][key])]
            if changed:
                raise LawBroken(f"{changed[0]} of the {name} was changed")


def _state(network: nn.Module) -> dict[str, Any]:
    state: dict[str, Any] = {name: value.clone() for name, value in network.state_dict().items()}
    for name, weight in network.named_parameters():
        state[f"{name}.requires_grad"] = weight.requires_grad
        state[f"{name}.grad"] = None if weight.grad is None else weight.grad.clone()
    return state | {f"{name or 'network'}.training": module.training for name, module in network.named_modules()}


def _equal(a: Any, b: Any) -> bool:
    return torch.equal(a, b) if isinstance(a, Tensor) and isinstance(b, Tensor) else a is b


def saving(make: Maker, setting: Setting) -> None:
    """Rebuilt from its arguments and state, as from a checkpoint, it goes on with the same value."""
    for side in _trial(make, setting).sides():
        trial = _trial(make, setting)
        trial.value(side)  # moves a state, where there is one
        again = rebuilt(trial.regularizer)
        again.load_state_dict(through_a_file(trial.regularizer.state_dict()))
        value = trial.value(side, 8).item()
        trial.regularizer = again
        found = trial.value(side, 8).item()
        if found != value:
            raise LawBroken(f"{found:.6g} was found instead of {value:.6g}: keep what changes in buffers")
