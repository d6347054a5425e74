"""The alternating training step of a GAN, and sampling from it.

One lightning batch is one step is one generator update: `trainer.global_step`, `max_steps`, checkpoint names and the
log axis all count it, from 1. The loss says what the two networks play for, the networks are injected, and metrics and
pictures live in callbacks: this file holds the step alone.
"""

import copy
import math
import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn

from lit_gen import hparams, parallel, randomness
from lit_gen.errors import NonFiniteLossError, UserError
from lit_gen.gan import checks, ema, sampling
from lit_gen.gan.losses import Loss, non_saturating, threshold
from lit_gen.protocols import ImageBatch, Weights
from lit_gen.runs import last_checkpoint_of, log_scalars


class GAN(LightningModule):
    """A generator and a discriminator trained in turn; Goodfellow et al., 2014, https://arxiv.org/abs/1406.2661.

    Args:
        generator: ``generator(z, labels=None)``: latents (B, generator.latent_dim) to images (B, C, H, W) in [-1, 1].
        discriminator: ``discriminator(x, labels=None)``: images to logits (B,).
        loss: one of `lit_gen.gan.losses`, or your own function of (real_logits, fake_logits).
        generator_optimizer: makes the generator's optimizer from its parameters.
        discriminator_optimizer: makes the discriminator's optimizer from its parameters.
        ema_decay: decay of the generator's moving average, in [0, 1), which all samples and metrics use; null for none.
        channels_last: lay images and convolution weights out with the channels last, which is several times faster for
            few output channels on a CPU.
        seed: names all noise of this module; linked to ``seed_everything`` by the command line.

    Raises:
        UserError: for an ``ema_decay`` outside [0, 1) or a generator without ``latent_dim``.
    """

    _loss_sums: Tensor
    _first_bad_step: Tensor

    batches_per_step = 1
    """How many micro-batches of real images one step consumes; the train loader yields them together."""

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        loss: Loss = non_saturating,
        generator_optimizer: OptimizerCallable = lambda p: torch.optim.Adam(p, lr=2e-4, betas=(0.5, 0.999)),
        discriminator_optimizer: OptimizerCallable = lambda p: torch.optim.Adam(p, lr=2e-4, betas=(0.5, 0.999)),
        ema_decay: float | None = 0.999,
        channels_last: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if ema_decay is not None and not 0 <= ema_decay < 1:
            raise UserError(f"model.ema_decay: {ema_decay} was found, a number in [0, 1) or null is expected")
        if not isinstance(getattr(generator, "latent_dim", None), int):
            raise UserError(f"model.generator: {type(generator).__name__} has no whole number latent_dim")
        with warnings.catch_warnings():
            # Lightning advises to ignore the networks; a checkpoint of the command line could then not be loaded.
            warnings.filterwarnings("ignore", message=".*is already saved during checkpointing.*")
            self.save_hyperparameters(logger=False)
        if "_instantiator" not in self.hparams:
            self.hparams.clear()  # built in Python: objects, which no checkpoint can hold; see on_save_checkpoint
        self.automatic_optimization = False
        self.generator, self.discriminator, self.loss = generator, discriminator, loss
        self._real_in_generator_step = checks.depends_on_real(loss)
        self._threshold = threshold(loss)
        self.generator_optimizer, self.discriminator_optimizer = generator_optimizer, discriminator_optimizer
        self.ema_decay, self.channels_last, self.seed = ema_decay, channels_last, seed
        if channels_last:
            self.generator.to(memory_format=torch.channels_last)
            self.discriminator.to(memory_format=torch.channels_last)
        self.ema_generator = None
        if ema_decay is not None:
            self.ema_generator = copy.deepcopy(generator).eval().requires_grad_(False)
        self.register_buffer("_loss_sums", torch.zeros(3))  # discriminator, generator, steps; since the last log entry
        self.register_buffer("_first_bad_step", torch.full((2,), math.inf))  # discriminator, generator
        self._evaluation: list[Tensor] = []

    # ---- training

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """The generator's optimizer, whose steps count, then the discriminator's."""
        made = []
        for name in ("generator", "discriminator"):
            try:
                made.append(getattr(self, f"{name}_optimizer")(getattr(self, name).parameters()))
            except ValueError as error:
                raise UserError(f"model.{name}_optimizer: {error}") from error
        return made

    def train(self, mode: bool = True) -> "GAN":
        """Switch the two networks; the moving average always stays in evaluation mode."""
        super().train(mode)
        if self.ema_generator is not None:
            self.ema_generator.eval()
        return self

    def on_fit_start(self) -> None:
        """Compare shapes before the first step: networks that do not fit the data are a user's mistake."""
        # some modules are in evaluation mode on purpose: the average's
        warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")
        shape = getattr(getattr(self.trainer, "datamodule", None), "shape", None)
        checks.networks(self.discriminator, self.sample(torch.arange(2), weights="raw"), shape)

    def training_step(self, batch: ImageBatch, batch_idx: int) -> None:
        """One update of the discriminator, then one of the generator, each with its own latents."""
        generator_optimizer, discriminator_optimizer = self._optimizers()
        step = self.trainer.global_step
        randomness.seed_global(self.seed, step, self.global_rank)
        real = self._laid_out(batch.images)
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        detailed = every > 0 and (step + 1) % every == 0

        discriminator_terms = self._discriminator_step(discriminator_optimizer, real, step, detailed)
        generator_terms = self._generator_step(generator_optimizer, real, step)
        if self.ema_generator is not None and self.ema_decay is not None:
            ema.update(self.ema_generator, self.generator, ema.decay_at(self.ema_decay, step))

        losses = [discriminator_terms[0], generator_terms[0]]
        self._loss_sums += torch.stack([*losses, torch.ones_like(losses[0])])
        self._stop_if_not_finite(step, detailed)
        if detailed:
            self._log_details(discriminator_terms)

    def _discriminator_step(self, optimizer: LightningOptimizer, real: Tensor, step: int, detailed: bool) -> Tensor:
        with torch.no_grad():  # no graph of the generator: this step never needs its gradient
            fake = self.generator(self._noise("discriminator", real, step))
        real_logits, fake_logits = self.discriminator(real).float(), self.discriminator(fake).float()
        loss = self.loss(real_logits, fake_logits).discriminator
        extras = [loss.detach()]
        if detailed:
            extras += [real_logits.mean(), fake_logits.mean()]
            extras += [(real_logits > self._threshold).float().mean(), (fake_logits < self._threshold).float().mean()]
        return self._update(optimizer, self.discriminator, loss, torch.stack(extras).detach())

    def _generator_step(self, optimizer: LightningOptimizer, real: Tensor, step: int) -> Tensor:
        trained = [p for p in self.discriminator.parameters() if p.requires_grad]
        _freeze(trained)  # gradients flow through it, not into it
        try:
            fake_logits = self.discriminator(self.generator(self._noise("generator", real, step))).float()
            with torch.no_grad():
                real_logits = self.discriminator(real).float() if self._real_in_generator_step else fake_logits.detach()
            loss = self.loss(real_logits, fake_logits).generator
            return self._update(optimizer, self.generator, loss, loss.detach().reshape(1))
        finally:
            _freeze(trained, False)

    def _update(self, optimizer: LightningOptimizer, network: nn.Module, loss: Tensor, extras: Tensor) -> Tensor:
        """One optimizer step on the gradient averaged over the ranks; returns the averaged extras."""
        optimizer.zero_grad()
        with self._without_gradient_sync():
            self.manual_backward(loss)
        extras = parallel.average_gradients(network.parameters(), extras)
        optimizer.step()
        return extras

    def _without_gradient_sync(self) -> AbstractContextManager[None]:
        """Keep DDP from reducing: it would reduce both networks in each backward (docs/distributed.md has figures)."""
        block = getattr(self.trainer.strategy, "block_backward_sync", nullcontext)
        context: AbstractContextManager[None] = block()
        return context

    def _optimizers(self) -> tuple[LightningOptimizer, LightningOptimizer]:
        optimizers = self.optimizers()
        assert isinstance(optimizers, list)
        generator_optimizer, discriminator_optimizer = optimizers
        # Only the generator's updates count as steps. Lightning installs its counting hooks anew for every batch.
        discriminator_optimizer._on_before_step = discriminator_optimizer._on_after_step = lambda: None
        return generator_optimizer, discriminator_optimizer

    def _noise(self, purpose: str, real: Tensor, step: int) -> Tensor:
        shape = (len(real), self._latent_dim)
        return randomness.training_noise(
            shape,
            real.device,
            self.seed,
            f"latents of the {purpose} step",
            step,
            self.global_rank,
            self.trainer.world_size,
        )

    def _laid_out(self, images: Tensor) -> Tensor:
        return images.to(memory_format=torch.channels_last) if self.channels_last else images

    # ---- watching the training

    @property
    def images_seen(self) -> int:
        """Real images that the discriminator has been shown, over all ranks, since the run began."""
        per_step: int = getattr(getattr(self.trainer, "datamodule", None), "images_per_step", 0)
        return self.trainer.global_step * per_step

    def _stop_if_not_finite(self, step: int, check: bool) -> None:
        """Raise at once on a CPU; elsewhere at the next log entry, so that no step waits for the device."""
        now = torch.full_like(self._first_bad_step, step + 1)
        bad = torch.where(torch.isfinite(self._loss_sums[:2]), math.inf, now)
        self._first_bad_step = torch.minimum(self._first_bad_step, bad)
        if not check and self._first_bad_step.device.type != "cpu":
            return
        discriminator, generator = self._first_bad_step.tolist()
        first = min(discriminator, generator)
        if math.isfinite(first):
            network = "discriminator" if discriminator == first else "generator"
            raise NonFiniteLossError(
                f"the loss of the {network} became NaN or infinite at step {int(first)}; "
                f"{last_checkpoint_of(self.trainer)}"
            )

    def _log_details(self, discriminator_terms: Tensor) -> None:
        mean_losses = self._loss_sums[:2] / self._loss_sums[2]
        norms = torch.stack([_gradient_norm(self.discriminator), _gradient_norm(self.generator)])
        values = torch.cat([mean_losses, discriminator_terms[1:], norms]).tolist()  # the one device sync
        self._loss_sums.zero_()
        names = [
            "train/discriminator_loss",  # mean since the last entry
            "train/generator_loss",
            "train/real_logit",  # these at this step
            "train/fake_logit",
            "train/real_accuracy",
            "train/fake_accuracy",
            "train/discriminator_gradient_norm",
            "train/generator_gradient_norm",
        ]
        scalars = dict(zip(names, values, strict=True))
        log_scalars(self, scalars | {"train/images_seen": float(self.images_seen)})

    # ---- evaluation

    def validation_step(self, batch: ImageBatch, batch_idx: int) -> None:
        """How the discriminator judges held-out images: far below its training images means that it memorises."""
        logits = self.discriminator(self._laid_out(batch.images)).float()
        self._evaluation.append(
            torch.stack([logits.sum(), (logits > self._threshold).sum(), logits.new_tensor(len(logits))])
        )

    def on_validation_epoch_start(self) -> None:
        """Forget what an interrupted evaluation left; use rank 0's batch statistics on every rank."""
        self._evaluation = []
        parallel.broadcast_buffers(self.discriminator)

    def on_validation_epoch_end(self) -> None:
        """Log the mean logit and accuracy on held-out images, exact at any world size."""
        self._log_evaluation("val")

    test_step = validation_step
    on_test_epoch_start = on_validation_epoch_start

    def on_test_epoch_end(self) -> None:
        """As for validation."""
        self._log_evaluation("test")

    def _log_evaluation(self, stage: str) -> None:
        blocks = torch.stack(self._evaluation).cpu().double() if self._evaluation else torch.zeros(0, 3)
        logits, correct, count = (math.fsum(parallel.gather(column.tolist())) for column in blocks.T)
        self._evaluation = []
        if count:
            log_scalars(self, {f"{stage}/real_logit": logits / count, f"{stage}/real_accuracy": correct / count})

    def predict_step(self, batch: ImageBatch, batch_idx: int) -> Tensor:
        """As many samples as the batch has images, by index and label."""
        return self.sample(batch.indices, labels=batch.labels)

    def sample(self, indices: Tensor, *, labels: Tensor | None = None, weights: Weights = "ema") -> Tensor:
        """Draw images by global index.

        Args:
            indices: int64 (n,).
            labels: not used: these networks are unconditional.
            weights: the moving average, or the raw weights; raw as well where the run keeps no average.

        Returns:
            float (n, C, H, W) in [-1, 1]; image i depends on ``(seed, indices[i], weights)`` alone, bit for bit.
        """
        rows, position = randomness.whole_blocks(indices)
        z = randomness.latents(self.seed, rows, self._latent_dim)
        images = sampling.decode(self._network(weights), z, self.device)
        return images[position.to(images.device)]

    def interpolate(self, start: Tensor, end: Tensor, steps: int, *, weights: Weights = "ema") -> Tensor:
        """Draw (n, steps, C, H, W): great-circle paths between the latents of indices ``start`` and ``end`` (n,)."""
        a, b = (randomness.latents(self.seed, indices, self._latent_dim) for indices in (start, end))
        path = sampling.great_circle(a, b, steps).flatten(0, 1)
        images: Tensor = sampling.decode(self._network(weights), path, self.device).unflatten(0, (len(start), steps))
        return images

    def _network(self, weights: Weights) -> nn.Module:
        return self.ema_generator if weights == "ema" and self.ema_generator is not None else self.generator

    @property
    def _latent_dim(self) -> int:
        dim = self.generator.latent_dim
        assert isinstance(dim, int)
        return dim

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store a module built in Python as the command line stores one, so that the checkpoint alone rebuilds it."""
        if "_instantiator" not in checkpoint.get("hyper_parameters", {}):
            checkpoint["hyper_parameters"] = hparams.module_hparams(self)


def _freeze(parameters: list[nn.Parameter], frozen: bool = True) -> None:
    for parameter in parameters:
        parameter.requires_grad_(not frozen)


def _gradient_norm(network: nn.Module) -> Tensor:
    return torch.nn.utils.get_total_norm([p.grad for p in network.parameters() if p.grad is not None])
