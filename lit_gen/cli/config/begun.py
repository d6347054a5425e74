"""The tokenizer of a language model that begins with another run's weights: that run's."""

from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from lit_gen.core.errors import under
from lit_gen.runs.checkpoints import read, resolve
from lit_gen.training.adapters.base import OPTION


def adopt_tokenizer(model: Namespace, data: Any, checkpoint: Path | None) -> None:
    """Let a text take the tokenizer of ``model.adapter.base``, as its ids have no other meaning to the weights.

    Args:
        model: class path and arguments.
        data: the data module.
        checkpoint: of the model; with one, that run's weights, and its tokenizer, are not begun with.

    Raises:
        UserError: if there is no such run, or its tokenizer is not of the kind that ``data.tokenizer`` names.
    """
    chosen: Any = model if checkpoint is None else None
    for name in ("init_args", "adapter", "init_args", "base"):
        chosen = chosen.get(name) if isinstance(chosen, Namespace) else None
    if not isinstance(chosen, str):
        return
    from lit_gen.data.text.module import TextCorpus  # here, where it was imported before if it is used

    with under(f"{OPTION}: "):
        text = read(resolve(Path(chosen))).get("text")
    if text is not None and isinstance(data, TextCorpus):
        data.adopt_tokenizer(text["tokenizer"], data.text_sha256)  # of this text: all of it may be trained on
