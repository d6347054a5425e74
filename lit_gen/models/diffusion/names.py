"""Classes that a config may give by name: ``--model Diffusion``, ``--model.solver Heun``."""

from lit_gen.models.diffusion import (  # noqa: F401
    coupling,
    dit,
    mlp,
    module,
    parametrizations,
    paths,
    sources,
    times,
    unet,
    weightings,
)
from lit_gen.models.diffusion.likelihood import bound, probability_flow  # noqa: F401
from lit_gen.models.diffusion.solvers import adaptive, ode, sde  # noqa: F401
