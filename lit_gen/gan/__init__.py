"""The GAN family: alternating updates of a generator and a discriminator.

Reading order: ``losses.py`` and ``penalties.py`` (the formulas), ``context.py`` (what a regularizer is given),
``step.py`` (the loss terms of one micro-batch), ``module.py`` (the alternating updates), ``dcgan.py`` and the other
networks, ``augment.py``, ``sampling.py``. This file imports nothing: all but ``module.py`` load without lightning.
"""
