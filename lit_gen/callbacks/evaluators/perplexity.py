"""Perplexity and bits per byte, of every token once, the same at any world size and batch size."""

import math
import re
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from typing import Any, Literal

import torch
from lightning import LightningModule, Trainer

from lit_gen.callbacks.evaluators.base import Evaluator
from lit_gen.core import data as datasets
from lit_gen.core import distributed
from lit_gen.core.errors import UserError, note, under
from lit_gen.core.options import at_least, expect, one_of
from lit_gen.evaluation.names import suffix_of, weights_used
from lit_gen.evaluation.result import Result, versions
from lit_gen.protocols.data import Split
from lit_gen.protocols.images import Weights
from lit_gen.protocols.text import TokenBatch, TokenScorer

TOKENS_AT_ONCE = 8192  # of one block of windows, unless its batch size says otherwise


class Perplexity(Evaluator):
    """The cost of the held-out text: ``val/loss``, ``val/perplexity``, ``val/bits_per_byte``.

    ``loss`` is the mean nats per token, ``perplexity`` its exponential; both count ends of documents. ``bits_per_byte``
    is the bits of the text's own tokens over the UTF-8 bytes of the original text: the only number that compares models
    with different tokenizers; it is left out if the tokenizer loses text. Sums are kept in float64 and added exactly;
    there is one division and one exp.

    The text is covered by windows of ``context`` tokens, ``stride`` apart, in which every token is scored once: with
    the default, disjoint windows of the data's block size; a smaller stride gives each token more context, a lower
    number, and another name: ``val/perplexity_context256_stride64``. The last window has the length of the remaining
    text, so its tokens have less context than in a longer text; ``last_window: full`` starts it earlier, as
    lm-evaluation-harness does (``val/perplexity_full``). A first token that nothing precedes costs ln V.

    Args:
        every: steps between two evaluations; 0 for none by steps.
        every_epochs: epochs between two evaluations; 0 for none by epochs.
        at_end: evaluate after the last step too.
        context: tokens that a window holds; null for the data's block size.
        stride: tokens from one window to the next; null for disjoint windows.
        last_window: ragged or full, see above.
        batch_size: windows in one forward pass; null for 8,192 tokens.
        weights: the moving average, or the raw weights, which changes the names: ``val/perplexity_raw``.
        also: further texts by name, each a path or its options (``{path: books.jsonl, column: body}``), scored in the
            same way with the run's own tokenizer, on their held-out part: ``val/python/loss`` for ``python``.
        at_start: evaluate before the first update too, at step 0; null: if there are further texts.

    Raises:
        UserError: for an option out of range.
    """

    perfect = "entropy of the source"

    def __init__(
        self,
        every: int = 0,
        every_epochs: int = 0,
        at_end: bool = True,
        context: int | None = None,
        stride: int | None = None,
        last_window: Literal["ragged", "full"] = "ragged",
        batch_size: int | None = None,
        weights: Weights = "ema",
        also: dict[str, str | dict[str, Any]] | None = None,
        at_start: bool | None = None,
    ) -> None:
        super().__init__(every, every_epochs, at_end)
        # in lightning's validation too, for callbacks that monitor these numbers
        self.cadence = self.cadence._replace(validation=True)
        at_least(1, f"{self.option}.", context=context, stride=stride, batch_size=batch_size)
        self.context, self.stride, self.batch_size, self.weights = context, stride, batch_size, weights
        one_of(("ragged", "full"), f"{self.option}.", last_window=last_window)
        self.full = last_window == "full"
        self.also = also or {}
        self.at_start = bool(self.also) if at_start is None else at_start
        for name in self.also:
            expect(re.fullmatch(r"\w+", name) is not None, f"{self.option}.also", name, "a word as the name of a text")
        self._window = (0, 0)
        self._suffix = ""

    def announced(self, data: Any) -> list[str]:
        """See `Evaluator`."""
        _, suffix = self._named_window(data)
        found = []
        for prefix, text in self._texts(data):
            exact = text.tokenizer.exact or not text.stream("val").lost
            names = ("loss", "perplexity", *(["bits_per_byte"] if exact else []))
            found += [f"{prefix}{name}{suffix}" for name in names]
        return found

    def _texts(self, data: Any) -> Iterator[tuple[str, Any]]:
        """What comes before the names of each text's numbers, and the text: first the one that is trained on."""
        yield "", data
        for name, options in self.also.items():
            with under(f"{self.option}.also.{name}: "):
                if not callable(getattr(data, "beside", None)):
                    raise UserError(f"{datasets.kind_of(data)} was found, data with a method `beside` are expected")
                yield f"{name}/", data.beside(options)

    def _named_window(self, data: Any) -> tuple[tuple[int, int], str]:
        """Context and stride, and what they and the weights put after the names."""
        block_size = data.facts()["block_size"]
        context = self.context or block_size
        stride = self.stride or context
        standard = (context, stride) == (block_size, block_size)
        suffix = "" if standard else f"_context{context}" + (f"_stride{stride}" if stride < context else "")
        return (context, stride), suffix + ("_full" if self.full else "") + suffix_of(self.weights)

    def prepare(self, trainer: Trainer, module: LightningModule) -> None:
        """Determine context and stride, and the resulting names.

        Raises:
            UserError: for a model or data without tokens, or a context that the network does not take.
        """
        data = datasets.data_of(trainer)
        if not isinstance(module, TokenScorer) or not datasets.has_text(data):
            raise UserError(
                f"{self.option}: a language model and a text are expected, {type(module).__name__} and "
                f"{datasets.kind_of(data)} were found"
            )
        (context, stride), suffix = self._named_window(data)
        expect(stride <= context, f"{self.option}.stride", stride, f"at most the context of {context}")
        longest = getattr(getattr(module, "network", None), "block_size", None)
        if longest is not None and context > longest:
            raise UserError(
                f"{self.option}.context: {context} was found, but the network takes at most {longest} tokens"
            )
        for prefix, text in self._texts(data):
            if trainer.state.fn in ("fit", "validate", "test"):  # otherwise found at the first evaluation
                with under(f"{self.option}.also.{prefix[:-1]}: ") if prefix else nullcontext():
                    text.stream("test" if trainer.state.fn == "test" else "val")
        self._window, self._suffix = (context, stride), suffix
        self.title = f"perplexity{self._suffix.replace('_', '-')}"

    def begin(self, trainer: Trainer, module: LightningModule) -> None:
        """Evaluate at step 0; a resumed run is past it."""
        if self.at_start and trainer.global_step == 0:
            self.make(trainer, module, 0)

    def evaluate(self, trainer: Trainer, module: LightningModule, split: Split) -> Result:
        """Score the split's windows of every text, each on one rank, and add up."""
        data = datasets.text_of(trainer)
        values: dict[str, float] = {}
        floors: dict[str, float] = {}
        record: dict[str, Any] = {}
        for prefix, text in self._texts(data):
            found = self._of_text(trainer, module, text, split)
            values |= {f"{prefix}{name}": value for name, value in found.values.items()}
            floors |= {f"{prefix}{name}": value for name, value in found.floors.items()}
            record |= {"also": record.get("also", {}) | {prefix[:-1]: found.protocol}} if prefix else found.protocol
        return Result(values, floors, record, perfect=self.perfect)

    def _of_text(self, trainer: Trainer, module: LightningModule, data: Any, split: Split) -> Result:
        stream = data.stream(split)
        context, stride = self._window
        rows = self.batch_size or max(1, TOKENS_AT_ONCE // context)
        windows = data.windows(split, context, stride, rows, self.full)
        assert isinstance(module, TokenScorer)
        nats, text_nats, count = score(module, windows, stream.end_of_text, self.weights)
        if stream.prefix is None:  # nothing precedes the first token
            uniform = math.log(stream.vocab_size)
            nats, text_nats, count = nats + uniform, text_nats + uniform, count + 1
        if count != len(stream):
            raise AssertionError(f"{count} of {len(stream)} tokens were scored")
        loss = nats / count
        values = {"loss": loss, "perplexity": _exp(loss)}
        if stream.lost and trainer.is_global_zero:
            note(
                f"the tokenizer {data.tokenizer.name} loses text ({stream.lost}): no bits per byte, which are of the "
                f"whole text"
            )
        if stream.text_bytes and not stream.lost:
            values["bits_per_byte"] = text_nats / (math.log(2) * stream.text_bytes)
        floors = {}
        entropy = data.entropy(split)
        if entropy is not None and not stream.lost:
            floors["bits_per_byte"] = entropy
        window = "full" if self.full else "ragged"
        record = {
            "metrics": {"perplexity": {"context": context, "stride": stride, "rows": rows, "last_window": window}},
            "tokens": count,
            "text_bytes": stream.text_bytes,
            **({"lost": stream.lost} if stream.lost else {}),
            "nats": nats,
            "weights": weights_used(module, self.weights),
            "reference": data.protocol,
            "versions": versions(),
        }
        values = {f"{name}{self._suffix}": value for name, value in values.items()}
        floors = {f"{name}{self._suffix.removesuffix('_raw')}": value for name, value in floors.items()}  # no weights
        return Result(values, floors, record, perfect=self.perfect)


@torch.no_grad()
def score(
    module: TokenScorer, windows: Iterable[TokenBatch], end_of_text: int | None, weights: Weights = "ema"
) -> tuple[float, float, int]:
    """Sums over all ranks: nats of all scored tokens, nats of those that are text, and how many were scored.

    Args:
        module: says each token's nats.
        windows: this rank's, in blocks.
        end_of_text: the id that does not count as text.
        weights: of the module.

    Returns:
        The sums, the same on every rank and for any number of ranks.
    """
    nats, text, counts = [], [], []

    def mine() -> None:
        for batch in windows:
            each = module.nll(batch.tokens, weights).cpu().double()
            scored = torch.ones(each.shape, dtype=torch.bool) if batch.scored is None else batch.scored.cpu()
            is_text = scored if end_of_text is None else scored & (batch.tokens[:, 1:].cpu() != end_of_text)
            nats.append(float(each[scored].sum()))
            text.append(float(each[is_text].sum()))
            counts.append(float(scored.sum()))
            distributed.look()

    distributed.together(mine)
    whole = (math.fsum(distributed.gather(sums)) for sums in (nats, text, counts))
    total, of_text, scored_tokens = whole
    return total, of_text, int(scored_tokens)


def _exp(x: float) -> float:
    """exp, infinite where float64 ends."""
    return math.exp(x) if x < 709 else math.inf
