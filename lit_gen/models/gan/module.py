"""The alternating training step of a GAN, and sampling from it.

One lightning batch is one step is one generator update: `trainer.global_step`, `max_steps`, checkpoint names and the
log axis all count it, from 1. The loss, the regularizers and the networks are injected, and metrics and pictures are
in callbacks: this file holds only the step.
"""

from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

from lit_gen.core import blame, distributed
from lit_gen.core import data as datasets
from lit_gen.core.batches import micro_batches_of, split
from lit_gen.core.blame import tried
from lit_gen.core.errors import UserError
from lit_gen.core.randomness import BLOCK, Draws
from lit_gen.core.sampling import Sampler, one_pass
from lit_gen.models.adversarial import checks as game_checks
from lit_gen.models.adversarial.ada import ADA
from lit_gen.models.adversarial.augment import Augmentation
from lit_gen.models.adversarial.context import Penalty, Regularizer, call, judge
from lit_gen.models.adversarial.game import NETWORKS, Fakes, Game
from lit_gen.models.adversarial.losses import Loss, non_saturating
from lit_gen.models.adversarial.monitor import HeldOut, named
from lit_gen.models.gan import checks
from lit_gen.protocols.images import Drawer, ImageBatch, Weights
from lit_gen.protocols.training import Exported, Network, Terms
from lit_gen.training.adapters.adapter import Adapter
from lit_gen.training.adapters.lora import LoRA
from lit_gen.training.alternating import Alternating, Player
from lit_gen.training.ema import EMA
from lit_gen.training.finetune import FineTune
from lit_gen.training.monitor import Monitor
from lit_gen.training.schedules import Schedule


