"""Classes that a config may give by name: ``--model GAN``, ``--model.regularizers R1``."""

from lit_gen.models.adversarial import penalties, regularizers  # noqa: F401
from lit_gen.models.gan import module  # noqa: F401
