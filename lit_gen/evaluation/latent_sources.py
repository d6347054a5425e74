"""Images of a model with latents that are not draws of its prior: of a mixture fitted to its latents, and its copies.

Both are used like an `lit_gen.protocols.images.ImageGenerator`, so every metric of drawn images applies to them.
"""

import warnings
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from lit_gen.core import distributed, randomness
from lit_gen.core.errors import UserError
from lit_gen.core.images import to_float
from lit_gen.core.randomness import BLOCK
from lit_gen.core.sampling import labels_of, record_of
from lit_gen.evaluation.reference import chosen
from lit_gen.protocols.data import Images
from lit_gen.protocols.images import Weights
from lit_gen.protocols.latents import Code, LatentVariableModel


def chosen_rows(data: Images, count: int) -> Tensor:
    """``count`` row numbers of a split, int64 (n,), in order, always the same ones and of all classes."""
    return chosen(torch.arange(len(data)), count)


class Encoded:
    """Images of a split through the encoder, 64 at a time, each with the noise of its row in the split.

    Args:
        model: encodes, in evaluation mode.
        data: the split; with labels if the model is conditional.
        seed: names the noise.
        purpose: names it too.
        where: the model's device.
        weights: the model's, see `LatentVariableModel`.
    """

    def __init__(
        self,
        model: LatentVariableModel,
        data: Images,
        seed: int,
        purpose: str,
        where: torch.device,
        weights: Weights = "ema",
    ) -> None:
        self.model, self.data, self.seed, self.purpose, self.where = model, data, seed, purpose, where
        self.weights = weights

    def images(self, rows: Tensor) -> Tensor:
        """Images (n, C, H, W) in [-1, 1] of rows int64 (n,), on the device."""
        return to_float(self.data.images[rows.to(self.data.images.device)].to(self.where))

    def labels(self, rows: Tensor) -> Tensor | None:
        """Labels int64 (n,) of rows, on the device; None for an unconditional model."""
        if self.model.num_classes is None or self.data.labels is None:
            return None
        return self.data.labels[rows.to(self.data.labels.device)].to(self.where)

    def block(self, rows: Tensor) -> Code:
        """The model's code for at most 64 rows, computed as a whole block that the last row fills up."""
        filled = _filled(rows.cpu())
        noise = randomness.latents(self.seed, filled, self.model.latent_dim, self.purpose).to(self.where)
        code = self.model.encode(self.images(filled), noise, self.labels(filled), self.weights)
        n = len(rows)
        return Code(code.z[:n], code.nats[:n], {name: value[:n] for name, value in code.info.items()})


def decode(
    model: LatentVariableModel, z: Tensor, labels: Tensor | None, where: torch.device, weights: Weights = "ema"
) -> Tensor:
    """Means of p(x|z), (n, C, H, W): latents (n, latent_dim) and labels (n,), in whole blocks of 64."""
    means = []
    for first in range(0, len(z), BLOCK):
        rows = _filled(torch.arange(first, min(first + BLOCK, len(z))))
        given = None if labels is None else labels[rows.to(labels.device)].to(where)
        means.append(model.decode(z[rows.to(z.device)].to(where), given, weights).mean[: len(z) - first])
    return torch.cat(means)


def _filled(rows: Tensor) -> Tensor:
    """Rows (n,), n <= 64, and the last one again until there are 64."""
    return rows[torch.arange(BLOCK).clamp_max(len(rows) - 1)]


class Reconstructions:
    """Image i is the reconstruction of image i: the mean of p(x|z), at a z of q(z|x) with the noise of that image.

    The decoder was trained on drawn z, not on the posterior's mean, and so is the distortion measured.

    Args:
        encoded: of the images' split.
        rows: int64 (n,), image i is row i of these; indices beyond n are image n - 1 (padding of the last blocks).
    """

    def __init__(self, encoded: Encoded, rows: Tensor) -> None:
        self.averaged = getattr(encoded.model, "averaged", False)
        self.encoded, self.rows, self.seed = encoded, rows, encoded.seed

    def sample(self, indices: Tensor, *, labels: Tensor | None = None, weights: Weights = "ema") -> Tensor:
        """Reconstructions (len(indices), C, H, W) of images ``indices``, with their own labels."""
        images = []
        for part in indices.cpu().split(BLOCK):
            rows = self.rows[part.clamp_max(len(self.rows) - 1)]
            z = self.encoded.block(rows).z
            images.append(decode(self.encoded.model, z, self.encoded.labels(rows), self.encoded.where, weights))
        return torch.cat(images)

    def drawing_record(self) -> dict[str, Any]:
        """See `lit_gen.protocols.images.ImageGenerator`."""
        return record_of(self.seed, None)


