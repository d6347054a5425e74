"""What a diffusion model draws and scores, with either weights: what callbacks and commands need of it."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from lit_gen.core.errors import UserError
from lit_gen.core.modes import evaluation_mode
from lit_gen.core.randomness import BLOCK, BlockDraws, latents
from lit_gen.core.sampling import Sampler
from lit_gen.models.diffusion import checks
from lit_gen.models.diffusion.base import Path
from lit_gen.models.diffusion.coupling import Coupling
from lit_gen.models.diffusion.denoiser import Denoiser
from lit_gen.models.diffusion.generator import Generator
from lit_gen.models.diffusion.likelihood.base import Likelihood
from lit_gen.models.diffusion.parametrizations import Parametrization
from lit_gen.models.diffusion.solvers.base import Solver
from lit_gen.models.diffusion.solvers.editing import begin
from lit_gen.models.diffusion.solvers.names import solver_of
from lit_gen.models.diffusion.sources import Normal, Source
from lit_gen.protocols.images import Condition, Drawer, IndexedDraws, Weights
from lit_gen.protocols.training import Exported
from lit_gen.training.hparams import describe


class DiffusionSampler(Sampler):
    """Base of `lit_gen.models.diffusion.module.Diffusion`, which says what the attributes are.

    It satisfies `lit_gen.protocols.images.ImageGenerator`, `lit_gen.protocols.flows.DensityModel` and
    `lit_gen.protocols.training.Exportable`.
    """

    path: Path
    parametrization: Parametrization
    solver: Solver
    coupling: Coupling | None
    source: Source | None
    likelihood: Likelihood | None
    label_dropout: float
    guidance_scale: float
    guidance_interval: tuple[float, float] | None

    def weighted(self, name: str, weights: Weights) -> nn.Module:
        """See `lit_gen.training.module.TrainingModule`, which provides it."""
        raise NotImplementedError

    def plain(self, network: nn.Module) -> nn.Module:
        """See `lit_gen.training.module.TrainingModule`, which provides it."""
        raise NotImplementedError

    @property
    def _source(self) -> Source:
        return self.source or Normal()

    def denoiser(self, weights: Weights = "ema") -> Denoiser:
        """The network with averaged or raw weights, as a denoiser."""
        return Denoiser(self.weighted("network", weights), self.path, self.parametrization)

    def generator(
        self,
        weights: Weights = "ema",
        solver: str | None = None,
        steps: int | None = None,
        guidance_scale: float | None = None,
    ) -> Generator:
        """The network with its solver; see `drawer` for the arguments."""
        scale = self.guidance_scale if guidance_scale is None else guidance_scale
        if guidance_scale is not None:
            checks.check_guidance(self.num_classes, self.label_dropout, scale, option="--")
        network = self.weighted("network", weights)
        chosen = solver_of(solver, steps, self.solver, self.path.steps)
        checks.check_solver(chosen, self.path, self.coupling, self.source)
        return Generator(network, self.path, self.parametrization, chosen, self.source, scale, self.guidance_interval)

    @property
    def num_classes(self) -> int | None:
        """Classes of a conditional model; None for an unconditional one."""
        return self.denoiser("raw").num_classes

    @property
    def levels(self) -> int | None:
        """Levels of a pixel, in which `log_prob` counts; None for points."""
        return None if self.likelihood is None else self.likelihood.levels

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of a sample."""
        return self.denoiser("raw").shape

    def drawer(
        self,
        weights: Weights = "ema",
        solver: str | None = None,
        steps: int | None = None,
        guidance_scale: float | None = None,
        strength: float = 1.0,
    ) -> Drawer:
        """How to draw; what is null is as the config says.

        Args:
            weights: the moving average, or the raw weights.
            solver: its name, such as "heun".
            steps: of the solver.
            guidance_scale: 1 for the conditional model.
            strength: of an edit: the share of the solver's steps that are made.
        """
        generator = self.generator(weights, solver, steps, guidance_scale)
        begin(generator.solver, self.path, strength)  # refuses what it cannot be

        def draw(noise: Tensor, asked: Condition, draws: IndexedDraws) -> Tensor:
            return generator.draw(noise, asked, draws, strength)

        return Drawer(draw, generator.latent_dim, self.num_classes, generator.settings(), self._edits())

    def _edits(self) -> tuple[int, int, int] | None:
        """Images, if x_t is data and independent noise, which can be added to any image."""
        independent = self.coupling is None and isinstance(self._source, Normal)
        return self.shape if independent and math.prod(self.shape[1:]) > 1 else None

    def interpolate(self, *args: Any, **options: Any) -> Tensor:
        """See `Sampler`.

        Raises:
            UserError: for a solver that adds noise: its samples are no continuous function of where they begin.
        """
        solver = self.generator("raw", **_of_solver(options)).solver
        if solver.noisy:
            raise UserError(
                f"--interpolate: {type(solver).__name__} adds noise, so that samples do not go over into each other; "
                "--solver ddim, heun or dpm++ is expected"
            )
        return super().interpolate(*args, **options)

    def drawing_record(self, **options: Any) -> dict[str, Any]:
        """See `Sampler`; and the network calls of a sample, a mean over the first 64 if samples differ."""
        record, generator = super().drawing_record(**options), self.generator(**_of_solver(options))
        calls = generator.calls()
        if calls is None:
            calls = self._mean_calls(generator)
        return record | {"drawer": record["drawer"] | {"calls": calls}}

    @torch.no_grad()
    def _mean_calls(self, generator: Generator) -> float:
        first = torch.arange(BLOCK)
        labels = self.conditions(first).labels
        noise = latents(self.seed, first, generator.latent_dim).to(self.device)
        field = generator.field(None if labels is None else labels.to(self.device))
        assert isinstance(self, nn.Module)
        with evaluation_mode(self):
            start, draws = generator.start(noise), BlockDraws(self.seed, 0, self.device)
            return float(generator.solve(field, start, self.path.end, draws).calls.mean())

    def log_prob(
        self, images: Tensor, indices: Tensor, labels: Tensor | None = None, weights: Weights = "ema"
    ) -> Tensor:
        """See `lit_gen.protocols.flows.DensityModel`."""
        if self.likelihood is None:
            raise UserError(
                "model.likelihood: null was found, with which this model has no likelihood; "
                "ProbabilityFlow, or Bound on the path DDPM, is expected"
            )
        assert isinstance(self, nn.Module)
        with evaluation_mode(self), torch.autocast(self.device.type, enabled=False):
            denoiser = self.denoiser(weights)
            self.likelihood.check_images(denoiser, images)
            return self.likelihood.log_prob(denoiser, images, indices, self.seed, labels, self._source)

    def scoring_record(self) -> dict[str, Any]:
        """See `lit_gen.protocols.flows.DensityRecorder`; with the network calls of an image."""
        if self.likelihood is None:
            return {}
        denoiser = self.denoiser("raw")
        return self.likelihood.settings(denoiser) | {"calls": self.likelihood.calls(denoiser)}

    def exported(self, weights: Weights = "ema") -> Exported:
        """The generator: the network with path, parametrization and solver."""
        generator = self.plain(self.generator(weights))
        return Exported("generator", generator, describe(generator, "model"))


def _of_solver(options: dict[str, Any]) -> dict[str, Any]:
    """Those of `Diffusion.generator` among the options of a sample."""
    return {name: options[name] for name in ("solver", "steps", "guidance_scale") if name in options}
