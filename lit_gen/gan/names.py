"""What a config may call by its class's name: ``--model GAN``, ``--model.regularizers R1``."""

from lit_gen.gan import module, penalties, regularizers  # noqa: F401
