"""Data sets: ``module.py`` is what they share, ``images/`` and ``text/`` hold one file for each."""
