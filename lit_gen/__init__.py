"""lit_gen: experiments with generative models on Lightning.

This module imports nothing, so that ``lit-gen --version`` answers at once. Its rooms:

- ``models/``: a family is a training algorithm; its folder holds the step and the networks
- ``data/``: data sets, as uint8 in memory; ``callbacks/``: what watches a run; ``cli/``: the command line
- ``training/``, ``evaluation/``, ``metrics/``, ``loggers/``, ``runs/``, ``tokenizers/``, ``laws/``: what these share
- ``core/``: what makes a number the same everywhere; ``protocols/``: the contracts between rooms

``lit_gen.load(path)`` opens a run or a checkpoint in a notebook; see `lit_gen.runs.opened`.
"""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "load":
        from lit_gen.runs.opened import load

        return load
    raise AttributeError(f"module 'lit_gen' has no attribute {name!r}")
