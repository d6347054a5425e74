"""The training step of a normalizing flow, its likelihood of held-out data, and what callbacks need.

What the density consists of is injected: this file holds only the step. Lightning optimizes, with one optimizer:
`trainer.global_step` counts its updates.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

from lit_gen.core import data as datasets
from lit_gen.core.batches import micro_batches_of, split
from lit_gen.core.bits import bits_per_dim
from lit_gen.core.blame import named, tried
from lit_gen.core.errors import UserError, note
from lit_gen.core.images import to_float
from lit_gen.core.modes import evaluation_mode
from lit_gen.core.randomness import Draws
from lit_gen.core.sampling import Sampler, one_pass
from lit_gen.models.flow import checks, runaway
from lit_gen.models.flow.density import PARTS, Density
from lit_gen.models.flow.dequantization import Dequantization
from lit_gen.models.flow.support import Support
from lit_gen.protocols.images import Drawer, ImageBatch, Weights
from lit_gen.protocols.training import Exported
from lit_gen.training.adapters.adapter import Adapter
from lit_gen.training.adapters.lora import LoRA
from lit_gen.training.ema import EMA
from lit_gen.training.finetune import FineTune
from lit_gen.training.held_out import HeldOutSums
from lit_gen.training.hparams import describe
from lit_gen.training.module import SHARDING
from lit_gen.training.monitor import Monitor
from lit_gen.training.optimizers import adam
from lit_gen.training.schedules import Schedule


class Flow(HeldOutSums, Sampler):
    """A bijection from data to noise, trained on the exact negative log-likelihood in nats.

    Dinh et al., 2017, https://arxiv.org/abs/1605.08803; Papamakarios et al., 2021, https://arxiv.org/abs/1912.02762.
    Sums over the dimensions, means over the batch. ``val/nll`` is of data y in [0, levels)^D, or of points in their own
    units; ``val/bits_per_dim`` exists for data with levels. With ``ema``, drawing and validation use the averaged
    weights, unless you ask for the raw ones; ``train/nll`` is always of the raw ones.

    Args:
        transform: the bijection, a `lit_gen.protocols.flows.FlowTransform`, from `lit_gen.models.flow.vectors`.
        base: the density of z, with ``log_prob(z)`` and ``sample(noise)``; null: N(0, I).
        dequantization: of data with levels, from `lit_gen.models.flow.dequantization`; null for points.
        support: from the data's range to the real line, from `lit_gen.models.flow.support`; null: the identity.
        optimizer: makes the optimizer from all parameters. null: Adam at 1e-3.
        schedule: factor of the learning rate as a function of the step; null for a constant rate.
        schedules: numbers that change over the steps, by name: ``optimizer.lr``, ``ema.decay``.
        ema: moving average of the weights, see `lit_gen.training.ema.EMA`; its half-life counts images. null for none.
        adapter: train only a small change of the frozen transform (and base, dequantization, support), see
            `lit_gen.training.adapters`; null to train them whole.
        finetune: another run's weights to begin with, frozen parameters and rates of their own, see
            `lit_gen.training.finetune.FineTune`; null for none of it.
        seed: names all noise of this module; linked to ``seed_everything`` by the command line.

    Raises:
        UserError: for a transform without a shape.
    """

    headline = ("val/nll", "val/bits_per_dim")

    def __init__(
        self,
        transform: nn.Module,
        base: nn.Module | None = None,
        dequantization: Dequantization | None = None,
        support: Support | None = None,
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
        sizes = getattr(transform, "shape", ())
        whole = isinstance(sizes, tuple | list) and len(sizes) == 3 and all(isinstance(n, int) for n in sizes)
        if not whole or not callable(getattr(transform, "inverse", None)):
            told = "has no shape (C, H, W), or no inverse; lit_gen.protocols.flows.FlowTransform says what is expected"
            raise UserError(f"model.transform: {named(transform)} {told}")
        if base is not None and not all(callable(getattr(base, name, None)) for name in ("log_prob", "sample")):
            raise UserError(
                f"model.base: {named(base)} was found, a module with log_prob(z) and sample(noise) is expected"
            )
        self.transform, self.base, self.dequantization, self.support = transform, base, dequantization, support
        self.monitor = Monitor(["nll"])
        self.optimizer, self.schedule, self.seed = optimizer, schedule, seed
        self.register_buffer("label_counts", torch.zeros(self.num_classes or 0))  # of the training set; see Sampler
        self.register_buffer("initialized", torch.zeros((), dtype=torch.bool))
        self.initialized: Tensor
        parts = [name for name in PARTS if getattr(self, name) is not None]
        self.keep_adapter(adapter, *parts)
        self.keep_finetune(finetune, *parts)
        self.keep_average(ema, *parts)
        self._unseen, self._new = True, False  # whether unchecked training data may come; whether no step was made
        self._watch = runaway.Watch()
        self.keep_schedules(schedules)

    def density(self, weights: Weights = "ema") -> Density:
        """The density with averaged or raw weights."""
        found: Any = (None if getattr(self, name) is None else self.weighted(name, weights) for name in PARTS)
        return Density(*found)

    # ---- for callbacks: `lit_gen.protocols.flows.DensityModel` and `lit_gen.protocols.images.ImageGenerator`

    @property
    def num_classes(self) -> int | None:
        """Classes of a conditional model; None for an unconditional one."""
        return self.density("raw").num_classes

    @property
    def levels(self) -> int | None:
        """Levels of a pixel, in which `log_prob` counts; None for points."""
        return self.density("raw").levels

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of a sample."""
        return self.density("raw").shape

    def log_prob(
        self, images: Tensor, indices: Tensor, labels: Tensor | None = None, weights: Weights = "ema"
    ) -> Tensor:
        """See `lit_gen.protocols.flows.DensityModel`."""
        density, noise = self.density(weights), None
        density.check(images)
        if density.dequantization is not None:
            noise = density.dequantization.draw_by_index(self.seed, indices, density.shape).to(images.device)
        with evaluation_mode(self), torch.autocast(self.device.type, enabled=False):
            return density.log_prob(images, noise, labels)

    def scoring_record(self) -> dict[str, Any]:
        """See `lit_gen.protocols.flows.DensityRecorder`."""
        return {"dequantization": None if self.dequantization is None else type(self.dequantization).__name__}

    def drawer(self, weights: Weights = "ema") -> Drawer:
        """The transform's inverse; images at the nearest level below."""
        return one_pass(self.density(weights))

    def exported(self, weights: Weights = "ema") -> Exported:
        """The density: the transform with base, dequantization and support."""
        density = self.plain(self.density(weights))
        return Exported("density", density, describe(density, "model"))

    # ---- training

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The one optimizer."""
        return self.create_optimizer(self.optimizer or adam, self.trained_parameters())

    def on_fit_start(self) -> None:
        """Compare transform and data before the first step; a mismatch is a user's mistake."""
        super().on_fit_start()
        data, density = datasets.data_of(self.trainer), self.density("raw")
        checks.refuse_half(self.trainer.precision_plugin.convert_input(torch.zeros(1)), str(self.trainer.precision))
        checks.check_facts(density, data.facts())
        self.count_labels(data)
        self._unseen, self._new = True, not bool(self.initialized)
        images = None
        if datasets.has_images(data):
            images = data.split("train").images.to(self.device)
            for part in images.split(checks.CHUNK):
                density.check(to_float(part))
            density.support.fit(*checks.moments(density, images))
            self._copy_to_average("support")
        if (said := checks.check_interval(density, images)) and self.global_rank == 0:
            note(said)
        if not isinstance(self.trainer.strategy, SHARDING):
            self._try_transform()

    @torch.no_grad()
    def _try_transform(self) -> None:
        """Draw two samples and encode two points, and leave modes and random states as they were."""
        density = self.density("raw")
        with tried("model.transform", f"z (B, {density.latent_dim})"):
            drawn = tuple(self.sample(torch.arange(2)).shape[1:])
        if drawn != density.shape:
            made = f"the inverse of {named(self.transform)} makes samples of shape {drawn}"
            raise UserError(f"model.transform: {made}, {density.shape} is expected")
        labels = None if self.num_classes is None else torch.zeros(2, dtype=torch.int64, device=self.device)
        where = [self.device] if self.device.type == "cuda" else []
        with evaluation_mode(self), torch.random.fork_rng(where), tried("model.transform", f"x (2, {density.shape})"):
            density.encode(torch.zeros(2, *density.shape, device=self.device), labels)

    def _copy_to_average(self, *names: str) -> None:
        """Make the averages of some parts what the trained ones are."""
        for name in set(names) & set(self._averaged):
            self.weighted(name, "ema").load_state_dict(self.weighted(name, "raw").state_dict())

    def training_step(self, batch: ImageBatch, batch_idx: int) -> Tensor:
        """See `Automatic`; before the first step, the transform may look at all that this rank reads in it."""
        if self._new:
            self._initialize(batch)
        return super().training_step(batch, batch_idx)

    @torch.no_grad()
    def _initialize(self, batch: ImageBatch) -> None:
        """Call the transform's ``initialize`` with the coordinates of the first step, then copy it to the average."""
        if callable(initialize := getattr(self.transform, "initialize", None)):
            count, world, density = micro_batches_of(batch), self.trainer.world_size, self.density("raw")
            coordinates = []
            for i, part in enumerate(split(batch, count)):
                draws = Draws(self.seed, 0, i * world + self.global_rank, count * world)
                coordinates.append(density.coordinates(part.images, self._noise(part, draws))[0])
            labels = () if self.num_classes is None else (batch.labels,)
            with tried("model.transform", f"the first batch, {len(batch.images)} rows"):
                initialize(torch.cat(coordinates), *labels)
            self._copy_to_average("transform")
        self.initialized.fill_(True)
        self._new = False

    def loss_of(self, batch: ImageBatch, draws: Draws) -> Tensor:
        """The mean negative log-likelihood of one micro-batch."""
        density = self.density("raw")
        if self._unseen:  # each batch, which costs a synchronization; only the first one if all images were checked
            datasets.check_batch(batch, ImageBatch)
            checks.refuse_half(batch.images, str(self.trainer.precision))
            density.check(batch.images)
            self._unseen = not datasets.has_images(datasets.data_of(self.trainer))
        nll = -density.log_prob(batch.images, self._noise(batch, draws), batch.labels).mean()
        self.record_terms({"nll": nll})
        return nll

    def _noise(self, batch: ImageBatch, draws: Draws) -> Tensor | None:
        """The dequantization's, of a micro-batch."""
        if self.dequantization is None:
            return None
        rows = draws.rows("dequantization", self.device)
        return self.dequantization.draw(rows, len(batch.images), tuple(batch.images.shape[1:]))

    def extra_scalars(self, step: int) -> dict[str, float]:
        """The images so far."""
        per_step, _ = datasets.data_of(self.trainer).per_step()
        return {"images_seen": float(step * per_step)}

    def announced(self, limit_val_batches: float | None = None) -> list[str]:
        """See `Automatic`."""
        names = ["nll"] if self.levels is None else ["nll", "bits_per_dim"]
        validated = [] if limit_val_batches == 0 else names
        return [*super().announced(limit_val_batches), "train/images_seen", *(f"val/{name}" for name in validated)]

    # ---- evaluation

    def validation_step(self, batch: ImageBatch, batch_idx: int) -> None:
        """The negative log-likelihood of held-out data, each with the noise of its index."""
        if len(batch.images):
            checks.refuse_half(batch.images, str(self.trainer.precision))
            nats = self.log_prob(batch.images, batch.indices, batch.labels)
            self.add_held_out(-nats)

    test_step = validation_step

    def log_held_out(self, split: Literal["val", "test"], sums: list[float], count: int) -> None:
        """See `HeldOutSums`: the likelihood, and bits per dimension."""
        nll = sums[0] / count
        if not math.isfinite(nll):
            where = self._where_unlike(split) if nll == math.inf else ""
            self.stop_non_finite(f"{split}/nll is NaN or infinite at step {self.trainer.global_step}{where}")
        values = {"nll": nll}
        if self.levels is not None:
            values["bits_per_dim"] = bits_per_dim(nll, self.density("raw").latent_dim)  # a level has width 1
        self.log_scalars({f"{split}/{name}": value for name, value in values.items()})
        if split == "val" and self.trainer.state.fn == "fit":
            self._watch_held_out(nll)

    def _watch_held_out(self, nll: float) -> None:
        step = self.trainer.global_step
        if self._watch.ran_away(nll, step, self.density("raw").latent_dim) and not self.global_rank:
            note(self._watch.sentence(nll, step, self._where_unlike("val")))

    def _where_unlike(self, split: Literal["val", "test"]) -> str:
        """Where held-out data differ most from the training data, in words; nothing if the data have no splits."""
        data = datasets.data_of(self.trainer)
        if not datasets.has_images(data):
            return ""
        train, held_out = (data.split(name).images.to(self.device) for name in ("train", split))
        return f": held-out data differ {runaway.unlike(self.density('raw'), train, held_out)}"

    def log_scalars(self, scalars: Mapping[str, float], step: int | None = None) -> None:
        """See `TrainingModule`."""
        self._watch.trained = scalars.get("train/nll", self._watch.trained)
        super().log_scalars(scalars, step)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """See `TrainingModule`; and what is known of the held-out likelihood."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["held_out"] = self._watch.state_dict()

    def begun_with(self, content: dict[str, Any]) -> None:
        """Whether the first batch has set what it sets."""
        self.initialized.copy_(content["state_dict"].get("initialized", self.initialized))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """See `TrainingModule`."""
        super().on_load_checkpoint(checkpoint)
        self._watch.load_state_dict(checkpoint.get("held_out", {}))

    def predict_step(self, batch: ImageBatch, batch_idx: int) -> Tensor:
        """Nats (B,) of each image."""
        return self.log_prob(batch.images, batch.indices, batch.labels)
