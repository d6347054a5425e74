"""Objectives: what a VAE minimizes, in nats: a bound of -log p(x), summed over pixels and latents, mean over the batch.

An objective is called with a view of the model and one batch, so that a training step is the same few lines for all::

    noise = ...normal(len(x), objective.samples, bottleneck.latent_dim)
    terms = objective(self, x, labels, noise, self.global_step)

``terms.distortion`` and ``terms.rate`` are always those of the plain bound, for any ``terms.loss``: validation reports
their sum, the negative ELBO at beta = 1. To add an objective, subclass `Objective` anywhere and name it.
"""

import math
from typing import Literal, NamedTuple, Protocol, get_args

import torch
from torch import Tensor

from lit_gen.core.batches import Batches
from lit_gen.core.distributed import mean_over_ranks
from lit_gen.core.errors import UserError
from lit_gen.core.options import at_least, not_negative, one_of
from lit_gen.models.likelihoods.distributions import Distribution
from lit_gen.models.vae.bottleneck import Bottleneck, Code
from lit_gen.training.schedules import Schedule

__all__ = ["ELBO", "IWAE", "Objective", "Terms", "View", "Weighted", "importance_bound", "weigh"]

Reduction = Literal["sum", "pixel_mean", "mean"]


class View(Protocol):
    """What an objective uses of the model."""

    @property
    def bottleneck(self) -> Bottleneck:
        """See `lit_gen.models.vae.bottleneck`."""
        ...

    def encode_features(self, x: Tensor, labels: Tensor | None) -> Tensor:
        """Images (B, C, H, W) and labels (B,) to the encoder's features (B, F)."""
        ...

    def decode(self, z: Tensor, labels: Tensor | None) -> Distribution:
        """Latents (B, latent_dim) and labels (B,) to a distribution over images (B, C, H, W)."""
        ...


class Terms(NamedTuple):
    """The loss of one batch, and its terms."""

    loss: Tensor
    """(), to be minimized; nats of an image if beta is 1."""
    distortion: Tensor
    """(B,), -log p(x|z) in nats; the mean over the samples if there are several."""
    rate: Tensor
    """(B,), the bottleneck's nats; for several samples the mean of log q(z|x) - log p(z)."""
    info: dict[str, float | Tensor]
    """Numbers to log, ``beta_effective`` among them; those of `Objective.measured` are tensors ()."""


class Objective:
    """Base of the objectives.

    Attributes:
        samples: how many z of each image it takes.
        reports: the names in `Terms.info`.
        measured: those of them that are tensors: measured on the batch, and so logged as means over micro-batches,
            steps and ranks. The others follow from the step, and are logged as they are.
    """

    samples: int = 1
    measured: tuple[str, ...] = ()
    reports: tuple[str, ...] = ("beta_effective",)

    def __call__(self, view: View, x: Tensor, labels: Tensor | None, noise: Tensor, step: int) -> Terms:
        """The loss and its terms.

        Args:
            view: the model.
            x: images (B, C, H, W).
            labels: (B,), or None.
            noise: standard normal (B, samples, latent_dim).
            step: counts from 0, for schedules.
        """
        raise NotImplementedError


