"""From a run directory or a checkpoint back to a model, in a notebook or on the command line."""

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule
from safetensors.torch import save
from torch import Tensor

from lit_gen.core.errors import UserError
from lit_gen.core.files import write_whole
from lit_gen.core.ours import keep_others
from lit_gen.core.scoring import scored
from lit_gen.protocols.flows import DensityModel
from lit_gen.protocols.images import ImageGenerator, LatentInterpolator, Weights
from lit_gen.protocols.text import TextGenerator
from lit_gen.protocols.training import Exportable
from lit_gen.runs import trust as trusted
from lit_gen.runs.checkpoints import read, resolve
from lit_gen.runs.rebuilding import rebuild
from lit_gen.runs.translating import instead, translated, translator


def load(path: str | Path, trust: Collection[str] = ()) -> "Run":
    """Open a run directory or a checkpoint; the model is rebuilt only from the checkpoint.

    Your own checkpoint may name any class. Another person's may name parts of lit_gen and layers and optimizers of
    torch; nothing else is imported for it (docs/security.md).

    Args:
        path: the run directory or checkpoint.
        trust: other top-level modules that it may name, such as ``["my_net"]``.

    Raises:
        UserError: if there is no usable checkpoint at ``path``, or it names something that it may not.
    """
    checkpoint = resolve(Path(path))
    content = read(checkpoint)
    hyper_parameters = content.get("hyper_parameters")
    if not isinstance(hyper_parameters, dict) or not isinstance(hyper_parameters.get("_class_path"), str):
        raise UserError(f"{checkpoint} does not say which model it is of, so that it cannot be rebuilt")
    own = trusted.folders(content.get(trusted.SEAL), hyper_parameters)
    here = trusted.admit(hyper_parameters, checkpoint, own, trust)
    model = rebuild(checkpoint, content, here)
    if hasattr(model, "described"):
        described: Any = hyper_parameters
        model.described = described  # should it be trained and saved again
    return Run(checkpoint, model.eval())


class Run:
    """A trained model: sample, translate, write, export.

    Attributes:
        checkpoint: the file it was loaded from.
        model: the lightning module, in evaluation mode.
    """

    def __init__(self, checkpoint: Path, model: LightningModule) -> None:
        self.checkpoint, self.model = checkpoint, model

    def sample(
        self,
        n: int = 64,
        *,
        start: int = 0,
        labels: Tensor | None = None,
        weights: Weights = "ema",
        **options: Any,
    ) -> Tensor:
        """Images ``start`` to ``start + n``: float (n, C, H, W) in [-1, 1]; image i does not depend on n.

        Options are those of the model's ``drawer``: steps of a solver, a guidance scale.
        """
        if not isinstance(self.model, ImageGenerator):
            kind = type(self.model).__name__
            raise UserError(f"{self.checkpoint}: {kind} does not draw images{instead(self.model)}")
        return self.model.sample(torch.arange(start, start + n), labels=labels, weights=weights, **options)

    def translate(
        self,
        images: Tensor,
        *,
        mask: Tensor | None = None,
        weights: Weights = "ema",
        tile: int | None = None,
        border: int | None = None,
    ) -> Tensor:
        """Change images: float (n, C, h, w) in [-1, 1] to float (n, C', H, W).

        Args:
            images: as the sources that the model was trained on, of any size; noise may take them beyond [-1, 1].
            mask: (n, 1, h, w) of 0 and 1, 1 where ``images`` are to be filled in; of a model of data with holes.
            weights: averaged or raw ones.
            tile: run the network on squares of that many pixels; None for whole images.
            border: pixels around each tile; None for as many as make tiles equal to the whole.

        Raises:
            UserError: for a model that does not change images, or images that it does not take.
        """
        return translated(translator(self.model, self.checkpoint), images, mask, weights, tile, border)

    def interpolate(
        self,
        n: int = 8,
        length: int = 8,
        *,
        start: int = 0,
        labels: Tensor | None = None,
        weights: Weights = "ema",
        **options: Any,
    ) -> Tensor:
        """Paths from samples ``start + i`` to ``start + n + i``: float (n, length, C, H, W) in [-1, 1]."""
        if not isinstance(self.model, LatentInterpolator):
            raise UserError(f"{self.checkpoint}: {type(self.model).__name__} has no latents to interpolate")
        first = torch.arange(start, start + n)
        return self.model.interpolate(first, first + n, length, labels=labels, weights=weights, **options)

    def log_prob(self, x: Tensor, labels: Tensor | None = None, *, weights: Weights = "ema") -> Tensor:
        """Nats (n,) of data x, of a model with a density.

        Args:
            x: images (n, C, H, W), uint8 or float in [-1, 1], or points in their own units.
            labels: int64 (n,) of a conditional model.
            weights: averaged or raw ones.

        Raises:
            UserError: for a model without a density, or data that it is not of.
        """
        if not isinstance(self.model, DensityModel):
            raise UserError(f"{self.checkpoint}: {type(self.model).__name__} has no density")
        return scored(self.model, x, labels, weights)

    def write(self, prompts: Sequence[str], **options: Any) -> list[list[str]]:
        """Continue each prompt; the options and the result are those of `TextGenerator.write`."""
        if not isinstance(self.model, TextGenerator):
            raise UserError(f"{self.checkpoint}: {type(self.model).__name__} does not write texts")
        return self.model.write(prompts, **options)

    def export(self, path: str | Path, weights: Weights = "ema", overwrite: bool = False) -> None:
        """Write the network that the model exports as safetensors, to load without lightning.

        That is a GAN's or a diffusion model's generator, a VAE's decoder, a flow's density, a language model's network,
        with the averaged weights if the run kept an average. The keys are those of the network's state_dict. The file's
        metadata describe the network, as JSON under its name: ``class_path``, ``init_args``, and ``build``, the
        arguments of a call of ``build``, if it has its layers only after that call, as our decoders do.

        Args:
            path: the file.
            weights: averaged or raw ones.
            overwrite: replace a file that an export did not write.

        Raises:
            UserError: for such a file, or a model without an export, see `lit_gen.protocols.training.Exportable`.
        """
        if not isinstance(self.model, Exportable):
            raise UserError(f"{self.checkpoint}: {type(self.model).__name__} has no network to export")
        name, network, given = self.model.exported(weights)
        if given is None:
            given = (getattr(self.model, "described", None) or self.model.hparams).get(name)
        described = dict(given) if isinstance(given, dict) else {}
        if built := getattr(network, "built", None):
            described["build"] = built
        tensors = {key: t.detach().contiguous().cpu() for key, t in network.state_dict().items()}
        metadata = {name: json.dumps(described), "checkpoint": self.checkpoint.name}
        keep_others([Path(path)], "export", overwrite)
        write_whole(Path(path), save(tensors, metadata))  # save_file would make it readable only for its owner
