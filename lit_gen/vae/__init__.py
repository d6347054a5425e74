"""The VAE family: an encoder, a bottleneck and a decoder trained on a bound of log p(x), in nats.

Reading order: ``objectives.py`` (the bounds), ``likelihoods.py`` with its ``distributions.py`` and ``logistics.py``
(what the decoder's output means), ``bottleneck.py`` with its ``latents.py`` (posterior, prior and KL; the contract for
others), ``mlp.py`` and ``convolutional.py`` with their ``layers.py`` (the networks), ``numerics.py`` (two small
functions). This file imports nothing: all but ``module.py`` load without lightning.
"""
