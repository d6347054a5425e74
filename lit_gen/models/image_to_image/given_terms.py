"""The terms that a module is given: own functions among them, their names in the log, their values."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lit_gen.core.batches import Batches
from lit_gen.core.blame import named, shown
from lit_gen.core.errors import UserError
from lit_gen.models.image_to_image.terms import Comparison, Reconstruction
from lit_gen.training.meeting import parts_of


class FunctionTerm(Reconstruction):
    """A plain function as a term.

    Args:
        function: of images made and targets, to a scalar.
    """

    def __init__(self, function: Comparison) -> None:
        super().__init__()
        self.function = function

    @property
    def name(self) -> str:
        """The function's name."""
        return getattr(self.function, "__name__", type(self.function).__name__)

    def meets(self, batches: Batches) -> str | None:
        """Say that each part has its own value, if the function is not seen to be a mean over images."""
        divided = parts_of(batches, ranks=True)
        return f"{self.name} per {divided}" if divided and not self._is_mean_of_rows() else None

    def _is_mean_of_rows(self) -> bool:
        """Whether the value of a batch is the mean of those of its halves; false if that cannot be tried."""
        ramp = torch.linspace(-1, 1, 4 * 3 * 16 * 16).view(4, 3, 16, 16)
        made, target = ramp.sin() * 0.9, (ramp * 7).cos()
        try:
            whole, *halves = (self.function(made[rows], target[rows]) for rows in (slice(4), slice(2), slice(2, 4)))
            return bool(torch.allclose(whole, (halves[0] + halves[1]) / 2, atol=1e-5))
        except Exception:  # of one channel only, or of larger images
            return False

    def forward(self, made: Tensor, target: Tensor, mask: Tensor | None = None) -> Any:
        """The function's value."""
        return self.function(made, target)


def term_names(given: Sequence[Reconstruction]) -> list[str]:
    """Their names in the log; a second `L1` is ``l1_2``."""
    names: list[str] = []
    for term in given:
        same = sum(name.rpartition("_")[0] == term.name or name == term.name for name in names)
        names.append(f"{term.name}_{same + 1}" if same else term.name)
    return names


def reconstructions(given: Sequence[Any]) -> list[Reconstruction]:
    """The terms of a module's constructor, functions as `FunctionTerm`.

    Raises:
        UserError: for what is neither.
    """
    made = []
    for one in given:
        if not isinstance(one, Reconstruction):
            if isinstance(one, nn.Module) or not callable(one):
                raise UserError(f"model.reconstruction: {named(one)} is no function and no subclass of Reconstruction")
            needed = _arguments(one)
            if needed not in (2, None):
                takes = f"takes {needed} arguments, two, images made and their targets, are expected"
                raise UserError(f"model.reconstruction: {named(one)} {takes}")
            one = FunctionTerm(one)
        made.append(one)
    return made


def _arguments(function: Comparison) -> int | None:
    """How many arguments a function needs; None for one of C++, which does not say."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:
        return None
    return sum(p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters)


def value_of(term: Reconstruction, made: Tensor, target: Tensor, mask: Tensor | None) -> Tensor:
    """A term's value.

    Raises:
        UserError: if it is no scalar tensor.
    """
    value = term(made, target, mask)
    if not isinstance(value, Tensor) or value.ndim:
        which = named(term.function if isinstance(term, FunctionTerm) else term)
        expected = "a scalar tensor is expected (take its mean)"
        raise UserError(f"model.reconstruction: {which} returned {shown(value)}, {expected}")
    return value
