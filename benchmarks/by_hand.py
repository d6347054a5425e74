"""Training loops as one writes them by hand, with the updates of a shipped config bit by bit.

Each makes one step at a time, with the networks and optimizers that a run of `lit_gen` has before its first step.
Noise, order and crops must be those of the run: they are drawn beside the clock, and what a loop by hand would draw
instead, by `torch.randn` and the like, is drawn and thrown away while it runs. A plain loop uses what it draws by hand,
for a GPU: its work goes on while a clock is stopped.
"""

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from lightning import LightningModule, Trainer
from torch import Tensor, nn

from lit_gen.core import data as datasets
from lit_gen.core import randomness
from lit_gen.core.images import to_float


class Clock:
    """CPU seconds of the calling thread."""

    def __init__(self) -> None:
        self.seconds, self._began = 0.0, 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count while the block runs."""
        self._began = time.thread_time()
        try:
            yield
        finally:
            self.seconds += time.thread_time() - self._began

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Do not count this part of a running block."""
        self.seconds += time.thread_time() - self._began
        try:
            yield
        finally:
            self._began = time.thread_time()


class Loop:
    """A loop by hand.

    Attributes:
        weights: what it trains, by the names that they have in the module.

    Args:
        module: as it is before the first step.
        trainer: of the run.
        clock: of this loop.
        plain: draw by hand, and compute with the run's precision.
    """

    def __init__(self, module: LightningModule, trainer: Trainer, clock: Clock, plain: bool = False) -> None:
        self.clock, self.every, self.seed = clock, trainer.log_every_n_steps, module.seed
        self.where, self.plain = module.device, plain
        self.mixed = plain and trainer.precision == "bf16-mixed"
        self.data, self.history, self.step = datasets.data_of(trainer), [], 0
        self.weights: dict[str, nn.Module] = {}
        self.random, self.on_host = torch.Generator(self.where), torch.Generator()  # by hand
        self.begin(module, trainer)

    def begin(self, module: Any, trainer: Trainer) -> None:
        """Copy the networks, and make the optimizers."""
        raise NotImplementedError

    def make_step(self) -> None:
        """Train for a step."""
        raise NotImplementedError

    def run(self, steps: int) -> None:
        """So many steps, with a log entry now and then."""
        for _ in range(steps):
            self.make_step()
            self.step += 1
            if self.step % self.every == 0:
                torch.stack(self.history).mean().item()
                self.history = []

    def drawn(self, by_hand: Callable[[], Tensor], as_in_the_run: Callable[[], Tensor]) -> Tensor:
        """What the run draws, in the time that it takes by hand."""
        drawn = by_hand()
        if self.plain:
            return drawn
        with self.clock.stopped():
            return as_in_the_run()

    def autocast(self) -> torch.autocast:
        """Around forward passes."""
        return torch.autocast(self.where.type, torch.bfloat16, enabled=self.mixed)


