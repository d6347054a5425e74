"""``fetch``: get everything that a config needs, or a model of the hub, with a network, and print it with hashes."""

import hashlib
from pathlib import Path
from typing import Any

import yaml
from lightning import LightningDataModule

from lit_gen.cli.config import files as configs
from lit_gen.cli.config.explain import explain
from lit_gen.cli.config.files import Config, merge
from lit_gen.cli.config.parser import Parser
from lit_gen.cli.config.taken import take
from lit_gen.cli.launch.quiet import quiet
from lit_gen.core.errors import UserError
from lit_gen.data import names  # noqa: F401
from lit_gen.data.hub import fetch
from lit_gen.data.module import DataModule, data_root
from lit_gen.evaluation.extractors.base import INCEPTION


def run(arguments: list[str]) -> int:
    """Run ``fetch --config X`` (with any ``--data`` option of fit) or ``fetch MODEL`` and return the exit code."""
    if "--help" in arguments or "-h" in arguments:
        print(
            "usage: lit-gen fetch --config CONFIG [--data... as for fit]\n"
            "       lit-gen fetch MODEL [--revision BRANCH, TAG OR COMMIT]\n\n"
            "Fetch a config's files, and print them with their hashes; or a language model of\n"
            "the Hugging Face hub into LIT_GEN_DATA/NAME, for --model.network.pretrained.\n\n"
            "examples:\n"
            "  lit-gen fetch --config dcgan_cifar10.yaml\n"
            "  lit-gen fetch --config gpt_shakespeare.yaml --data.root data\n"
            "  lit-gen fetch openai-community/gpt2"
        )
        return 0
    files, rest = take(arguments[1:], "--config")
    if not files and rest and (not rest[0].startswith("-") or rest[0].partition("=")[0] == "--revision"):
        return _manifest(_model(rest))
    if not files and not rest:
        raise UserError("fetch: --config is expected, a file or the name of a shipped config")
    config: Config = {}
    for file in files:
        config = merge(config, configs.read(configs.resolve(file)))
    quiet()
    paths = fetched(_datamodule(config.get("data"), rest))
    if any(_needs_inception(element) for element in (config.get("trainer") or {}).get("callbacks") or []):
        from lit_gen.evaluation.extractors.inception import published_file  # imports torch-fidelity: two seconds

        paths.append(published_file())
    return _manifest(paths)


def _model(words: list[str]) -> list[Path]:
    """A model of the hub, by its name and ``--revision``."""
    revisions, models = take(words, "--revision")
    if len(models) != 1 or models[0].startswith("-") or len(revisions) > 1:
        raise UserError(f"fetch: {' '.join(words)} was found, --config CONFIG or one MODEL [--revision R] is expected")
    return fetch(models[0], revisions[0] if revisions else None, data_root(None))


def _manifest(paths: list[Path]) -> int:
    """Print files with their hashes; returns the exit code."""
    for path in paths:
        with path.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        print(f"sha256 {digest}  {path.stat().st_size:>12,}  {path}")
    return 0


def _needs_inception(callback: object) -> bool:
    """Whether a callback of a config uses Inception's published weights, as FID does by default."""
    options: Any = callback if isinstance(callback, dict) else {"class_path": callback}
    if str(options.get("class_path")).rsplit(".", 1)[-1] != "FID":
        return False
    arguments = options.get("init_args") or {}
    return arguments.get("extractor", INCEPTION) == INCEPTION and not arguments.get("extractor_weights")


def _datamodule(config: object, options: list[str]) -> LightningDataModule:
    reader = Parser()
    reader.add_argument("--config", action="config")
    reader.add_subclass_arguments(LightningDataModule, "data", required=True)
    text = yaml.safe_dump({"data": config} if config else {})
    try:
        parsed = reader.parse_args([f"--config={text}", *options])
    except UserError as error:
        raise UserError(explain(str(error), reader, {"data": config}, options)) from error.__cause__
    module: LightningDataModule = reader.instantiate(parsed).data
    return module


def fetched(datamodule: LightningDataModule) -> list[Path]:
    """Fetch a data module's files and return their paths."""
    datamodule.prepare_data()
    return datamodule.files() if isinstance(datamodule, DataModule) else []
