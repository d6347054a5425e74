"""Classes that a config may give by name: ``--model Flow``, ``--model.transform RealNVP``."""

from lit_gen.models.flow import density, dequantization, glow, module, support, vectors  # noqa: F401