class Images(Loop):
    """A loop over images in memory."""

    def begin(self, module: Any, trainer: Trainer) -> None:
        """Keep the images; ours come in the order of the run."""
        loader = copy.copy(trainer.train_dataloader)
        self.loader, self.rows = loader, loader.batches.size
        self.images, self.order = loader.data.images, None

    def batch(self) -> Tensor:
        """The next real images."""
        place = self.step % self.loader.steps
        if place == 0:
            self.order = self.drawn(
                lambda: torch.randperm(len(self.images), generator=self.random, device=self.where),
                lambda: self.order_of_the_run(self.step // self.loader.steps),
            )
        images = self.images[self.order[place * self.rows : (place + 1) * self.rows]]
        return images if images.is_floating_point() else images.float() / 127.5 - 1

    def order_of_the_run(self, epoch: int) -> Tensor:
        """In which the run reads the images."""
        return torch.from_numpy(randomness.host(self.seed, "order", epoch).permutation(len(self.images)))


def moved(average: list[Tensor], source: list[Tensor], update: int, decay: float = 0.999) -> None:
    """An exponential moving average with the usual warm-up."""
    torch._foreach_lerp_(average, source, 1 - min(decay, (1 + update) / (10 + update)))


class GAN(Images):
    """Two updates in turn."""

    def begin(self, module: Any, trainer: Trainer) -> None:
        """See `Loop`."""
        super().begin(module, trainer)
        self.generator, self.discriminator = copy.deepcopy((module.generator, module.discriminator))
        self.average = copy.deepcopy(module.ema_generator)
        self.weights = {"generator": self.generator, "discriminator": self.discriminator}
        self.weights["ema_generator"] = self.average
        self.of_generator, self.of_discriminator = (list(n.parameters()) for n in list(self.weights.values())[:2])
        self.generator_optimizer = module.generator_optimizer(self.of_generator)
        self.discriminator_optimizer = module.discriminator_optimizer(self.of_discriminator)
        self.least_squares = module.loss.__name__ == "least_squares"
        self.averaged, self.buffers = list(self.average.parameters()), list(self.average.buffers())
        self.images_4d = self.images[0].ndim == 3
        self.dropout = any(isinstance(m, nn.Dropout) and m.p for m in self.discriminator.modules())

    def noise(self, side: str) -> Tensor:
        """Latents."""
        rows, dim = self.rows, self.generator.latent_dim
        purpose = f"latents of the {side} step"
        return self.drawn(
            lambda: torch.randn(rows, dim, generator=self.random, device=self.where),
            lambda: randomness.Rows(self.where, self.seed, purpose, self.step).normal(rows, dim),
        )

    def make_step(self) -> None:
        """See `Loop`."""
        if self.dropout and not self.plain:
            with self.clock.stopped():
                randomness.seed_global(self.seed, self.step, 0, torch.device("cpu"))
        real = self.batch().to(memory_format=torch.channels_last)
        z = self.noise("discriminator")
        self.discriminator_optimizer.zero_grad()
        with self.autocast():
            with torch.no_grad():
                fake = self.generator(z)
            of_real, of_fake = self.discriminator(real).float(), self.discriminator(fake).float()
        if self.least_squares:
            loss = ((of_real - 1).square().mean() + of_fake.square().mean()) / 2
        else:
            loss = F.softplus(-of_real).mean() + F.softplus(of_fake).mean()
        loss.backward()
        self.discriminator_optimizer.step()

        z = self.noise("generator")
        self.generator_optimizer.zero_grad()
        for parameter in self.of_discriminator:
            parameter.requires_grad_(False)
        with self.autocast():
            of_fake = self.discriminator(self.generator(z).to(memory_format=torch.channels_last)).float()
        generator_loss = (of_fake - 1).square().mean() / 2 if self.least_squares else F.softplus(-of_fake).mean()
        generator_loss.backward()
        for parameter in self.of_discriminator:
            parameter.requires_grad_(True)
        self.generator_optimizer.step()
        with torch.no_grad():
            moved([p.data for p in self.averaged], [p.data for p in self.of_generator], self.step)
            for mine, other in zip(self.buffers, self.generator.buffers(), strict=True):
                mine.copy_(other)
        self.history.append(torch.stack([loss.detach(), generator_loss.detach()]))


class VAE(Images):
    """The bound of binary images, beta rising; a Gaussian posterior."""

    def begin(self, module: Any, trainer: Trainer) -> None:
        """See `Loop`."""
        super().begin(module, trainer)
        self.encoder, self.decoder = copy.deepcopy((module.encoder, module.decoder))
        self.weights = {"encoder": self.encoder, "decoder": self.decoder}
        self.optimizer = module.optimizer([p for n in self.weights.values() for p in n.parameters()])
        self.rate, self.schedule, self.beta = (
            self.optimizer.param_groups[0]["lr"],
            module.schedule,
            module.objective.beta,
        )
        self.dim = module.latent_dim

    def batch(self) -> Tensor:
        """The next real images, binarized anew."""
        images = super().batch()
        torch.bernoulli(images / 2 + 0.5, generator=self.random)
        with self.clock.stopped():
            batch = self.loader._gather(self.order, range(self.step, self.step + 1))[self.step]
            return to_float(batch.images)

    def make_step(self) -> None:
        """See `Loop`."""
        x = self.batch()
        noise = self.drawn(
            lambda: torch.randn(self.rows, self.dim, generator=self.random),
            lambda: randomness.Rows(x.device, self.seed, "posterior", self.step).normal(self.rows, 1, self.dim)[:, 0],
        )
        self.optimizer.param_groups[0]["lr"] = self.rate * self.schedule(self.step)
        mean, log_variance = self.encoder(x).chunk(2, 1)
        logits = self.decoder(mean + torch.exp(log_variance / 2) * noise)
        distortion = -F.logsigmoid(x * logits).flatten(1).sum(1).mean()
        rate = (0.5 * (torch.expm1(log_variance) - log_variance + mean.square())).sum(1).mean()
        loss = distortion + self.beta(self.step) * rate
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.history.append(torch.stack([distortion.detach(), rate.detach(), loss.detach()]))


class LM(Loop):
    """The step of nanoGPT."""

    def begin(self, module: Any, trainer: Trainer) -> None:
        """See `Loop`."""
        from lit_gen.training.optimizers import parameter_groups

        self.loader, self.network = copy.copy(trainer.train_dataloader), copy.deepcopy(module.network)
        self.weights, self.clip = {"network": self.network}, trainer.gradient_clip_val
        self.optimizer = module.optimizer(parameter_groups(self.network))
        self.rates, self.schedule = [group["lr"] for group in self.optimizer.param_groups], module.schedule
        self.trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.tokens, self.size, self.rows = self.loader.stream.tokens, self.loader.block_size, self.loader.batches.size
        if self.plain and module.compiled:
            self.network.compile()

    def batch(self) -> tuple[Tensor, Tensor]:
        """As nanoGPT's get_batch."""
        places = torch.randint(len(self.tokens) - self.size, (self.rows,), generator=self.on_host)
        x = torch.stack([torch.from_numpy(self.tokens[i : i + self.size].astype("int64")) for i in places])
        y = torch.stack([torch.from_numpy(self.tokens[i + 1 : i + 1 + self.size].astype("int64")) for i in places])
        if self.where.type == "cuda":
            x, y = (each.pin_memory().to(self.where, non_blocking=True) for each in (x, y))
        if self.plain:
            return x, y
        with self.clock.stopped():
            tokens = self.loader._crops(self.step).tokens
            return tokens[:, :-1], tokens[:, 1:]

    def make_step(self) -> None:
        """See `Loop`."""
        x, y = self.batch()
        factor = self.schedule(self.step)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        with self.autocast():
            logits = self.network(x).float()
        loss = F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none").mean()  # the run's rounding
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.trained, self.clip)
        self.optimizer.step()
        self.history.append(loss.detach()[None])


LOOPS: dict[str, type[Loop]] = {"GAN": GAN, "VAE": VAE, "LanguageModel": LM}
