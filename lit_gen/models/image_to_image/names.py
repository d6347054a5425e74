"""Classes that a config may give by name: ``--model Paired``, ``--model.discriminator PatchGAN``.

Not the U-Net and the ResNet: other networks have these names.
"""

from lit_gen.models.image_to_image import module, patchgan, srresnet  # noqa: F401
