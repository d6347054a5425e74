"""``evaluate TEXTS.jsonl --reference REFERENCES.jsonl``: written texts against references."""

import argparse
from pathlib import Path

from lit_gen.cli.errors import ArgumentParser
from lit_gen.core.errors import UserError, nearest, under
from lit_gen.evaluation.result import Result
from lit_gen.evaluation.texts import count_each, read_references, read_texts, scored
from lit_gen.metrics.ngrams import TOKENIZERS
from lit_gen.metrics.text import KEYS, metrics_of

SUFFIX = ".jsonl"
OF_TEXTS = ("bleu_tokenize", "lowercase")
OF_IMAGES = (
    "extractor",
    "extractor_weights",
    "extractor_hash",
    "count",
    "repeats",
    "weights",
    "adapter",
    "root",
    "device",
)


def add_options(parser: ArgumentParser) -> None:
    """The options of texts alone."""
    parser.add_argument("--bleu_tokenize", default="13a", help=f"for bleu: one of {','.join(TOKENIZERS)} (default 13a)")
    parser.add_argument("--lowercase", action="store_true", help="for texts: whether case is disregarded")


def wanted(options: argparse.Namespace, parser: ArgumentParser) -> bool:
    """Whether texts are to be scored: by the source's name.

    Raises:
        UserError: for a metric or an option of texts, and another source.
    """
    if Path(options.source).suffix.lower() == SUFFIX:
        return True
    named = [name for name in (options.metrics or "").split(",") if name.strip() in KEYS]
    if named:
        raise UserError(
            f"--metrics: {named[0].strip()} is of texts; {options.source} was found, a {SUFFIX} is expected"
        )
    for name in OF_TEXTS:
        if getattr(options, name) != parser.get_default(name):
            raise UserError(f"--{name}: it has no meaning for {options.source}, which is no {SUFFIX}; leave it out")
    return False


def score(options: argparse.Namespace, parser: ArgumentParser) -> Result:
    """The numbers of all texts of ``options.source`` against those of ``options.reference``, line by line.

    Raises:
        UserError: for options of images, an unknown metric, a missing package, or files that do not fit together.
    """
    names = [name.strip() for name in (options.metrics or ",".join(KEYS)).split(",")]
    for name in names:
        if name not in KEYS:
            known = f"expected for texts are {', '.join(KEYS)}"
            raise UserError(f"--metrics: {name!r} is not a metric of texts{nearest(name, KEYS)} ({known})")
    for name in OF_IMAGES:
        if getattr(options, name) != parser.get_default(name):
            raise UserError(f"--{name}: it has no meaning for texts, which are scored as they are; leave it out")
    with under("--"):
        metrics = metrics_of(names, options.bleu_tokenize, options.lowercase)
    texts = read_texts(Path(options.source), "evaluate")
    references = read_references(Path(options.reference), "--reference")
    if len(texts.values) != len(references.values):
        raise UserError(
            f"--reference: {options.reference} holds references of {len(references.values):,} texts, and "
            f"{options.source} holds {len(texts.values):,} texts; equal numbers are expected, line by line"
        )
    pairs = zip(texts.values, references.values, strict=True)
    rows = [count_each(metrics, text, found) for text, found in pairs]
    values, record = scored(metrics, rows, [len(found) for found in references.values])
    source = {
        "source": options.source,
        "source_sha256": texts.sha256,
        "reference": {"file": options.reference, "sha256": references.sha256},
        "lowercase": options.lowercase,
    }
    return Result(values, {}, record | source)
