"""``sweep FILE --dry-run``: check a W&B sweep file, and print the command lines of its trials."""

import itertools
import shlex

from lit_gen.cli.config import files as configs
from lit_gen.cli.errors import ArgumentParser
from lit_gen.cli.launch.quiet import quiet
from lit_gen.cli.sweep import file as sweep_file
from lit_gen.core.errors import UserError, under
from lit_gen.core.options import at_least

GRID_LINES, EXAMPLE_LINES = 50, 3


def run(arguments: list[str]) -> int:
    """Run ``sweep FILE --dry-run`` and return the exit code."""
    parser = ArgumentParser(
        "sweep",
        "Check a W&B sweep file, and print the command lines of its trials.",
        "gan.yaml --dry-run",
        "gan_losses.yaml --dry-run --n 2",
        "my_sweep.yaml --dry-run",
    )
    parser.add_argument("file", metavar="FILE", help="a sweep file, or the name of a shipped one")
    parser.add_argument(
        "--dry-run", action="store_true", help="required: check and print only; `wandb sweep` starts a sweep"
    )
    parser.add_argument(
        "--n",
        type=int,
        help=f"command lines to print (default: {GRID_LINES} of a grid, else {EXAMPLE_LINES} random examples)",
    )
    options = parser.parse_args(arguments[1:])
    at_least(0, "sweep: --", n=options.n)
    path = configs.resolve(options.file, "sweeps")
    if not options.dry_run:
        raise UserError(
            f"sweep: --dry-run is expected, which checks the file; to start it, `wandb sweep {shlex.quote(str(path))}` "
            f"registers it and prints its ID, and `wandb agent ENTITY/PROJECT/ID` runs it"
        )
    with under(f"{path}: "):
        sweep = sweep_file.read(path)
        quiet()
        from lit_gen.cli.sweep import trials as sweep_trials  # imports lightning: seconds

        built = sweep_trials.check(sweep)
    metric = f", {sweep.metric['goal']} {sweep.metric['name']}" if sweep.metric else ""
    cap = f", at most {sweep.run_cap} trials" if sweep.run_cap else ""
    size = sweep_trials.grid_size(sweep) if sweep.method == "grid" else 0
    which = "of all its trials" if built == size else "with each value or end of a range"
    print(f"# {path}: {sweep.method}{metric}{cap}")
    print(f"# {built} configurations were built, {which}, and none was refused")
    if sweep.method == "grid":
        shown = min(size, GRID_LINES if options.n is None else options.n)
        print(f"# {size} trials" + ("" if shown == size else f", the first {shown} (--n {size} shows all)"))
        trials = itertools.islice(sweep_trials.grid(sweep), shown)
    else:
        chooses = "; bayes will choose by what it has seen" if sweep.method == "bayes" else ""
        print(f"# examples, drawn at random from the distributions{chooses}")
        trials = itertools.islice(sweep_trials.examples(sweep), EXAMPLE_LINES if options.n is None else options.n)
    for values in trials:
        print(shlex.join(sweep_trials.words(sweep, values)))
    return 0
