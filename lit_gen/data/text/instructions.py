"""The data module of instructions: prompts and the responses that a model learns to give."""

import functools
import hashlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from lightning.pytorch.utilities import rank_zero_only

from lit_gen.core.batches import Batches
from lit_gen.core.errors import UserError, note
from lit_gen.core.options import at_least, expect, one_of
from lit_gen.data.module import DataModule, place
from lit_gen.data.text import conversations, tokenizers
from lit_gen.data.text.conversations import Conversation, Fields
from lit_gen.data.text.module import BLOCK_TOKENS
from lit_gen.data.text.packing import DocumentLoader, TrainRows
from lit_gen.data.text.responses import Long, Responses, encoded, texts
from lit_gen.protocols.data import Split
from lit_gen.protocols.text import Prompted
from lit_gen.tokenizers.chat import ChatFormat
from lit_gen.tokenizers.chat_files import agreed, read_chat
from lit_gen.tokenizers.stored import TextTokenizer


class Instructions(DataModule):
    """Prompts and responses, or conversations; only tokens of responses are learned and scored, their end included.

    A row of ``block_size`` tokens holds several conversations, none of which reads another.

    Args:
        path: JSON lines with prompt and response (or a list of them, all right), or with messages of ``role`` and
            ``content``; a table (``.csv``, ``.tsv``); a folder or pattern of such files. Equal prompts become one.
            ``tasks``: generated ones. A relative path is looked up as it is, then under ``root``.
        tokenizer: char, byte, bpe (learned from the training part), a ``tokenizer.json``, or a folder with GPT-2's
            ``vocab.json`` and ``merges.txt``.
        template: what stands around a prompt, with ``{prompt}`` in it, or a file with a Jinja template; null: that of
            the tokenizer's folder, else `lit_gen.tokenizers.chat.PLAIN`; see `lit_gen.tokenizers.chat.ChatFormat`.
        block_size: tokens that the network reads.
        batch_size: rows of one update, over all ranks and micro-batches.
        device_batch_size: the most rows that a device takes at once; null for no limit.
        packing: put several conversations into a row; false: one.
        long: what to do with a conversation of more than ``block_size + 1`` tokens: refuse, truncate (its end) or drop.
        prompt: the field or column of prompts.
        response: the field or column of responses.
        messages: the field of messages.
        val_fraction: share of the prompts that is held out, the last ones.
        val_path: what is held out instead, whole.
        test_path: the test split; null: what is held out.
        tasks: number of generated prompts.
        bpe_vocab_size: ids that bpe learns.
        root: folder with the data; null: ``LIT_GEN_DATA``, else the cache folder (``~/.cache/lit_gen``).
        seed: names the order; linked to ``seed_everything`` by the command line.

    Raises:
        UserError: if an option is out of range, or a file is missing.
    """

    items = "rows"

    def __init__(
        self,
        path: str = "tasks",
        tokenizer: str = "char",
        template: str | None = None,
        block_size: int = 256,
        batch_size: int = 16,
        device_batch_size: int | None = None,
        packing: bool = True,
        long: Long = "refuse",
        prompt: str = "prompt",
        response: str = "response",
        messages: str = "messages",
        val_fraction: float = 0.1,
        val_path: str | None = None,
        test_path: str | None = None,
        tasks: int = 10_000,
        bpe_vocab_size: int = 1024,
        root: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(root, seed, batch_size, device_batch_size)
        at_least(1, "data.", block_size=block_size)
        at_least(2, "data.", tasks=tasks)
        at_least(256, "data.", bpe_vocab_size=bpe_vocab_size)
        one_of(get_args(Long), "data.", long=long)
        expect(0 <= val_fraction < 1, "data.val_fraction", val_fraction, "a number from 0 to below 1")
        tokenizers.check_tokenizer(tokenizer, self.root)
        self.tokenizer_spec, self.template, self.bpe_vocab_size = tokenizer, template, bpe_vocab_size
        self.block_size, self.packing, self.long, self.val_fraction = block_size, packing, long, val_fraction
        self.fields = Fields(prompt, response, messages)
        named = {"path": path, "val_path": val_path, "test_path": test_path}
        given = {option: name for option, name in named.items() if name is not None}
        look = functools.partial(conversations.files_of, root=self.root, count=tasks)
        self._sources = {option: look(name, f"data.{option}") for option, name in given.items()}
        self.name = self._sources["path"][0]
        self._adopted: tuple[TextTokenizer, str | None] | None = None  # with the form of conversations
        self._encoded: dict[Split, Responses] = {}

    # ---- what is said

    @functools.cached_property
    def _read(self) -> dict[str, list[Conversation]]:
        return {option: conversations.read(files, self.fields) for option, (_, files, _) in self._sources.items()}

    @functools.cached_property
    def splits(self) -> dict[Split, list[Conversation]]:
        """The conversations of the splits that there are."""
        return conversations.divided(self._read, self.val_fraction, self.name)

    def _part(self, split: Split) -> list[Conversation]:
        if split not in self.splits:
            raise UserError(f"data: {self.name} has no {split} split, {' or '.join(self.splits)} is expected")
        return self.splits[split]

    # ---- tokens

    @functools.cached_property
    def tokenizer(self) -> TextTokenizer:
        """From text to ids and back: the configured one, or the one that was adopted."""
        if self._adopted:
            return self._adopted[0]
        folder = tokenizers.folder_of(self.tokenizer_spec, self.root)
        said = functools.partial(texts, template=self.template, folder=folder)
        train, everything = self.splits["train"], [one for part in self._read.values() for one in part]
        name = hashlib.sha256(f"{conversations.sha256(train)}{self.template}".encode()).hexdigest()
        texts_of = (lambda: said(everything)), (lambda: said(train))
        return tokenizers.tokenizer_of(self.tokenizer_spec, self.root, *texts_of, name=name, size=self.bpe_vocab_size)

    @functools.cached_property
    def chat(self) -> ChatFormat:
        """How conversations become tokens.

        Raises:
            UserError: for a template that is none, or another one than that of an adopted checkpoint.
        """
        found = read_chat(self.template, tokenizers.folder_of(self.tokenizer_spec, self.root), self.tokenizer)
        stored = None if self._adopted is None else self._adopted[1]
        return found if stored is None else agreed(found, stored)

    def adopt(self, checkpoint: Mapping[str, Any]) -> None:
        """Take the tokenizer of a language model's checkpoint, and compare the form of conversations."""
        if (text := checkpoint.get("text")) is not None:
            found = tokenizers.adopted(text["tokenizer"], self.tokenizer_spec, self.root)
            self._adopted = found, text.get("chat")
            self.__dict__.pop("tokenizer", None)
            self.__dict__.pop("chat", None)

    def begin_with(self, checkpoint: Mapping[str, Any], option: str) -> None:
        """See `DataModule`; the form of conversations stays this one's."""
        if (text := checkpoint.get("text")) is not None:
            self.adopt({"text": {"tokenizer": text["tokenizer"]}})
            rank_zero_only(note)(tokenizers.told(self.tokenizer, option))

    @property
    def vocab_size(self) -> int:
        """Number of ids, the end of text's included."""
        return self.tokenizer.vocab_size

    @functools.cached_property
    def text_sha256(self) -> str:
        """Names the content of ``path``."""
        return conversations.sha256(self._read["path"])

    def stream(self, split: Split) -> Responses:
        """The responses of a split.

        Raises:
            UserError: if it has none, or one is too long.
        """
        if split not in self._encoded:
            self._encoded[split] = encoded(self._part(split), self.chat, self.block_size + 1, self.long, split)
        return self._encoded[split]

    def prompted(self, split: Split) -> list[Prompted]:
        """The prompts of a split as the model reads them, each with all its references."""
        return [Prompted(self.chat.prompt(one.before), one.answers) for one in self._part(split)]

    @property
    def protocol(self) -> dict[str, Any]:
        """What a record of numbers says of the data; encodes them."""
        return {
            "data": self.name,
            "text_sha256": self.text_sha256,
            "split": "held out by file" if "val_path" in self._read else f"the last {self.val_fraction:g} of prompts",
            "tokenizer": self.tokenizer.name,
            "tokenizer_sha256": self.tokenizer.sha256,
            "template_sha256": hashlib.sha256(self.chat.to_json().encode()).hexdigest(),
            "vocab_size": self.vocab_size,
            **{split: self.stream(split).counts for split in self.splits},
        }

    # ---- what models, callbacks and lightning ask

    def facts(self) -> dict[str, Any]:
        """``vocab_size`` and ``block_size``; learns the tokenizer."""
        return {"vocab_size": self.vocab_size, "block_size": self.block_size}

    def entropy(self, split: Split) -> None:
        """Not known."""

    def counted(self, batches: Batches) -> tuple[int, str]:
        """The tokens that the network reads, what fills up rows included."""
        return batches.per_step * self.block_size, "tokens"

    def prepare_data(self) -> None:
        """Read and encode everything, and say what was found."""
        said = [f"data.{option}, {name}: {found}" for option, (name, _, found) in self._sources.items() if found]
        for sentence in (*said, *conversations.remarks(self.splits)):
            rank_zero_only(note)(sentence)
        for split in self.splits:
            self.stream(split)

    def files(self) -> list[Path]:
        """The files that are read."""
        return list(dict.fromkeys(file for _, files, _ in self._sources.values() for file in files))

    def train_dataloader(self) -> TrainRows:
        """Packed rows, one batch per step."""
        here = place(self.trainer)
        found = self.stream("train")
        loader = TrainRows(
            found.documents,
            self.block_size,
            self.batches(),
            self.seed,
            packing=self.packing, filling=found.end_of_text, rank=here.get("rank", 0), device=here.get("device"),
        )  # fmt: skip
        return self.continued(loader)

    def windows(self, split: Split, context: int, stride: int, rows: int, full: bool = False) -> DocumentLoader:
        """This rank's documents of a split, in blocks of ``rows``; a response is read whole, with all before it.

        Raises:
            UserError: for windows that would cut them.
        """
        if (context, stride, full) != (self.block_size, self.block_size, False):
            raise UserError(
                f"windows of {context} tokens, {stride} apart, were asked for, but responses are scored whole; null "
                f"for both, and last_window ragged, are expected with {type(self).__name__}"
            )
        found = self.stream(split)
        return DocumentLoader(found.documents, rows, found.end_of_text, **place(self.trainer))

    def val_dataloader(self) -> DocumentLoader | list[Any]:
        """Every held-out response once."""
        return self._evaluation("val")

    def test_dataloader(self) -> DocumentLoader | list[Any]:
        """Every response of the test split once."""
        return self._evaluation("test")

    def _evaluation(self, split: Split) -> DocumentLoader | list[Any]:
        if split not in self.splits:
            warnings.filterwarnings("ignore", message="Total length of `list`")  # Lightning says it of an empty split
            return []
        return self.windows(split, self.block_size, self.block_size, max(1, BLOCK_TOKENS // self.block_size))
