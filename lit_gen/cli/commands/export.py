"""``export``: the network of a model that is useful by itself, as safetensors."""

from lit_gen.cli.errors import ArgumentParser
from lit_gen.core.terminal import printable
from lit_gen.runs.opened import load


def run(arguments: list[str]) -> int:
    """Run ``export`` and return the exit code."""
    parser = ArgumentParser(
        "export",
        "Write the network that makes images or texts to a safetensors file.",
        "runs/gan generator.safetensors",
        "runs/gan generator.safetensors --weights raw",
        "runs/gan/20260131-120000/checkpoints/step=00005000.ckpt g.safetensors --overwrite",
    )
    parser.add_argument(
        "path",
        metavar="RUN_OR_CHECKPOINT",
        help="a checkpoint file, a run directory, or runs/NAME (the newest run of that name)",
    )
    parser.add_argument("file", metavar="FILE.safetensors", help="the file to write")
    parser.add_argument(
        "--weights",
        choices=["ema", "raw"],
        default="ema",
        help="averaged or raw weights (default ema; raw where no average is kept)",
    )
    parser.add_trust()
    parser.add_overwrite()
    options = parser.parse_args(arguments[1:])
    load(options.path, options.trust).export(options.file, options.weights, options.overwrite)
    print(printable(options.file))
    return 0
