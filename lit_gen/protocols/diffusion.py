"""The contracts of diffusion and flow matching: networks that denoise, fields, and solvers that integrate them.

Time t is 0 at data and grows with the noise, in the units of the path. A field has a time for each row, (B,).
"""

from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from lit_gen.protocols.images import IndexedDraws


@runtime_checkable
class DenoisingNetwork(Protocol):
    """A network that looks at noisy data; an ``nn.Module``. What its output means is the parametrization's choice."""

    shape: tuple[int, int, int]
    """(C, H, W) of the data; points and vectors of D numbers are (D, 1, 1)."""
    num_classes: int | None
    """Of a conditional network, for which the label ``num_classes`` means that the class is not given."""

    def __call__(self, x: Tensor, level: Tensor, labels: Tensor | None = None) -> Tensor:
        """Noisy data (B, C, H, W) and their noise levels (B,) to an output of the shape of ``x``.

        Args:
            x: scaled to about unit variance.
            level: a number for the level of noise, as the parametrization tells it.
            labels: int64 (B,), 0 to ``num_classes``, of a conditional network.
        """
        ...


class Marginal(Protocol):
    """The Gaussian path from data to noise: x_t = alpha(t) x_0 + sigma(t) e, with e from N(0, I).

    All methods take and return (B,), in the precision of t.
    """

    end: float
    """The time of the noise."""
    start: float
    """The least time at which the network is trained and asked."""

    @property
    def steps(self) -> int | None:
        """How many times a discrete path has, the whole numbers 1 to ``steps``; None of a continuous one."""
        ...

    def alpha(self, t: Tensor) -> Tensor:
        """What is left of the data; 1 at t = 0."""
        ...

    def sigma(self, t: Tensor) -> Tensor:
        """The standard deviation of the noise; 0 at t = 0."""
        ...

    def alpha_rate(self, t: Tensor) -> Tensor:
        """The derivative of `alpha`."""
        ...

    def sigma_rate(self, t: Tensor) -> Tensor:
        """The derivative of `sigma`."""
        ...

    def time_of(self, ratio: Tensor) -> Tensor:
        """The time at which sigma / alpha is ``ratio``, which never falls in t."""
        ...

    def grid(self, first: float, steps: int, last: float = 0.0) -> Tensor:
        """Times of a solver by default: from ``first`` down to ``last``, (steps + 1,), float64 on the CPU."""
        ...


class Field(Protocol):
    """What a solver integrates: the model of one block of samples, its condition and guidance included."""

    @property
    def path(self) -> Marginal:
        """The path that the model was trained on."""
        ...

    def denoised(self, x: Tensor, t: Tensor) -> Tensor:
        """The model's E[x_0 | x_t = x], of the shape of ``x``."""
        ...

    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        """The model's dx/dt of the probability-flow ODE, of the shape of ``x``."""
        ...

    def calls(self, t: Tensor) -> Tensor:
        """How often the network is called for a row at time t, float (B,): twice where guidance needs both."""
        ...


class Solved(NamedTuple):
    """What a solver found."""

    x: Tensor
    """(B, C, H, W) at the end of the span."""
    calls: Tensor
    """float (B,), network calls of each sample."""


@runtime_checkable
class Solver(Protocol):
    """From noise to data along a field; its arguments say how."""

    @property
    def settings(self) -> dict[str, Any]:
        """Its class and arguments, for records."""
        ...

    def check(self, path: Marginal) -> None:
        """Refuse a path on which it cannot draw.

        Raises:
            UserError: naming the option and the path.
        """
        ...

    def __call__(self, field: Field, x: Tensor, span: tuple[float, float], draws: IndexedDraws | None = None) -> Solved:
        """Integrate from time ``span[0]`` to ``span[1]``, which is 0 for samples.

        Args:
            field: the model; row i of what it returns depends only on row i of what it gets.
            x: (B, C, H, W) at time ``span[0]``.
            span: times, the first one larger for samples.
            draws: the noise of a stochastic solver.
        """
        ...
