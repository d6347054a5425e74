"""``slurm``: print a batch file to submit."""

from lit_gen.cli.config.files import shipped
from lit_gen.cli.errors import ArgumentParser
from lit_gen.core.errors import UserError, nearest


def run(arguments: list[str]) -> int:
    """Run ``slurm NAME`` and return the exit code."""
    files = {path.stem: path for path in shipped("slurm").values()}
    parser = ArgumentParser(
        "slurm", "Print a batch file for SLURM.", "train > train.sbatch", "sweep > sweep.sbatch", "train | less"
    )
    parser.add_argument("name", metavar="NAME", help="train: one run; sweep: agents of a W&B sweep")
    name = parser.parse_args(arguments[1:]).name.removesuffix(".sbatch")
    if name not in files:
        raise UserError(f"slurm: {name!r} was found, {' or '.join(files)} is expected{nearest(name, files)}")
    print(files[name].read_text(encoding="utf-8"), end="")
    return 0
