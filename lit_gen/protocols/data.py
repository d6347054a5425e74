"""The contract of data modules: all that families, callbacks and evaluations ask of data.

`lit_gen.core.data` finds out which contract a trainer's data module keeps; nothing else probes it.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, Protocol, runtime_checkable

from torch import Tensor

from lit_gen.protocols.images import ImagePair
from lit_gen.protocols.text import Chat, Prompted, TokenBatch, Tokenizer

Split = Literal["train", "val", "test"]


class DataModule(Protocol):
    """Any data module."""

    @property
    def name(self) -> str:
        """What records of numbers call the data set."""
        ...

    @property
    def protocol(self) -> Mapping[str, Any]:
        """What a record of numbers says of the data set; empty where its name says it all. May take time."""
        ...

    def facts(self) -> dict[str, Any]:
        """What a network's constructor may ask for, by parameter name; None where the data have no such thing.

        An argument is filled in if the config leaves it open and the parameter has no default, or the default None.
        """
        ...

    def per_step(self) -> tuple[int, str]:
        """Items of one step over all ranks, and their unit: ``(64, "images")``."""
        ...


class Images(Protocol):
    """One split of an image set."""

    images: Tensor
    """uint8 (N, C, H, W); float for points."""
    labels: Tensor | None
    """int64 (N,)."""

    def __len__(self) -> int: ...


class ImageSets(DataModule, Protocol):
    """A data module of images; its `facts` are ``shape``, ``num_classes`` and ``levels``, those of a pixel."""

    def split(self, split: Split) -> Images:
        """One split, empty if the set does not have it."""
        ...


class PairSets(ImageSets, Protocol):
    """A data module of pairs of images; `split` has the targets, and ``shape`` and ``levels`` are theirs.

    Its further `facts`: ``source_shape``; ``source_levels``; ``source_channels``, one more than the source has if there
    are masks; ``target_channels``; ``factor``, how many times larger the target is.
    """

    def pairs(self, split: Split) -> Iterable[ImagePair]:
        """This rank's pairs of a split as evaluation sees them: blocks of 64 in order, block k on rank k % world.

        A rank without a block gets one without rows.
        """
        ...


@runtime_checkable
class Mixture(Protocol):
    """A data module of points of a mixture of Gaussians."""

    centres: Tensor
    """(modes, 2)."""
    sigma: float


class TokenText(Protocol):
    """The tokens of one split of a text, in order."""

    prefix: int | None
    """The token that precedes the first one; None where nothing does."""
    end_of_text: int | None
    """The id that ends each document; None where none does."""
    text_bytes: int
    """UTF-8 bytes of the original text."""
    vocab_size: int
    """Number of ids."""
    lost: str
    """An example of text that the tokens do not hold; empty where they hold all of it."""

    def __len__(self) -> int: ...


class TextSets(DataModule, Protocol):
    """A data module of a text; its `facts` are ``vocab_size`` and ``block_size``."""

    tokenizer: Tokenizer
    text_sha256: str
    """Names the content of the text."""

    def stream(self, split: Split) -> TokenText:
        """The tokens of a split.

        Raises:
            UserError: if there are none.
        """
        ...

    def windows(self, split: Split, context: int, stride: int, rows: int, full: bool = False) -> Iterable[TokenBatch]:
        """This rank's windows over a split, in blocks of ``rows``; over all ranks, each token is scored once.

        The last window has the length of the remaining text; ``full``: it is as long as the others and overlaps them.
        """
        ...

    def beside(self, options: str | Mapping[str, Any]) -> "TextSets":
        """Another text with the same tokenizer, for evaluation; ``options`` are its path, or its options by name.

        Raises:
            UserError: if there is no such text.
        """
        ...

    def entropy(self, split: Split) -> float | None:
        """The least bits per byte that any model can reach on a split on average; None if that is not known."""
        ...


class InstructionSets(TextSets, Protocol):
    """A data module of prompts and responses."""

    chat: Chat
    packing: bool
    """Whether a training row holds several documents."""

    def prompted(self, split: Split) -> list[Prompted]:
        """The prompts of a split as the model reads them, with their references.

        Raises:
            UserError: if there are none.
        """
        ...


class TrainBatches(Protocol):
    """A loader of training batches that knows where it is."""

    def state_dict(self) -> dict[str, int]:
        """Its position, and how many items a step takes."""
        ...

    def resume(self, state: dict[str, int], allow_changes: bool) -> None:
        """Continue at ``state``.

        Raises:
            UserError: if a step took another number of items, unless that is allowed.
        """
        ...
