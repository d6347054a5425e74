"""The diffusion family: a network that removes noise, trained by regression, and solvers that draw with it.

Reading order: ``paths.py`` (from data to noise), ``parametrizations.py`` (what the network predicts), ``times.py`` and
``weightings.py`` (which levels of noise count how much), ``denoiser.py`` (all of it as one field), ``solvers/`` and
``generator.py`` (from noise to data), ``likelihood/``, ``module.py`` (the training). ``coupling.py`` and ``sources.py``
are for flow matching between distributions. The networks are ``unet.py``, ``dit.py`` and ``mlp.py``.
"""
