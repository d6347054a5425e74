"""What a config may call by its class's name: ``--model Autoencoder``, ``--data Waves``."""

from support.autoencoder import data, module  # noqa: F401
