"""A discriminator with its loss: the terms of one micro-batch, without optimizers and ranks."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lit_gen.core import blame
from lit_gen.core.batches import Batches
from lit_gen.core.errors import UserError
from lit_gen.core.randomness import Draws
from lit_gen.models.adversarial import checks
from lit_gen.models.adversarial.augment import Augmentation
from lit_gen.models.adversarial.context import PenaltyContext, Regularizer, judge
from lit_gen.models.adversarial.losses import Logits, Loss, threshold
from lit_gen.models.adversarial.monitor import log_names, named
from lit_gen.protocols.training import Network, Terms
from lit_gen.training.meeting import parts_of

NETWORKS: tuple[Network, Network] = ("discriminator", "generator")


class Fakes(NamedTuple):
    """Generated images and, for regularizers, what they come from."""

    images: Tensor
    """(B, C, H, W)."""
    latents: Tensor | None = None
    """(B, latent_dim)."""
    generator: nn.Module | None = None
    """``generator(latents, labels)`` made them."""


class Game:
    """A discriminator, the loss and the regularizers; without drawing images, and without optimizers.

    Args:
        discriminator: judges images.
        loss: the adversarial loss.
        regularizers: terms of either network's step.
        augment: what images pass on their way into the discriminator.
        concatenate: judge real and generated images in one pass.
        laid_out: puts images into the memory format of the networks.
        prefix: of the names in the log, if a model has several games: ``a_``.

    Attributes:
        names: what the log calls the terms of each network's step, the adversarial loss first.
        regularizers: those of each network's step.
    """

    def __init__(
        self,
        discriminator: nn.Module,
        loss: Loss,
        regularizers: Sequence[Regularizer] = (),
        augment: Augmentation | None = None,
        concatenate: bool = False,
        laid_out: Callable[[Tensor], Tensor] = lambda images: images,
        prefix: str = "",
    ) -> None:
        self.discriminator, self.loss, self.augment = discriminator, loss, augment
        self.concatenate, self.laid_out, self.prefix = concatenate, laid_out, prefix
        self.threshold, self.reals_for_generator = threshold(loss), checks.depends_on_real(loss)
        sides = {side: [r for r in regularizers if r.network in (side, "both")] for side in NETWORKS}
        self.regularizers: dict[Network, list[Regularizer]] = sides
        known = named(list(regularizers))
        self.names = {side: [f"{prefix}{n}" for n in (f"{side}_loss", *log_names(known, side))] for side in NETWORKS}

    def meets(self, batches: Batches) -> str | None:
        """Say that each part has its own means, if the loss is not a mean over rows; ours take means over ranks."""
        own = not getattr(self.loss, "__module__", "").startswith("lit_gen.")
        divided = parts_of(batches, ranks=own)
        return None if not divided or checks.is_mean_of_rows(self.loss) else f"means of the loss per {divided}"

    def due(self, side: Network, update: int) -> list[int]:
        """Which of a network's regularizers are evaluated in its update ``update``, from 0."""
        return [i for i, regularizer in enumerate(self.regularizers[side]) if update % regularizer.every == 0]

    def terms(
        self, side: Network, real: Tensor, labels: Tensor | None, fakes: Fakes, draws: Draws, watch: bool = False
    ) -> Terms:
        """The loss of one micro-batch for one network.

        Args:
            side: the network that is updated.
            real: images (B, C, H, W).
            labels: int64 (B,), of the real and of the generated images; None without labels.
            fakes: the same number of generated images; with a graph in the generator's step.
            draws: names the random draws.
            watch: whether to take the means that are logged only for this step.
        """
        real = self.laid_out(real)
        if side == "discriminator":
            fakes = fakes._replace(images=fakes.images.detach())
        real_logits, fake_logits = self._judge_both(side, real, fakes.images, labels, draws)
        stand_in = (real_logits or fake_logits).adversarial.detach()
        losses = self.loss(real_logits.adversarial if real_logits else stand_in, fake_logits.adversarial)
        adversarial = losses.discriminator if side == "discriminator" else losses.generator
        names = self.names[side]
        total, values = adversarial, {names[0]: adversarial.detach()}
        for i in self.due(side, draws.update):
            regularizer = self.regularizers[side][i]
            context = PenaltyContext(
                network=side,
                discriminator=self.discriminator,
                generator=fakes.generator,
                real=real.float(),
                fake=fakes.images.float(),
                latents=fakes.latents,
                labels=labels,
                real_logits=real_logits,
                fake_logits=fake_logits,
                update=draws.update,
                random=draws.rows(f"{self.prefix}regularizer {i} of the {side} step", real.device),
                augment=self._augmenter(f"regularizer {i} of the {side} step", draws),
            )
            with torch.autocast(real.device.type, enabled=False):  # second derivatives in float32
                value = checks.term(regularizer(context), regularizer)
            total = total + regularizer.every * value
            values[names[1 + i]] = value.detach()
        if side == "generator" or real_logits is None:
            return Terms(total, values, {}, {})
        watched = self._watched(real_logits, fake_logits) if watch else {}
        return Terms(total, values, watched, self._signals(real_logits))

    def _judge_both(
        self, side: Network, real: Tensor, fake: Tensor, labels: Tensor | None, draws: Draws
    ) -> tuple[Logits | None, Logits]:
        """The logits of both kinds of images; real ones without a graph in the generator's step, if at all."""
        augmented_fake = self._augmenter(f"fake images of the {side} step", draws)(fake)
        if side == "generator" and not self.reals_for_generator:
            return None, judge(self.discriminator, augmented_fake, labels)
        augmented_real = self._augmenter(f"real images of the {side} step", draws)(real)
        if self.concatenate:
            both = torch.cat([augmented_real, augmented_fake])
            logits = judge(self.discriminator, both, None if labels is None else labels.repeat(2))
            halves = [None, None] if logits.classes is None else logits.classes.chunk(2)
            first, second = logits.adversarial.chunk(2)
            return Logits(first, halves[0]), Logits(second, halves[1])
        with torch.set_grad_enabled(side == "discriminator"):
            real_logits = judge(self.discriminator, augmented_real, labels)
        return real_logits, judge(self.discriminator, augmented_fake, labels)

    def _augmenter(self, purpose: str, draws: Draws) -> Callable[[Tensor], Tensor]:
        calls = 0

        def augmented(images: Tensor) -> Tensor:
            nonlocal calls
            if self.augment is None:
                return images
            calls += 1
            name = f"augmentation {calls} of {self.prefix}{purpose}"
            transformed: Any = self.augment(images, draws.rows(name, images.device))
            if not isinstance(transformed, Tensor):
                found = f"{blame.named(self.augment)} returned {blame.shown(transformed)}"
                raise UserError(f"model.augment: {found}, images {tuple(images.shape)} are expected")
            return self.laid_out(transformed)

        return augmented

    def _watched(self, real_logits: Logits, fake_logits: Logits) -> dict[str, Tensor]:
        real, fake = real_logits.adversarial.detach(), fake_logits.adversarial.detach()
        shown = {
            "real_logit": real.mean(),
            "fake_logit": fake.mean(),
            "real_accuracy": (real > self.threshold).float().mean(),
            "fake_accuracy": (fake < self.threshold).float().mean(),
        }
        return {f"{self.prefix}{name}": value for name, value in shown.items()}

    def _signals(self, real_logits: Logits) -> dict[str, Tensor]:
        """What steers ADA."""
        if self.augment is None:
            return {}
        return {"real_sign": (real_logits.adversarial.detach() - self.threshold).sign().mean()}
