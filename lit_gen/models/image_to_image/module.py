"""The training step of a network from images to images, on pairs, with a discriminator or without.

One lightning batch is one step is one update of the generator. Networks, reconstruction terms, the adversarial loss and
regularizers are injected; what an input is made from its target by, translation, super-resolution, inpainting or
denoising, is a matter of the data. This file holds only the step.
"""

from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

from lit_gen.core import data as datasets
from lit_gen.core import distributed
from lit_gen.core.batches import micro_batches_of, split
from lit_gen.core.modes import evaluation_mode
from lit_gen.models.adversarial import checks as game_checks
from lit_gen.models.adversarial.augment import Augmentation
from lit_gen.models.adversarial.context import Penalty, Regularizer
from lit_gen.models.adversarial.game import Fakes, Game
from lit_gen.models.adversarial.losses import Loss, non_saturating
from lit_gen.models.adversarial.monitor import named
from lit_gen.models.image_to_image import checks
from lit_gen.models.image_to_image.applying import Apart, Images, judged, restored, translated
from lit_gen.models.image_to_image.given_terms import reconstructions, term_names, value_of
from lit_gen.models.image_to_image.terms import L1, Comparison, Reconstruction
from lit_gen.protocols.images import ImagePair, Weights
from lit_gen.protocols.training import Exported, Terms
from lit_gen.training.adapters.adapter import Adapter
from lit_gen.training.adapters.lora import LoRA
from lit_gen.training.alternating import Alternating, Player
from lit_gen.training.ema import EMA
from lit_gen.training.finetune import FineTune
from lit_gen.training.held_out import RowSums
from lit_gen.training.monitor import Monitor
from lit_gen.training.schedules import Schedule


