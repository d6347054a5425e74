"""Pictures of held-out images in a model with latents, during training; `latent_plots` draws them."""

from collections.abc import Iterator
from pathlib import Path

from lightning import LightningModule, Trainer
from torch import Tensor

from lit_gen.callbacks.boundary import Derived
from lit_gen.callbacks.evaluators.posteriors import held_out, refuse_without_labels, refuse_without_latents, seed_of
from lit_gen.callbacks.moment import Cadence
from lit_gen.core import data as datasets
from lit_gen.core import distributed
from lit_gen.core import images as pictures
from lit_gen.core.errors import UserError
from lit_gen.core.modes import evaluation_mode, exact_math
from lit_gen.core.options import at_least
from lit_gen.evaluation import latent_plots
from lit_gen.evaluation.latent_sources import Encoded, chosen_rows
from lit_gen.loggers.publish import send_picture
from lit_gen.protocols.latents import LatentVariableModel


class LatentPictures(Derived):
    """Write ``samples/step=00000200-reconstructions.png`` and others every ``every`` steps and at the last one.

    - ``reconstructions``: pairs of a held-out image and, directly to its right, its reconstruction.
    - ``interpolations``: for each of some pairs of held-out images two touching rows, the straight path between the
      means of their posteriors and below it the great circle.
    - ``traversals``: one row for each of the most active latents, by KL where it is known, else by the variance of the
      posterior means; that latent goes from -3 to 3 deviations of the prior, the others are those of one image.
    - of two latents also ``scatter``, the posterior means colored by class, and ``manifold``, the decoded plane.

    They go to TensorBoard too. The images and their noise are the same every time, so that changes come from the model
    and not from the noise: images spread over the validation split, or over the test split if there is none. Only the
    first rank draws; training does not change.

    Args:
        every: steps between pictures; 0 for the last step only.
        count: pairs of reconstructions.
        paths: pairs of images to interpolate between.
        steps: images of a path and of a traversal.
        traversals: how many latents are shown.
        images: held-out images whose posteriors are looked at, for activity and scatter.
        manifold: images on each side of the decoded plane.

    Raises:
        UserError: for a number out of range.
    """

    after_evaluations = True

    def __init__(
        self,
        every: int = 0,
        count: int = 32,
        paths: int = 5,
        steps: int = 11,
        traversals: int = 10,
        images: int = 2000,
        manifold: int = 20,
    ) -> None:
        self.option = f"trainer.callbacks.{type(self).__name__}"
        at_least(0, f"{self.option}.", every=every)
        at_least(1, f"{self.option}.", count=count, paths=paths, traversals=traversals, manifold=manifold)
        at_least(2, f"{self.option}.", steps=steps, images=images)
        self.every, self.count, self.paths, self.steps = every, count, paths, steps
        self.traversals, self.images, self.manifold = traversals, images, manifold
        self.cadence = Cadence(every)
        self._names: list[str] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find what cannot work before the first step.

        Raises:
            UserError: for a model without latents, or data without held-out pictures or labels that it needs.
        """
        super().setup(trainer, pl_module, stage)
        if stage != "fit":
            return
        data = refuse_without_latents(self.option, trainer, pl_module)
        _, found = held_out(data)
        if len(found) < 2:
            raise UserError(f"{self.option}: {len(found)} held-out images were found, at least 2 are expected")
        shape = tuple(found.images.shape[1:])
        if shape[0] not in (1, 3) or shape[1:] == (1, 1):
            raise UserError(
                f"{self.option}: {type(data).__name__} holds {shape}, images of 1 or 3 channels are expected"
            )
        refuse_without_labels(self.option, data, pl_module, found)
        assert isinstance(pl_module, LatentVariableModel)
        self._names = ["reconstructions", "interpolations", "traversals"]
        self._names += ["scatter", "manifold"] if pl_module.latent_dim == 2 else []

    def record_of(self, run: Path, step: int) -> Path:
        """The picture that is drawn last."""
        return self._path(run, step, self._names[-1])

    def make(self, trainer: Trainer, module: LightningModule, step: int) -> None:
        """Draw on the first rank."""
        distributed.from_first(lambda: self._make(trainer, module, step))

    def _make(self, trainer: Trainer, module: LightningModule, step: int) -> None:
        with exact_math(module.device), evaluation_mode(module):
            for name, picture in zip(self._names, self._pictures(trainer, module), strict=True):
                pictures.save_png(picture, self._path(Path(trainer.default_root_dir), step, name))
                send_picture(trainer, name, picture)

    def replay(self, trainer: Trainer, module: LightningModule, record: Path) -> None:
        """Send the files' content to the loggers."""
        if trainer.is_global_zero:
            for name in self._names:
                path = self._path(Path(trainer.default_root_dir), trainer.global_step, name)
                send_picture(trainer, name, pictures.load_png(path))

    @staticmethod
    def _path(run: Path, step: int, name: str) -> Path:
        return run / "samples" / f"step={step:08d}-{name}.png"

    def _pictures(self, trainer: Trainer, module: LightningModule) -> Iterator[Tensor]:
        """Each picture, uint8 (C, H, W), in the order of the names."""
        assert isinstance(module, LatentVariableModel)
        _, images = held_out(datasets.images_of(trainer))
        encoded = Encoded(module, images, seed_of(module), "pictures", module.device)
        yield latent_plots.reconstructions(encoded, chosen_rows(images, self.count))
        ends = chosen_rows(images, 2 * self.paths)
        start, end = ends.chunk(2)  # sets are often sorted by class: halves apart are of different ones
        yield latent_plots.interpolations(encoded, start[: len(end)], end, self.steps)
        latents = latent_plots.latents_of(encoded, chosen_rows(images, self.images))
        row = chosen_rows(images, 1)
        yield latent_plots.traversals(encoded, row, latents, self.traversals, self.steps)
        if module.latent_dim == 2:
            yield latent_plots.scatter(latents)
            yield latent_plots.manifold(encoded, row, self.manifold)
