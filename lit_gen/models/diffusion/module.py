"""The training step of diffusion and flow matching, and the loss of held-out data.

What the loss consists of is injected: this file holds only the step. Lightning optimizes, with one optimizer:
`trainer.global_step` counts its updates.
"""

import math
from typing import Any, Literal

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

from lit_gen.core import data as datasets
from lit_gen.core import distributed
from lit_gen.core.batches import micro_batches_of
from lit_gen.core.bits import bits_per_dim
from lit_gen.core.blame import tried
from lit_gen.core.modes import evaluation_mode
from lit_gen.core.options import within
from lit_gen.core.randomness import Draws, host, latents
from lit_gen.models.diffusion import checks
from lit_gen.models.diffusion.base import Path
from lit_gen.models.diffusion.coupling import Coupling
from lit_gen.models.diffusion.likelihood.base import Likelihood
from lit_gen.models.diffusion.parametrizations import Parametrization
from lit_gen.models.diffusion.sampling import DiffusionSampler
from lit_gen.models.diffusion.solvers.base import Solver
from lit_gen.models.diffusion.sources import Normal, Source
from lit_gen.models.diffusion.times import Times, Uniform
from lit_gen.models.diffusion.weightings import Simple, Weighting
from lit_gen.protocols.images import ImageBatch
from lit_gen.training.adapters.adapter import Adapter
from lit_gen.training.adapters.lora import LoRA
from lit_gen.training.ema import EMA
from lit_gen.training.finetune import FineTune
from lit_gen.training.held_out import HeldOutSums
from lit_gen.training.module import SHARDING
from lit_gen.training.monitor import Monitor
from lit_gen.training.optimizers import adam
from lit_gen.training.schedules import Schedule

GOLDEN = (5**0.5 - 1) / 2
"""Its multiples, without their whole parts, are spread evenly: the times of held-out data by index."""


