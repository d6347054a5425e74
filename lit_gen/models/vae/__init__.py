"""The VAE family: an encoder, a bottleneck and a decoder trained on a bound of log p(x), in nats.

Reading order: ``objectives.py`` (the bounds), ``bottleneck.py`` with its ``latents.py`` (posterior, prior and KL; the
contract for others), ``mlp.py`` and ``convolutional.py`` with their ``layers.py`` (the networks).
`lit_gen.models.likelihoods` interprets the decoder's output. This file imports nothing: all files except ``module.py``
load without lightning.
"""
