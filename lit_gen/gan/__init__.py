"""The GAN family: alternating updates of a generator and a discriminator.

Reading order: ``losses.py`` (the formulas), ``module.py`` (the alternating step), ``dcgan.py``, ``mlp.py`` (networks),
``ema.py`` (the averaged generator). This file imports nothing: networks and losses load without lightning.
"""
