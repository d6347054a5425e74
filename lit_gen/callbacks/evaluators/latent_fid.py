"""The Frechet distance of images that are not draws of the prior: of a mixture of latents, and of reconstructions.

Together with `lit_gen.callbacks.evaluators.fid.FID` they show where a model with latents loses quality: it cannot draw
what it cannot reconstruct, and if a mixture draws better than the prior, the prior does not fit the used latents.
"""

from typing import Any

from lightning import LightningModule, Trainer

from lit_gen.callbacks.evaluators.fid import FID
from lit_gen.callbacks.evaluators.posteriors import held_out, refuse_without_labels, refuse_without_latents, seed_of
from lit_gen.core import data as datasets
from lit_gen.core.errors import UserError, under
from lit_gen.core.options import at_least
from lit_gen.evaluation.generated import Drawing
from lit_gen.evaluation.latent_sources import Encoded, MixtureSampler, Reconstructions, chosen_rows
from lit_gen.evaluation.result import Result
from lit_gen.protocols.data import Images
from lit_gen.protocols.images import ImageGenerator
from lit_gen.protocols.latents import LatentVariableModel


class _LatentFID(FID):
    """Base of the two: a model that encodes, images of a data module, and their entries in the record."""

    def prepare(self, trainer: Trainer, module: LightningModule) -> None:
        """Check model and data.

        Raises:
            UserError: for a model without latents, or data without images or labels that it needs.
        """
        data = refuse_without_latents(self.option, trainer, module)
        super().prepare(trainer, module)
        refuse_without_labels(self.option, data, module, self.encoded_split(trainer))

    def encoded_split(self, trainer: Trainer) -> Images:
        """The images that are encoded."""
        raise NotImplementedError

    def encoded(self, trainer: Trainer, module: LightningModule, purpose: str) -> Encoded:
        """These images, through the encoder."""
        assert isinstance(module, LatentVariableModel)
        return Encoded(module, self.encoded_split(trainer), seed_of(module), purpose, module.device, self.weights)


class MixtureFID(_LatentFID):
    """`FID` of images whose latents come from a Gaussian mixture, fitted to those of training images.

    Named ``val/fd10k_lenet-mnist_gmm10``; see `lit_gen.evaluation.latent_sources.MixtureSampler`. The mixture is fitted
    anew for each evaluation, and image i is decoded from the same draw each time.

    Args:
        components: Gaussians of the mixture.
        fit_images: training images whose latents it is fitted to, always the same ones; all if there are fewer.
        **fid: see `FID`.

    Raises:
        UserError: for an option out of range.
    """

    def __init__(self, components: int = 10, fit_images: int = 10_000, **fid: Any) -> None:
        super().__init__(**fid)
        at_least(1, f"{self.option}.", components=components)
        at_least(2, f"{self.option}.", fit_images=fit_images)
        self.components, self.fit_images = components, fit_images
        self.suffix = f"_gmm{components}"
        self._sampler: MixtureSampler | None = None

    def prepare(self, trainer: Trainer, module: LightningModule) -> None:
        """Check options against model and data.

        Raises:
            UserError: for more components than training images, and as FID.
        """
        super().prepare(trainer, module)
        images = min(self.fit_images, len(self.encoded_split(trainer)))
        if self.components > images:
            raise UserError(
                f"{self.option}.components: {self.components} was found, but it is fitted to {images} images"
            )

    def encoded_split(self, trainer: Trainer) -> Images:
        """The training images."""
        return datasets.images_of(trainer).split("train")

    def generator(self, trainer: Trainer, module: LightningModule) -> ImageGenerator:
        """Fit the mixture."""
        encoded = self.encoded(trainer, module, "latents of training images")
        classes = encoded.model.num_classes
        counts = None if classes is None else datasets.label_counts(datasets.data_of(trainer), classes)
        with under(f"{self.option}: "):
            rows = chosen_rows(encoded.data, self.fit_images)
            self._sampler = MixtureSampler.fit(encoded, rows, self.components, counts)
        return self._sampler

    def measure(self, trainer: Trainer, module: LightningModule, drawing: Drawing) -> Result:
        """As `FID`, with a record of the mixture."""
        result = super().measure(trainer, module, drawing)
        assert self._sampler is not None
        images = min(self.fit_images, len(self.encoded_split(trainer)))
        result.protocol["mixture"] = self._sampler.record | {"images": images}
        return result


class ReconstructionFID(_LatentFID):
    """`FID` of reconstructions of held-out images: of the validation split, or of the test split if there is none.

    Named ``val/fd1k_lenet-mnist_reconstructions``. They are compared with the training images by default; the floor
    is then the distance of the images that are reconstructed (with both splits). ``reference: val``
    compares reconstructions with their originals.

    Args:
        **fid: see `FID`; ``count`` is at most the number of held-out images, and ``repeats`` and ``per_class`` have no
            meaning here.

    Raises:
        UserError: for an option out of range.
    """

    suffix = "_reconstructions"
    floor_draws = 1  # the images that are reconstructed

    def __init__(self, **fid: Any) -> None:
        super().__init__(**fid)
        if self.repeats > 1:
            raise UserError(f"{self.option}.repeats: {self.repeats} was found, but an image has one reconstruction")
        if self.per_class:
            raise UserError(
                f"{self.option}.per_class: {self.per_class} was found, but a reconstruction has its own class"
            )

    def prepare(self, trainer: Trainer, module: LightningModule) -> None:
        """Check options against model and data.

        Raises:
            UserError: for fewer held-out images than ``count``, and as FID.
        """
        super().prepare(trainer, module)
        images = len(self.encoded_split(trainer))
        if self.count > images:
            raise UserError(f"{self.option}.count: {self.count} was found, but there are {images} held-out images")

    def encoded_split(self, trainer: Trainer) -> Images:
        """The held-out images."""
        return held_out(datasets.images_of(trainer))[1]

    def generator(self, trainer: Trainer, module: LightningModule) -> ImageGenerator:
        """The reconstructing model."""
        encoded = self.encoded(trainer, module, "reconstructions")
        return Reconstructions(encoded, chosen_rows(encoded.data, self.count))

    def measure(self, trainer: Trainer, module: LightningModule, drawing: Drawing) -> Result:
        """As `FID`, with a record of the reconstructed images."""
        result = super().measure(trainer, module, drawing)
        split, _ = held_out(datasets.images_of(trainer))
        result.protocol["reconstructions"] = {"split": split, "z": "a sample of q(z|x)", "images": self.count}
        return result
