"""The top level of the command line; imports what a command needs when it runs, so that help answers at once."""

import gc
import importlib
import os
import sys
from types import ModuleType

from lit_gen import __version__
from lit_gen.cli.commands import help as help_pages

COMMANDS = {
    "fit": ("lit_gen.cli.commands.train", "train a model: fit --config gan.yaml; continue a run: fit --resume RUN"),
    "validate": ("lit_gen.cli.commands.train", "evaluate a checkpoint on the validation split"),
    "test": ("lit_gen.cli.commands.train", "evaluate a checkpoint on the test split"),
    "predict": (
        "lit_gen.cli.commands.train",
        "write a PNG per test image: a sample, a reconstruction, a changed image",
    ),
    "sample": (
        "lit_gen.cli.commands.sample",
        "draw images or write texts: sample RUN --n 64, sample RUN --prompt TEXT",
    ),
    "transform": (
        "lit_gen.cli.commands.transform",
        "translate, enlarge, fill in or denoise images: transform RUN FOLDER --out DIR",
    ),
    "chat": ("lit_gen.cli.commands.chat", "talk with a model of conversations: chat RUN"),
    "evaluate": (
        "lit_gen.cli.commands.evaluate",
        "score images or a run: evaluate DIR --reference cifar10 --metrics fid,kid",
    ),
    "export": (
        "lit_gen.cli.commands.export",
        "write the network that makes images or texts as safetensors: export RUN FILE",
    ),
    "fetch": ("lit_gen.cli.commands.fetch", "download everything that a config needs, where there is a network"),
    "check": (
        "lit_gen.cli.commands.check",
        "test your own loss, regularizer or network as ours are tested: check my_file.MyPenalty",
    ),
    "sweep": ("lit_gen.cli.commands.sweep", "check a W&B sweep file, and print its trials' command lines"),
    "slurm": ("lit_gen.cli.commands.slurm", "print a batch file for SLURM: slurm train > train.sbatch"),
    "configs": ("lit_gen.cli.commands.configs", "list the shipped configs"),
}

_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
"""Variables that lightning reads, as numbers, when it is imported."""

HELP = """usage: lit-gen COMMAND [options]

Experiments with generative models on Lightning.

commands:
{commands}

options:
  --help       this page; lit-gen COMMAND --help for a command's options
  --version    the version
  --debug      show the traceback of an error

A first run: lit-gen fit --config gan.yaml
"""


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code."""
    debug = "--debug" in arguments
    arguments = [a for a in arguments if a != "--debug"]
    try:
        return _dispatch(arguments)
    except BaseException as error:
        from lit_gen.cli import errors

        told = errors.explain(error, arguments[0] if arguments else "")
        if told is None:
            errors.leave_with_traceback(error)
            raise
        code, message = told
        if debug:
            import traceback

            traceback.print_exc()
        return errors.leave(code, message)


def _meant(word: str) -> str:
    """The command that was meant, or what is missing before the word."""
    from lit_gen.core.errors import nearest

    if " " in word:
        return "; it was found as one word, and is expected without quotes"
    if word.endswith((".yaml", ".yml")):
        return f"; did you mean fit --config {word}?"
    if near := nearest(word, ("--help", "--version")):
        return near
    if word.startswith("-"):
        return "; a command is expected before the options, such as fit"
    habits = {
        "train": "fit",
        "run": "fit",
        "resume": "fit",
        "eval": "evaluate",
        "generate": "sample",
        "list": "configs",
        "translate": "transform",
        "talk": "chat",
    }
    return f"; did you mean {habits[word]!r}?" if word in habits else nearest(word, COMMANDS)


def _dispatch(arguments: list[str]) -> int:
    command = arguments[0] if arguments else "--help"
    if command in ("--help", "-h"):
        print(
            HELP.format(commands="\n".join(f"  {name:12} {text}" for name, (_, text) in COMMANDS.items())),
            end="",
        )
        return 0
    if command == "--version":
        print(f"lit_gen {__version__}")
        return 0
    from lit_gen.core.errors import UserError

    if command not in COMMANDS:
        raise UserError(f"{command!r} is no command{_meant(command)} (expected one of {', '.join(COMMANDS)})")
    from lit_gen.core.variables import number

    for name in _RANKS:
        if name in os.environ:
            number(os.environ, name)
    trains = COMMANDS[command][0] == "lit_gen.cli.commands.train"
    if trains and {"--help", "-h"} & set(arguments):
        return help_pages.run(command, [word for word in arguments[1:] if word not in ("--help", "-h")])
    from lit_gen.runs import slurm

    if trains and slurm.needs_srun():
        from lit_gen.runs import srun

        return srun.start(arguments)
    if trains:  # signals of a fit are those of `lit_gen.callbacks.stop`
        return int(_imported(COMMANDS[command][0]).run(arguments))
    from lit_gen.runs import signals

    with signals.terminable():
        return int(_imported(COMMANDS[command][0]).run(arguments))


def _imported(name: str) -> ModuleType:
    """Import a command without collections of garbage, which take a sixth of the time to import torch and lightning.

    What was imported stays, so later collections leave it out.
    """
    if name in sys.modules or not gc.isenabled():
        return importlib.import_module(name)
    gc.disable()
    try:
        module = importlib.import_module(name)
    finally:
        gc.enable()
    gc.freeze()
    return module
