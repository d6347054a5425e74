"""The flow family: a bijection from data to noise, trained on the exact log-likelihood, in nats.

Reading order: ``density.py`` (the likelihood and how samples are drawn), ``dequantization.py`` and ``support.py`` (from
images to the real line), ``vectors.py`` (transforms, of zuko), ``glow.py`` (a transform of images, its layers in
``invertible.py``), ``module.py`` (the training).
"""
