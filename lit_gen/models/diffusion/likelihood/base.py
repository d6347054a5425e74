"""What every likelihood of a denoiser says, and what data it is of."""

from typing import Any

from torch import Tensor, nn

from lit_gen.core.blame import named
from lit_gen.core.errors import UserError
from lit_gen.core.images import at_level
from lit_gen.core.options import at_least
from lit_gen.models.diffusion.denoiser import Denoiser
from lit_gen.models.diffusion.sources import Source
from lit_gen.models.likelihoods.numerics import wide


class Likelihood(nn.Module):
    """Base: from a denoiser and data to nats. It has no weights.

    Nats of images with levels are such that `lit_gen.core.bits.bits_per_dim` of them with width 1 is right: of a mass,
    or of a density over [0, levels)^D. Nats of points are of a density in their own units.

    Args:
        levels: of a pixel, evenly from -1 to 1; null for points. Taken from the data set by the command line.

    Raises:
        UserError: for fewer than two levels.
    """

    name: str
    """What the nats are."""

    def __init__(self, levels: int | None = None) -> None:
        super().__init__()
        at_least(2, "model.likelihood.", levels=levels)
        self.levels = levels

    def log_prob(
        self,
        denoiser: Denoiser,
        images: Tensor,
        indices: Tensor,
        seed: int,
        labels: Tensor | None = None,
        source: Source | None = None,
    ) -> Tensor:
        """Nats (B,), in the precision of ``images`` or float32, without gradients.

        Row i depends on its own image, index and label, and on the seed.

        Args:
            denoiser: in evaluation mode.
            images: (B, C, H, W) in [-1, 1] at the data's levels, or points.
            indices: int64 (B,); they name the noise of each image.
            seed: names all noise.
            labels: int64 (B,) of a conditional model.
            source: where the path ends; null: N(0, I). Samples begin with sigma(end) times its rows.
        """
        raise NotImplementedError

    def settings(self, denoiser: Denoiser) -> dict[str, Any]:
        """What else the nats depend on, for records."""
        raise NotImplementedError

    def calls(self, denoiser: Denoiser) -> int:
        """How often the network is called for an image."""
        raise NotImplementedError

    def check(self, denoiser: Denoiser) -> None:
        """Refuse a denoiser that has no such likelihood.

        Raises:
            UserError: names the option.
        """

    def check_images(self, denoiser: Denoiser, images: Tensor) -> None:
        """Refuse images (N, C, H, W) that it is not of; reads every number, which costs a synchronization.

        Raises:
            UserError: for another shape, or numbers between the levels.
        """
        shape = tuple(images.shape[1:])
        if shape != denoiser.shape:
            found = f"data of shape {shape} were found, {denoiser.shape} is expected"
            raise UserError(f"model.network: {found}, the shape of {named(denoiser.network)}")
        if self.levels is None:
            return
        fits = at_level(wide(images), self.levels)
        if not bool(fits.all()):
            raise UserError(
                f"model.likelihood.levels: the value {float(images[~fits][0]):.4g} was found, which is none of the "
                f"{self.levels} levels from -1 to 1; images with these levels are expected"
            )