class ELBO(Objective):
    """Distortion + beta_effective * rate: at beta 1 the negative evidence lower bound.

    Kingma and Welling, 2014, https://arxiv.org/abs/1312.6114; beta: Higgins et al., 2017,
    https://openreview.net/forum?id=Sy2fzU9gl. The loss always is distortion and rate in nats, summed over pixels and
    latents. ``reduction`` says how other code averages, so that you can enter its beta:
    beta_effective, which is logged, is beta for "sum"; beta * D for "pixel_mean", where -log p(x|z) is averaged over
    the D = C H W numbers of an image and the rate is a sum; beta * D / d for "mean", where the rate is averaged over
    the d latents as well.

    The binary cross-entropy of such code is an averaged -log p(x|z). Its mean squared error is not: it lacks the 1/2 of
    a Gaussian with sigma 1. For images in [-1, 1] a weight c beside a mean squared error amounts to c D / 2 here: enter
    c / 2. For images in [0, 1], whose squared errors are four times smaller, it amounts to 2 c D: enter 2 c.

    Args:
        beta: weight of the rate, at least 0, or its schedule: `lit_gen.training.schedules.Linear` for a warm-up,
            `lit_gen.training.schedules.Cyclical`.
        free_bits: lambda, nats of each latent dimension that cost nothing: the rate becomes sum_j max(lambda, KL_j),
            KL_j being the mean over the batch, of all ranks (Kingma et al., 2016, https://arxiv.org/abs/1606.04934,
            which has it for groups of dimensions). With micro-batches, the batch is the micro-batch.
        capacity: C by step, in nats: gamma * |KL - C| replaces beta * KL, KL being the mean over the batch,
            of all ranks (Burgess et al., 2018, https://arxiv.org/abs/1804.03599).
        gamma: weight of that term; ``reduction`` converts it as it does beta, and logs it as ``beta_effective``.
        reduction: see above.

    Raises:
        UserError: for a number out of range, or options that exclude each other.
    """

    def __init__(
        self,
        beta: float | Schedule = 1.0,
        free_bits: float = 0.0,
        capacity: Schedule | None = None,
        gamma: float = 1000.0,
        reduction: Reduction = "sum",
    ) -> None:
        if not isinstance(beta, Schedule):  # which checks itself
            not_negative("model.objective.", beta=beta)
        not_negative("model.objective.", free_bits=free_bits, gamma=gamma)
        one_of(get_args(Reduction), "model.objective.", reduction=reduction)
        if capacity is not None and (free_bits or beta != 1.0):
            other = f"free_bits {free_bits}; set free_bits to 0" if free_bits else "a beta; set beta to 1.0"
            raise UserError(f"model.objective.capacity: it was found beside {other}, or leave out capacity")
        self.beta, self.free_bits, self.capacity = beta, free_bits, capacity
        self.gamma, self.reduction = gamma, reduction
        self.reports = ("beta_effective", "capacity") if capacity is not None else ("beta_effective",)

    def __call__(self, view: View, x: Tensor, labels: Tensor | None, noise: Tensor, step: int) -> Terms:
        """See `Objective`."""
        coded: Code = view.bottleneck(view.encode_features(x, labels), noise[:, 0])
        distortion = -view.decode(coded.z, labels).log_prob(x)
        return self.combine(distortion, coded, x[0].numel(), step)

    def combine(self, distortion: Tensor, coded: Code, dimensions: int, step: int) -> Terms:
        """The loss of a distortion (B,) and a coded batch; ``dimensions`` is D = C H W."""
        weight = self.gamma if self.capacity is not None else self._beta(step)
        latents = coded.z[0].numel()
        effective = weight * {"sum": 1.0, "pixel_mean": dimensions, "mean": dimensions / latents}[self.reduction]
        loss = distortion.mean() + effective * self._penalized_rate(coded, step)
        if "penalty" in coded.info:
            loss = loss + coded.info["penalty"].mean()
        info: dict[str, float | Tensor] = {"beta_effective": effective}
        if self.capacity is not None:
            info["capacity"] = self.capacity(step)
        return Terms(loss, distortion, coded.nats, info)

    def meets(self, batches: Batches) -> str | None:
        """Say that each micro-batch has its own means."""
        meets = batches.micro_batches > 1 and (self.free_bits or self.capacity)
        return "the mean rate per micro-batch" if meets else None

    def _beta(self, step: int) -> float:
        return self.beta(step) if isinstance(self.beta, Schedule) else self.beta

    def _penalized_rate(self, coded: Code, step: int) -> Tensor:
        if self.capacity is not None:
            return (mean_over_ranks(coded.nats.mean()) - self.capacity(step)).abs()
        if self.free_bits:
            if "kl" not in coded.info:
                raise UserError(
                    f"model.objective.free_bits: {self.free_bits} was found, but the bottleneck does not know its rate "
                    f"by dimension; 0 is expected"
                )
            return mean_over_ranks(coded.info["kl"].mean(0)).clamp(min=self.free_bits).sum()
        return coded.nats.mean()


