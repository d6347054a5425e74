"""What is compared before the first step: the parts of the model with each other, and with the data."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lit_gen.core.blame import named
from lit_gen.core.errors import UserError
from lit_gen.core.options import expect
from lit_gen.models.diffusion.base import Path
from lit_gen.models.diffusion.coupling import Coupling
from lit_gen.models.diffusion.denoiser import Denoiser
from lit_gen.models.diffusion.likelihood.base import Likelihood
from lit_gen.models.diffusion.solvers.base import Solver
from lit_gen.models.diffusion.sources import Normal, Source


def check_network(network: object) -> None:
    """Refuse a network without a shape.

    Raises:
        UserError: names the network.
    """
    sizes = getattr(network, "shape", ())
    whole = isinstance(sizes, tuple | list) and len(sizes) == 3 and all(isinstance(n, int) for n in sizes)
    if not whole:
        told = "has no shape (C, H, W); lit_gen.protocols.diffusion.DenoisingNetwork says what is expected"
        raise UserError(f"model.network: {named(network)} {told}")


def check_solver(solver: Solver, path: Path, coupling: Coupling | None, source: Source | None) -> None:
    """Refuse a solver that cannot go along a path, and one that adds noise where x_t is not data and fresh noise.

    With a coupling, or another source, the velocity is the model's; the score, which noise is weighed against, is not.

    Raises:
        UserError: names the options.
    """
    solver.check(path)
    named_parts = {"coupling": coupling, "source": source}
    other = next((name for name, part in named_parts.items() if part is not None and type(part) is not Normal), None)
    if solver.noisy and other is not None:
        told = f"{type(solver).__name__} adds noise, but with model.{other} {type(named_parts[other]).__name__}"
        raise UserError(
            f"model.solver: {told} the noise of a sample belongs to its data; Euler, Heun or Adaptive is expected"
        )


def check_precision(numbers: Tensor, precision: str) -> None:
    """Refuse a precision that rounds the times and the noise, or in which samples are not drawn.

    Args:
        numbers: as the trainer's precision makes them of float32.
        precision: its name.

    Raises:
        UserError: names the precision.
    """
    if numbers.dtype != torch.float32:
        told = f"{precision} was found, in which times, noise or samples have another precision than the weights"
        raise UserError(f"trainer.precision: {told}; 32-true or bf16-mixed is expected")


def check_guidance(
    num_classes: int | None,
    label_dropout: float,
    scale: float,
    interval: tuple[float, float] | None = None,
    option: str = "model.",
) -> None:
    """Refuse guidance that the model cannot follow.

    Args:
        num_classes: of the network.
        label_dropout: in its training.
        scale: of the guidance.
        interval: of sigma / alpha.
        option: what precedes the name of the option in a message.

    Raises:
        UserError: for an unconditional network, or one that was never trained without labels.
    """
    finite = isinstance(scale, int | float) and -1e6 < scale < 1e6
    expect(finite, f"{option}guidance_scale", scale, "a number such as 1.5")
    if interval is not None and not 0 <= interval[0] < interval[1]:
        found = f"{list(interval)} was found, two numbers of at least 0, the larger one last, are expected"
        raise UserError(f"{option}guidance_interval: {found}")
    if num_classes is None and label_dropout:
        found = f"{label_dropout:g} was found, but the network is unconditional and gets no labels"
        raise UserError(f"model.label_dropout: {found}; 0 or a conditional network is expected")
    if scale == 1:
        return
    if num_classes is None:
        found = f"{scale:g} was found, but the network is unconditional: there is no class to be guided to"
        raise UserError(f"{option}guidance_scale: {found}; 1 or a conditional network is expected")
    if not label_dropout:
        found = f"{scale:g} was found, but the network is never trained without labels, which guidance compares with"
        raise UserError(f"{option}guidance_scale: {found}; 1 or model.label_dropout above 0, such as 0.1, is expected")


def check_facts(denoiser: Denoiser, likelihood: Likelihood | None, facts: Mapping[str, Any]) -> None:
    """Compare a denoiser with what its data are known to be.

    Args:
        denoiser: the model's.
        likelihood: of the model, whose levels those of the data must be.
        facts: of the data module; what it does not know is not compared.

    Raises:
        UserError: for another shape, or other numbers of classes or levels.
    """
    shape, levels = facts.get("shape"), facts.get("levels")
    if shape is not None and tuple(shape) != denoiser.shape:
        made = f"{named(denoiser.network)} is of data of shape {denoiser.shape}"
        raise UserError(f"model.network: {made}, but the data set has {tuple(shape)}")
    classes, of_data = denoiser.num_classes, facts.get("num_classes")
    if classes is not None and "num_classes" in facts and classes != of_data:
        has = "no labels" if of_data is None else f"{of_data} classes"
        raise UserError(f"model.network.num_classes: {classes} was found, the data set has {has}")
    if likelihood is not None and "levels" in facts and likelihood.levels != levels:
        found = "null" if likelihood.levels is None else likelihood.levels
        has = "are real numbers" if levels is None else f"have {levels} levels"
        raise UserError(f"model.likelihood.levels: {found} was found, but the data {has}")
