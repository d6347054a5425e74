"""Classes that a config may give by name: ``--model Paired``, ``--model.generator UNet``."""

from lit_gen.models.image_to_image import module  # noqa: F401
