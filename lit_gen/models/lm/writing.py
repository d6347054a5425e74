"""From prompts to texts: tokens in and out of `lit_gen.models.lm.sampling`, stop strings, text while it is written."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from lit_gen.core.errors import UserError
from lit_gen.core.modes import evaluation_mode
from lit_gen.core.options import at_least, expect, not_negative
from lit_gen.models.lm import sampling
from lit_gen.protocols.images import Weights
from lit_gen.protocols.text import Chat, Tokenizer

OnText = Callable[[int, str], None]
KEPT = 8  # tokens that a piece of text is decoded after
MOST_NEW = 10_000_000  # tokens; a row's draws are made at once


@contextlib.contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode, uncompiled: shapes change with every prompt."""
    with evaluation_mode(network), torch.compiler.set_stance("force_eager"):
        yield


class Writer:
    """Mixin of a module with ``network``, ``tokenizer`` and ``seed``: it continues texts."""

    network: Any
    tokenizer: Tokenizer | None
    chat: Chat | None
    seed: int

    def _network(self, weights: Weights) -> Any:
        """The network with these weights."""
        raise NotImplementedError

    def write(
        self,
        prompts: Sequence[str],
        *,
        n: int = 1,
        max_new_tokens: int = 200,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        stop: Sequence[str] = (),
        seed: int | None = None,
        on_text: OnText | None = None,
        weights: Weights = "ema",
    ) -> list[list[str]]:
        """Continue each prompt ``n`` times.

        The i-th continuation of a prompt depends only on ``(weights, prompt, i, seed)`` and the options, not on other
        prompts. It ends before the first of ``stop``, at the end of text, or after ``max_new_tokens``.
        A model of conversations reads the special tokens in a prompt as `lit_gen.protocols.text.Chat.prompt` writes
        them. An empty prompt begins a document; if the tokenizer has no end of text, it follows a line break.

        Args:
            prompts: the beginnings.
            n: continuations of each.
            max_new_tokens: the most new tokens.
            temperature: logits are divided by it; 0 takes the most likely token.
            top_k: draw from this many most likely tokens; None for all.
            top_p: draw from the fewest tokens whose probabilities add up to this; None for all.
            stop: strings, none empty.
            seed: names the draws; None for the run's seed.
            on_text: called with the row (``prompt * n + i``) and each new piece of its text.
            weights: the moving average, or the raw weights; raw without an average.

        Returns:
            For each prompt its continuations, without the prompt.

        Raises:
            UserError: for an option out of range, or a prompt that the tokenizer cannot encode.
        """
        if self.tokenizer is None:
            raise UserError("this model was trained on tokens without a tokenizer, so that it can write no text")
        if isinstance(prompts, str):
            raise UserError("prompts: a string was found, a list of strings is expected")
        network = self._network(weights)
        if not callable(getattr(network, "new_cache", None)):
            raise UserError(f"{type(network).__name__} has no new_cache, so that it can write no text")
        check_options(n, max_new_tokens, temperature, top_k, top_p, stop)
        starts = [self._start(prompt) for prompt in prompts]
        rows = [Row(self.tokenizer, stop, start) for start in starts for _ in range(n)]
        ends = frozenset() if self.tokenizer.end_of_text is None else frozenset([self.tokenizer.end_of_text])

        def stopped(row: int, ids: list[int]) -> bool:
            piece = rows[row].add(ids[-1])
            if piece and on_text is not None:
                on_text(row, piece)
            return rows[row].stopped

        with evaluating(network):
            sampling.generate(
                network,
                [start for start in starts for _ in range(n)],
                [f"{prompt}/{i}" for prompt in prompts for i in range(n)],
                max_new_tokens=max_new_tokens,
                temperature=temperature,
                top_k=top_k,
                top_p=top_p,
                vocab_size=self.tokenizer.vocab_size,
                stop_tokens=ends if self.chat is None else ends | self.chat.ends,
                stop=stopped,
                seed=self.seed if seed is None else seed,
            )
        for i, row in enumerate(rows):
            rest = row.finish()
            if rest and on_text is not None:
                on_text(i, rest)
        return [[row.text for row in rows[i * n : (i + 1) * n]] for i in range(len(prompts))]

    def _start(self, prompt: str) -> list[int]:
        assert self.tokenizer is not None
        ids = self.tokenizer.encode(prompt) if self.chat is None else self.chat.encode(prompt)
        if not ids and self.tokenizer.end_of_text is not None:
            return [self.tokenizer.end_of_text]
        if not ids:
            with contextlib.suppress(UserError):  # a vocabulary without line breaks
                ids = self.tokenizer.encode("\n")
        return ids or [0]


class Row:
    """The text of one row while its tokens come, up to the first stop string.

    Args:
        tokenizer: decodes.
        stop: strings that end the text.
        prompt: the tokens before it: with some tokenizers a token's text depends on what precedes it.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str], prompt: Sequence[int] = ()) -> None:
        self.tokenizer, self.stop = tokenizer, stop
        self.text, self.stopped = "", False
        self._held = ""  # may be the beginning of a stop string
        self._ids = list(prompt[-KEPT:])
        self._known = len(tokenizer.decode(self._ids))  # characters of their text that were released

    def add(self, token: int) -> str:
        """Take one more token, and return the text that is now certain."""
        self._ids.append(token)
        text = self.tokenizer.decode(self._ids)
        certain = text[:-1] if text.endswith("\ufffd") else text  # may be the first bytes of a character
        new, self._known = certain[self._known :], max(self._known, len(certain))
        if certain == text and len(self._ids) > 8 * KEPT:
            self._ids = self._ids[-KEPT:]
            self._known = len(self.tokenizer.decode(self._ids))
        return self._release(new, final=False)

    def finish(self) -> str:
        """The rest of the text."""
        rest = self.tokenizer.decode(self._ids)[self._known :]
        self._known += len(rest)
        return "" if self.stopped else self._release(rest, final=True)

    def _release(self, new: str, final: bool) -> str:
        whole = self._held + new
        found = [position for s in self.stop if (position := whole.find(s)) >= 0]
        if found:
            self.stopped, piece, self._held = True, whole[: min(found)], ""
        else:
            held = 0 if final else max((_overlap(whole, s) for s in self.stop), default=0)
            piece, self._held = whole[: len(whole) - held], whole[len(whole) - held :]
        self.text += piece
        return piece


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of ``text`` that begins ``stop``."""
    return next((k for k in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:k])), 0)


def check_options(
    n: int, max_new_tokens: int, temperature: float, top_k: int | None, top_p: float | None, stop: Sequence[str]
) -> None:
    """Refuse options out of range.

    Raises:
        UserError: for the first option out of range; names it.
    """
    at_least(1, "--", n=n, max_new_tokens=max_new_tokens, top_k=top_k)
    if max_new_tokens > MOST_NEW:
        raise UserError(f"--max_new_tokens: {max_new_tokens} was found, at most {MOST_NEW:,} are expected")
    not_negative("--", temperature=temperature)
    expect(top_p is None or 0 < top_p <= 1, "--top_p", top_p, "a number above 0 and up to 1")
    if not all(stop):
        raise UserError("--stop: an empty string was found, which would end every text at once")
