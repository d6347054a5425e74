"""Solvers: from noise to data along the field of a trained model; `lit_gen.protocols.diffusion.Solver`.

Reading order: ``base.py`` (the walk through a grid of times) and ``grids.py`` (which times), ``ode.py`` and ``sde.py``
(one formula each), ``adaptive.py`` (steps by tolerance), ``names.py``, ``editing.py`` (from a given image).
"""
