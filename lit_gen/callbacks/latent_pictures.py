"""What a model with latents makes of held-out images, as pictures while training; `latent_plots` draws them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch import Callback
from torch import Tensor

from lit_gen.callbacks.evaluators.posteriors import held_out, refuse_without_labels, refuse_without_latents, seed_of
from lit_gen.callbacks.steps import completes_step
from lit_gen.core import data as datasets
from lit_gen.core import images as pictures
from lit_gen.core.errors import UserError
from lit_gen.core.modes import evaluation_mode, exact_math
from lit_gen.core.options import at_least
from lit_gen.evaluation import latent_plots
from lit_gen.evaluation.latent_sources import Encoded, chosen_rows
from lit_gen.loggers.publish import send_picture
from lit_gen.protocols.latents import LatentVariableModel


class LatentPictures(Callback):
    """Write ``samples/step=00000200-reconstructions.png`` and its like every so many steps and at the last one.

    - ``reconstructions``: pairs of a held-out image and, touching it at its right, its reconstruction.
    - ``interpolations``: for each of some pairs of held-out images two touching rows, the straight path between the
      means of their posteriors and below it the great circle.
    - ``traversals``: one row for each of the most active latents, by KL where it is known, else by the variance of the
      posterior means; that latent goes from -3 to 3 deviations of the prior, the others are those of one image.
    - of two latents also ``scatter``, the posterior means colored by class, and ``manifold``, the decoded plane.

    They go to TensorBoard too. The images and their noise are the same every time, so that one watches the model and
    not the noise: images spread over the validation split, or over the test split where there is no other. Only the
    first rank draws; training is not touched.

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
        self._latest_step = -1

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find what cannot work before the first step.

        Raises:
            UserError: for a model without latents, or data without held-out pictures or labels that it needs.
        """
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
        self._latest_step = -1

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Draw when the step is due."""
        if self.every and completes_step(trainer, batch_idx) and trainer.global_step % self.every == 0:
            self._draw(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the last step."""
        self._draw(trainer, pl_module)

    def _draw(self, trainer: Trainer, module: LightningModule) -> None:
        step = trainer.global_step
        if step == self._latest_step or not trainer.is_global_zero:
            return
        self._latest_step = step
        with exact_math(module.device), evaluation_mode(module):
            for name, picture in self._pictures(trainer, module):
                path = Path(trainer.default_root_dir) / "samples" / f"step={step:08d}-{name}.png"
                pictures.save_png(picture, path)
                send_picture(trainer, name, picture)

    def _pictures(self, trainer: Trainer, module: LightningModule) -> Iterator[tuple[str, Tensor]]:
        """Each picture by its name, uint8 (C, H, W)."""
        assert isinstance(module, LatentVariableModel)
        _, images = held_out(datasets.images_of(trainer))
        encoded = Encoded(module, images, seed_of(module), "pictures", module.device)
        yield "reconstructions", latent_plots.reconstructions(encoded, chosen_rows(images, self.count))
        ends = chosen_rows(images, 2 * self.paths)
        start, end = ends.chunk(2)  # sets are often sorted by class: halves apart are of different ones
        yield "interpolations", latent_plots.interpolations(encoded, start[: len(end)], end, self.steps)
        latents = latent_plots.latents_of(encoded, chosen_rows(images, self.images))
        row = chosen_rows(images, 1)
        yield "traversals", latent_plots.traversals(encoded, row, latents, self.traversals, self.steps)
        if module.latent_dim == 2:
            yield "scatter", latent_plots.scatter(latents)
            yield "manifold", latent_plots.manifold(encoded, row, self.manifold)
