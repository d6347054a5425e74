"""The contracts between rooms: callbacks and data know these, never a family.

Images are float (B, C, H, W) in [-1, 1] inside the package, uint8 at rest, at the metric boundary and in files.
Labels are int64 (B,). Points of two-dimensional toy sets are "images" of shape (B, 2, 1, 1), in their own units.
Tokens are int64 (B, T), logits float (B, T, V); a negative log-likelihood (nll) is in nats.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, Protocol, Self, runtime_checkable

from torch import Tensor

Weights = Literal["ema", "raw"]


class ImageBatch(NamedTuple):
    """What an image loader yields."""

    images: Tensor
    """float (B, C, H, W) in [-1, 1]."""
    labels: Tensor | None
    """int64 (B,), or None where the data set has no labels."""
    indices: Tensor
    """int64 (B,), each row's index within its split."""


@runtime_checkable
class ImageGenerator(Protocol):
    """A module that draws images by global index."""

    def sample(self, indices: Tensor, *, labels: Tensor | None = None, weights: Weights = "ema") -> Tensor:
        """Draw images (len(indices), C, H, W); row i depends on ``(seed, indices[i], label, weights)`` alone."""
        ...


@runtime_checkable
class LatentInterpolator(Protocol):
    """A module whose samples can be morphed into each other."""

    def interpolate(
        self, start: Tensor, end: Tensor, steps: int, *, labels: Tensor | None = None, weights: Weights = "ema"
    ) -> Tensor:
        """Draw (len(start), steps, C, H, W): paths from the latents of indices ``start`` to those of ``end``."""
        ...


class Features(NamedTuple):
    """What a feature extractor makes of a batch of images."""

    features: Tensor
    """float32 (B, d)."""
    logits: Tensor | None = None
    """float32 (B, K), one unnormalized log-probability per class; None where the network is no classifier."""


@runtime_checkable
class FeatureExtractor(Protocol):
    """A fixed network that metrics look through: uint8 images to features."""

    name: str
    """What it is called in metric names: ``lenet-mnist``."""
    weights: str
    """SHA-256 of its weights, in hexadecimal."""
    preprocessing: str
    """What happens to an image before the network, resizing above all, in words."""
    channels: int | None
    """Channels of the images that it takes; None for any."""
    size: tuple[int, int] | None
    """(H, W) of the images that it takes; None for any."""

    def __call__(self, images: Tensor) -> Features:
        """Features of uint8 images (B, C, H, W), on their device, in evaluation mode, without gradients."""
        ...


# ---- latent variables


class Code(NamedTuple):
    """What a model makes of a batch of images."""

    z: Tensor
    """float (B, latent_dim)."""
    nats: Tensor
    """float (B,), the rate: what z costs given the prior, KL(q(z|x) || p(z)) or its estimate."""
    info: dict[str, Tensor]
    """What is known of the posterior, by name: ``kl``, ``mean``, ``log_variance``, each (B, latent_dim)."""


class ImageDistribution(Protocol):
    """A distribution over images, of a batch."""

    @property
    def mean(self) -> Tensor:
        """(B, C, H, W) in [-1, 1]."""
        ...

    def log_prob(self, x: Tensor) -> Tensor:
        """Nats of images (B, C, H, W), summed over their pixels: (B,)."""
        ...


@runtime_checkable
class LatentVariableModel(Protocol):
    """A module with latents z: p(x|z) p(z), and q(z|x). Callbacks call it in evaluation mode."""

    latent_dim: int
    num_classes: int | None
    """Of a conditional model; None for an unconditional one, which ignores labels."""

    def encode(self, images: Tensor, noise: Tensor, labels: Tensor | None = None) -> Code:
        """Images (B, C, H, W) and standard normal noise (B, latent_dim) to a sample of q(z|x)."""
        ...

    def prior(self, noise: Tensor) -> Tensor:
        """Standard normal noise (B, latent_dim) to z (B, latent_dim) of p(z)."""
        ...

    def decode(self, z: Tensor, labels: Tensor | None = None) -> ImageDistribution:
        """Latents (B, latent_dim) to p(x|z)."""
        ...

    def log_weights(self, images: Tensor, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """Log p(x|z) + log p(z) - log q(z|x), (B, k), for images (B, C, H, W) and noise (B, k, latent_dim).

        Raises:
            UserError: if q has no density.
        """
        ...

    def bits_per_dim(self, nats: float, dimensions: int) -> float:
        """Bits per dimension of 8-bit images of ``nats`` per image, of C * H * W dimensions."""
        ...


# ---- language models


class TokenBatch(NamedTuple):
    """What a text loader yields."""

    tokens: Tensor
    """int64 (B, T + 1): the network reads the first T, its targets are the last T."""
    scored: Tensor | None
    """bool (B, T), which targets count; None where all do, as in training."""
    indices: Tensor
    """int64 (B,), each row's number within the global step, or its window's number within the split."""


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

    def encode(self, text: str) -> list[int]:
        """The ids of ``text``, special tokens never among them.

        Raises:
            UserError: for a character that the vocabulary lacks.
        """
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ``ids``; end-of-text is dropped, bytes that are no UTF-8 become U+FFFD."""
        ...

    def to_json(self) -> str:
        """Everything that rebuilds it, for checkpoints; see `lit_gen.data.tokenizers.from_json`."""
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
                of the others mean nothing, and the cache forgets them. None: all.

        Raises:
            ValueError: if a row would grow longer than ``block_size``.
        """
        ...

    def new_cache(self, rows: int) -> Cache:
        """An empty cache, on the network's device and in its dtype."""
        ...


@runtime_checkable
class TokenScorer(Protocol):
    """A module that says how likely each token is."""

    def nll(self, tokens: Tensor) -> Tensor:
        """Nats of each of ``tokens[:, 1:]`` given those before it in its row: (B, T + 1) to float32 (B, T)."""
        ...


@runtime_checkable
class TextGenerator(Protocol):
    """A module that continues texts."""

    tokenizer: Tokenizer | None
    """None where it was trained on bare tokens: then it writes nothing."""

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
    ) -> list[list[str]]:
        """Continue each prompt ``n`` times; what is written depends on the prompt, not on the other prompts."""
        ...
