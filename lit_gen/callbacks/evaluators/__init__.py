"""Callbacks that measure a model while it trains, and in ``validate`` and ``test``."""
