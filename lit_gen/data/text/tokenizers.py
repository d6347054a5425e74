"""Which tokenizer a text gets: the configured one, one that is learned once, or a checkpoint's."""

import importlib.metadata
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from lit_gen.core.cache import cached
from lit_gen.core.errors import UserError, nearest
from lit_gen.data.text.encoding import shards
from lit_gen.data.text.splits import Part
from lit_gen.tokenizers.bpe import BpeTokenizer, read_bpe, train_bpe
from lit_gen.tokenizers.plain import ByteTokenizer, CharTokenizer
from lit_gen.tokenizers.stored import TextTokenizer, from_json


def check_tokenizer(spec: str, root: Path) -> None:
    """Refuse a tokenizer that is neither a kind nor a file.

    Raises:
        UserError: with what is expected.
    """
    if spec not in ("char", "byte", "bpe") and _file(spec, root) is None:
        raise UserError(
            f"data.tokenizer: {spec} was found; char, byte, bpe, a tokenizer.json or a folder with GPT-2's vocab.json "
            f"and merges.txt is expected{nearest(spec, ['char', 'byte', 'bpe'])}"
        )


def build_tokenizer(spec: str, train: Part, alphabet: str, bpe_vocab_size: int, root: Path) -> TextTokenizer:
    """The tokenizer that a configuration names.

    Args:
        spec: char, byte, bpe (learned from the training part, once), or a file or folder.
        train: the training part; the tokenizer has an end of text if it has documents.
        alphabet: the characters of all splits, for char.
        bpe_vocab_size: ids wanted, for bpe.
        root: where relative paths are looked up that are not found as they are.

    Raises:
        UserError: if a file is damaged, or what it needs is not installed.
    """
    ends = train.source.documents
    if spec == "char":
        return CharTokenizer(alphabet, ends)
    if spec == "byte":
        return ByteTokenizer(ends)
    if spec == "bpe":
        return _learned(train, bpe_vocab_size)
    check_tokenizer(spec, root)
    return read_bpe(_file(spec, root) or Path(spec), ends)


def tokenizer_of(
    spec: str,
    root: Path,
    everything: Callable[[], Iterator[str]],
    train: Callable[[], Iterator[str]],
    name: str,
    size: int,
) -> TextTokenizer:
    """As `build_tokenizer`, of texts that are no parts of a corpus; the tokenizer has an end of text.

    Args:
        spec: likewise.
        root: likewise.
        everything: the texts of all splits, whose characters are char's.
        train: the texts that bpe learns from.
        name: a hash of these.
        size: ids that bpe learns.

    Raises:
        UserError: likewise.
    """
    if spec == "char":
        return CharTokenizer("".join(set[str]().union(*everything())), True)
    if spec == "byte":
        return ByteTokenizer(True)
    if spec == "bpe":
        return _kept(f"{name[:16]}/bpe{size}-responses",
                     lambda: train_bpe(train(), size, True))  # fmt: skip
    check_tokenizer(spec, root)
    return read_bpe(_file(spec, root) or Path(spec), True)


def folder_of(spec: str, root: Path) -> Path | None:
    """The folder that a configuration names as its tokenizer, if it is one."""
    found = None if spec in ("char", "byte", "bpe") else _file(spec, root)
    return found if found is not None and found.is_dir() else None


def adopted(stored: str, spec: str, root: Path) -> TextTokenizer:
    """A checkpoint's tokenizer, if it is what the configuration names.

    Args:
        stored: what its `to_json` gave.
        spec: the configured tokenizer: of char, byte and bpe the kind is compared, of a file or folder what it gives.
        root: where relative paths are looked up that are not found as they are.

    Raises:
        UserError: if it is damaged, or the configuration names another one.
    """
    found = from_json(stored)
    kind = "bpe" if isinstance(found, BpeTokenizer) else found.name
    if spec in ("char", "byte", "bpe"):
        if spec != kind:
            raise UserError(
                f"data.tokenizer: {spec} was found, but the checkpoint's model was trained with {found.name}; "
                f"{kind} is expected"
            )
        return found
    check_tokenizer(spec, root)
    ends = bool(json.loads(stored)["end_of_text"])  # of the text that the model was trained on
    configured = read_bpe(_file(spec, root) or Path(spec), ends)
    if configured.sha256 != found.sha256:
        raise UserError(
            f"data.tokenizer: {spec} was found (sha256 {configured.sha256[:12]}), but the checkpoint's model was "
            f"trained with {found.name} (sha256 {found.sha256[:12]})"
        )
    return found


def _learned(train: Part, vocab_size: int) -> TextTokenizer:
    ends = train.source.documents

    def learn() -> BpeTokenizer:
        groups = shards(train.texts(), ends, "line")
        learned = train_bpe((text for group in groups for text, _ in group), vocab_size, ends)
        train.check_unchanged()
        return learned

    return _kept(f"{train.scan.sha256[:16]}/bpe{vocab_size}-{train.begin}-{train.end}", learn)


def _kept(name: str, learn: Callable[[], BpeTokenizer]) -> TextTokenizer:
    """What was learned under that name, or is learned now."""

    def write(path: Path) -> None:
        path.write_text(learn().to_json(), encoding="utf-8")

    try:
        version = importlib.metadata.version("tokenizers")  # another one may learn something else
    except importlib.metadata.PackageNotFoundError:
        version = "none"
    path = cached(f"text/{name}-tokenizers{version}.json", write)
    try:
        tokenizer = from_json(path.read_text(encoding="utf-8"))
    except UserError as error:
        raise UserError(f"{path}: {error}; move it away, then run the command again") from None
    assert isinstance(tokenizer, BpeTokenizer)
    return tokenizer


def _file(spec: str, root: Path) -> Path | None:
    path = Path(spec).expanduser()
    return next((p for p in (path, root / path) if p.exists()), None)


def told(tokenizer: TextTokenizer, option: str) -> str:
    """Say that the data take the tokenizer of another run, which an option names."""
    return f"data.tokenizer: {tokenizer.name} of {tokenizer.vocab_size:,} ids, that of the run which {option} names"
