"""The GAN family: alternating updates of a generator and a discriminator.

Reading order: ``module.py`` (the alternating updates), ``dcgan.py`` and the other networks, ``checks.py`` (what is
refused). The formulas and the terms of a step are in `lit_gen.models.adversarial`. This file imports nothing: all files
except ``module.py`` load without lightning.
"""
