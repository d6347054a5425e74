"""What evaluations of generated images share: drawing in fixed blocks, and the grid of the drawn images."""

from lightning import LightningModule, Trainer

from lit_gen.callbacks.evaluators.base import Evaluator
from lit_gen.core import images as pictures
from lit_gen.core.errors import UserError
from lit_gen.core.options import at_least, expect
from lit_gen.core.randomness import BLOCK
from lit_gen.evaluation.generated import Drawing
from lit_gen.evaluation.result import Result
from lit_gen.protocols.data import Split
from lit_gen.protocols.images import ImageGenerator, Weights


class ImageEvaluator(Evaluator):
    """Base of the callbacks that measure generated images: a subclass implements `prepare` and `measure`.

    Args:
        every: steps between two evaluations; 0 for none by steps.
        every_epochs: epochs between two evaluations; 0 for none by epochs.
        at_end: evaluate after the last step too.
        weights: the moving average, or the raw weights.
        count: generated images.
        batch_size: images drawn at once, a multiple of 64; it changes memory and speed, but no bit of a result.

    Raises:
        UserError: for a number out of range.
    """

    def __init__(
        self, every: int, every_epochs: int, at_end: bool, weights: Weights, count: int, batch_size: int
    ) -> None:
        super().__init__(every, every_epochs, at_end)
        at_least(2, f"{self.option}.", count=count)
        whole_blocks = batch_size >= BLOCK and batch_size % BLOCK == 0
        expect(whole_blocks, f"{self.option}.batch_size", batch_size, f"a multiple of {BLOCK}")
        self.weights, self.count, self.batch_size = weights, count, batch_size

    def measure(self, trainer: Trainer, module: LightningModule, drawing: Drawing) -> Result:
        """Evaluate; called on every rank, and its result is the same on each."""
        raise NotImplementedError

    def generator(self, trainer: Trainer, module: LightningModule) -> ImageGenerator:
        """The source of images: the module itself, or another one in a subclass; called on every rank."""
        assert isinstance(module, ImageGenerator)
        return module

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find out before the first step what cannot work.

        Raises:
            UserError: if the model does not draw images.
        """
        if stage != "predict" and not isinstance(pl_module, ImageGenerator):
            raise UserError(f"{self.option}: {type(pl_module).__name__} does not draw images")
        super().setup(trainer, pl_module, stage)

    def evaluate(self, trainer: Trainer, module: LightningModule, split: Split) -> Result:
        """Draw and measure."""
        drawing = Drawing(self.generator(trainer, module), self.weights, module.device, self.batch_size)
        result = self.measure(trainer, module, drawing)
        if drawing.shown is not None and drawing.shown.shape[1] in (1, 3):
            result.picture = pictures.grid(drawing.shown[: self.count])
        return result
