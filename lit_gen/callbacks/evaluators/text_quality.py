"""BLEU, chrF, ROUGE and exact match of what a language model writes, the same at any world size."""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple, cast

from lightning import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only

from lit_gen.callbacks.evaluators.base import Evaluator
from lit_gen.core import data as datasets
from lit_gen.core import distributed
from lit_gen.core.errors import UserError, note, under
from lit_gen.core.options import at_least, not_negative
from lit_gen.evaluation.names import suffix_of, weights_used
from lit_gen.evaluation.result import Result
from lit_gen.evaluation.texts import count_each, read_prompted, scored
from lit_gen.metrics.corpus import Counts
from lit_gen.metrics.text import metrics_of
from lit_gen.protocols.data import Split
from lit_gen.protocols.images import Weights
from lit_gen.protocols.text import Prompted, PromptedTexts, TextGenerator

BLOCK = 16
"""Prompts that are continued at once: block k always holds the same ones, on whatever rank it is written, because a
network's logits are bit-equal only for equal batch shapes."""
SHOWN = 4  # texts in the record


class Written(NamedTuple):
    """One text of this rank."""

    number: int
    """Of its prompt, from 0."""
    text: str
    counts: list[Counts]


class TextQuality(Evaluator):
    """Continues prompts, and compares what is written with references: ``val/bleu``, ``val/chrf``, ``val/rouge1``, ...

    `lit_gen.metrics.text` says what the numbers are. The text of a prompt depends on the prompt, the weights, the
    options and the run's seed; equal prompts get equal texts.

    Args:
        every: steps between two evaluations; 0 for none by steps.
        every_epochs: epochs between two evaluations; 0 for none by epochs.
        at_end: evaluate after the last step too.
        count: the most prompts, the first ones; null for all.
        metrics: some of bleu, chrf, rouge, exact.
        max_new_tokens: the most tokens of a text, which otherwise ends at the end of text, or before one of ``stop``.
        temperature: of the draws; 0 takes the most likely token each time.
        stop: strings that end a text, which does not contain them.
        path: a file of JSON lines, ``{"prompt": ..., "response": ...}`` or ``{"prompt": ..., "references": [...]}``;
            null for the prompts of the data module's split.
        bleu_tokenize: of bleu: 13a, intl, zh, char or none.
        lowercase: whether case is disregarded.
        weights: the moving average, or the raw weights, which changes the names: ``val/bleu_raw``.

    Raises:
        UserError: for an option out of range, or a missing package.
    """

    def __init__(
        self,
        every: int = 0,
        every_epochs: int = 0,
        at_end: bool = True,
        count: int | None = None,
        metrics: list[str] = ["bleu", "chrf", "rouge", "exact"],  # noqa: B006  never changed; the command line shows it
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        stop: list[str] = [],  # noqa: B006  likewise
        path: str | None = None,
        bleu_tokenize: str = "13a",
        lowercase: bool = False,
        weights: Weights = "ema",
    ) -> None:
        super().__init__(every, every_epochs, at_end)
        at_least(1, f"{self.option}.", count=count, max_new_tokens=max_new_tokens)
        not_negative(f"{self.option}.", temperature=temperature)
        if not all(stop):
            raise UserError(f"{self.option}.stop: an empty string was found, strings that end a text are expected")
        with under(f"{self.option}."):
            self.metrics = metrics_of(metrics, bleu_tokenize, lowercase)
        self.count, self.path, self.lowercase, self.weights = count, path, lowercase, weights
        self.writing: dict[str, Any] = {
            "max_new_tokens": max_new_tokens,
            "temperature": temperature,
            "stop": list(stop),
        }
        self._file: list[Prompted] | None = None
        self._sha256 = ""

    def announced(self, data: Any) -> list[str]:
        """See `Evaluator`."""
        return [f"{key}{suffix_of(self.weights)}" for metric in self.metrics for key in metric.keys]

    def prepare(self, trainer: Trainer, module: LightningModule) -> None:
        """Read the prompts, and hold them against the model.

        Raises:
            UserError: for a model that writes no text, missing or too few prompts, or one that it cannot read.
        """
        self.title = f"text-quality{suffix_of(self.weights).replace('_', '-')}"
        data = datasets.data_of(trainer)
        writes = isinstance(module, TextGenerator)
        # before its first run the model has none yet, and takes that of the data
        tokenizer: Any = getattr(module, "tokenizer", None) or (data.tokenizer if datasets.has_text(data) else None)
        if not writes or tokenizer is None:
            found = f"{type(module).__name__}{' without a tokenizer' if writes else ''}"
            raise UserError(f"{self.option}: a model that writes texts is expected, {found} was found")
        if self.path is not None:
            read = read_prompted(Path(self.path), f"{self.option}.path")
            self._file, self._sha256 = read.values, read.sha256
        chat = getattr(module, "chat", None) or (data.chat if datasets.has_instructions(data) else None)
        encode = tokenizer.encode if chat is None else chat.encode  # prompts of conversations have special tokens
        for prompt, _ in self._prompted(trainer, "test" if trainer.state.fn == "test" else "val"):
            with under(f"{self.option}: "):
                encode(prompt)

    def _prompted(self, trainer: Trainer, split: Split) -> list[Prompted]:
        """The first ``count`` prompts of the file or of the split."""
        data = datasets.data_of(trainer)
        kind, source = datasets.kind_of(data), cast(object, data)
        if self._file is not None:
            found, where = self._file, str(self.path)
        elif isinstance(source, PromptedTexts):
            found, where = source.prompted(split), f"the {split} split of {kind}"
        else:
            raise UserError(f"{self.option}.path: null was found, but {kind} has no prompts; name a file of them")
        if not found:
            raise UserError(f"{self.option}: {where} has no prompts; at least one is expected")
        if self.count is not None and self.count > len(found):
            rank_zero_only(note)(
                f"{self.option}.count: {self.count} was found; all {len(found)} prompts of {where} are taken"
            )
        return found[: self.count]

    def evaluate(self, trainer: Trainer, module: LightningModule, split: Split) -> Result:
        """Write block k of the prompts on rank k mod W, and add up the counts of all texts."""
        prompted = self._prompted(trainer, split)
        assert isinstance(module, TextGenerator)
        mine = self._mine(module, prompted, distributed.rank(), distributed.world_size())
        written = sorted(distributed.gather(mine), key=lambda one: one.number)
        numbers = [len(references) for _, references in prompted]
        values, record = scored(self.metrics, [one.counts for one in written], numbers)
        texts = [one.text for one in written]
        pairs = zip(prompted, texts, strict=True)
        shown = [{"prompt": p.prompt, "text": text, "references": list(p.references)} for p, text in pairs][:SHOWN]
        record |= {
            **self.writing,
            "lowercase": self.lowercase,
            "block": BLOCK,
            "seed": getattr(module, "seed", None),
            "weights": weights_used(module, self.weights),
            "reference": self._reference(trainer, split),
            "texts_sha256": hashlib.sha256(json.dumps(texts).encode()).hexdigest(),
            "texts": shown,
        }
        return Result({f"{name}{suffix_of(self.weights)}": value for name, value in values.items()}, {}, record)

    def _mine(self, module: TextGenerator, prompted: list[Prompted], rank: int, world: int) -> list[Written]:
        """The texts of one of ``world`` ranks: blocks rank, rank + world, ..."""
        mine: list[Written] = []

        def write() -> None:
            for begin in range(rank * BLOCK, len(prompted), world * BLOCK):
                some = prompted[begin : begin + BLOCK]
                texts = module.write([one.prompt for one in some], weights=self.weights, **self.writing)
                for i, (one, (text,)) in enumerate(zip(some, texts, strict=True), begin):
                    mine.append(Written(i, text, count_each(self.metrics, text, one.references)))
                distributed.look()

        distributed.together(write)
        return mine

    def _reference(self, trainer: Trainer, split: Split) -> dict[str, Any]:
        if self.path is not None:
            return {"file": self.path, "sha256": self._sha256}
        data = datasets.data_of(trainer)
        return {"data": data.name, "split": split, **data.protocol}
