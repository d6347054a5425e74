"""The adversarial game without latents and optimizers: losses, regularizers, augmentation, the terms of a step."""
