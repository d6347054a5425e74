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
from lit_gen.protocols.images import ImageGenerator, LatentInterpolator, Weights
from lit_gen.protocols.text import TextGenerator
from lit_gen.protocols.training import Exportable
from lit_gen.runs import trust as trusted
from lit_gen.runs.checkpoints import read, resolve
from lit_gen.runs.rebuilding import rebuild


def load(path: str | Path, trust: Collection[str] = ()) -> "Run":
    """Open a run directory or a checkpoint; the model is rebuilt from the checkpoint alone.

    A checkpoint of your own may name any class. One of somebody else's may name what is part of lit_gen or a layer or
    optimizer of torch; nothing else is imported for it (docs/security.md).

    Args:
        path: the run directory or checkpoint.
        trust: top-level modules of its author's that it may name too, such as ``["my_net"]``.

    Raises:
        UserError: if there is no usable checkpoint at ``path``, or it names what it may not.
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
    """A trained model with what one does with it.

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
        """Images ``start`` to ``start + n``: float (n, C, H, W) in [-1, 1]; image i is the same whatever n is.

        Options are those of the model's ``drawer``: steps of a solver, a guidance scale.
        """
        if not isinstance(self.model, ImageGenerator):
            raise UserError(f"{self.checkpoint}: {type(self.model).__name__} does not draw images")
        return self.model.sample(torch.arange(start, start + n), labels=labels, weights=weights, **options)

    def interpolate(
        self,
        n: int = 8,
        steps: int = 8,
        *,
        start: int = 0,
        labels: Tensor | None = None,
        weights: Weights = "ema",
        **options: Any,
    ) -> Tensor:
        """Paths from samples ``start + i`` to ``start + n + i``: float (n, steps, C, H, W) in [-1, 1]."""
        if not isinstance(self.model, LatentInterpolator):
            raise UserError(f"{self.checkpoint}: {type(self.model).__name__} has no latents to interpolate")
        first = torch.arange(start, start + n)
        return self.model.interpolate(first, first + n, steps, labels=labels, weights=weights, **options)

    def write(self, prompts: Sequence[str], **options: Any) -> list[list[str]]:
        """Continue each prompt; the options and the result are those of `TextGenerator.write`."""
        if not isinstance(self.model, TextGenerator):
            raise UserError(f"{self.checkpoint}: {type(self.model).__name__} does not write texts")
        return self.model.write(prompts, **options)

    def export(self, path: str | Path, weights: Weights = "ema", overwrite: bool = False) -> None:
        """Write the network that the model exports as safetensors, to load without lightning.

        That is a GAN's generator, a VAE's decoder, a language model's network, with the averaged weights where the run
        kept an average. The keys are those of its own state_dict. The file's metadata say what to make for them, as
        JSON under the network's name: ``class_path``, ``init_args``, and where it has layers only after a call of
        ``build``, as a decoder of ours, the arguments of that call as ``build``.

        Args:
            path: the file.
            weights: averaged or raw ones.
            overwrite: replace a file that no export wrote.

        Raises:
            UserError: for such a file, or a model that exports nothing, see `lit_gen.protocols.training.Exportable`.
        """
        if not isinstance(self.model, Exportable):
            raise UserError(f"{self.checkpoint}: {type(self.model).__name__} has no network to export")
        name, network = self.model.exported(weights)
        arguments = getattr(self.model, "described", None) or self.model.hparams
        given = arguments.get(name)
        described = dict(given) if isinstance(given, dict) else {}
        if built := getattr(network, "built", None):
            described["build"] = built
        tensors = {key: t.detach().contiguous().cpu() for key, t in network.state_dict().items()}
        metadata = {name: json.dumps(described), "checkpoint": self.checkpoint.name}
        keep_others([Path(path)], "export", overwrite)
        write_whole(Path(path), save(tensors, metadata))  # save_file would make it readable for its owner alone
