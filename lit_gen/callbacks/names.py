"""Classes that a config may give by name: ``--trainer.callbacks+ FID``."""

from lit_gen.callbacks import density_pictures, latent_pictures  # noqa: F401
from lit_gen.callbacks.evaluators import fid, latent_fid, latents, likelihood, modes, paired, perplexity, text_quality  # noqa: F401
