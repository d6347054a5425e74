"""The options of a run itself, as the parser of every command has them."""

from lightning.pytorch.cli import LightningArgumentParser


def add_to(parser: LightningArgumentParser) -> None:
    """Add where a run lies, its seed, and how it is resumed."""
    parser.add_argument(
        "--seed_everything", type=int, default=0, help="the run's seed, which determines every random draw"
    )
    parser.add_argument("--run_root", type=str, default="runs", help="folder of all runs")
    parser.add_argument(
        "--run_name", type=str | None, default=None, help="folder below run_root (default: the first config's name)"
    )
    parser.add_argument(
        "--run_id",
        type=str | None,
        default=None,
        help="folder below run_name, one for each run (default: the id of the sweep's trial, else of the SLURM "
        "job, else the time)",
    )
    parser.add_argument("--resume", type=str | None, default=None, help="fit: continue the run in this directory")
    parser.add_argument("--repeats", type=int | None, default=None, help="short for --trainer.callbacks.FID.repeats")
    parser.add_argument("--allow_changes", type=bool, default=False, help="with --resume: accept any changed option")
    parser.add_argument(
        "--take_over",
        type=bool,
        nargs="?",
        const=True,
        help="fit: take the run from a process that is still training it, which then ends",
    )
    parser.add_argument(
        "--trust",
        type=str | None,
        default=None,
        help="module that a run or checkpoint without your seal may import, such as my_net; may be given again",
    )
