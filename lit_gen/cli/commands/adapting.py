"""``--adapter``: an adapter of peft's folder, or of another run, on the networks of a run that has none."""

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lit_gen.core.cache import hash_of_file
from lit_gen.core.errors import UserError, under
from lit_gen.core.terminal import one_line
from lit_gen.protocols.images import Weights
from lit_gen.runs.opened import Run, load
from lit_gen.training.adapters import peft_files
from lit_gen.training.adapters.peft_config import CONFIG
from lit_gen.training.module import TrainingModule

OPTION = "--adapter"


def put_on(opened: Run, path: str, weights: Weights, trust: list[str]) -> dict[str, str]:
    """Put an adapter on what a run draws with.

    Args:
        opened: a run without an adapter.
        path: peft's folder, or a run or checkpoint with ``model.adapter`` that began with this run's weights.
        weights: which of the run's networks get it, and which of the other run's adapters, if it averaged it.
        trust: see `lit_gen.runs.opened.load`.

    Returns:
        What a record says of it: where it was, and the SHA-256 of its file.

    Raises:
        UserError: for a run with an adapter, or an adapter that cannot be read or is of another network.
    """
    model: Any = opened.model
    if not isinstance(model, TrainingModule):
        raise UserError(f"{OPTION}: {opened.checkpoint} ({type(model).__name__}) takes none")
    if model.adapter is not None:
        raise UserError(f"{OPTION}: {opened.checkpoint} has an adapter of its own; a run without one is expected")
    network, source = model.adaptable(weights), Path(path)
    if any((source / name).exists() for name in (CONFIG, peft_files.WEIGHTS, peft_files.PICKLE)):
        with under(f"{OPTION}: "):
            model.adapter = peft_files.attach(network, source)
        file = source / peft_files.WEIGHTS
    else:
        with under(f"{OPTION}: "):
            other = load(source, trust)
            _take_over(model, network, other, opened.checkpoint, weights)
        file = other.checkpoint
    return {"adapter": str(file), "adapter_sha256": hash_of_file(file)}


def of_source(source: object, options: argparse.Namespace) -> dict[str, str]:
    """Put ``--adapter``, if it was given, on what is evaluated; see `put_on`.

    Raises:
        UserError: as there, and for images of no run.
    """
    if options.adapter is None:
        return {}
    if not isinstance(source, Run):
        raise UserError(f"{OPTION}: {options.source} is no run; a run without an adapter is expected")
    return put_on(source, options.adapter, options.weights or "ema", options.trust)


def _take_over(model: TrainingModule, network: nn.Module, other: Run, base: Path, weights: Weights) -> None:
    """Put the adapter of another run on a network whose weights that run began with."""
    theirs: Any = other.model
    if type(theirs) is not type(model) or theirs.adapter is None:
        told = f"a {type(model).__name__} with model.adapter" if type(theirs) is not type(model) else "model.adapter"
        raise UserError(f"{other.checkpoint} is no run with {told}; one, or peft's folder, is expected")
    adapted = theirs.adaptable(weights)
    trained = {name for name, p in theirs.adaptable("raw").named_parameters() if p.requires_grad}
    frozen = {name: p for name, p in adapted.named_parameters() if name not in trained}
    own = dict(network.named_parameters())
    for name in (*own, *frozen):
        here, there = own.get(name), frozen.get(name)
        if name in trained:  # a module that was trained whole
            same = here is not None and here.shape == dict(adapted.named_parameters())[name].shape
        else:
            same = here is not None and there is not None and here.shape == there.shape and torch.equal(here, there)
        if not same:
            told = f"{one_line(name)} differs from that of {base}"
            raise UserError(f"{other.checkpoint} began with other weights: {told}; an adapter of that run is expected")
    theirs.adapter.apply(network)
    network.load_state_dict(adapted.state_dict())
    model.adapter = theirs.adapter
