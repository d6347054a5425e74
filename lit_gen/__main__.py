"""``python -m lit_gen`` and ``lit-gen``: both put the working folder first on the path, then run the command line."""

import sys
from pathlib import Path


def main() -> None:
    """Run the command line and exit with its code."""
    folder = str(Path.cwd())
    if folder not in sys.path[:1]:
        sys.path.insert(0, folder)  # a user's own file beside the config is found by its dotted name
    from lit_gen.cli.entry import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
