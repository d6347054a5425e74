"""A folder that the library transformers loads, written from our `Transformer`: the same logits, the same numbers."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import nn

from lit_gen.core.blame import named
from lit_gen.core.errors import UserError
from lit_gen.core.files import write_whole
from lit_gen.core.ours import keep_others
from lit_gen.models.lm.huggingface.config import config_of
from lit_gen.models.lm.huggingface.folder import INDEX, WEIGHTS
from lit_gen.models.lm.huggingface.names import Heads, to_theirs
from lit_gen.models.lm.transformer import Transformer
from lit_gen.protocols.text import Tokenizer
from lit_gen.tokenizers.bpe import BpeTokenizer
from lit_gen.training.hparams import constructor_arguments, describe

TOKENIZER = ("tokenizer.json", "tokenizer_config.json")


def write(
    network: nn.Module,
    folder: str | Path,
    tokenizer: Tokenizer | None = None,
    checkpoint: str = "",
    overwrite: bool = False,
) -> bool:
    """Write ``config.json``, ``model.safetensors`` and, where it is one of the library tokenizers, the tokenizer.

    Args:
        network: a `Transformer` whose options GPT-2, Llama, Qwen2 or Qwen3 has.
        folder: where; made if it is not there.
        tokenizer: of the texts that it was trained on; its end of text ends a text there too.
        checkpoint: the file's name, for the record.
        overwrite: replace files of these names.

    Returns:
        Whether the tokenizer was written.

    Raises:
        UserError: if no architecture has such options, or other files are in the way.
    """
    path = Path(folder)
    if not isinstance(network, Transformer):
        raise UserError(f"--format huggingface: {named(network)} was found; only a Transformer has a form there")
    options = {name: getattr(network, name) for name in constructor_arguments(Transformer)}
    config = config_of(options)
    config["eos_token_id"] = None if tokenizer is None else tokenizer.end_of_text
    files: dict[str, bytes | str] = {"config.json": _text(config)}
    about = {"format": "pt", "network": json.dumps(describe(network, "network")), "checkpoint": checkpoint}
    state = {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()}
    heads = Heads(network.n_head, network.n_kv_head)
    files[WEIGHTS] = save(to_theirs(config["model_type"], state, heads), about)
    files |= _tokenizer_files(tokenizer, network.block_size)
    _check(path, files, overwrite)
    for name, content in files.items():
        write_whole(path / name, content)
    return TOKENIZER[0] in files


def _check(path: Path, files: Mapping[str, Any], overwrite: bool) -> None:
    if path.exists() and not path.is_dir():
        raise UserError(f"export: {path} is a file, the name of a folder is expected for --format huggingface")
    foreign = [name for name in (INDEX, *TOKENIZER) if name not in files and (path / name).exists()]
    if foreign:
        raise UserError(f"export: {path / foreign[0]} is of another model; a folder without it is expected")
    keep_others([path / name for name in files], "export", overwrite)


def _tokenizer_files(tokenizer: Tokenizer | None, longest: int) -> dict[str, str]:
    """What `AutoTokenizer` reads; nothing for characters and bytes, which have no form there."""
    if not isinstance(tokenizer, BpeTokenizer):
        return {}
    about: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": longest,
        "clean_up_tokenization_spaces": False,
    }
    if tokenizer.end_of_text is not None:
        about["eos_token"] = {number: token for token, number in tokenizer.ids().items()}[tokenizer.end_of_text]
    content = json.loads(tokenizer.to_json())["tokenizer"]
    return dict(zip(TOKENIZER, (_text(content), _text(about)), strict=True))


def _text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
