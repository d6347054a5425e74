"""Solvers: from noise to data along the field of a trained model; `lit_gen.protocols.diffusion.Solver`.

Reading order: ``base.py`` (the walk through a grid of times) and ``grids.py`` (which times), ``ode.py`` and ``sde.py``
(one formula each), ``adaptive.py`` (steps by tolerance), ``names.py``, ``editing.py`` (from a given image).
"""

from lit_gen.models.diffusion.solvers.adaptive import Adaptive
from lit_gen.models.diffusion.solvers.base import Solver
from lit_gen.models.diffusion.solvers.names import SOLVERS, solver_of
from lit_gen.models.diffusion.solvers.ode import DPMSolver, Euler, Heun
from lit_gen.models.diffusion.solvers.sde import DDIM, Ancestral, Stochastic

__all__ = [
    "DDIM",
    "SOLVERS",
    "Adaptive",
    "Ancestral",
    "DPMSolver",
    "Euler",
    "Heun",
    "Solver",
    "Stochastic",
    "solver_of",
]
