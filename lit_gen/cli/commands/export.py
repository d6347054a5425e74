"""``export``: the network of a model that is useful by itself, as safetensors or as a folder for transformers."""

from lit_gen.cli.errors import ArgumentParser
from lit_gen.core.errors import UserError, note
from lit_gen.core.terminal import printable
from lit_gen.models.lm.huggingface import writing
from lit_gen.protocols.images import Weights
from lit_gen.protocols.training import Exportable
from lit_gen.runs.opened import Run, load


def run(arguments: list[str]) -> int:
    """Run ``export`` and return the exit code."""
    parser = ArgumentParser(
        "export",
        "Write the network that makes images or texts to a safetensors file.",
        "runs/gan generator.safetensors",
        "runs/gan/one/checkpoints/step=00005000.ckpt g.safetensors --weights raw",
        "runs/gpt gpt/ --format huggingface",
    )
    parser.add_argument(
        "path",
        metavar="RUN_OR_CHECKPOINT",
        help="a checkpoint file, a run directory, or runs/NAME (the newest run of that name)",
    )
    parser.add_argument("file", metavar="FILE.safetensors", help="the file to write; a folder for huggingface")
    parser.add_argument(
        "--format",
        choices=["safetensors", "huggingface"],
        default="safetensors",
        help="huggingface: a folder that transformers loads, of a Transformer like GPT-2, Llama, Qwen2 or Qwen3",
    )
    parser.add_argument(
        "--weights",
        choices=["ema", "raw"],
        default="ema",
        help="averaged or raw weights (default ema; raw where no average is kept)",
    )
    parser.add_trust()
    parser.add_overwrite()
    options = parser.parse_args(arguments[1:])
    opened = load(options.path, options.trust)
    if options.format == "huggingface":
        _write_folder(opened, options.file, options.weights, options.overwrite)
    else:
        opened.export(options.file, options.weights, options.overwrite)
    print(printable(options.file))
    return 0


def _write_folder(opened: Run, folder: str, weights: Weights, overwrite: bool) -> None:
    """Write the network of a language model for transformers, and say if its tokenizer has no form there."""
    model = opened.model
    if not isinstance(model, Exportable):
        raise UserError(f"{opened.checkpoint}: {type(model).__name__} has no network to export")
    network, tokenizer = model.exported(weights).network, getattr(model, "tokenizer", None)
    if not writing.write(network, folder, tokenizer, opened.checkpoint.name, overwrite) and tokenizer is not None:
        note(f"the tokenizer {tokenizer.name} has no form in transformers, so that {folder} has no tokenizer.json")
