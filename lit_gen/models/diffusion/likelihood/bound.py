"""The variational bound of a chain of discrete steps."""

import math
from typing import Any, Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from lit_gen.core.errors import UserError
from lit_gen.core.options import at_least, one_of
from lit_gen.core.randomness import latents, uniforms
from lit_gen.models.diffusion.denoiser import Denoiser
from lit_gen.models.diffusion.discrete import DDPM
from lit_gen.models.diffusion.likelihood.base import Likelihood
from lit_gen.models.diffusion.likelihood.decoder import log_density, log_mass
from lit_gen.models.diffusion.sources import Source
from lit_gen.models.likelihoods.numerics import wide

__all__ = ["Bound"]

Variance = Literal["posterior", "beta"]
TOGETHER = 65536
"""Numbers of noisy data in one call of the network, unless one term of each image has more."""


class Bound(Likelihood):
    """log p(x) >= -L_T - L_{T-1} - ... - L_0: p(x_{t-1} | x_t) has the mean of q(x_{t-1} | x_t, the estimate of x_0).

    Ho et al., 2020, https://arxiv.org/abs/2006.11239, equation 5; Nichol and Dhariwal, 2021,
    https://arxiv.org/abs/2102.09672. L_T is KL(q(x_T | x_0) || N(0, I)); L_{t-1} is KL(q(x_{t-1} | x_t, x_0) ||
    p(x_{t-1} | x_t)), at one x_t drawn by index; L_0 is -log p(x_0 | x_1). Each is unbiased, and so is their sum.

    Args:
        levels: of a pixel, whose mass L_0 is of; null: the density of points. Taken from the data set by the command
            line.
        variance: of p(x_{t-1} | x_t): "posterior", that of q(x_{t-1} | x_t, x_0), the best one for data in few places,
            as levels are; "beta", b_t, the best one for N(0, I), with which the bound of any smooth density is tight in
            the limit of many steps.
        decoder: variance of L_0: "posterior", that of q(x_1 | x_2, x_0), as in published code with either ``variance``,
            since that of q(x_0 | x_1, x_0) is 0; "beta", b_1, which belongs to "beta" for points.
        times: terms of each image, network calls: L_0, and others at times spread by index, in equal shares of the
            path; null: all T of them.
        clip: whether estimates of images with levels are clipped to [-1, 1], as in published evaluations. It is a bound
            either way, of the model that draws likewise.

    Raises:
        UserError: for an unknown variance, or fewer than two terms.
    """

    name = "bound"

    def __init__(
        self,
        levels: int | None = None,
        variance: Variance = "posterior",
        decoder: Variance = "posterior",
        times: int | None = None,
        clip: bool = True,
    ) -> None:
        super().__init__(levels)
        one_of(get_args(Variance), "model.likelihood.", variance=variance, decoder=decoder)
        at_least(2, "model.likelihood.", times=times)
        self.variance, self.decoder, self.times, self.clip = variance, decoder, times, clip

    def settings(self, denoiser: Denoiser) -> dict[str, Any]:
        """See `Likelihood`."""
        of_path = {"steps": _steps_of(denoiser), "times": self.calls(denoiser)}
        own = {"levels": self.levels, "variance": self.variance, "decoder": self.decoder}
        return {"likelihood": self.name, **own, **of_path, "clip": self.clip and self.levels is not None}

    def calls(self, denoiser: Denoiser) -> int:
        """See `Likelihood`."""
        return self.times or _steps_of(denoiser)

    def check(self, denoiser: Denoiser) -> None:
        """See `Likelihood`: the path is `DDPM`, and has no fewer steps than terms are asked for."""
        steps = _steps_of(denoiser)
        if self.times is not None and self.times > steps:
            found = f"{self.times} was found, but the path has {steps} steps"
            raise UserError(f"model.likelihood.times: {found}; at most {steps} is expected, or null for all")

    @torch.no_grad()
    def log_prob(
        self,
        denoiser: Denoiser,
        images: Tensor,
        indices: Tensor,
        seed: int,
        labels: Tensor | None = None,
        source: Source | None = None,
    ) -> Tensor:
        """See `Likelihood`."""
        self.check(denoiser)
        path, x = _path_of(denoiser), wide(images)
        factors, calls = _factors(path, self.variance, self.decoder), self.calls(denoiser)
        shares = uniforms(seed, indices, calls, "likelihood: times").cpu().double()
        # L_0, then one term in each equal share of the other times: all of them where there are T terms
        place = (torch.arange(calls) - 1 + shares) * (path.steps - 1) / (calls - 1)
        times = (2 + place.floor()).clamp(1, path.steps)
        times[:, 0] = 1
        nats, weight = -_prior(factors, x), (path.steps - 1) / (calls - 1)
        for terms in torch.arange(calls).split(max(1, TOGETHER // max(1, x.numel()))):
            estimates = self._estimates(denoiser, x, indices, seed, labels, times[:, terms], terms)
            for term, t, estimate in zip(terms.tolist(), times[:, terms].long().T, estimates, strict=True):
                if term == 0:
                    nats = nats + self._of_data(x, estimate, factors.decoder)
                    continue
                errors = (x - estimate).square().flatten(1)
                loss = factors.error[t] * errors.sum(1).cpu().double() + factors.excess[t] * errors.shape[1]
                nats = nats - weight * loss
        return nats.to(x)

    def _estimates(
        self,
        denoiser: Denoiser,
        x: Tensor,
        indices: Tensor,
        seed: int,
        labels: Tensor | None,
        times: Tensor,
        terms: Tensor,
    ) -> Tensor:
        """The model's x_0 (terms, B, C, H, W), from x_t at times (B, terms), with the noise of each term and index."""
        size, count = math.prod(x.shape[1:]), len(terms)
        drawn = [latents(seed, indices, size, f"likelihood: noise {term}") for term in terms.tolist()]
        noise, t = torch.cat(drawn).view(-1, *x.shape[1:]).to(x), times.T.flatten().to(x)
        rows = denoiser.path.between(x.repeat(count, 1, 1, 1), noise, t)
        found = denoiser.denoised(rows, t, None if labels is None else labels.repeat(count))
        found = found.clamp(-1, 1) if self.clip and self.levels is not None else found
        return found.view(count, *x.shape)

    def _of_data(self, x: Tensor, estimate: Tensor, variance: float) -> Tensor:
        """-L_0, (B,): the mean of p(x_0 | x_1) is the estimate itself."""
        if self.levels is None:
            return log_density(x, estimate, variance)
        return log_mass(x, estimate, variance, self.levels)


class _Factors(NamedTuple):
    """L_{t-1} = error[t] ||x_0 - estimate||^2 + D excess[t], float64 (T + 1,) on the CPU, for t from 2 on."""

    error: Tensor
    excess: Tensor
    decoder: float
    """Variance of L_0."""
    kept: float
    """alpha(T)^2."""


def _factors(path: DDPM, variance: Variance, decoder: Variance) -> _Factors:
    """Equations 6 and 7 of Ho et al.; KL(N(m, v) || N(n, w)) is (ln(w/v) - 1 + v/w + (m - n)^2 / w) / 2."""
    betas = F.pad(path.betas(), (1, 0))  # from t = 0 on
    kept = torch.log1p(-betas).cumsum(0)  # log of the product of 1 - b
    before = torch.cat([kept[:1], kept[:-1]])
    gone = -torch.expm1(kept)
    posterior = betas * -torch.expm1(before) / gone
    of_data = betas * (0.5 * before).exp() / gone
    model = posterior if variance == "posterior" else betas
    ratio = posterior / model
    excess = 0.5 * (ratio - 1 - ratio.log())
    last = float(posterior[2] if decoder == "posterior" else betas[1])
    return _Factors(of_data.square() / (2 * model), excess, last, float(kept[-1].exp()))


def _prior(factors: _Factors, x: Tensor) -> Tensor:
    """L_T, float64 (B,) on the CPU."""
    kept = factors.kept
    return 0.5 * (kept * x.cpu().double().square() - kept - math.log1p(-kept)).flatten(1).sum(1)


def _path_of(denoiser: Denoiser) -> DDPM:
    path = denoiser.path
    if not isinstance(path, DDPM):
        found = f"Bound was found, but the path {type(path).__name__} has no discrete steps"
        raise UserError(f"model.likelihood: {found}; ProbabilityFlow, or the path DDPM, is expected")
    return path


def _steps_of(denoiser: Denoiser) -> int:
    return _path_of(denoiser).steps
