"""The language-model family: networks that predict each token from those before it.

Reading order: ``transformer.py`` with its ``layers.py``, and ``lstm.py`` (the networks), ``cache.py`` (what a
transformer remembers while it writes), ``sampling.py`` (from logits to tokens), ``module.py`` (the training step).
This file imports nothing: all but ``module.py`` load without lightning.
"""