class GAN(Alternating, Sampler):
    """A generator and a discriminator trained in turn; Goodfellow et al., 2014, https://arxiv.org/abs/1406.2661.

    Args:
        generator: ``generator(z, labels=None)``: latents (B, generator.latent_dim) to images (B, C, H, W) in [-1, 1].
            One with an integer ``num_classes`` is conditional and gets labels (B,).
        discriminator: ``discriminator(x, labels=None)``: images to logits (B,) or
            `lit_gen.models.adversarial.losses.Logits`.
        loss: one of `lit_gen.models.adversarial.losses`, or your own function of (real_logits, fake_logits).
        generator_optimizer: makes the generator's optimizer from its parameters; null: Adam at 2e-4, betas .5 and .999.
        discriminator_optimizer: makes the discriminator's optimizer from its parameters; null: the same.
        regularizers: terms added to the losses, from `lit_gen.models.adversarial.penalties`,
            `lit_gen.models.adversarial.regularizers` or your own.
        augment: what every image passes on its way into the discriminator, from `lit_gen.models.adversarial.augment`.
        schedules: numbers that change over the steps, by name: ``generator_optimizer.lr``, ``regularizers.R1.gamma``.
        n_critic: discriminator updates per step, each with its own real images and latents.
        generator_clip: largest norm of the generator's gradient; null for no clipping.
        discriminator_clip: largest norm of the discriminator's gradient; null for no clipping.
        weight_clip: the discriminator's weights are clipped to plus and minus this, as in the first Wasserstein GAN.
        ema: the generator's moving average, which all samples and metrics use, see `lit_gen.training.ema.EMA`; null for
            none. Its half-life counts generated images.
        adapter: train only a small change of the frozen generator, see `lit_gen.training.adapters`; null to
            train all of it. The discriminator is trained whole.
        finetune: another run's weights to begin with, frozen parameters and rates of their own, see
            `lit_gen.training.finetune.FineTune`; null for none of it.
        generator_first: update the generator before the discriminator.
        reuse_fakes: generate images once per step, for both networks' updates, which saves one forward pass.
        concatenate: judge real and generated images in one pass of the discriminator, which must not have batch norm.
        sync_batch_norm: take batch statistics over all ranks; a run is then the same at any world size. null: only with
            several ranks.
        channels_last: use the memory format channels_last for images and convolution weights, which is several times
            faster for few output channels on a CPU.
        seed: names all noise of this module; linked to ``seed_everything`` by the command line.

    Raises:
        UserError: for a number out of range, or parts that do not fit together.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        loss: Loss = non_saturating,
        generator_optimizer: OptimizerCallable | None = None,
        discriminator_optimizer: OptimizerCallable | None = None,
        regularizers: list[Regularizer | Penalty] | None = None,
        augment: Augmentation | None = None,
        schedules: dict[str, Schedule] | None = None,
        n_critic: int = 1,
        generator_clip: float | None = None,
        discriminator_clip: float | None = None,
        weight_clip: float | None = None,
        ema: EMA | None = EMA(),
        adapter: LoRA | Adapter | None = None,
        finetune: FineTune | None = None,
        generator_first: bool = False,
        reuse_fakes: bool = False,
        concatenate: bool = False,
        sync_batch_norm: bool | None = None,
        channels_last: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        checks.options(**{name: value for name, value in locals().items() if name not in ("self", "__class__")})
        self.keep_arguments()
        self.generator, self.discriminator, self.loss = generator, discriminator, loss
        self.generator_optimizer, self.discriminator_optimizer = generator_optimizer, discriminator_optimizer
        made = game_checks.regularizers(regularizers or [])
        self.regularizers, self.augment = nn.ModuleList(made), augment
        self.n_critic = n_critic
        self.generator_clip, self.discriminator_clip, self.weight_clip = generator_clip, discriminator_clip, weight_clip
        self.generator_first, self.reuse_fakes, self.concatenate = generator_first, reuse_fakes, concatenate
        self.sync_batch_norm, self.channels_last, self.seed = sync_batch_norm, channels_last, seed
        self.refuse_lazy("generator", "discriminator")
        for network in (generator, discriminator):
            if channels_last:
                network.to(memory_format=torch.channels_last)
        self.keep_adapter(adapter, "generator")
        self.keep_finetune(finetune, "generator", "discriminator")
        self.keep_average(ema, "generator")
        self._game = Game(discriminator, loss, made, augment, concatenate, self._laid_out)
        self._named = named(made)
        self.monitor = Monitor([name for side in NETWORKS for name in self._game.names[side]])
        self.register_buffer("label_counts", torch.zeros(self.num_classes or 0))  # of the training set; see Sampler
        self._held_out = HeldOut()
        self.keep_schedules(schedules)

    @property
    def batches_per_step(self) -> int:
        """Batches of real images that one step reads; the train loader yields them together."""
        return self.n_critic

    @property
    def updates_per_step(self) -> int:
        """The discriminator's updates and one of the generator."""
        return self.n_critic + 1

    def meeting_parts(self) -> list[Any]:
        """See `TrainingModule`."""
        return [*super().meeting_parts(), self._game]

    # ---- training

    def players(self) -> dict[str, Player]:
        """The two networks; parameters of regularizers of both steps are the discriminator's."""
        of_generator = [r for r in self.regularizers if r.network == "generator"]
        of_discriminator = [r for r in self.regularizers if r.network != "generator"]
        generator = self.trained(p for part in (self.generator, *of_generator) for p in part.parameters())
        discriminator = self.trained(p for part in (self.discriminator, *of_discriminator) for p in part.parameters())
        return {
            "generator": Player(generator, self.generator_optimizer or _adam, self.generator_clip, counts=True),
            "discriminator": Player(discriminator, self.discriminator_optimizer or _adam, self.discriminator_clip),
        }

    def schedulable(self) -> dict[str, Any]:
        """See `TrainingModule`."""
        return super().schedulable() | {"augment": self.augment, "regularizers": self._named}

    def on_fit_start(self) -> None:
        """Compare networks and data before the first step; a mismatch is a user's mistake."""
        game_checks.precision(str(self.trainer.precision), "a GAN")
        super().on_fit_start()
        data = datasets.data_of(self.trainer)
        facts = data.facts()
        checks.conditioning(self.generator, self.discriminator, self.regularizers)
        for side in NETWORKS:
            checks.labels(side, getattr(getattr(self, side), "num_classes", None), facts)
        self.count_labels(data)
        given = f"latents ({BLOCK}, {self.generator.latent_dim}){' and labels' if self.num_classes else ''}"
        with tried("model.generator", given):
            samples = self.sample(torch.arange(2), weights="raw")
        checks.networks(self.generator, self.discriminator, samples, facts.get("shape"), self.regularizers)

    def training_step(self, batch: ImageBatch, batch_idx: int) -> None:
        """``n_critic`` updates of the discriminator and one of the generator, each with its own latents."""
        datasets.check_batch(batch, ImageBatch)
        step = self.start_step()
        count = micro_batches_of(batch)
        parts = split(batch, self.n_critic * count)
        of_generator = parts[:count] if self.generator_first else parts[-count:]
        shared: list[Fakes] = []
        if self.reuse_fakes:
            shared = [self._fakes("generator", part, self.draws(step, i, count)) for i, part in enumerate(of_generator)]
        seen: dict[str, Tensor] = {}

        if self.generator_first:
            seen |= self._update("generator", of_generator, step, step + 1, shared)
        for critic in range(self.n_critic):
            mine = parts[critic * count : (critic + 1) * count]
            reused = shared if critic == (0 if self.generator_first else self.n_critic - 1) else []
            seen |= self._update("discriminator", mine, step * self.n_critic + critic, step + 1, reused)
        if not self.generator_first:
            seen |= self._update("generator", of_generator, step, step + 1, shared)

        generated = len(batch.images) // self.n_critic * self.trainer.world_size
        self.end_step(step + 1, lambda: self._scalars(seen), generated)

    def _update(
        self, side: Network, batches: list[ImageBatch], update: int, step: int, shared: list[Fakes]
    ) -> dict[str, Tensor]:
        """Update one network; returns means for the log, only of this step.

        Args:
            side: the network to update.
            batches: the micro-batches.
            update: how many updates this network has had.
            step: the step's number, from 1; the generator's update already counts it before it ends.
            shared: generated images of each micro-batch, if both networks use the same.
        """

        def terms(i: int) -> Terms:
            draws, batch = self.draws(update, i, len(batches)), batches[i]
            fakes = shared[i] if shared else self._fakes(side, batch, draws)
            return self._game.terms(side, batch.images, batch.labels, fakes, draws, self.detailed(step))

        found = self.update(side, terms, update, step, len(batches))
        if side == "discriminator":
            images = sum(len(b.images) for b in batches) * self.trainer.world_size
            self._after_discriminator(found.signals, images, update + 1)
        return found.watched

    def _fakes(self, side: Network, batch: ImageBatch, draws: Draws) -> Fakes:
        """Generate the number of real images, with their labels; without a graph for the discriminator."""
        dim, count = self.generator.latent_dim, len(batch.images)
        assert isinstance(dim, int)
        z = draws.rows(f"latents of the {side} step", batch.images.device).normal(count, dim)
        with torch.set_grad_enabled(side == "generator"):
            images = call(self.generator, z, batch.labels)
        if not isinstance(images, Tensor):
            made = f"{blame.named(self.generator)} returned {blame.shown(images)}"
            raise UserError(f"model.generator: {made}, images ({count}, C, H, W) are expected")
        return Fakes(images, z, self.generator)

    def _after_discriminator(self, signals: dict[str, Tensor], images: int, updates: int) -> None:
        if self.weight_clip is not None:
            with torch.no_grad():
                for parameter in self.discriminator.parameters():
                    if parameter.requires_grad:
                        parameter.clamp_(-self.weight_clip, self.weight_clip)
        if self.augment is not None:
            self.augment.observe(signals["real_sign"], images, updates)

    def _laid_out(self, images: Tensor) -> Tensor:
        return images.to(memory_format=torch.channels_last) if self.channels_last else images

    # ---- the log

    @property
    def images_seen(self) -> int:
        """Real images that the discriminator has seen, over all ranks, since the run began."""
        return self.trainer.global_step * datasets.data_of(self.trainer).per_step()[0]

    def blamed(self, term: str) -> str:
        """The network whose loss it is part of."""
        return f"the loss of the {next(side for side, names in self._game.names.items() if term in names)}"

    def _scalars(self, seen: dict[str, Tensor]) -> dict[str, float]:
        """The log entry's other numbers than the means of the loss terms: this step's logits and gradient norms."""
        extra = {"augment_p": self.augment.p} if isinstance(self.augment, ADA) else {}
        values = {name: float(value) for name, value in (seen | extra).items()}
        return values | {"images_seen": float(self.images_seen)}

    def announced(self, limit_val_batches: float | None = None) -> list[str]:
        """See `Alternating`."""
        judged = ["real_logit", "real_accuracy"]
        augmented = ["augment_p"] if isinstance(self.augment, ADA) else []
        training = [*judged, "fake_logit", "fake_accuracy", *augmented, "images_seen"]
        validated = [] if limit_val_batches == 0 else [f"val/{name}" for name in judged]
        return [*super().announced(limit_val_batches), *(f"train/{name}" for name in training), *validated]

    # ---- drawing

    def drawer(self, weights: Weights = "ema") -> Drawer:
        """One pass of the generator."""
        return one_pass(self.weighted("generator", weights), "model.generator")

    def exported(self, weights: Weights = "ema") -> Exported:
        """The generator."""
        return Exported("generator", self.plain(self.weighted("generator", weights)))

    # ---- evaluation

    def validation_step(self, batch: ImageBatch, batch_idx: int) -> None:
        """The discriminator's logits of held-out images: if far below those of training images, it memorizes."""
        judged = judge(self.discriminator, self._laid_out(batch.images), batch.labels)
        self._held_out.add(judged.adversarial, self._game.threshold)

    def on_validation_epoch_start(self) -> None:
        """Forget what an interrupted evaluation left; use rank 0's batch statistics on every rank."""
        self._held_out = HeldOut()
        distributed.broadcast_buffers(self.discriminator)

    def on_validation_epoch_end(self) -> None:
        """Log the mean logit and accuracy on held-out images, exact at any world size."""
        self.log_scalars({f"val/{name}": value for name, value in self._held_out.collect().items()})

    test_step = validation_step
    on_test_epoch_start = on_validation_epoch_start

    def on_test_epoch_end(self) -> None:
        """As for validation."""
        self.log_scalars({f"test/{name}": value for name, value in self._held_out.collect().items()})

    def predict_step(self, batch: ImageBatch, batch_idx: int) -> Tensor:
        """One sample for each image of the batch, by index, and by label if the generator is conditional."""
        return self.sample(batch.indices, labels=None if self.num_classes is None else batch.labels)


def _adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=2e-4, betas=(0.5, 0.999))