class Mixture(NamedTuple):
    """A mixture of K Gaussians over latents of d dimensions, in float64.

    Attributes:
        edges: (K,), sums of the weights so far; the last is 1.
        means: (K, d).
        factors: (K, d, d), Cholesky factors of the covariances.
        converged: whether the fit did.
    """

    edges: np.ndarray
    means: np.ndarray
    factors: np.ndarray
    converged: bool

    @classmethod
    def fit(cls, latents: Tensor, components: int, seed: int) -> Self:
        """Fit by expectation maximization, with full covariances, to latents (n, d).

        On one thread: sums over several would depend on their number, and with them the last bits.

        Raises:
            UserError: for latents that are NaN or infinite.
        """
        from sklearn.exceptions import ConvergenceWarning  # a second to import
        from sklearn.mixture import GaussianMixture
        from threadpoolctl import threadpool_limits

        if bad := int((~latents.isfinite()).any(1).sum()):
            raise UserError(f"latents of {bad} of {len(latents)} training images are NaN or infinite")
        state = randomness.key(seed, "mixture") % 2**32
        model = GaussianMixture(components, covariance_type="full", random_state=state)
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # it is recorded
            model.fit(latents.cpu().double().numpy())
            factors = np.linalg.cholesky(model.covariances_)
        edges = np.cumsum(model.weights_)
        return cls(edges / edges[-1], model.means_, factors, bool(model.converged_))

    def draw(self, seed: int, indices: Tensor) -> Tensor:
        """Latents float32 (n, d) of indices int64 (n,); row i depends only on ``(seed, indices[i])``."""
        normal = randomness.latents(seed, indices, 1, "mixture component")[:, 0]
        uniform = torch.special.ndtr(normal.cpu().double()).numpy()
        which = np.searchsorted(self.edges, uniform, side="right").clip(max=len(self.edges) - 1)
        noise = randomness.latents(seed, indices, self.means.shape[1], "mixture").numpy().astype(np.float64)
        drawn = self.means[which] + np.einsum("nij,nj->ni", self.factors[which], noise)  # no BLAS: row by row
        return torch.from_numpy(drawn.astype(np.float32))


class MixtureSampler:
    """Draws z from a Gaussian mixture fitted to the latents of training images, instead of from the prior.

    Ghosh et al., 2020, https://arxiv.org/abs/1903.12436, section 4 (ex-post density estimation): it reaches latents
    that the prior misses, and leaves out those that no image has. It is fitted to samples z of q(z|x), not to means:
    the decoder was trained on the average of q over the images, from which the samples come, and the means of unused
    dimensions would all be the same. Labels of a conditional model are independent of z, as under the prior.

    Args:
        model: decodes.
        mixture: of latents.
        seed: names the draws.
        counts: (num_classes,) training images of each class, for a conditional model; else None.
        where: the model's device.
    """

    def __init__(
        self, model: LatentVariableModel, mixture: Mixture, seed: int, counts: Tensor | None, where: torch.device
    ) -> None:
        self.averaged = getattr(model, "averaged", False)
        self.model, self.mixture, self.seed, self.where = model, mixture, seed, where
        self.num_classes = model.num_classes
        self.label_counts = torch.zeros(0) if counts is None else counts

    @classmethod
    def fit(cls, encoded: Encoded, rows: Tensor, components: int, counts: Tensor | None) -> Self:
        """Encode rows (n,) on all ranks, fit on the first one, and share the result; called on every rank."""
        world = distributed.world_size()
        mine = torch.arange(-(-len(rows) // (BLOCK * world))) * world + distributed.rank()

        def block(number: Tensor) -> Tensor:
            distributed.look()
            return encoded.block(rows[(number * BLOCK + torch.arange(BLOCK)).clamp_max(len(rows) - 1)]).z

        blocks = distributed.together(lambda: torch.stack([block(number) for number in mine]))
        whole = distributed.gather_blocks(blocks.float(), encoded.where)
        mixture = distributed.from_first(lambda: _fit(whole, len(rows), components, encoded.seed))
        return cls(encoded.model, mixture, encoded.seed, counts, encoded.where)

    def sample(self, indices: Tensor, *, labels: Tensor | None = None, weights: Weights = "ema") -> Tensor:
        """Draw (len(indices), C, H, W); image i depends on ``(seed, indices[i], label)`` and the mixture."""
        classes = None
        if self.num_classes is not None:
            classes = labels_of(self.seed, indices, self.label_counts) if labels is None else labels.cpu()
        return decode(self.model, self.mixture.draw(self.seed, indices), classes, self.where, weights)

    def drawing_record(self) -> dict[str, Any]:
        """See `lit_gen.protocols.images.ImageGenerator`."""
        return record_of(self.seed, None if self.num_classes is None else self.label_counts)

    @property
    def record(self) -> dict[str, Any]:
        """A description of the mixture, for a protocol."""
        return {
            "components": len(self.mixture.means),
            "covariances": "full",
            "fitted_to": "samples z of q(z|x) of training images",
            "converged": self.mixture.converged,
        }


def _fit(blocks: Tensor | None, count: int, components: int, seed: int) -> Mixture:
    assert blocks is not None
    return Mixture.fit(blocks.flatten(0, 1)[:count], components, seed)
