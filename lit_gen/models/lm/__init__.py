"""The language-model family: networks that predict each token from those before it.

Reading order: ``transformer.py`` with its ``layers.py``, and ``lstm.py`` (the networks), ``cache.py`` (a transformer's
keys and values while it writes), ``sampling.py`` (from logits to tokens), ``module.py`` (the training step). This file
imports nothing: all files except ``module.py`` load without lightning.
"""
