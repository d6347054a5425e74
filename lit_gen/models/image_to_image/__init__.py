"""The family of image to image: networks from images to images that learn from pairs.

Translation, super-resolution, inpainting and denoising are data, not modules: one training step serves them all, with a
discriminator or without. Reading order: ``module.py`` (the step), ``terms.py`` (what compares an output with its
target), ``unet.py`` and the other networks, ``sizes.py`` and ``tiles.py`` (images of any size), ``checks.py`` (what is
refused). This file imports nothing: all files except ``module.py`` load without lightning.
"""
