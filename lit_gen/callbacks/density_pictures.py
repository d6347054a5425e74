"""Pictures of a model's density in the plane, and a check of it: its integral."""

import math
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from torch import Tensor

from lit_gen.callbacks.evaluators.base import Evaluator
from lit_gen.core import data as datasets
from lit_gen.core import distributed
from lit_gen.core import images as pictures
from lit_gen.core.blame import named
from lit_gen.core.errors import UserError, under
from lit_gen.core.modes import evaluation_mode
from lit_gen.core.options import at_least, not_negative
from lit_gen.evaluation.result import Result, versions
from lit_gen.loggers.publish import send_picture
from lit_gen.protocols.data import Split
from lit_gen.protocols.flows import DensityModel

POINTS = (2, 1, 1)
AT_ONCE = 4096
"""Points of one forward pass; fixed, so that no bit depends on an option or on the number of ranks."""
BARS = 4
"""Cells of the box on each side of one cell of the data's histogram."""


class DensityPictures(Evaluator):
    """A heat map of a density in the plane beside the histogram of the data, and its integral ``val/density_mass``.

    exp(log p) is computed at the middle of each of ``resolution`` x ``resolution`` cells of a box around the training
    points. The mass is the sum of these numbers times a cell's area: 1, if the model is a density, the box holds all of
    it, and the cells are small against its details. A conditional model's density is the mean over the classes, each
    with its share of the training points. The picture is ``eval/step=00000200-val-density.png``, and goes to the
    loggers as ``density``; both maps have one scale, whose brightest color is the histogram's largest value.

    Args:
        every: steps between two evaluations; 0 for none by steps.
        every_epochs: epochs between two evaluations; 0 for none by epochs.
        at_end: evaluate after the last step too.
        resolution: cells on each side of the box.
        margin: what the box adds on each side to the range of the training points, as a share of that range.

    Raises:
        UserError: for a number out of range.
    """

    def __init__(
        self,
        every: int = 0,
        every_epochs: int = 0,
        at_end: bool = True,
        resolution: int = 200,
        margin: float = 0.25,
    ) -> None:
        super().__init__(every, every_epochs, at_end)
        at_least(BARS, f"{self.option}.", resolution=resolution)
        not_negative(f"{self.option}.", margin=margin)
        self.resolution, self.margin = resolution, margin
        self.title = "density"
        self._box: tuple[float, float, float, float] = (0, 0, 0, 0)

    def announced(self, data: Any) -> list[str]:
        """See `Evaluator`."""
        return ["density_mass"]

    def prepare(self, trainer: Trainer, module: LightningModule) -> None:
        """Find what cannot work, and the box.

        Raises:
            UserError: for a model without a density, or data that are no points of the plane.
        """
        if not isinstance(module, DensityModel):
            raise UserError(f"{self.option}: {named(module)} was found, a model with log_prob is expected")
        data = datasets.data_of(trainer)
        shape = data.facts().get("shape")
        if shape is None or tuple(shape) != POINTS or not datasets.has_images(data):
            holds = f"holds {tuple(shape)}" if shape else "has no shape"
            raise UserError(f"{self.option}: {datasets.kind_of(data)} {holds}, points {POINTS} are expected")
        train = data.split("train")
        if getattr(module, "num_classes", None) is not None and train.labels is None:
            raise UserError(f"{self.option}: the model is conditional, but {datasets.kind_of(data)} has no labels")
        (left, bottom), (right, top) = (x.tolist() for x in train.images.flatten(1).aminmax(dim=0))
        if left == right or bottom == top:
            raise UserError(f"{self.option}: the training points of {datasets.kind_of(data)} lie on one line")
        x, y = self.margin * (right - left), self.margin * (top - bottom)
        self._box = (left - x, right + x, bottom - y, top + y)

    def begin(self, trainer: Trainer, module: LightningModule) -> None:
        """Try points of the data, then the corners of the box: a density may refuse points outside of its support.

        Raises:
            UserError: if it does.
        """
        left, right, bottom, top = self._box
        corners = torch.tensor([[x, y] for x in (left, right) for y in (bottom, top)]).view(-1, *POINTS)
        known = datasets.images_of(trainer).split("train").images[:4]
        shares = self._shares(trainer, module)
        hint = f"; a smaller {self.option}.margin than {self.margin:g} is expected"
        with evaluation_mode(module), torch.no_grad():
            for points, told in ((known, ""), (corners, hint)):
                try:
                    self._log_prob(module, points, torch.arange(len(points)), shares)
                except UserError as error:
                    raise UserError(f"{error}{told}") from None

    def evaluate(self, trainer: Trainer, module: LightningModule, split: Split) -> Result:
        """Compute on the first rank."""
        data, (left, right, bottom, top) = datasets.images_of(trainer), self._box
        cell = (right - left) * (top - bottom) / self.resolution**2
        density = distributed.from_first(lambda: self._density(trainer, module))
        values = {"density_mass": float(density.sum()) * cell}
        record = {
            "metrics": {"density_mass": {"rule": "midpoint", "resolution": self.resolution, "box": list(self._box)}},
            "data": data.protocol,
            "versions": versions(),
        }
        picture = None
        if trainer.is_global_zero:
            picture = self._picture(data.split("train").images, density, values["density_mass"])
            if trainer.state.fn == "fit":
                send_picture(trainer, "density", picture)
        return Result(values, {}, record, picture=picture)

    def replay(self, trainer: Trainer, module: LightningModule, record: Path) -> None:
        """Log the record, and send the picture beside it."""
        super().replay(trainer, module, record)
        if trainer.is_global_zero:
            send_picture(trainer, "density", pictures.load_png(record.with_suffix(".png")))

    def _density(self, trainer: Trainer, module: Any) -> Tensor:
        """exp(log p) at the middle of each cell, float64 (resolution, resolution), rows from the least y on."""
        n, (left, right, bottom, top) = self.resolution, self._box
        middles = (torch.arange(n) + 0.5) / n
        y, x = torch.meshgrid(bottom + middles * (top - bottom), left + middles * (right - left), indexing="ij")
        points = torch.stack([x, y], dim=-1).view(-1, *POINTS)
        shares = self._shares(trainer, module)
        blocks = zip(points.split(AT_ONCE), torch.arange(n * n).split(AT_ONCE), strict=True)
        log_p = torch.cat([self._log_prob(module, *block, shares) for block in blocks]).view(n, n)
        if bad := int((log_p.isnan() | (log_p == math.inf)).sum()):
            raise UserError(f"{self.option}: log_prob is NaN or infinite at {bad:,} of {n * n:,} points of the box")
        return log_p.exp()

    def _shares(self, trainer: Trainer, module: Any) -> list[tuple[int, float]]:
        """Each class that occurs, with the logarithm of its share; nothing for a model without classes."""
        classes = getattr(module, "num_classes", None)
        counts = None if classes is None else datasets.label_counts(datasets.data_of(trainer), classes)
        if counts is None:
            return []
        return [(c, math.log(n / int(counts.sum()))) for c, n in enumerate(counts.tolist()) if n]

    def _log_prob(self, module: Any, points: Tensor, indices: Tensor, shares: list[tuple[int, float]]) -> Tensor:
        """Log densities, float64 (n,) on the CPU."""
        points = points.to(module.device)
        with under(f"{self.option}: "):
            if not shares:
                of_classes = [module.log_prob(points, indices).cpu().double()]
            else:
                labels = [torch.full((len(points),), c, device=points.device) for c, _ in shares]
                of_classes = [
                    module.log_prob(points, indices, label).cpu().double() + share
                    for label, (_, share) in zip(labels, shares, strict=True)
                ]
        return torch.stack(of_classes).logsumexp(0)

    def _picture(self, points: Tensor, density: Tensor, mass: float) -> Tensor:
        """Both maps."""
        histogram = pictures.histogram(points, self._box, self.resolution // BARS)
        panels = {"training points": histogram, f"model, mass {mass:.4f}": density}
        return pictures.plane(panels, self._box, float(histogram.max()))
