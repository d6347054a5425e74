"""Short names of solvers, for the command line."""

from lit_gen.core.errors import UserError
from lit_gen.core.options import expect, one_of, whole_number
from lit_gen.models.diffusion.solvers.adaptive import Adaptive
from lit_gen.models.diffusion.solvers.base import Solver, Stepwise
from lit_gen.models.diffusion.solvers.ode import DPMSolver, Euler, Heun
from lit_gen.models.diffusion.solvers.sde import DDIM, Ancestral, Stochastic

__all__ = ["SOLVERS", "solver_of"]

STEPWISE: dict[str, type[Euler | Heun | Ancestral | DDIM | DPMSolver | Stochastic]] = {
    "euler": Euler,
    "heun": Heun,
    "ddpm": Ancestral,
    "ddim": DDIM,
    "dpm++": DPMSolver,
    "edm": Stochastic,
}
SOLVERS = (*STEPWISE, "adaptive")
"""What `solver_of` knows."""


def solver_of(name: str | None, steps: int | None, default: Solver, most: int | None = None) -> Solver:
    """The solver that ``--solver heun --steps 20`` asks for.

    Args:
        name: one of `SOLVERS`; None for the default.
        steps: None for the solver's own.
        default: the model's. Its other options are kept unless another class is asked for, which has its own defaults.
        most: steps of a discrete path; a solver's own default is at most that.

    Raises:
        UserError: for an unknown name, no whole number of steps, or steps of a solver that chooses them.
    """
    expect(steps is None or (isinstance(steps, int) and steps >= 1), "--steps", steps, whole_number(1))
    solver = default
    if name is not None:
        one_of(SOLVERS, "--", solver=name)
        wanted = STEPWISE.get(name, Adaptive)
        solver = default if type(default) is wanted else wanted()
        if most is not None and isinstance(solver, Stepwise) and solver.steps > most:
            solver = solver.with_steps(most)
    if steps is None:
        return solver
    expect(most is None or steps <= most, "--steps", steps, f"at most {most}, the steps of the model's path,")
    if not isinstance(solver, Stepwise):
        kind = type(solver).__name__
        raise UserError(
            f"--steps: {steps} was found, but {kind} chooses its steps; of --solver "
            f"{', '.join(STEPWISE)} they can be chosen"
        )
    return solver.with_steps(steps)
