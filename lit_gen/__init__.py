"""lit_gen: experiments with generative models on Lightning.

This module imports nothing, so that ``lit-gen --version`` answers at once. Its rooms:

- ``gan/``: a family is a training algorithm; its folder holds the step, the losses and the networks
- ``data/``: data sets, as uint8 in memory; ``callbacks/``: what watches a run; ``cli/``: the command line
- ``protocols.py``: the contracts between rooms; ``randomness.py``: the only source of random numbers

``lit_gen.load(path)`` opens a run or a checkpoint in a notebook; see `lit_gen.loading`.
"""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "load":
        from lit_gen.loading import load

        return load
    raise AttributeError(f"module 'lit_gen' has no attribute {name!r}")
