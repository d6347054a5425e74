"""The contracts of text: batches, tokenizers, language models.

Tokens are int64 (B, T), logits float (B, T, V); a negative log-likelihood (nll) is in nats.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol, Self, runtime_checkable

from torch import Tensor

from lit_gen.protocols.images import Weights


class TokenBatch(NamedTuple):
    """What a text loader yields."""

    tokens: Tensor
    """int64 (B, T + 1): the network reads the first T, its targets are the last T."""
    scored: Tensor | None
    """bool (B, T), which targets count; None where all do, as in training."""
    indices: Tensor
    """int64 (B,), each row's number within the global step, or its window's number within the split."""
    micro_batches: int = 1
    """In training: the number of equal parts into which the rows of an update are divided, one after the other."""
    documents: Tensor | None = None
    """int64 (B, T), the document of each token that the network reads; None where a row is one text."""


class Prompted(NamedTuple):
    """A prompt as the model reads it, and the answers that count as right."""

    prompt: str
    references: tuple[str, ...]
    """At least one."""


@runtime_checkable
class PromptedTexts(Protocol):
    """A data module of prompts, each with the answers that count as right."""

    def prompted(self, split: Literal["train", "val", "test"]) -> list[Prompted]:
        """All of a split, in order; none, or a UserError, if there is no such split."""
        ...


class Tokenizer(Protocol):
    """From text to ids and back."""

    name: str
    """What records call it: ``char``, ``byte``, ``bpe1024``."""
    vocab_size: int
    """Number of ids, 0 to vocab_size - 1, the end-of-text token's included."""
    end_of_text: int | None
    """The id that ends a document; None where texts have no end."""
    sha256: str
    """Names everything that `encode` depends on."""
    exact: bool
    """Whether any text is known to come back as it was."""

    def encode(self, text: str) -> list[int]:
        """The ids of ``text``, special tokens never among them.

        Raises:
            UserError: for a character that the vocabulary lacks.
        """
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ``ids``; end-of-text is dropped, invalid UTF-8 becomes U+FFFD."""
        ...

    def to_json(self) -> str:
        """Everything that rebuilds it, for checkpoints; see `lit_gen.tokenizers.stored.from_json`."""
        ...


@runtime_checkable
class Chat(Protocol):
    """How a conversation becomes text and tokens."""

    ends: frozenset[int]
    """The ids at which an answer ends."""
    lead: str
    """Spaces with which an answer begins that are no part of its text."""

    def prompt(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The text that the model continues after these messages, each with ``role`` and ``content``."""
        ...

    def encode(self, text: str) -> list[int]:
        """The ids of a text that `prompt` gave, special tokens among them."""
        ...

    def to_json(self) -> str:
        """What rebuilds it with its tokenizer, for checkpoints; see `lit_gen.tokenizers.chat.from_json`."""
        ...


class Cache(Protocol):
    """What a network remembers of the tokens so far, of several rows of unequal length."""

    lengths: Tensor
    """int64 (B,), tokens so far of each row."""

    def take(self, rows: Tensor) -> Self:
        """A cache of the given rows, int64 (k,), which may repeat."""
        ...

    def put(self, rows: Tensor, other: Self) -> None:
        """Replace rows, int64 (k,), by those of a cache of k rows."""
        ...


class CausalNetwork(Protocol):
    """A network that predicts each token from those before it; an `nn.Module`."""

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        ...

    @property
    def block_size(self) -> int | None:
        """Most tokens of one context; None for any number."""
        ...

    def __call__(self, tokens: Tensor, cache: Cache | None = None, lengths: Tensor | None = None) -> Tensor:
        """Logits (B, T, V) of the token after each of ``tokens`` (B, T).

        Args:
            tokens: int64 (B, T).
            cache: what came before; it is extended in place. None: nothing came before, and nothing is kept.
            lengths: int64 (B,), with a cache: how many of the T tokens of each row are real, the first ones; logits
                of the others have no meaning, and the cache forgets them. None: all.

        Raises:
            ValueError: if a row would grow longer than ``block_size``.
        """
        ...

    def new_cache(self, rows: int) -> Cache:
        """An empty cache, on the network's device and in its dtype."""
        ...


class PackingNetwork(CausalNetwork, Protocol):
    """A network that can read several documents in a row."""

    def __call__(
        self,
        tokens: Tensor,
        cache: Cache | None = None,
        lengths: Tensor | None = None,
        documents: Tensor | None = None,
    ) -> Tensor:
        """As `CausalNetwork`.

        Args:
            tokens: likewise.
            cache: likewise.
            lengths: likewise.
            documents: int64 (B, T), without a cache: equal numbers side by side are one document. Its tokens get the
                logits that they would get in a row of their own. None: each row is one.
        """
        ...


@runtime_checkable
class TokenScorer(Protocol):
    """A module that says how likely each token is."""

    def nll(self, tokens: Tensor, weights: Weights = "ema") -> Tensor:
        """Nats of each of ``tokens[:, 1:]`` given those before it in its row: (B, T + 1) to float32 (B, T)."""
        ...


@runtime_checkable
class TextGenerator(Protocol):
    """A module that continues texts."""

    tokenizer: Tokenizer | None
    """None if it was trained on bare tokens: then it cannot write."""

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
        on_text: Callable[[int, str], None] | None = None,
        weights: Weights = "ema",
    ) -> list[list[str]]:
        """Continue each prompt ``n`` times; what is written depends on the prompt, not on the other prompts."""
        ...


@runtime_checkable
class Talker(TextGenerator, Protocol):
    """One that may read conversations."""

    chat: Chat | None
    """How; None if it was not trained on any."""
