"""``export``: the network that draws or writes, as safetensors."""

from lit_gen.cli.errors import ArgumentParser
from lit_gen.runs.opened import load


def run(arguments: list[str]) -> int:
    """Run ``export`` and return the exit code."""
    parser = ArgumentParser("export", "Write the generator's averaged weights.")
    parser.add_argument("path", metavar="RUN_OR_CHECKPOINT")
    parser.add_argument("file", metavar="FILE.safetensors")
    options = parser.parse_args(arguments[1:])
    load(options.path).export(options.file)
    print(options.file)
    return 0
