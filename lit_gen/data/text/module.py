"""The data module of every text: a file, documents, the text that comes with Python, or a grammar of known entropy."""

import functools
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from lit_gen.core.batches import Batches
from lit_gen.core.errors import UserError, nearest, note, under
from lit_gen.core.options import at_least, expect
from lit_gen.data.module import DataModule, place
from lit_gen.data.text import splits, tokenizers
from lit_gen.data.text.crops import TrainCrops
from lit_gen.data.text.documents import JSON, PARQUET, TABLES, Source
from lit_gen.data.text.sources import by_folder, find
from lit_gen.data.text.splits import Part, plan, whole
from lit_gen.data.text.token_file import TokenFile
from lit_gen.data.text.windows import TokenStream, WindowLoader
from lit_gen.protocols.data import Split
from lit_gen.tokenizers.stored import TextTokenizer

BLOCK_TOKENS = 8192
"""Tokens in one block of the standard evaluation."""

BESIDE = ("path", "column", "val_fraction", "val_path", "test_path", "grammar_characters")
"""Options of a further text that is scored beside the one that a model is trained on."""


class TextCorpus(DataModule):
    """Text as tokens: random crops for training, every held-out token once for validation.

    Args:
        path: the text. ``embedded``: the help topics that come with Python, as documents. ``grammar``: English-like
            sentences whose entropy is known. A text file: one text without end. A folder, a pattern (``books/*.txt``),
            a list of them, JSON lines, CSV or Parquet: documents, each of which ends with an end token. A
            relative path is looked up as it is, then under ``root``. Subfolders train, val and test are the splits.
        tokenizer: char, byte, bpe (learned from the training part), a ``tokenizer.json``, or a folder with GPT-2's
            ``vocab.json`` and ``merges.txt``.
        bpe_vocab_size: ids that bpe learns.
        block_size: tokens that the network reads.
        batch_size: crops of one update, over all ranks and micro-batches.
        device_batch_size: the most crops that a device takes at once: the rest of its share follows in further
            micro-batches, whose gradients are added up; null for no limit.
        column: the text's column in JSON lines, CSV and Parquet.
        val_fraction: share of the text that is held out, at its end; of documents, whole ones.
        val_path: a text that is held out instead, whole.
        test_path: a text for the test split; null: the held-out one.
        grammar_characters: length of the grammar's text.
        workers: threads that encode; null: one per processor, at most 8.
        root: folder with the data; null: ``LIT_GEN_DATA``, else the cache folder (``~/.cache/lit_gen``).
        on_device: keep the training tokens on the training device.
        seed: names the crops; linked to ``seed_everything`` by the command line.

    Raises:
        UserError: if an option is out of range, or a file is missing.
    """

    items = "crops"

    def __init__(
        self,
        path: str | list[str] = "embedded",
        tokenizer: str = "char",
        bpe_vocab_size: int = 1024,
        block_size: int = 256,
        batch_size: int = 64,
        device_batch_size: int | None = None,
        column: str | None = None,
        val_fraction: float = 0.1,
        val_path: str | list[str] | None = None,
        test_path: str | list[str] | None = None,
        grammar_characters: int = 1_000_000,
        workers: int | None = None,
        root: str | None = None,
        on_device: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(root, seed, batch_size, device_batch_size)
        at_least(1, "data.", block_size=block_size)
        at_least(1, "data.", grammar_characters=grammar_characters, workers=workers)
        at_least(256, "data.", bpe_vocab_size=bpe_vocab_size)  # the bytes
        expect(0 <= val_fraction < 1, "data.val_fraction", val_fraction, "a number from 0 to below 1")
        tokenizers.check_tokenizer(tokenizer, self.root)
        self.tokenizer_spec, self.bpe_vocab_size = tokenizer, bpe_vocab_size
        self.block_size, self.val_fraction = block_size, val_fraction
        self.workers = workers or min(8, os.cpu_count() or 1)
        self.on_device = on_device
        self._adopted: tuple[TextTokenizer, str] | None = None
        self._beside: dict[str, TextCorpus] = {}  # further texts
        self._streams: dict[Split, TokenStream] = {}
        look = functools.partial(find, root=self.root, column=column, grammar_characters=grammar_characters)
        for split, folder in by_folder(path, self.root).items():
            if split == "train":
                path = folder
            elif (val_path if split == "val" else test_path) is not None:
                raise UserError(
                    f"data.{split}_path was given, but {path} has a {split} folder; one of them is expected"
                )
            elif split == "val":
                val_path = folder
            else:
                test_path = folder
        self._source: Source = look(path, "data.path")
        self._val = None if val_path is None else look(val_path, "data.val_path")
        self._test = None if test_path is None else look(test_path, "data.test_path")
        self.name = self._source.name
        sources = [source for source in (self._source, self._val, self._test) if source is not None]
        if column is not None and not any(source.has_records for source in sources):
            raise UserError(
                f"data.column: {column!r} was found, but {self.name} has no columns; files of records end in "
                f"{', '.join((*JSON, *TABLES, *PARQUET))}"
            )

    # ---- what the text is

    @functools.cached_property
    def tokenizer(self) -> TextTokenizer:
        """From text to ids and back: the configured one, or the one that was adopted."""
        if self._adopted:
            return self._adopted[0]
        parts = self._plan[0]
        alphabet = "".join(part.scan.alphabet for part in parts.values())  # of all splits, as the benchmarks do
        return tokenizers.build_tokenizer(self.tokenizer_spec, parts["train"], alphabet, self.bpe_vocab_size, self.root)

    @property
    def vocab_size(self) -> int:
        """Number of ids, the end of text's included."""
        return self.tokenizer.vocab_size

    @property
    def text_sha256(self) -> str:
        """Names the content of ``path``."""
        return self._whole.scan.sha256

    @property
    def entropy_bits_per_byte(self) -> float | None:
        """The least bits per byte that any model can reach on ``path`` on average; None if that is not known."""
        return self._source.entropy_bits_per_byte

    def entropy(self, split: Split) -> float | None:
        """As `entropy_bits_per_byte`, for the text that a split comes from."""
        return self._part(split).source.entropy_bits_per_byte

    @property
    def protocol(self) -> dict[str, Any]:
        """What a record of numbers says of the text; encodes the text."""
        return {
            "data": self.name,
            "text_sha256": self.text_sha256,
            "split": self._plan[1],
            "tokenizer": self.tokenizer.name,
            "tokenizer_sha256": self.tokenizer.sha256,
            "vocab_size": self.vocab_size,
            **{split: self.stream(split).counts for split in self._plan[0]},
        }

    def adopt(self, checkpoint: Mapping[str, Any]) -> None:
        """Take the tokenizer of a language model's checkpoint; see `adopt_tokenizer`."""
        if (text := checkpoint.get("text")) is not None:
            self.adopt_tokenizer(text["tokenizer"], text["sha256"])

    def adopt_tokenizer(self, tokenizer_json: str, text_sha256: str) -> None:
        """Take the tokenizer of a checkpoint; called before anything is encoded.

        If the text is not the one that the checkpoint's model was trained on, all of it is unseen: the test split is
        then the whole text.

        Args:
            tokenizer_json: what the tokenizer's `to_json` gave.
            text_sha256: the `text_sha256` of the training data.

        Raises:
            UserError: if the tokenizer is damaged, or differs from ``tokenizer``.
        """
        assert not self._streams, "the text was encoded already"
        self._adopted = tokenizers.adopted(tokenizer_json, self.tokenizer_spec, self.root), text_sha256
        for known in ("tokenizer", "_plan"):
            self.__dict__.pop(known, None)

    def begin_with(self, checkpoint: Mapping[str, Any], option: str) -> None:
        """Take the tokenizer of a run whose weights a new one begins with; the text is divided as it is without.

        Args:
            checkpoint: that run's.
            option: what named it, for the message.

        Raises:
            UserError: as `adopt_tokenizer`.
        """
        if (text := checkpoint.get("text")) is not None:
            self.adopt_tokenizer(text["tokenizer"], self.text_sha256)
            rank_zero_only(note)(tokenizers.told(self.tokenizer, option))

    def beside(self, options: str | Mapping[str, Any]) -> "TextCorpus":
        """Another text with this one's tokenizer, for evaluation: its splits are its own.

        Args:
            options: its path, or its options by name: ``path``, ``column``, ``val_fraction``, ``val_path``,
                ``test_path``, ``grammar_characters``.

        Raises:
            UserError: for another option, and as the constructor.
        """
        given = {"path": options} if isinstance(options, str) else dict(options)
        for name in given:
            expect(name in BESIDE, "options", name, f"one of {', '.join(BESIDE)}", nearest(str(name), BESIDE))
        key = f"{self.tokenizer.sha256} {given}"
        if key not in self._beside:  # it reads all of the text
            spec, own = self.tokenizer_spec, self.tokenizer.to_json()
            other = TextCorpus(
                **given, tokenizer=spec, block_size=self.block_size, workers=self.workers, root=str(self.root)
            )
            other.adopt_tokenizer(own, other.text_sha256)
            self._beside[key] = other
        self._beside[key].trainer = self.trainer
        return self._beside[key]

    @property
    def foreign(self) -> bool:
        """Whether the text differs from the one that an adopted tokenizer's model was trained on."""
        return self._adopted is not None and self._adopted[1] != self.text_sha256

    def stream(self, split: Split) -> TokenStream:
        """The tokens of a split, encoded once and memory-mapped.

        Raises:
            UserError: if the split is empty, or cannot be encoded.
        """
        if split not in self._streams:
            part, before = self._part(split), None
            if part.begin and not part.source.documents:  # the held-out end goes on where the training part stops
                before = int(self._tokens("train")[1].checked(slice(-1, None))[0])
            self._streams[split] = splits.stream(part, self._tokens(split)[1], self.tokenizer, before)
        return self._streams[split]

    @functools.cached_property
    def _whole(self) -> Part:
        return whole(self._source)

    @functools.cached_property
    def _plan(self) -> tuple[dict[Split, Part], str]:
        """The parts of the splits that there are, and the rule in words."""
        if self.foreign:
            return {"test": whole(self._test) if self._test else self._whole}, "all of it is unseen in training"
        return plan(self._whole, self._val, self._test, self.val_fraction)

    def _part(self, split: Split) -> Part:
        parts, rule = self._plan
        if split not in parts and self._adopted and self.foreign:
            then, now = self._adopted[1][:12], self.text_sha256[:12]
            what = f"is not the text that the model was trained on (sha256 {then} then, {now} now)"
            raise UserError(f"data.path: {self.name} {what}; test scores it whole")
        if split not in parts:
            raise UserError(f"data: {self.name} has no {split} split ({rule}), {' or '.join(parts)} is expected")
        return parts[split]

    def _tokens(self, split: Split) -> tuple[Path, TokenFile]:
        part = self._part(split)
        with under(f"data.path, {part.source.name}: " if part.source is self._source else f"{part.source.name}: "):
            return splits.tokens(part, self.tokenizer, self.workers)

    # ---- what models, callbacks and lightning ask

    def facts(self) -> dict[str, Any]:
        """``vocab_size`` and ``block_size``; learns the tokenizer."""
        return {"vocab_size": self.vocab_size, "block_size": self.block_size}

    def counted(self, batches: Batches) -> tuple[int, str]:
        """The tokens that the network reads."""
        return batches.per_step * self.block_size, "tokens"

    def windows(self, split: Split, context: int, stride: int, rows: int, full: bool = False) -> WindowLoader:
        """This rank's windows over a split, in blocks of ``rows``; over all ranks, each token is scored once."""
        return WindowLoader(self.stream(split), context, stride, rows, full=full, **place(self.trainer))

    def prepare_data(self) -> None:
        """Read, fingerprint and encode the text, unless that was done before; reports what was found."""
        for source, option in ((self._source, "path"), (self._val, "val_path"), (self._test, "test_path")):
            if source is not None and source.found:
                rank_zero_only(note)(f"data.{option}, {source.name}: {source.found}")
        for split in ["train", *self._plan[0]] if self.trainer and self.trainer.training else self._plan[0]:
            self._tokens(split)

    def files(self) -> list[Path]:
        """The files of the text, and the token files made from them."""
        sources = [source for source in (self._source, self._val, self._test) if source is not None]
        made = [self._tokens(split)[0] for split in self._plan[0]]
        return list(dict.fromkeys([file for source in sources for file in source.files] + made))

    def train_dataloader(self) -> TrainCrops:
        """Random crops, one batch per step."""
        here = place(self.trainer)
        loader = TrainCrops(
            self.stream("train"),
            self.block_size,
            self.batches(),
            self.seed,
            on_device=self.on_device,
            rank=here.get("rank", 0),
            device=here.get("device"),
        )
        return self.continued(loader)

    def val_dataloader(self) -> WindowLoader | list[Any]:
        """Every held-out token once, in disjoint windows of ``block_size``."""
        return self._evaluation("val")

    def test_dataloader(self) -> WindowLoader | list[Any]:
        """Every token of the test split once."""
        return self._evaluation("test")

    def _evaluation(self, split: Split) -> WindowLoader | list[Any]:
        if split not in self._plan[0]:
            warnings.filterwarnings("ignore", message="Total length of `list`")  # Lightning says it of an empty split
            return []
        return self.windows(split, self.block_size, self.block_size, max(1, BLOCK_TOKENS // self.block_size))