class Paired(Alternating):
    """A generator that learns from pairs; Isola et al., 2017 (pix2pix), https://arxiv.org/abs/1611.07004.

    Its loss is the sum of weighted reconstruction terms and, with a discriminator, ``adversarial_weight`` times the
    adversarial loss. Without one it is plain regression: SRResNet, denoising.

    Args:
        generator: ``generator(x)``: sources (B, source_channels, h, w) to images (B, target_channels, s h, s w). Where
            the data have masks, the mask is the last channel of x.
        reconstruction: terms of the generator's loss, from `lit_gen.models.image_to_image.terms`, or your own functions
            of (made, target); null: `L1`.
        discriminator: ``discriminator(x)``: images to logits (B,), or (B, h, w) of patches; null for none.
        loss: one of `lit_gen.models.adversarial.losses`, or your own function of (real_logits, fake_logits).
        adversarial_weight: factor of the adversarial loss and of the generator's regularizers in the generator's loss.
        adversarial_from: the step from which on the discriminator plays; before, only the reconstruction terms count.
        conditional: the discriminator sees the source, enlarged to the target's size, before the image: x has
            source_channels + target_channels. Else only the image.
        keep_known: where the data have masks, known pixels of the source are put into the output.
        generator_optimizer: makes the generator's optimizer from its parameters; null: Adam at 2e-4, betas .5 and .999.
        discriminator_optimizer: makes the discriminator's optimizer from its parameters; null: the same.
        regularizers: terms added to the adversarial losses, as in `lit_gen.models.gan.module.GAN`; their gradients are
            with respect to all that the discriminator sees.
        augment: what images pass on their way into the discriminator; source and image by the same draws.
        schedules: numbers that change over the steps, by name: ``generator_optimizer.lr``, ``adversarial_weight``.
        generator_clip: largest norm of the generator's gradient; null for no clipping.
        discriminator_clip: largest norm of the discriminator's gradient; null for no clipping.
        ema: the generator's moving average, which all outputs and metrics use, see `lit_gen.training.ema.EMA`; its
            half-life counts pairs. null for none.
        adapter: train only a small change of the frozen generator, see `lit_gen.training.adapters`; null to train it.
        finetune: another run's weights to begin with, frozen parameters and rates of their own, see
            `lit_gen.training.finetune.FineTune`; null for none of it.
        concatenate: judge real and generated images in one pass of the discriminator, which must not have batch norm.
        sync_batch_norm: take batch statistics over all ranks; null: only with several ranks.
        channels_last: use the memory format channels_last for images and convolution weights.
        seed: names all noise of this module; linked to ``seed_everything`` by the command line.

    Raises:
        UserError: for a number out of range, or parts that do not fit together.
    """

    def __init__(
        self,
        generator: nn.Module,
        reconstruction: list[Reconstruction | Comparison] | None = None,
        discriminator: nn.Module | None = None,
        loss: Loss = non_saturating,
        adversarial_weight: float = 1.0,
        adversarial_from: int = 0,
        conditional: bool = True,
        keep_known: bool = True,
        generator_optimizer: OptimizerCallable | None = None,
        discriminator_optimizer: OptimizerCallable | None = None,
        regularizers: list[Regularizer | Penalty] | None = None,
        augment: Augmentation | None = None,
        schedules: dict[str, Schedule] | None = None,
        generator_clip: float | None = None,
        discriminator_clip: float | None = None,
        ema: EMA | None = None,
        adapter: LoRA | Adapter | None = None,
        finetune: FineTune | None = None,
        concatenate: bool = False,
        sync_batch_norm: bool | None = None,
        channels_last: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        checks.options(**{name: value for name, value in locals().items() if name not in ("self", "__class__")})
        self.keep_arguments()
        self.generator, self.discriminator, self.loss = generator, discriminator, loss
        terms = reconstructions([L1()] if reconstruction is None else reconstruction)
        self.reconstruction, self._terms = nn.ModuleList(terms), dict(zip(term_names(terms), terms, strict=True))
        self.adversarial_weight, self.adversarial_from = adversarial_weight, adversarial_from
        self.conditional, self.keep_known = conditional, keep_known
        self.generator_optimizer, self.discriminator_optimizer = generator_optimizer, discriminator_optimizer
        made = game_checks.regularizers(regularizers or [])
        self.regularizers, self.augment = nn.ModuleList(made), augment
        self.generator_clip, self.discriminator_clip = generator_clip, discriminator_clip
        self.concatenate, self.sync_batch_norm, self.channels_last = concatenate, sync_batch_norm, channels_last
        self.seed = seed
        networks = ["generator"] if discriminator is None else ["generator", "discriminator"]
        self.refuse_lazy(*networks)
        if channels_last:
            for name in networks:
                getattr(self, name).to(memory_format=torch.channels_last)
        self.keep_adapter(adapter, "generator")
        self.keep_finetune(finetune, *networks)
        self.keep_average(ema, "generator")
        self._game: Game | None = None
        if discriminator is not None:
            self._game = Game(discriminator, loss, made, augment, concatenate, self._laid_out)
        self._named = named(made)
        played = [] if self._game is None else [name for names in self._game.names.values() for name in names]
        self.monitor = Monitor([*self._terms, *played])
        self.headline = tuple(f"val/{name}" for name in self._terms)
        self._held_out = RowSums()
        self.register_buffer("trained_on", torch.zeros(len(checks.TrainedOn._fields), dtype=torch.int64))
        self.trained_on: Tensor
        self._known: checks.TrainedOn | None = None  # the same, read from the device once
        self.keep_schedules(schedules)

    @property
    def updates_per_step(self) -> int:
        """One update of each network."""
        return 1 if self.discriminator is None else 2

    def meeting_parts(self) -> list[Any]:
        """See `TrainingModule`."""
        return [*super().meeting_parts(), *([] if self._game is None else [self._game])]

    def schedulable(self) -> dict[str, Any]:
        """See `TrainingModule`."""
        parts = {"augment": self.augment, "regularizers": self._named, "reconstruction": self._terms}
        return super().schedulable() | parts

    # ---- training

    def players(self) -> dict[str, Player]:
        """The generator, and the discriminator if there is one, with the regularizers' parameters."""
        of_generator = [r for r in self.regularizers if r.network == "generator"]
        generator = self.trained(
            p for part in (self.generator, *self.reconstruction, *of_generator) for p in part.parameters()
        )
        players = {"generator": Player(generator, self.generator_optimizer or _adam, self.generator_clip, counts=True)}
        if self.discriminator is not None:
            rest = [r for r in self.regularizers if r.network != "generator"]
            theirs = self.trained(p for part in (self.discriminator, *rest) for p in part.parameters())
            optimizer = self.discriminator_optimizer or _adam
            players["discriminator"] = Player(theirs, optimizer, self.discriminator_clip)
        return players

    def on_fit_start(self) -> None:
        """Compare networks and data before the first step; a mismatch is a user's mistake."""
        game_checks.precision(str(self.trainer.precision), "Paired")
        super().on_fit_start()
        data = datasets.data_of(self.trainer)
        self._known = known = checks.facts(data)
        self.trained_on.copy_(torch.tensor(known))
        if self._game is not None and self.augment is not None and self.conditional:
            self._game.augment = Apart(self.augment, [known.channels, *[1] * known.masked, data.facts()["shape"][0]])
        checks.networks(self, data.facts())

    def training_step(self, batch: ImagePair, batch_idx: int) -> None:
        """One update of the discriminator, if it plays, then one of the generator, on the same images."""
        datasets.check_batch(batch, ImagePair)
        step = self.start_step()
        parts = split(batch, micro_batches_of(batch))
        # of several micro-batches each is made again in each update: their graphs would take the memory of all
        shared = [self._made(parts[0])] if len(parts) == 1 else []
        plays = self._game is not None and step >= self.adversarial_from
        seen: dict[str, Tensor] = {}
        if plays:
            found = self.update(
                "discriminator", lambda i: self._discriminate(parts, i, step, shared), step, step + 1, len(parts)
            )
            seen |= found.watched
            if self.augment is not None:
                images = sum(len(part.target) for part in parts) * self.trainer.world_size
                self.augment.observe(found.signals["real_sign"], images, step - self.adversarial_from + 1)
        seen |= self.update(
            "generator", lambda i: self._generate(parts, i, step, shared, plays), step, step + 1, len(parts)
        ).watched
        self.end_step(step + 1, lambda: self._scalars(seen), len(batch.target) * self.trainer.world_size)

    def _discriminate(self, parts: list[ImagePair], i: int, step: int, shared: list[Tensor]) -> Terms:
        """The discriminator's loss of micro-batch i."""
        assert self._game is not None
        with torch.no_grad():
            made = shared[i] if shared else self._made(parts[i])
            real, fake = (judged(parts[i], images, self.conditional) for images in (parts[i].target, made))
        draws = self.draws(step, i, len(parts))
        return self._game.terms("discriminator", real, None, Fakes(fake), draws, self.detailed(step + 1))

    def _generate(self, parts: list[ImagePair], i: int, step: int, shared: list[Tensor], plays: bool) -> Terms:
        """The generator's loss of micro-batch i: its reconstruction terms, and what the discriminator makes of it."""
        part = parts[i]
        made = shared[i] if shared else self._made(part)
        values = self._compared(made, part)
        total = sum((self._terms[name].weight * value for name, value in values.items()), made.new_zeros(()))
        logged = {name: value.detach() for name, value in values.items()}
        if not plays:
            return Terms(total, logged, {}, {})
        assert self._game is not None
        real, fake = (judged(part, images, self.conditional) for images in (part.target, made))
        played = self._game.terms("generator", real, None, Fakes(fake), self.draws(step, i, len(parts)))
        return played._replace(total=total + self.adversarial_weight * played.total, values=logged | played.values)

    def _made(self, part: ImagePair) -> Tensor:
        """The generator's output for the sources of a micro-batch."""
        return restored(self.generator, Images(part.source, part.mask), self.keep_known, self._laid_out)

    def _compared(self, made: Tensor, part: ImagePair) -> dict[str, Tensor]:
        """The reconstruction terms of a batch, by their names, without their weights."""
        with torch.autocast(made.device.type, enabled=False):
            terms = self._terms.items()
            return {name: value_of(term, made.float(), part.target, part.mask) for name, term in terms}

    def _laid_out(self, images: Tensor) -> Tensor:
        return images.to(memory_format=torch.channels_last) if self.channels_last else images

    # ---- the log

    def blamed(self, term: str) -> str:
        """The network whose loss it is part of."""
        of_discriminator = self._game is not None and term in self._game.names["discriminator"]
        return f"the loss of the {'discriminator' if of_discriminator else 'generator'}"

    def _scalars(self, seen: dict[str, Tensor]) -> dict[str, float]:
        """The log entry's other numbers than the means of the terms: this step's logits and gradient norms."""
        images = self.trainer.global_step * datasets.data_of(self.trainer).per_step()[0]
        return {name: float(value) for name, value in seen.items()} | {"images_seen": float(images)}

    def announced(self, limit_val_batches: float | None = None) -> list[str]:
        """See `Alternating`."""
        judged = ["real_logit", "real_accuracy", "fake_logit", "fake_accuracy"] if self._game else []
        validated = [] if limit_val_batches == 0 else [f"val/{name}" for name in self._terms]
        names = [f"train/{name}" for name in (*judged, "images_seen")]
        return [*super().announced(limit_val_batches), *names, *validated]

    # ---- `lit_gen.protocols.images.ImageTranslator`

    @property
    def data_facts(self) -> checks.TrainedOn | None:
        """What is known of the data; None before training."""
        if self._known is None:
            known = checks.TrainedOn(*self.trained_on.tolist())
            self._known = known if known.channels else None
        return self._known

    @property
    def source_shape(self) -> tuple[int, int, int] | None:
        """(C, h, w) of a source in training; None before."""
        known = self.data_facts
        return known and (known.channels, known.height, known.width)

    @property
    def masked(self) -> bool | None:
        """Whether sources have masks; None before training."""
        known = self.data_facts
        return known and bool(known.masked)

    @property
    def levels(self) -> int | None:
        """Levels of a pixel of the targets, 256 or 65536; None before training."""
        known = self.data_facts
        return known and known.levels

    @property
    def source_levels(self) -> int | None:
        """Levels of a pixel of the sources; None before training."""
        known = self.data_facts
        return known and known.source_levels

    @torch.no_grad()
    def translate(
        self,
        images: Tensor,
        *,
        mask: Tensor | None = None,
        weights: Weights = "ema",
        tile: int | None = None,
        border: int | None = None,
    ) -> Tensor:
        """See `lit_gen.protocols.images.ImageTranslator`; an image's output does not depend on those beside it."""
        checks.sources(self, images, mask)
        network = self.weighted("generator", weights)
        with evaluation_mode(self):
            return translated(network, Images(images, mask), self.device, self.keep_known, self._laid_out, tile, border)

    def exported(self, weights: Weights = "ema") -> Exported:
        """The generator."""
        return Exported("generator", self.plain(self.weighted("generator", weights)))

    # ---- evaluation

    def validation_step(self, batch: ImagePair, batch_idx: int) -> None:
        """The reconstruction terms of held-out pairs, with averaged weights if there are any."""
        if not len(batch.target):
            return
        made = self.translate(batch.source, mask=batch.mask)
        values = self._compared(made, batch)
        self._held_out.add(*(value.detach().expand(len(made)) for value in values.values()))

    def on_validation_epoch_start(self) -> None:
        """Forget what an interrupted evaluation left; use rank 0's batch statistics on every rank."""
        self._held_out = RowSums()
        distributed.broadcast_buffers(self)

    def on_validation_epoch_end(self) -> None:
        """Log the means over all held-out pairs, exact at any world size."""
        self._log_held_out("val")

    test_step = validation_step
    on_test_epoch_start = on_validation_epoch_start

    def on_test_epoch_end(self) -> None:
        """As for validation."""
        self._log_held_out("test")

    def _log_held_out(self, split: str) -> None:
        sums, count = self._held_out.collect()
        if count and not self.trainer.sanity_checking:
            self.log_scalars({f"{split}/{name}": x / count for name, x in zip(self._terms, sums, strict=True)})

    def predict_step(self, batch: ImagePair, batch_idx: int) -> Tensor:
        """The outputs of a batch; of a rank without pairs none."""
        if not len(batch.target):
            return batch.target
        return self.translate(batch.source, mask=batch.mask)


def _adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=2e-4, betas=(0.5, 0.999))