class Weighted(NamedTuple):
    """Importance weights of k samples of each image."""

    log_weights: Tensor
    """(B, k), log p(x|z) + log p(z) - log q(z|x)."""
    distortion: Tensor
    """(B, k), -log p(x|z)."""
    coded: Code
    """Of (B * k) rows."""


def weigh(view: View, x: Tensor, labels: Tensor | None, noise: Tensor, fixed: bool = False) -> Weighted:
    """Importance weights of the samples that noise (B, k, latent_dim) makes of images (B, C, H, W).

    Args:
        view: the model.
        x: images.
        labels: (B,), or None.
        noise: standard normal.
        fixed: hold q(z|x) constant in the weights, as `IWAE` with ``dreg`` does.

    Raises:
        UserError: if the bottleneck has no density, or it cannot be held constant.
    """
    k = noise.shape[1]
    features = view.encode_features(x, labels).repeat_interleave(k, 0)  # (B * k, F), the samples of an image together
    labels = None if labels is None else labels.repeat_interleave(k, 0)
    coded: Code = view.bottleneck(features, noise.flatten(0, 1))
    distortion = -view.decode(coded.z, labels).log_prob(x.repeat_interleave(k, 0))
    if fixed:
        ratio = view.bottleneck.log_ratio(features, coded.z, fixed=True)
    elif "log_ratio" in coded.info:
        ratio = coded.info["log_ratio"]
    else:
        ratio = view.bottleneck.log_ratio(features, coded.z)
    log_weights = ratio - distortion
    return Weighted(log_weights.unflatten(0, (-1, k)), distortion.unflatten(0, (-1, k)), coded)


def importance_bound(log_weights: Tensor) -> Tensor:
    """Log of the mean weight, (B, k) to (B,): logsumexp(log w) - log k, in expectation at most log p(x)."""
    return torch.logsumexp(log_weights, 1) - math.log(log_weights.shape[1])


class IWAE(Objective):
    """-log (1/k sum_i w_i), w_i = p(x, z_i) / q(z_i|x): a bound of -log p(x), tighter for larger k; k = 1 is the ELBO.

    Burda et al., 2016, https://arxiv.org/abs/1509.00519. Here the rate is an estimate, also at k = 1.

    With ``dreg`` the encoder's gradient is the doubly reparameterized one of Tucker et al., 2018,
    https://arxiv.org/abs/1810.04152: sum_i v_i^2 dlog w_i/dz_i dz_i/dphi with normalized weights v_i, of the same mean
    and a signal that does not vanish with k. Decoder and prior keep the plain gradient, sum_i v_i dlog w_i/dtheta. So
    q(z|x) is held constant inside w, and the plain gradient, which arrives at z_i with the factor v_i, is multiplied by
    v_i once more on its way into the encoder. Values are the same either way.

    Args:
        k: samples of each image, at least 1.
        dreg: use that estimator.

    Raises:
        UserError: for a smaller k.
    """

    reports = ("beta_effective", "effective_samples")
    measured = ("effective_samples",)

    def __init__(self, k: int, dreg: bool = False) -> None:
        at_least(1, "model.objective.", k=k)
        self.k = self.samples = k
        self.dreg = dreg

    def __call__(self, view: View, x: Tensor, labels: Tensor | None, noise: Tensor, step: int) -> Terms:
        """See `Objective`."""
        log_weights, distortion, coded = weigh(view, x, labels, noise, fixed=self.dreg)
        normalized = log_weights.detach().softmax(1)  # (B, k)
        if self.dreg and coded.z.requires_grad:
            per_row = normalized.flatten()[:, None]  # (B * k, 1)
            coded.z.register_hook(lambda gradient: gradient * per_row)
        loss = -importance_bound(log_weights).mean()
        if "penalty" in coded.info:
            loss = loss + coded.info["penalty"].mean()
        rate = -(log_weights + distortion).mean(1)  # log q(z|x) - log p(z)
        effective_samples = 1 / normalized.square().sum(1)
        info: dict[str, float | Tensor] = {"beta_effective": 1.0, "effective_samples": effective_samples.mean()}
        return Terms(loss, distortion.mean(1), rate, info)
