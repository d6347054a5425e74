"""The loss terms of one micro-batch, for either network: pure of optimizers, ranks and logs."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lit_gen.core.randomness import Rows
from lit_gen.models.adversarial import checks
from lit_gen.models.adversarial.augment import Augmentation
from lit_gen.models.adversarial.context import PenaltyContext, Regularizer, call, judge
from lit_gen.models.adversarial.losses import Logits, Loss, threshold
from lit_gen.protocols.images import ImageBatch
from lit_gen.protocols.training import Network


@dataclass(frozen=True)
class Place:
    """Where in a run a micro-batch stands: all that its random draws are named by.

    Attributes:
        seed: the run's seed.
        update: how many updates the network has had.
        part: which part of the update's global batch this is, counting micro-batches and ranks.
        parts: how many parts there are.
    """

    seed: int
    update: int
    part: int
    parts: int

    def rows(self, purpose: str, where: torch.device) -> Rows:
        """Draws for this part's rows."""
        return Rows(where, self.seed, purpose, self.update, self.part, self.parts)


@dataclass(frozen=True)
class Fakes:
    """Generated images (B, C, H, W) and the latents (B, latent_dim) that they come from."""

    images: Tensor
    latents: Tensor


@dataclass(frozen=True)
class Terms:
    """The loss of one micro-batch.

    Attributes:
        total: what is minimised.
        values: the adversarial loss, then each regularizer that was due, detached, (1 + due,).
        watched: means over the batch that are worth a log entry.
    """

    total: Tensor
    values: Tensor
    watched: dict[str, Tensor]


class Game:
    """The two networks and what they play for.

    Args:
        generator: see `lit_gen.models.gan.module.GAN`, as for all of these.
        discriminator: judges images.
        loss: the adversarial loss.
        regularizers: those of each network's step.
        augment: what images pass on their way into the discriminator.
        concatenate: judge real and generated images in one pass.
        laid_out: puts images into the memory format of the networks.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        loss: Loss,
        regularizers: dict[Network, list[Regularizer]],
        augment: Augmentation | None,
        concatenate: bool,
        laid_out: Callable[[Tensor], Tensor],
    ) -> None:
        self.generator, self.discriminator, self.loss = generator, discriminator, loss
        self.regularizers, self.augment = regularizers, augment
        self.concatenate, self.laid_out = concatenate, laid_out
        self.threshold, self.reals_for_generator = threshold(loss), checks.depends_on_real(loss)

    def fakes(self, side: Network, batch: ImageBatch, place: Place) -> Fakes:
        """Generate as many images as there are real ones, with their labels."""
        dim = self.generator.latent_dim
        assert isinstance(dim, int)
        z = place.rows(f"latents of the {side} step", batch.images.device).normal(len(batch.images), dim)
        images = call(self.generator, z, batch.labels)
        assert isinstance(images, Tensor)
        return Fakes(images, z)

    def terms(
        self, side: Network, batch: ImageBatch, place: Place, due: list[int], fakes: Fakes | None, watch: bool
    ) -> Terms:
        """The loss of one micro-batch for one network.

        Args:
            side: the network that is updated.
            batch: real images; their labels are those of the generated ones too.
            place: names the random draws.
            due: which of the network's regularizers to evaluate.
            fakes: generated images to use again, or None for new ones.
            watch: whether to take the means worth a log entry.
        """
        real = self.laid_out(batch.images)
        if side == "discriminator":
            if fakes is None:
                with torch.no_grad():  # no graph of the generator: this step never needs its gradient
                    fakes = self.fakes(side, batch, place)
            fakes = Fakes(fakes.images.detach(), fakes.latents)
        elif fakes is None:
            fakes = self.fakes(side, batch, place)
        real_logits, fake_logits = self._judge_both(side, real, fakes.images, batch.labels, place)
        stand_in = (real_logits or fake_logits).adversarial.detach()
        losses = self.loss(real_logits.adversarial if real_logits else stand_in, fake_logits.adversarial)
        adversarial = losses.discriminator if side == "discriminator" else losses.generator
        total, values = adversarial, [adversarial.detach()]
        for i in due:
            regularizer = self.regularizers[side][i]
            context = PenaltyContext(
                network=side,
                discriminator=self.discriminator,
                generator=self.generator,
                real=real.float(),
                fake=fakes.images.float(),
                latents=fakes.latents,
                labels=batch.labels,
                real_logits=real_logits,
                fake_logits=fake_logits,
                update=place.update,
                random=place.rows(f"regularizer {i} of the {side} step", real.device),
                augment=self._augmenter(f"regularizer {i} of the {side} step", place),
            )
            with torch.autocast(real.device.type, enabled=False):  # second derivatives in float32
                value = checks.term(regularizer(context), regularizer)
            total = total + regularizer.every * value
            values.append(value.detach())
        watched = self._watched(real_logits, fake_logits) if watch and real_logits else {}
        return Terms(total, torch.stack([v.float() for v in values]), watched)

    def _judge_both(
        self, side: Network, real: Tensor, fake: Tensor, labels: Tensor | None, place: Place
    ) -> tuple[Logits | None, Logits]:
        """The logits of both kinds of images; real ones without a graph in the generator's step, if at all."""
        augmented_fake = self._augmenter(f"fake images of the {side} step", place)(fake)
        if side == "generator" and not self.reals_for_generator:
            return None, judge(self.discriminator, augmented_fake, labels)
        augmented_real = self._augmenter(f"real images of the {side} step", place)(real)
        if self.concatenate:
            both = torch.cat([augmented_real, augmented_fake])
            logits = judge(self.discriminator, both, None if labels is None else labels.repeat(2))
            halves = [None, None] if logits.classes is None else logits.classes.chunk(2)
            first, second = logits.adversarial.chunk(2)
            return Logits(first, halves[0]), Logits(second, halves[1])
        with torch.set_grad_enabled(side == "discriminator"):
            real_logits = judge(self.discriminator, augmented_real, labels)
        return real_logits, judge(self.discriminator, augmented_fake, labels)

    def _augmenter(self, purpose: str, place: Place) -> Callable[[Tensor], Tensor]:
        calls = 0

        def augmented(images: Tensor) -> Tensor:
            nonlocal calls
            if self.augment is None:
                return images
            calls += 1
            transformed: Tensor = self.augment(images, place.rows(f"augmentation {calls} of {purpose}", images.device))
            return self.laid_out(transformed)

        return augmented

    def _watched(self, real_logits: Logits, fake_logits: Logits) -> dict[str, Tensor]:
        real, fake = real_logits.adversarial.detach(), fake_logits.adversarial.detach()
        return {
            "real_logit": real.mean(),
            "fake_logit": fake.mean(),
            "real_accuracy": (real > self.threshold).float().mean(),
            "fake_accuracy": (fake < self.threshold).float().mean(),
            "real_sign": (real - self.threshold).sign().mean(),
        }
