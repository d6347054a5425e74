"""What a config may call by its class's name: ``--trainer.callbacks+ FID``."""

from lit_gen.callbacks import fid, latent_fid, latent_pictures, latents, likelihood, modes, perplexity  # noqa: F401
