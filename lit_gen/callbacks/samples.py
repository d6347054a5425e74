"""Samples during training: the same latents or draws every time, so that changes come from the model, not the noise."""

from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from lit_gen.callbacks.boundary import Derived
from lit_gen.callbacks.moment import NEVER, Cadence
from lit_gen.callbacks.triptychs import Triptychs
from lit_gen.core import data as datasets
from lit_gen.core import distributed
from lit_gen.core import images as pictures
from lit_gen.core.errors import note, under
from lit_gen.core.files import write_whole
from lit_gen.core.options import at_least
from lit_gen.core.ours import keep_others
from lit_gen.core.png import bits_of, save_image
from lit_gen.core.terminal import for_terminal
from lit_gen.loggers.publish import send_picture, send_texts
from lit_gen.protocols.images import ImageGenerator, ImageTranslator
from lit_gen.protocols.text import TextGenerator
from lit_gen.runs.directory import SEPARATOR

MOST_COLUMNS = 20  # of a grid with a class per column
POINTS = (2, 1, 1)  # the shape of samples that a scatter plot shows; no logger gets it
MOST_POINTS = 2000  # of the data, behind those of the model


class Samples(Derived):
    """Write ``samples/step=00000200.png`` every ``every`` steps and at the last one, and send it to the loggers.

    Images are laid out in a grid, with one class per column for a conditional model; points of a two-dimensional set
    in a scatter plot over the data; other vectors are not drawn. Of a model that changes images there are triptychs of
    held-out pairs: input, output, target. A language model's texts go into ``samples/step=00000200.txt``, and
    the first of them is printed.

    Args:
        every: steps between pictures; 0 for the last step only.
        count: number of samples or pairs in a picture, or of texts.
        prompt: what texts continue.
        max_new_tokens: the maximum number of tokens of a text.
        enabled: whether samples are written.
        overwrite: let ``predict`` replace pictures that lit_gen did not write.
    """

    after_evaluations = True

    def __init__(
        self,
        every: int = 200,
        count: int = 64,
        prompt: str = "",
        max_new_tokens: int = 200,
        enabled: bool = True,
        overwrite: bool = False,
    ) -> None:
        at_least(0, "samples.", every=every)
        at_least(1, "samples.", count=count, max_new_tokens=max_new_tokens)
        self.every, self.count, self.enabled = every, count, enabled
        self.prompt, self.max_new_tokens = prompt, max_new_tokens
        self.overwrite = overwrite
        self.latest: Path | None = None
        self._suffix = ".png"
        self._triptychs: Triptychs | None = None

    def begin(self, trainer: Trainer, module: LightningModule) -> None:
        """Find out before the first step whether the prompt can be encoded, and which pairs are shown."""
        data = datasets.data_of(trainer)
        writes = isinstance(module, TextGenerator) and module.tokenizer is not None
        draws = isinstance(module, ImageGenerator)
        changes = isinstance(module, ImageTranslator) and datasets.has_pairs(data)
        shape = tuple(data.facts().get("shape") or ())
        vectors = draws and shape[1:] == POINTS[1:] and shape != POINTS
        shows = (writes or draws or changes) and not vectors
        self.cadence = Cadence(self.every) if self.enabled and shows else NEVER
        if self.enabled and vectors:
            rank_zero_only(note)(f"samples: vectors of {shape[0]} numbers are not drawn; points of 2 are")
        self._suffix = ".png" if draws or changes else ".txt"
        if self.enabled and changes and datasets.has_pairs(data):
            self._triptychs = Triptychs(data, self.count)
            self._triptychs.begin()
        if self.enabled and isinstance(module, TextGenerator) and module.tokenizer is not None:
            with under("samples.prompt: "):
                module.tokenizer.encode(self.prompt)

    def record_of(self, run: Path, step: int) -> Path:
        """The picture, or the texts."""
        return run / "samples" / f"step={step:08d}{self._suffix}"

    def replay(self, trainer: Trainer, module: LightningModule, record: Path) -> None:
        """Send the file's content to the loggers."""
        if not trainer.is_global_zero:
            return
        self.latest = record
        if self._suffix == ".txt":
            send_texts(trainer, "samples", record.read_text(encoding="utf-8").removesuffix("\n").split(SEPARATOR))
        elif tuple(datasets.data_of(trainer).facts().get("shape") or ()) != POINTS:
            send_picture(trainer, "samples", pictures.load_png(record))

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse to replace other programs' pictures, before the first is written."""
        folder = Path(trainer.default_root_dir) / "predictions"
        keep_others(sorted(folder.glob("[0-9]" * 6 + ".png")), "predict", self.overwrite)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        *args: Any,
    ) -> None:
        """Write the predictions, one PNG per sample, named by its index."""
        images = isinstance(outputs, Tensor) and outputs.ndim == 4 and outputs.shape[2:] != POINTS[1:]
        if images and outputs.shape[1] in (1, 3):
            folder = Path(trainer.default_root_dir) / "predictions"
            bits = bits_of(datasets.data_of(trainer).facts().get("levels"))
            for index, image in zip(batch.indices.tolist(), outputs.cpu(), strict=True):
                save_image(image, folder / f"{index:06d}.png", bits)

    def make(self, trainer: Trainer, module: LightningModule, step: int) -> None:
        """Draw on the first rank."""
        distributed.from_first(lambda: self._make(trainer, module, step))

    def _make(self, trainer: Trainer, module: LightningModule, step: int) -> None:
        if isinstance(module, TextGenerator):
            self._write(trainer, module)
        if isinstance(module, ImageGenerator):
            self._draw(trainer, module, step)
        elif isinstance(module, ImageTranslator) and self._triptychs is not None:
            self._save(trainer, self._triptychs.draw(module), step)

    def _draw(self, trainer: Trainer, module: ImageGenerator, step: int) -> None:
        classes: int | None = getattr(module, "num_classes", None)
        labels = None if classes is None else torch.arange(self.count) % classes
        images = module.sample(torch.arange(self.count), labels=labels)
        if images.shape[1:] == POINTS:
            data = datasets.data_of(trainer)
            behind = data.split("val").images[:MOST_POINTS] if datasets.has_images(data) else None
            path = self.record_of(Path(trainer.default_root_dir), step)
            pictures.save_scatter(images, path, behind)
            self.latest = path
        else:
            columns = classes if classes is not None and classes <= MOST_COLUMNS else None
            self._save(trainer, pictures.grid(pictures.quantize(images), columns), step)

    def _save(self, trainer: Trainer, whole: Tensor | None, step: int) -> None:
        if whole is not None:
            path = self.record_of(Path(trainer.default_root_dir), step)
            pictures.save_png(whole, path)
            send_picture(trainer, "samples", whole)
            self.latest = path

    def _write(self, trainer: Trainer, module: TextGenerator) -> None:
        """Write texts, the first on the terminal too."""
        if module.tokenizer is None:
            return
        (texts,) = module.write([self.prompt], n=self.count, max_new_tokens=self.max_new_tokens)
        texts = [self.prompt + text for text in texts]
        path = self.record_of(Path(trainer.default_root_dir), trainer.global_step)
        write_whole(path, SEPARATOR.join(texts) + "\n")
        send_texts(trainer, "samples", texts)
        print(for_terminal(f"--- step {trainer.global_step}\n{texts[0]}\n---"), flush=True)
        self.latest = path
