"""``configs``: list the shipped configs."""

from lit_gen.cli.config.files import listing
from lit_gen.cli.errors import ArgumentParser


def run(arguments: list[str]) -> int:
    """Print a line for each shipped config and return the exit code."""
    parser = ArgumentParser(
        "configs",
        "List the shipped configs, each with its purpose. Copy one to change it, or override its options.",
        "",
        "| grep gan",
        "> configs.txt",
    )
    parser.parse_args(arguments[1:])
    print(listing(), end="")
    return 0
