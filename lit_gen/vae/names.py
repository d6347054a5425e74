"""What a config may call by its class's name: ``--model VAE``, ``--model.objective ELBO``."""

from lit_gen.vae import bottleneck, convolutional, likelihoods, mlp, module, objectives  # noqa: F401