class Diffusion(HeldOutSums, DiffusionSampler):
    """A network that estimates data from noisy data, trained by regression at random levels of noise.

    Ho et al., 2020, https://arxiv.org/abs/2006.11239; Karras et al., 2022, https://arxiv.org/abs/2206.00364; Lipman et
    al., 2023, https://arxiv.org/abs/2210.02747: the loss is E w(t) ||F(x_t) - target||^2, a mean over dimensions and
    the batch, with x_t = alpha(t) x_0 + sigma(t) e. ``val/loss`` is the same of held-out data, each with the time and
    the noise of its index, paired without a coupling. With ``ema``, drawing and validation use the averaged weights.

    Args:
        network: a `lit_gen.protocols.diffusion.DenoisingNetwork`: `UNet`, `DiT`, `MLP`.
        path: from data to noise, from `lit_gen.models.diffusion.paths`.
        parametrization: what the network predicts, from `lit_gen.models.diffusion.parametrizations`.
        solver: how samples are drawn, from `lit_gen.models.diffusion.solvers`.
        times: which levels of noise are trained how often, from `lit_gen.models.diffusion.times`; null: `Uniform`.
        weighting: how much each level counts, from `lit_gen.models.diffusion.weightings`; null: `Simple`.
        coupling: which noise belongs to which data of an update, from `lit_gen.models.diffusion.coupling`; null: any.
        source: where paths end, from `lit_gen.models.diffusion.sources`; null: N(0, I).
        likelihood: how the likelihood of data is computed, from `lit_gen.models.diffusion.likelihood`; null: it is not.
        stratified: whether the times of an update are evenly spread: shares (u + i / N) mod 1 for row i of N, with one
            u for all (Kingma et al., 2021, https://arxiv.org/abs/2107.00630, appendix I.1). The loss is less noisy.
        label_dropout: share of training labels that a conditional network does not see, which guidance needs.
        guidance_scale: of samples: 1 for the conditional model, more for more typical samples of a class.
        guidance_interval: of sigma / alpha within which samples are guided; null: everywhere.
        optimizer: makes the optimizer from all parameters. null: Adam at 1e-3.
        schedule: factor of the learning rate as a function of the step; null for a constant rate.
        schedules: numbers that change over the steps, by name: ``optimizer.lr``, ``ema.decay``.
        ema: moving average of the weights, see `lit_gen.training.ema.EMA`; its half-life counts images. null for none.
        adapter: train only a small change of the frozen network, see `lit_gen.training.adapters`; null to
            train all of it.
        finetune: another run's weights to begin with, frozen parameters and rates of their own, see
            `lit_gen.training.finetune.FineTune`; null for none of it.
        seed: names all noise of this module; linked to ``seed_everything`` by the command line.

    Raises:
        UserError: for parts that do not fit together.
    """

    headline = ("val/nll", "val/bits_per_dim", "val/loss")

    def __init__(
        self,
        network: nn.Module,
        path: Path,
        parametrization: Parametrization,
        solver: Solver,
        times: Times | None = None,
        weighting: Weighting | None = None,
        coupling: Coupling | None = None,
        source: Source | None = None,
        likelihood: Likelihood | None = None,
        stratified: bool = False,
        label_dropout: float = 0.0,
        guidance_scale: float = 1.0,
        guidance_interval: tuple[float, float] | None = None,
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
        within("[0, 1]", "model.", label_dropout=label_dropout)
        self.network, self.path, self.parametrization, self.solver = network, path, parametrization, solver
        self.times, self.weighting, self.coupling, self.source = times, weighting, coupling, source
        self.likelihood, self.stratified, self.label_dropout = likelihood, stratified, label_dropout
        self.guidance_scale, self.guidance_interval = guidance_scale, guidance_interval
        checks.check_network(network)
        parametrization.check(path)
        checks.check_guidance(self.num_classes, label_dropout, guidance_scale, guidance_interval)
        checks.check_solver(solver, path, coupling, source)
        (source or Normal()).check(path)
        if coupling is not None:
            coupling.check(path, self.num_classes is not None)
        if likelihood is not None:
            likelihood.check(self.denoiser("raw"))
        self.monitor = Monitor(["loss"])
        self.optimizer, self.schedule, self.seed = optimizer, schedule, seed
        self.register_buffer("label_counts", torch.zeros(self.num_classes or 0))  # of the training set; see Sampler
        self.keep_adapter(adapter, "network")
        self.keep_finetune(finetune, "network")
        self.keep_average(ema, "network")
        self._pairs: Tensor | None = None  # the source's rows of this step's batch, (B, C, H, W), with a coupling
        self.keep_schedules(schedules)

    # ---- training

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The one optimizer."""
        return self.create_optimizer(self.optimizer or adam, self.trained_parameters())

    def on_fit_start(self) -> None:
        """Compare the parts with the data before the first step; a mismatch is a user's mistake."""
        super().on_fit_start()
        data = datasets.data_of(self.trainer)
        checks.check_precision(self.trainer.precision_plugin.convert_input(torch.zeros(1)), str(self.trainer.precision))
        checks.check_facts(self.denoiser("raw"), self.likelihood, data.facts())
        self.count_labels(data)
        if not isinstance(self.trainer.strategy, SHARDING):
            self._try_network()

    @torch.no_grad()
    def _try_network(self) -> None:
        """Call the network once, and leave modes and random states as they were."""
        denoiser, where = self.denoiser("raw"), [self.device] if self.device.type == "cuda" else []
        classes = self.num_classes  # which is the label "no label"
        labels = (
            None if classes is None else torch.tensor([0, classes if self.label_dropout else 0], device=self.device)
        )
        x, share = torch.zeros(2, *self.shape, device=self.device), torch.full((2,), 0.5, device=self.device)
        with evaluation_mode(self), torch.random.fork_rng(where), tried("model.network", f"x (2, {self.shape})"):
            denoiser.denoised(x, (self.times or Uniform())(self.path, share), labels)

    def training_step(self, batch: ImageBatch, batch_idx: int) -> Tensor:
        """See `Automatic`; with a coupling, all rows of the update are paired first."""
        datasets.check_batch(batch, ImageBatch)
        if self.coupling is not None:
            self._pairs = self._paired(batch)
        return super().training_step(batch, batch_idx)

    @torch.no_grad()
    def _paired(self, batch: ImageBatch) -> Tensor:
        """The source's rows of this rank's data, chosen among those of all rows of the update.

        An update's rows are in the order of its parts: micro-batches, and within each of them ranks.
        """
        assert self.coupling is not None
        count, world = micro_batches_of(batch), self.trainer.world_size
        rows = len(batch.images) // count

        def everyone(own: Tensor) -> Tensor:
            gathered: Any = self.all_gather(own)
            by_part: Tensor = gathered.view(world, count, rows, *own.shape[1:]).transpose(0, 1)
            return by_part.flatten(0, 2)

        data = everyone(batch.images)
        labels = None if batch.labels is None or self.num_classes is None else everyone(batch.labels)
        noise = self._source_rows(Draws(self.seed, self.trainer.global_step, 0, 1), len(data))
        coupling = self.coupling  # one rank's pairs: nearly equal costs may be ordered otherwise by another kind of CPU
        chosen = distributed.from_first(lambda: coupling.pair(data, noise, labels))
        mine = chosen.view(count, world, rows)[:, self.global_rank].flatten()
        return noise[mine.to(self.device)]

    def loss_of(self, batch: ImageBatch, draws: Draws) -> Tensor:
        """The weighted error of one micro-batch at random times."""
        denoiser, count = self.denoiser("raw"), len(batch.images)
        t = (self.times or Uniform())(self.path, self._shares(draws, count))
        if self._pairs is None:
            noise = self._source_rows(draws, count)
        else:
            noise, self._pairs = self._pairs[:count], self._pairs[count:]
        labels = batch.labels
        if self.label_dropout and labels is not None:
            dropped = draws.rows("label dropout", self.device).uniform(count) < self.label_dropout
            labels = torch.where(dropped, self.num_classes or 0, labels)
        errors = denoiser.errors(batch.images, noise, t, labels)
        loss = ((self.weighting or Simple())(self.path, self.parametrization, t) * errors).mean()
        self.record_terms({"loss": loss})
        return loss

    def _shares(self, draws: Draws, count: int) -> Tensor:
        """Shares in [0, 1) of the times of a micro-batch, (count,)."""
        if not self.stratified:
            return draws.rows("times", self.device).uniform(count)
        first = host(draws.seed, "times", draws.update).random()
        rows = torch.arange(draws.part * count, (draws.part + 1) * count, device=self.device)
        return (first + rows / (draws.parts * count)) % 1

    def _source_rows(self, draws: Draws, count: int) -> Tensor:
        """Rows of the source (count, C, H, W)."""
        noise = draws.rows("noise", self.device).normal(count, self._source.latent_dim(self.shape))
        return self._source(noise, self.shape)

    def extra_scalars(self, step: int) -> dict[str, float]:
        """The images so far."""
        per_step, _ = datasets.data_of(self.trainer).per_step()
        return {"images_seen": float(step * per_step)}

    def announced(self, limit_val_batches: float | None = None) -> list[str]:
        """See `Automatic`."""
        nats = [] if self.likelihood is None else ["nll"] if self.levels is None else ["nll", "bits_per_dim"]
        validated = [] if limit_val_batches == 0 else ["loss", *nats]
        return [*super().announced(limit_val_batches), "train/images_seen", *(f"val/{name}" for name in validated)]

    # ---- evaluation

    def validation_step(self, batch: ImageBatch, batch_idx: int) -> None:
        """The loss of held-out data, and their likelihood, each with the noise and the time of its index."""
        if not len(batch.images):
            return
        share = torch.from_numpy((0.5 + batch.indices.cpu().double().numpy() * GOLDEN) % 1).float()
        dim = self._source.latent_dim(self.shape)
        noise = self._source(latents(self.seed, batch.indices, dim, "held-out noise").to(self.device), self.shape)
        t = (self.times or Uniform())(self.path, share.to(self.device))
        with evaluation_mode(self), torch.autocast(self.device.type, enabled=False):
            errors = self.denoiser("ema").errors(batch.images, noise, t, batch.labels)
        terms = [(self.weighting or Simple())(self.path, self.parametrization, t) * errors]
        if self.likelihood is not None:
            terms.append(-self.log_prob(batch.images, batch.indices, batch.labels))
        self.add_held_out(*terms)

    test_step = validation_step

    def log_held_out(self, split: Literal["val", "test"], sums: list[float], count: int) -> None:
        """See `HeldOutSums`: the loss, and the likelihood with its bits per dimension."""
        values = dict(zip(("loss", "nll"), (x / count for x in sums), strict=False))
        if "nll" in values and self.levels is not None:
            values["bits_per_dim"] = bits_per_dim(values["nll"], math.prod(self.shape))  # a level has width 1
        for name, value in values.items():
            if not math.isfinite(value):
                self.stop_non_finite(f"{split}/{name} is NaN or infinite at step {self.trainer.global_step}")
        self.log_scalars({f"{split}/{name}": value for name, value in values.items()})

    def predict_step(self, batch: ImageBatch, batch_idx: int) -> Tensor:
        """Nats (B,) of each image."""
        return self.log_prob(batch.images, batch.indices, batch.labels)
