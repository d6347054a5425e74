"""The training step of a variational autoencoder, its bound on held-out images, and what callbacks need.

The bound, the likelihood and everything about q(z|x) and p(z) are injected: this file holds only the step. Lightning
optimizes, with one optimizer: `trainer.global_step` counts its updates.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

from lit_gen.core import data as datasets
from lit_gen.core import randomness
from lit_gen.core.blame import named, shown, tried
from lit_gen.core.errors import UserError
from lit_gen.core.images import to_float
from lit_gen.core.modes import evaluation_mode
from lit_gen.core.randomness import BLOCK, Draws
from lit_gen.core.sampling import Sampler, one_pass
from lit_gen.models.likelihoods.base import Likelihood
from lit_gen.models.likelihoods.distributions import Distribution
from lit_gen.models.vae.bottleneck import Bottleneck
from lit_gen.models.vae.layers import connect
from lit_gen.models.vae.objectives import ELBO, Objective, Terms, weigh
from lit_gen.models.vae.parts import PARTS, Parts
from lit_gen.protocols.images import Drawer, ImageBatch, Weights
from lit_gen.protocols.latents import Code
from lit_gen.protocols.training import Exported
from lit_gen.training.adapters.adapter import Adapter
from lit_gen.training.adapters.lora import LoRA
from lit_gen.training.ema import EMA
from lit_gen.training.finetune import FineTune
from lit_gen.training.held_out import HeldOutSums
from lit_gen.training.module import SHARDING
from lit_gen.training.monitor import Monitor
from lit_gen.training.optimizers import adam
from lit_gen.training.schedules import Schedule


class VAE(HeldOutSums, Sampler):
    """An encoder q(z|x) and a decoder p(x|z), trained on a bound of -log p(x) in nats.

    Kingma and Welling, 2014, https://arxiv.org/abs/1312.6114. Sums over pixels and latents, means over the batch.
    ``val/elbo``, ``val/rate`` and ``val/distortion`` are at beta = 1 for any objective; choose checkpoints by the
    first, with ``mode: max``. ``val/bits_per_dim`` is per uint8 value; for binarized digits it is per binary pixel.
    Drawn images are the means of p(x|z). With ``ema``, drawing, encoding and validation use the averaged weights,
    unless you ask for the raw ones; ``train/`` is always of the raw ones.

    Args:
        encoder: images (B, C, H, W) to features (B, bottleneck.features); with ``num_classes`` it gets labels too.
        decoder: latents (B, latent_dim) to outputs (B, likelihood.channels(C), H, W); the same.
        bottleneck: posterior, prior and rate; see `lit_gen.models.vae.bottleneck`.
        likelihood: p(x|z), from `lit_gen.models.likelihoods`.
        objective: what is minimized, from `lit_gen.models.vae.objectives`. null: the ELBO.
        optimizer: makes the optimizer from all parameters. null: Adam at 1e-3.
        schedule: factor of the learning rate as a function of the step; null for a constant rate.
        schedules: numbers that change over the steps, by name: ``objective.beta``, ``optimizer.lr``, ``ema.decay``.
        ema: moving average of the four parts' weights, see `lit_gen.training.ema.EMA`; its half-life counts images.
            null for none.
        adapter: train only a small change of the four frozen parts, see `lit_gen.training.adapters`; null to
            train them whole. Names of layers begin with their part's: ``decoder.``.
        finetune: another run's weights to begin with, frozen parameters and rates of their own, see
            `lit_gen.training.finetune.FineTune`; null for none of it.
        seed: names all noise of this module; linked to ``seed_everything`` by the command line.

    Raises:
        UserError: for parts that do not fit together.
    """

    headline = ("val/elbo", "val/bits_per_dim")

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        bottleneck: Bottleneck,
        likelihood: Likelihood,
        objective: Objective | None = None,
        optimizer: OptimizerCallable | None = None,
        schedule: Schedule | None = None,
        schedules: dict[str, Schedule] | None = None,
        ema: EMA | None = None,
        adapter: LoRA | Adapter | None = None,
        finetune: FineTune | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.keep_arguments()
        connect(encoder, decoder, bottleneck, likelihood)
        self.encoder, self.decoder, self.bottleneck, self.likelihood = encoder, decoder, bottleneck, likelihood
        self.objective = ELBO() if objective is None else objective
        # in this order: a mistake of the encoder also fails in the decoder, and the message should name the cause
        self.monitor = Monitor(["rate", "distortion", "loss", *self.objective.measured])
        self.optimizer, self.schedule, self.seed = optimizer, schedule, seed
        self.register_buffer("label_counts", torch.zeros(self.num_classes or 0))  # of the training set; see Sampler
        self.keep_adapter(adapter, *PARTS)
        self.keep_finetune(finetune, *PARTS)
        self.keep_average(ema, *PARTS)
        self._info: dict[str, float | Tensor] = {}
        self._unseen = True  # whether unchecked training images may come
        self.keep_schedules(schedules)

    def keep_schedules(self, schedules: Mapping[str, Schedule] | None) -> None:
        """See `Automatic`.

        Raises:
            UserError: for a beta that the objective does not use, too.
        """
        if "objective.beta" in (schedules or ()) and getattr(self.objective, "capacity", None) is not None:
            raise UserError("model.schedules: objective.beta has no effect beside model.objective.capacity; use gamma")
        super().keep_schedules(schedules)

    def schedulable(self) -> dict[str, Any]:
        """See `TrainingModule`."""
        return super().schedulable() | {"objective": self.objective}

    def meeting_parts(self) -> list[Any]:
        """See `TrainingModule`."""
        return [*super().meeting_parts(), self.objective]

    def parts(self, weights: Weights) -> Parts:
        """The four parts with averaged or raw weights."""
        found: Any = (self.weighted(name, weights) for name in PARTS)
        return Parts(*found)

    # ---- for callbacks: `lit_gen.protocols.latents.LatentVariableModel` and `ImageGenerator`

    @property
    def latent_dim(self) -> int:
        """Numbers of one image's z."""
        return self.bottleneck.latent_dim

    @property
    def num_classes(self) -> int | None:
        """Classes of a conditional model; None for an unconditional one."""
        return self.parts("raw").num_classes

    def encode(self, images: Tensor, noise: Tensor, labels: Tensor | None = None, weights: Weights = "ema") -> Code:
        """Images (B, C, H, W) and standard normal noise (B, latent_dim) to a sample of q(z|x)."""
        return self.parts(weights).encode(images, noise, labels)

    def prior(self, noise: Tensor, weights: Weights = "ema") -> Tensor:
        """Standard normal noise (B, latent_dim) to z of p(z)."""
        return self.parts(weights).prior(noise)

    def decode(self, z: Tensor, labels: Tensor | None = None, weights: Weights = "ema") -> Distribution:
        """Latents (B, latent_dim) and labels (B,) to p(x|z)."""
        return self.parts(weights).decode(z, labels)

    def log_weights(
        self, images: Tensor, noise: Tensor, labels: Tensor | None = None, weights: Weights = "ema"
    ) -> Tensor:
        """Log p(x|z) + log p(z) - log q(z|x), (B, k), for noise (B, k, latent_dim)."""
        self._check_images(images)
        return weigh(self.parts(weights), images, labels, noise).log_weights

    def bits_per_dim(self, nats: float, dimensions: int) -> float:
        """Bits per dimension of ``nats`` per image of C * H * W dimensions, by the data's levels, else 256."""
        levels = datasets.data_of(self._trainer).facts().get("levels") or 256
        return float(self.likelihood.bits_per_dim(torch.tensor(nats), dimensions, levels))

    def drawer(self, weights: Weights = "ema") -> Drawer:
        """The means of p(x|z), z of the prior."""
        return one_pass(self.parts(weights))

    def exported(self, weights: Weights = "ema") -> Exported:
        """The decoder."""
        return Exported("decoder", self.plain(self.weighted("decoder", weights)))

    # ---- training

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The one optimizer."""
        return self.create_optimizer(self.optimizer or adam, self.trained_parameters())

    def on_fit_start(self) -> None:
        """Compare networks and data before the first step; a mismatch is a user's mistake."""
        super().on_fit_start()
        data = datasets.data_of(self.trainer)
        self.count_labels(data)
        shape, drawn = data.facts().get("shape"), self._try_decoder()
        if shape is not None and tuple(shape) != drawn:
            made = f"{named(self.decoder)} makes images of shape {drawn}"
            raise UserError(f"model.decoder: {made}, but the data set has {tuple(shape)}")
        if shape is not None and not isinstance(self.trainer.strategy, SHARDING):
            self._try_encoder(tuple(shape))
        self._unseen = True
        if datasets.has_images(data):
            for images in data.split("train").images.split(1024):
                self._check_images(self.trainer.precision_plugin.convert_input(to_float(images.to(self.device))))

    def loss_of(self, batch: ImageBatch, draws: Draws) -> Tensor:
        """The objective of one micro-batch."""
        datasets.check_batch(batch, ImageBatch)
        if self._unseen:  # each batch, which costs a synchronization; only the first one if all images were checked
            self._check_images(batch.images)
            self._unseen = not datasets.has_images(datasets.data_of(self.trainer))
        noise = draws.rows("posterior", self.device).normal(len(batch.images), self.objective.samples, self.latent_dim)
        terms: object = self.objective(self.parts("raw"), batch.images, batch.labels, noise, draws.update)
        if not isinstance(terms, Terms):
            raise UserError(f"model.objective: {named(self.objective)} returned {shown(terms)}, Terms are expected")
        measured: dict[str, Any] = {name: terms.info[name] for name in self.objective.measured}
        means = {"rate": terms.rate.mean(), "distortion": terms.distortion.mean(), "loss": terms.loss}
        self.record_terms(means | measured)
        self._info = {name: value for name, value in terms.info.items() if name not in self.monitor.names}
        return terms.loss

    def extra_scalars(self, step: int) -> dict[str, float]:
        """The objective's numbers, such as ``beta_effective``, and the images so far."""
        per_step, _ = datasets.data_of(self.trainer).per_step()
        return {name: float(value) for name, value in self._info.items()} | {"images_seen": float(step * per_step)}

    def announced(self, limit_val_batches: float | None = None) -> list[str]:
        """See `Automatic`."""
        validated = [] if limit_val_batches == 0 else ["elbo", "distortion", "rate", "bits_per_dim"]
        reports = [name for name in self.objective.reports if name not in self.monitor.names]
        further = [f"train/{name}" for name in (*reports, "images_seen")]
        return [*super().announced(limit_val_batches), *further, *(f"val/{name}" for name in validated)]

    def _check_images(self, images: Tensor) -> None:
        """Check every pixel, which costs a synchronization.

        Raises:
            UserError: for images that the likelihood cannot score, or that half precision has rounded.
        """
        if images.dtype in (torch.float16, torch.bfloat16) and not (images.abs() == 1).all():
            raise UserError(
                f"trainer.precision: {self.trainer.precision} was found, which rounds all images but binary ones; "
                f"{str(self.trainer.precision).replace('true', 'mixed')} or 32-true is expected"
            )
        self.likelihood.check(images)

    def _try_decoder(self) -> tuple[int, ...]:
        """The shape of the decoder's output for latents of the prior."""
        try:
            of = f"as model.bottleneck.latent_dim {self.latent_dim} has them"
            with tried("model.decoder", f"latents ({BLOCK}, {self.latent_dim}), {of}"):
                return tuple(self.sample(torch.arange(2)).shape[1:])
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise UserError(
                f"model.decoder: it cannot take latents (B, {self.latent_dim}), as model.bottleneck.latent_dim "
                f"{self.latent_dim} has them ({str(error).splitlines()[0]})"
            ) from error

    @torch.no_grad()
    def _try_encoder(self, shape: tuple[int, ...]) -> None:
        """Encode two grey images of ``shape``, and leave modes and random states as they were."""
        images = torch.zeros(2, *shape, device=self.device)
        labels = None if self.num_classes is None else torch.zeros(2, dtype=torch.int64, device=self.device)
        where = [self.device] if self.device.type == "cuda" else []
        with evaluation_mode(self), torch.random.fork_rng(where):
            with tried("model.encoder", f"images {(2, *shape)}"):
                features = self.parts("raw").encode_features(images, labels)
            with tried("model.bottleneck", f"features {tuple(features.shape)} and noise (2, {self.latent_dim})"):
                self.parts("raw").encode(images, images.new_zeros(2, self.latent_dim), labels)

    # ---- evaluation

    def validation_step(self, batch: ImageBatch, batch_idx: int) -> None:
        """Distortion and rate of held-out images at beta = 1, each with the noise of its index."""
        if not len(batch.images):
            return
        self._check_images(batch.images)
        noise = randomness.latents(self.seed, batch.indices, self.latent_dim, "validation").to(self.device)
        with torch.autocast(self.device.type, enabled=False):
            terms: Terms = ELBO()(
                self.parts("ema"), batch.images, batch.labels, noise[:, None], self.trainer.global_step
            )
        self.add_held_out(terms.distortion, terms.rate)

    test_step = validation_step

    def log_held_out(self, split: Literal["val", "test"], sums: list[float], count: int) -> None:
        """See `HeldOutSums`: the bound, its two terms, and bits per dimension of 8-bit images."""
        distortion, rate = sums
        nats = (distortion + rate) / count
        for name, value in (("rate", rate), ("distortion", distortion)):
            if not math.isfinite(value):
                self.stop_non_finite(f"{split}/{name} is NaN or infinite at step {self.trainer.global_step}")
        values = {"elbo": -nats, "distortion": distortion / count, "rate": rate / count}
        data = datasets.data_of(self.trainer)
        if datasets.has_images(data) and (images := data.split(split).images).dtype == torch.uint8:
            values["bits_per_dim"] = self.bits_per_dim(nats, math.prod(images.shape[1:]))
        self.log_scalars({f"{split}/{name}": value for name, value in values.items()})

    def predict_step(self, batch: ImageBatch, batch_idx: int) -> Tensor:
        """Reconstructions: the mean of p(x|z) at a z of q(z|x) for each image."""
        noise = randomness.latents(self.seed, batch.indices, self.latent_dim, "validation").to(self.device)
        return self.decode(self.encode(batch.images, noise, batch.labels).z, batch.labels).mean
